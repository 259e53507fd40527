// Where pictures lie. In the page's URL an address is `seed:index`, with `@class` where one was chosen.

import { integer } from "./json.js";

/** "7:4@3" -> { seed: "7", index: "4", label: "3" }. Texts, since seeds have 64 bits. */
export function parse(text) {
  const [place, label = null] = text.trim().split("@");
  const [seed, index = "0"] = place.split(":");
  return { seed, index, label };
}

export const parseAll = (text) => (text ? text.split(",").map(parse) : []);

export function format({ seed, index, label }) {
  return `${seed}:${index}${label === null || label === "" || label === undefined ? "" : `@${label}`}`;
}

export const formatAll = (addresses) => addresses.map(format).join(",");

/** As the API takes it: a seed alone, or a seed and an index. */
export function inBody({ seed, index }) {
  return index === "0" ? integer(seed) : { seed: integer(seed), index: integer(index) };
}

/** The address `steps` further along the same seed; where there is none, the beginning. */
export function further(address, steps) {
  const index = integer(address.index);
  return { ...address, index: typeof index === "bigint" ? String((index + BigInt(steps)) % 2n ** 64n) : "0" };
}

/** The class of a picture of a conditional model: the one chosen, else it follows from the index. */
export function labelOf({ index, label }, model) {
  if (label !== null && label !== "") return integer(label);
  const at = integer(index);
  return typeof at === "bigint" ? at % BigInt(model.classes.length) : 0;
}

/** The class that was chosen as a URL has it, by name: a text is a name before it is an index. */
export const nameOf = ({ label }, model) => model.classes[label] ?? label;

/** Below 2^53, as every seed that is drawn; latents of NumPy's RandomState take 32 bits for seed + index. */
export const drawSeed = (model) =>
  String(Math.floor(Math.random() * (model?.latents === "numpy-randomstate" ? 2 ** 31 : 2 ** 53)));
