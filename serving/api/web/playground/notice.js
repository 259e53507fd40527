// Work that may fail: what the server says is shown as it says it, at the field that it points at.

import { Away, Problem } from "./api.js";
import { byId, element } from "./dom.js";
import { askForKey } from "./key.js";

/** The names in the page of the fields that bodies call otherwise. */
const FIELDS = { n: "count", labels: "label", rows: "variations" };

/** What stands, the latest last, by the task that it is of; by null what is of none. */
const standing = new Map();

/** Runs `work(signal)`; a new run ends the one before, and what the server refuses for now is tried again. */
export function task() {
  let controller = new AbortController();
  let timer = 0;
  async function run(work) {
    controller.abort();
    clearTimeout(timer);
    controller = new AbortController();
    const { signal } = controller;
    try {
      await work(signal);
      if (!signal.aborted) settle(run);
    } catch (error) {
      if (signal.aborted || error instanceof Away) return; // the connection is watched
      show(error, run);
      if (error.retryAfter) timer = setTimeout(run, 1000 * error.retryAfter, work);
    }
  }
  run.stop = () => {
    controller.abort();
    clearTimeout(timer);
    settle(run);
  };
  return run;
}

export function clear() {
  standing.clear();
  tell();
}

/** A complaint stands until the task that it is of succeeds or ends, whatever others do meanwhile. */
export function show(error, whose = null) {
  standing.delete(whose);
  standing.set(whose, error);
  tell();
  if (error.status === 401) askForKey(error.message);
}

function settle(whose) {
  standing.delete(whose);
  standing.delete(null);
  tell();
}

function tell() {
  const notice = byId("notice");
  const error = [...standing.values()].at(-1);
  if (!error) {
    notice.hidden = true;
    return mark([]);
  }
  const known = error instanceof Problem;
  const small = known
    ? [error.code, error.requestId && `request ${error.requestId}`].filter(Boolean).join(", ")
    : error.name;
  notice.replaceChildren(element("p", {}, error.message), element("p", { class: "small" }, small));
  notice.hidden = false;
  return mark(known ? error.pointers : []);
}

function mark(pointers) {
  const names = pointers.map((pointer) => pointer.split("/")[1]).map((name) => [name, FIELDS[name]]);
  for (const input of document.querySelectorAll("[data-field]")) {
    const wrong = names.flat().includes(input.dataset.field);
    if (wrong) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
    if (wrong) input.setAttribute("aria-describedby", "notice");
    else input.removeAttribute("aria-describedby");
  }
}
