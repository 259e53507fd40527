// The dock: the request that the view made, to be taken away.

import { button, byId, element, roving, say } from "./dom.js";
import * as forms from "./forms.js";
import { DEFAULTS, set, state, watch } from "./state.js";

const FORMS = {
  curl: (requests) => requests.map(forms.curl).join("\n\n"),
  Python: forms.python,
  JSON: (requests) => requests.map(forms.json).join("\n\n"),
};

let requests = [];
const form = () => (state.form in FORMS ? state.form : DEFAULTS.form);
const code = element("code");
const text = element("pre", { id: "request-text", tabindex: "0", role: "tabpanel", "aria-label": "Request" }, code);
const tabs = Object.keys(FORMS).map((name) =>
  button(name, () => set({ form: name }), { role: "tab", "aria-controls": "request-text" }),
);
const opener = button("Request", () => open(text.hidden), { class: "quiet opener", "aria-controls": "request-text" });
const list = element("div", { role: "tablist", class: "segments", "aria-label": "Form of the request" }, tabs);

/** Puts the dock on the page; on a phone it waits to be opened. */
export function mount() {
  const copy = button("Copy", copyText, { class: "primary copy" });
  byId("request").append(element("div", { class: "bar" }, opener, list, copy), text);
  const tabStop = roving(list, "[role=tab]");
  watch((changed) => changed.has("form") && write());
  write();
  tabStop();
  open(matchMedia("(min-width: 60rem) and (min-height: 40rem)").matches);
}

/** Shows what the view asked last: [{ route, body, accept }], or { url, model, address } for a picture's URL. */
export function show(made) {
  requests = made;
  write();
}

function write() {
  const chosen = form();
  for (const tab of tabs) {
    tab.setAttribute("aria-selected", String(tab.textContent === chosen));
    tab.tabIndex = tab.textContent === chosen ? 0 : -1;
  }
  code.textContent = requests.length ? FORMS[chosen](requests) : "";
}

function open(yes) {
  text.hidden = !yes;
  opener.setAttribute("aria-expanded", String(yes));
}

export async function copyText() {
  await copied(code.textContent);
  say(`Copied as ${form()}.`);
}

/** To the clipboard; the old way where a page is not trusted with the new one, as over plain HTTP. */
export async function copied(content) {
  if (navigator.clipboard) return navigator.clipboard.writeText(content);
  const area = element("textarea", { class: "hidden", "aria-label": "What is copied" });
  document.body.append(area);
  area.value = content;
  area.select();
  document.execCommand("copy");
  area.remove();
  return undefined;
}
