// The API key, where the server asks for one. It is kept for this tab alone.

import { key, setKey } from "./api.js";
import { button, byId, element } from "./dom.js";

const entered = [];
const why = element("p", { id: "key-why" });
const input = element("input", {
  type: "password",
  autocomplete: "off",
  spellcheck: "false",
  "aria-describedby": "key-why",
});
const form = element(
  "form",
  { onsubmit: submit },
  element("h2", { id: "key-title" }, "API key"),
  why,
  element("label", { class: "field" }, element("span", {}, "Key"), input),
  element("p", { class: "small" }, "It stays in this tab and is sent to this server alone."),
  element(
    "div",
    { class: "buttons" },
    element("button", { type: "submit", class: "primary" }, "Use this key"),
    button("Cancel", () => dialog.close()),
  ),
);
const dialog = element("dialog", { class: "box", "aria-labelledby": "key-title" }, form);

export function mountKey() {
  document.body.append(dialog);
  byId("key").addEventListener("click", () => askForKey("The key that requests of this page carry."));
  byId("key").hidden = !key();
}

/** Calls `listener` when a key was entered. */
export function onKey(listener) {
  entered.push(listener);
}

export function askForKey(text) {
  why.textContent = text;
  input.value = "";
  byId("key").hidden = false;
  if (!dialog.open) dialog.showModal();
}

function submit(event) {
  event.preventDefault();
  const value = input.value.trim();
  if (!/^[\x21-\x7e]*$/.test(value)) {
    why.textContent = "A key has letters, digits and signs of ASCII alone, and no spaces.";
    return;
  }
  setKey(value);
  dialog.close();
  entered.forEach((listener) => listener());
}
