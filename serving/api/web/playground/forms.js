// A request in the forms in which it can be taken away: curl, the Python client, JSON.

import { key } from "./api.js";
import { integer, write, writeLines } from "./json.js";

const FILES = {
  "application/x-npy": "pictures.npy",
  "image/png": "picture.png",
  "image/gif": "walk.gif",
  "image/webp": "walk.webp",
  "application/zip": "pictures.zip",
};
const METHODS = {
  "v1/sample": "sample",
  "v1/digits": "digits",
  "v1/interpolate": "interpolate",
  "v1/style-mix": "style_mix",
};
const UNKNOWN_TO_CLIENT = ["scale", "fps"]; // how a file is written; the client's pictures are arrays

const base = () => new URL(".", location.href).href.replace(/\/$/, "");
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** `request` is { route, body, accept }, or { url } of a picture. */
export function curl(request) {
  const headers = request.body ? ["-H 'Content-Type: application/json'", `-H 'Accept: ${request.accept}'`] : [];
  if (key()) headers.push('-H "Authorization: Bearer $GANYMEDE_KEY"');
  const file = `-o ${FILES[request.accept]}`;
  const begin = ["curl", quoted(`${base()}/${request.url ?? request.route}`), ...headers].join(" ");
  return request.body ? `${begin} \\\n  -d ${quoted(write(request.body))} ${file}` : `${begin} ${file}`;
}

export function json(request) {
  return request.body ? writeLines(request.body) : `"${base()}/${request.url}"`;
}

/** A program that makes the pictures of all `requests`. */
export function python(requests) {
  const calls = requests.map((request) => `    pictures = ${call(request)}`);
  return `from serving.client import Client\n\nwith Client("${base()}") as client:\n${calls.join("\n")}`;
}

function call({ route, body, address, model }) {
  if (!body) {
    const { seed, index, label } = address;
    const fields = { seed: integer(seed), start: integer(index), labels: label === null ? undefined : integer(label) };
    return `client.sample(${[literal(model.id), ...keywords(fields)].join(", ")})`;
  }
  const { model: id, digits, ...fields } = body;
  for (const name of UNKNOWN_TO_CLIENT) delete fields[name];
  const first = digits === undefined ? [literal(id)] : [literal(digits)];
  const rest = keywords(digits === undefined ? fields : { ...fields, model: id });
  return `client.${METHODS[route]}(${[...first, ...rest].join(", ")})`;
}

function keywords(fields) {
  return Object.entries(fields)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}=${literal(value, name)}`);
}

/** A value in Python; an address is a seed or (seed, index). */
function literal(value, name) {
  if (name === "edits") return `[${value.map((edit) => `(${write(edit.direction)}, ${edit.strength})`).join(", ")}]`;
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (value !== null && typeof value === "object") return `(${literal(value.seed)}, ${literal(value.index)})`;
  return write(value);
}
