// Whether the server is there. While it is not, the page says so, and asks until it is.

import { byId } from "./dom.js";

const RETRY = 1000; // milliseconds
const HEARTBEAT = 5000;

const returned = [];
let away = false;

/** Calls `listener` when the server is back. */
export function onReturn(listener) {
  returned.push(listener);
}

/** A request found no server. */
export function lost(why = "The server does not answer.") {
  const banner = byId("away");
  banner.textContent = `${why} This page goes on by itself when it is back.`;
  banner.hidden = false;
  if (away) return;
  away = true;
  setTimeout(retry, RETRY);
}

async function retry() {
  const problem = await ready();
  if (problem !== null) {
    lost(problem);
    setTimeout(retry, RETRY);
    return;
  }
  away = false;
  byId("away").hidden = true;
  returned.forEach((listener) => listener());
}

/** null, or what is wrong. */
async function ready() {
  try {
    const reply = await fetch("readyz", { cache: "no-store" });
    return reply.ok ? null : `The server is not ready. ${(await reply.json()).detail}`;
  } catch {
    return "The server does not answer.";
  }
}

setInterval(async () => {
  if (away || document.hidden) return;
  const problem = await ready();
  if (problem !== null) lost(problem);
}, HEARTBEAT);
