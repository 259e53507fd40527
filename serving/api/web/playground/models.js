// The models that the server holds, and the one that the view shows.

import { ask } from "./api.js";
import { number } from "./json.js";
import { state } from "./state.js";

let models = [];
let able = () => true;

export async function load() {
  models = (await (await ask("v1/models")).json()).models;
}

export const all = () => models;

/** Says which models the present view can show. */
export function restrict(predicate) {
  able = predicate;
}

export const isAble = (model) => able(model);

/** Whether the classes of a model are the ten digits. */
export function drawsDigits(model) {
  return [...(model.classes ?? [])].sort().join("") === "0123456789";
}

/** The model of the view: the one that is asked for, else the first that can do what the view does. */
export function current() {
  const named = models.find((model) => model.id === state.model);
  if (state.model && !named) return unknown(state.model); // the server says what is wrong with it
  return named && able(named) ? named : models.find(able);
}

/** The truncation that a request to a model asks for; all of the variety is asked for by saying nothing. */
export function truncationFor(model) {
  return model.style && state.truncation !== "1" ? number(state.truncation) : undefined;
}

const PAGE_BYTES = 2 ** 24; // of pixels that are asked for at once: five images of 1024 px
const MOST = 256; // images of a request; of more the server says what is wrong
const CLIP_BYTES = 2 ** 26; // of an animation: as much as the server takes

/** `n`, a number or a BigInt, or as many images of a model as fit into one request. */
export function fitting(model, n, bytes = PAGE_BYTES) {
  const { width, height, channels } = model.image;
  const most = Math.max(2, Math.floor(bytes / (width * height * channels)));
  if (n > most && n <= MOST) return typeof n === "bigint" ? BigInt(most) : most;
  return n; // what is no number, or too large for any model, too: the server says what is wrong with it
}

/** The same for the frames of an animation. */
export const fittingFrames = (model, n) => fitting(model, n, CLIP_BYTES);

function unknown(id) {
  return { id, name: id, sha256: "", classes: null, style: null, image: { height: 28, width: 28, channels: 1 } };
}
