// Pictures from the server: many at once as an array, or the one at an address, which never changes.

import { format, nameOf } from "./address.js";
import { ask, NPY } from "./api.js";
import { draw } from "./canvas.js";
import { Pictures } from "./npy.js";

const KEPT = 400;
const kept = new Map();

/** The pictures that a POST asks for. */
export async function pictures(route, body, signal) {
  const reply = await ask(route, { body, accept: NPY, signal });
  return new Pictures(await reply.arrayBuffer());
}

/** The URL of a picture, relative to the page. */
export function urlOf(model, address, truncation, scale = 1) {
  const asked = new URLSearchParams();
  if (address.label !== null && address.label !== "" && model.classes) asked.set("label", nameOf(address, model));
  if (model.style && truncation !== "1") asked.set("truncation", truncation);
  if (scale > 1) asked.set("scale", scale);
  const path = [model.id, address.seed, `${address.index}.png`].map(encodeURIComponent).join("/");
  return `v1/images/${path}${asked.size ? `?${asked}` : ""}`;
}

/** Draws the picture at an address; throws Problem or Away. */
export async function drawAt(canvas, model, address, truncation, signal) {
  canvas.dataset.address = format(address);
  const url = urlOf(model, address, truncation);
  const name = `${model.sha256}/${url}`;
  if (!kept.has(name)) {
    // Kept ever so long by browsers; where the model has other files now, its ETag says so.
    const reply = await ask(url, { accept: "image/png", signal, cache: "no-cache" });
    kept.set(name, await createImageBitmap(await reply.blob(), { colorSpaceConversion: "none" }));
    if (kept.size > KEPT) kept.delete(kept.keys().next().value);
  }
  if (!signal?.aborted) draw(canvas, kept.get(name));
}
