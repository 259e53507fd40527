// Work that may fail: what the server says is shown as it says it, at the field that it points at.

import { Away, Problem } from "./api.js";
import { byId, element } from "./dom.js";
import { askForKey } from "./key.js";

/** The names in the page of the fields that bodies call otherwise. */
const FIELDS = { n: "count", labels: "label", rows: "variations" };

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
      if (!signal.aborted) clear();
    } catch (error) {
      if (signal.aborted || error instanceof Away) return; // the connection is watched
      show(error);
      if (error.retryAfter) timer = setTimeout(run, 1000 * error.retryAfter, work);
    }
  }
  run.stop = () => {
    controller.abort();
    clearTimeout(timer);
  };
  return run;
}

export function clear() {
  byId("notice").hidden = true;
  mark([]);
}

export function show(error) {
  const notice = byId("notice");
  const known = error instanceof Problem;
  const small = known
    ? [error.code, error.requestId && `request ${error.requestId}`].filter(Boolean).join(", ")
    : error.name;
  notice.replaceChildren(element("p", {}, error.message), element("p", { class: "small" }, small));
  notice.hidden = false;
  mark(known ? error.pointers : []);
  if (error.status === 401) askForKey(error.message);
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
