// What the page shows is what its URL says: the one place where anything is kept. Values are texts, as in a URL.

import { settled } from "./dom.js";

export const DEFAULTS = {
  view: "sample",
  model: "", // the first that can do what the view does
  card: "", // the model whose card is open
  seed: "7",
  label: "", // each picture's own
  truncation: "1",
  start: "0",
  count: "64",
  digits: "3141592653",
  variations: "4",
  rolls: "", // cell.times, of the digits that were drawn anew
  keyframes: "7:0,8:0,9:0,10:0",
  frames: "120",
  method: "slerp",
  space: "z",
  loop: "1",
  frame: "0",
  playing: "",
  tray: "0", // the index of the first picture to add
  rows: "1:0,2:0,3:0,4:0",
  columns: "11:0,12:0,13:0,14:0,15:0",
  styles: "coarse",
  from: "7:0",
  edits: "", // direction:strength, of Explore
  pace: "8", // seconds from one address to the next
  form: "curl", // of the request
};

const listeners = [];
export const state = { ...DEFAULTS };
read();

/** Calls `listener` with the names of what changed. */
export function watch(listener) {
  listeners.push(listener);
}

/** Changes what is shown. With `push`, Back returns to what was shown before. */
export function set(changes, { push = false } = {}) {
  const changed = Object.keys(changes).filter((name) => state[name] !== changes[name]);
  if (!changed.length) return;
  if (push) history.replaceState(null, "", query()); // what Back returns to, whole
  Object.assign(state, changes);
  if (push) history.pushState(null, "", query());
  else writeSoon();
  listeners.forEach((listener) => listener(new Set(changed)));
}

/** The URL of what is shown, or would be after `changes`. */
export function query(changes = {}) {
  const shown = { ...state, ...changes };
  const parts = Object.keys(DEFAULTS)
    .filter((name) => shown[name] !== DEFAULTS[name])
    .map((name) => `${name}=${encodeURIComponent(shown[name]).replace(/%(3A|2C|40)/g, decodeURIComponent)}`);
  return parts.length ? `?${parts.join("&")}` : location.pathname;
}

// Browsers take a few changes of the URL a second and complain of more.
const writeSoon = settled(120, () => history.replaceState(null, "", query()));

function read() {
  const found = new URLSearchParams(location.search);
  for (const name of Object.keys(DEFAULTS)) state[name] = found.get(name) ?? DEFAULTS[name];
}

addEventListener("popstate", () => {
  const before = { ...state };
  read();
  const changed = Object.keys(DEFAULTS).filter((name) => state[name] !== before[name]);
  listeners.forEach((listener) => listener(new Set(changed)));
});
