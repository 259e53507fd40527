// Pictures on canvases, one canvas pixel a picture's; the style sheet enlarges them.

import { element } from "./dom.js";

const SMOOTH = 256; // pixels: from here on images are reduced, not enlarged

/** An empty canvas of a model's pictures. */
export function blank(model, attributes = {}) {
  const kind = model.image.width >= SMOOTH ? "picture smooth" : "picture";
  return element("canvas", { class: kind, width: model.image.width, height: model.image.height, ...attributes });
}

/** Draws ImageData or an ImageBitmap, at its own size. */
export function draw(canvas, picture) {
  if (canvas.width !== picture.width) canvas.width = picture.width;
  if (canvas.height !== picture.height) canvas.height = picture.height;
  const context = canvas.getContext("2d", { willReadFrequently: true }); // many small ones, drawn by the processor
  if (picture instanceof ImageData) context.putImageData(picture, 0, 0);
  else context.drawImage(picture, 0, 0);
  canvas.classList.toggle("smooth", picture.width >= SMOOTH);
  canvas.classList.add("drawn");
}

/** A button that is a picture at an address. */
export function tile(model, attributes = {}) {
  return element("button", { type: "button", class: "tile", ...attributes }, blank(model));
}

export const canvasOf = (node) => (node.matches("canvas") ? node : node.querySelector("canvas"));
