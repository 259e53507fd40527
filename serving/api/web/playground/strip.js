// The keyframes of an interpolation in a row: pictures are dropped between them, moved and taken out.

import { format, formatAll, parse, parseAll } from "./address.js";
import { canvasOf, tile } from "./canvas.js";
import { element, roving, say } from "./dom.js";
import { drawAt } from "./pictures.js";
import { current } from "./models.js";
import { task } from "./notice.js";
import { set, state } from "./state.js";
import { openPopup } from "./popup.js";
import { drawSeed } from "./address.js";

const FEWEST = 2;
const MOST = 16;

/** `node` is the row; `zone` takes what is dragged; `add(address, at)` puts a picture in, at the end unless told. */
export function strip() {
  const run = task();
  const row = element("div", { class: "strip", role: "group", "aria-label": "Keyframes" });
  const mark = element("div", { class: "mark", "aria-hidden": "true" });
  const tabStop = roving(row, ".tile");

  const tiles = () => [...row.querySelectorAll(".tile")];
  const keyframes = () => parseAll(state.keyframes);

  function show() {
    const model = current();
    const addresses = keyframes();
    const made = addresses.map((address, i) =>
      tile(model, {
        "data-at": i,
        "aria-label": `Keyframe ${i + 1} of ${addresses.length}, picture ${format(address)}`,
      }),
    );
    const focused = tiles().indexOf(document.activeElement);
    row.replaceChildren(...made);
    tabStop();
    if (focused >= 0) made[Math.min(focused, made.length - 1)]?.focus();
    run((signal) =>
      Promise.all(made.map((each, i) => drawAt(canvasOf(each), model, addresses[i], state.truncation, signal))),
    );
  }

  function put(addresses) {
    if (addresses.length < FEWEST) return say(`A walk needs ${FEWEST} keyframes.`);
    if (addresses.length > MOST) return say(`A walk has at most ${MOST} keyframes.`);
    set({ keyframes: formatAll(addresses), frame: "0" }, { push: true });
    return undefined;
  }

  function add(address, at = keyframes().length) {
    put(keyframes().toSpliced(at, 0, address));
  }

  function move(from, to) {
    const addresses = keyframes();
    if (to < 0 || to >= addresses.length || from === to) return;
    const [moved] = addresses.splice(from, 1);
    put(addresses.toSpliced(to, 0, moved));
    tiles()[to]?.focus();
  }

  const remove = (at) => put(keyframes().toSpliced(at, 1));
  const replace = (at, address) => put(keyframes().with(at, address));

  function open(node) {
    const at = Number(node.dataset.at);
    const actions = [
      ["Draw another", () => replace(at, { seed: drawSeed(current()), index: "0", label: keyframes()[at].label })],
      ["Move left", () => move(at, at - 1)],
      ["Move right", () => move(at, at + 1)],
      ["Take out", () => remove(at)],
    ];
    openPopup(node, { address: keyframes()[at], actions, edit: (address) => replace(at, address) });
  }

  row.addEventListener("click", (event) => {
    const node = event.target.closest(".tile");
    if (node) open(node);
  });
  row.addEventListener("keydown", (event) => {
    const node = event.target.closest(".tile");
    if (!node) return;
    const at = Number(node.dataset.at);
    const steps = { ArrowLeft: -1, ArrowRight: 1 };
    if (event.key === "Delete" || event.key === "Backspace") remove(at);
    else if (event.altKey && event.key in steps) move(at, at + steps[event.key]);
    else return;
    event.preventDefault();
  });

  /** Between which keyframes a point lies: 0 before the first. */
  function placeOf(x, y) {
    const centres = tiles().map((node) => node.getBoundingClientRect());
    const before = centres.findIndex(
      ({ left, width, top, bottom }) => y < top || (y <= bottom && x < left + width / 2),
    );
    return before < 0 ? centres.length : before;
  }

  const zone = {
    node: row,
    over(x, y) {
      const before = tiles()[placeOf(x, y)] ?? null;
      if (mark.nextElementSibling !== before || mark.parentNode !== row) row.insertBefore(mark, before);
    },
    leave: () => mark.remove(),
    drop(node, x, y) {
      const at = placeOf(x, y);
      if (node.dataset.at === undefined) return add(parse(canvasOf(node).dataset.address), at);
      const from = Number(node.dataset.at);
      return move(from, at > from ? at - 1 : at);
    },
  };
  return { node: row, zone, show, add, stop: run.stop };
}
