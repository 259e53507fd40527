// Requests to this server, and its answers: pictures, or the problem documents (RFC 9457) that say why there are none.

import { lost } from "./connection.js";
import { write } from "./json.js";

export const NPY = "application/x-npy";
const KEY = "ganymede.key"; // of the session: it ends with the tab

export const key = () => sessionStorage.getItem(KEY) ?? "";
export const setKey = (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY));

/** What the server says is wrong. */
export class Problem extends Error {
  constructor(reply, document) {
    super(document.detail ?? `${reply.status} ${reply.statusText}`);
    this.status = reply.status;
    this.code = document.code ?? "";
    this.requestId = document.request_id ?? "";
    this.pointers = (document.errors ?? []).map((error) => error.pointer);
    this.retryAfter = Number(reply.headers.get("retry-after")) || null; // seconds
  }
}

/** The server gave no answer: the connection is watched until it does. */
export class Away extends Error {}

/** The reply to a GET, or to a POST where there is a body. Throws Problem or Away. */
export async function ask(path, { body, accept = "application/json", signal, cache } = {}) {
  const headers = { Accept: accept };
  if (key()) headers.Authorization = `Bearer ${key()}`;
  if (body) headers["Content-Type"] = "application/json";
  let reply;
  try {
    reply = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && write(body), signal, cache });
  } catch (error) {
    if (signal?.aborted) throw error;
    lost();
    throw new Away();
  }
  if (reply.ok) return reply;
  throw new Problem(reply, await reply.json().catch(() => ({})));
}
