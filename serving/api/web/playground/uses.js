// What can be done with a picture, from any view that shows one at an address.

import { format, formatAll, further, parseAll } from "./address.js";
import { key } from "./api.js";
import { say } from "./dom.js";
import { all, current } from "./models.js";
import { urlOf } from "./pictures.js";
import { openPopup } from "./popup.js";
import { copied } from "./request.js";
import { set, state } from "./state.js";

const MOST = 16; // keyframes, rows or columns of a request
const WALK = 3; // addresses that a walk goes on to

/** Opens what the picture at `address` offers, beside `node`; `more` actions come first. */
export function offer(node, address, more = []) {
  const model = current();
  const actions = [
    ...more,
    ["Start a walk here", () => walk(address)],
    ["Wander from here", () => set({ view: "wander", from: format(address), playing: "1" }, { push: true })],
    ["Add as keyframe", () => add("keyframes", "keyframe", address)],
  ];
  if (all().some((each) => each.style)) {
    actions.push(["Mix: add as row", () => add("rows", "row", address)]);
    actions.push(["Mix: add as column", () => add("columns", "column", address)]);
  }
  actions.push(["Copy address", () => copied(format(address)).then(() => say(`Copied ${format(address)}.`))]);
  const scale = Math.max(1, Math.min(16, Math.floor(512 / model.image.height)));
  const href = key() ? null : urlOf(model, address, state.truncation, scale); // a link carries no key
  openPopup(node, { address, actions, href });
}

function walk(address) {
  const keyframes = Array.from({ length: WALK + 1 }, (_, step) => further(address, step));
  set({ view: "interpolate", keyframes: formatAll(keyframes), frame: "0", playing: "1" }, { push: true });
}

function add(name, word, address) {
  const addresses = parseAll(state[name]);
  if (addresses.length === MOST) return say(`There are ${MOST} ${word}s already, and no more fit.`);
  set({ [name]: formatAll([...addresses, address]) });
  return say(`Added ${format(address)} as ${word} ${addresses.length + 1}.`);
}
