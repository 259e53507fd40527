// What a picture offers when it is chosen: a small panel beside it, on a phone at the lower edge.

import { format, parse } from "./address.js";
import { canvasOf, blank, draw } from "./canvas.js";
import { button, element } from "./dom.js";

const panel = element("div", { id: "popup", class: "popup", popover: "auto", role: "dialog" });
let anchor = null;

/**
 * Opens beside `node`, a picture. `actions` is [[text, what it does]]; `edit(address)` is called where another address
 * is written in; `href` leads to the picture as a file.
 */
export function openPopup(node, { address, actions, edit, href }) {
  if (!panel.isConnected) mount();
  anchor = node;
  const from = canvasOf(node);
  const preview = element("canvas", { class: "picture", "aria-hidden": "true" });
  draw(preview, from.getContext("2d").getImageData(0, 0, from.width, from.height));
  const place = edit ? editor(address, edit) : element("code", { class: "address" }, format(address));
  const buttons = actions.map(([text, act]) =>
    button(text, () => {
      panel.hidePopover();
      act();
    }),
  );
  const link = href && element("a", { href, target: "_blank", rel: "noopener" }, "Open as PNG");
  panel.setAttribute("aria-label", `Picture ${format(address)}`);
  panel.replaceChildren(element("div", { class: "popup-head" }, preview, place), ...buttons, link ?? "");
  panel.showPopover();
  moveTo(node.getBoundingClientRect());
  (panel.querySelector("input") ?? buttons[0]).focus({ preventScroll: true });
}

function editor(address, edit) {
  const input = element("input", { value: format(address), autocomplete: "off", spellcheck: "false" });
  const submit = (event) => {
    event.preventDefault();
    panel.hidePopover();
    edit(parse(input.value));
  };
  return element(
    "form",
    { onsubmit: submit },
    element("label", { class: "field" }, element("span", {}, "Address, seed:index"), input),
  );
}

function mount() {
  document.body.append(panel);
  panel.addEventListener("keydown", (event) => {
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const items = [...panel.querySelectorAll("input, button, a")];
    items[(items.indexOf(document.activeElement) + step + items.length) % items.length].focus();
  });
  panel.addEventListener("toggle", (event) => {
    if (event.newState === "closed" && [document.body, null].includes(document.activeElement)) anchor?.focus();
  });
}

/** Below the picture where there is room, else above it, and always on the screen. */
function moveTo(place) {
  const { offsetWidth: width, offsetHeight: height } = panel;
  const below = place.bottom + 6 + height < innerHeight;
  panel.style.left = `${Math.max(8, Math.min(place.left, document.documentElement.clientWidth - width - 8))}px`;
  panel.style.top = `${Math.max(8, below ? place.bottom + 6 : place.top - height - 6)}px`;
}
