// Fields of the settings. Each shows one value of the state and changes it.

import { drawSeed } from "./address.js";
import { button, element, settled } from "./dom.js";
import { integer } from "./json.js";
import { current } from "./models.js";
import { set, state, watch } from "./state.js";

const PAUSE = 250; // milliseconds without a key: a number is written to its end

function field(label, input, ...more) {
  return element("label", { class: "field" }, element("span", {}, label), input, ...more);
}

/** `read` makes the state of what is written. */
export function textField(name, label, attributes = {}, read = (text) => text) {
  const input = element("input", { "data-field": name, autocomplete: "off", spellcheck: "false", ...attributes });
  let typed = false; // and not taken yet
  const take = () => {
    if (!typed) return;
    typed = false;
    set({ [name]: read(input.value) });
  };
  const soon = settled(PAUSE, take);
  input.addEventListener("input", () => {
    typed = true;
    soon();
  });
  input.addEventListener("change", take);
  sync(() => {
    if (input.value !== state[name] && !typed) input.value = state[name];
  });
  return field(label, input);
}

/** A seed, with a button that draws one. `changes` are made with it. */
export function seedField(name = "seed", changes = {}) {
  const draw = () => set({ [name]: drawSeed(current()), ...changes }, { push: true });
  const text = textField(name, "Seed", { inputmode: "numeric" }, plain);
  return element("div", { class: "joined" }, text, button("New", draw, { "aria-label": "Draw a new seed" }));
}

/** An integer as it stands in URLs: without spaces or leading zeros. */
export const plain = (text) => String(integer(text));

/** `options` is [[value, text]], or makes it of the model; without any the field is hidden. */
export function selectField(name, label, options) {
  const select = element("select", {
    "data-field": name,
    onchange: () => set({ [name]: select.value }, { push: true }),
  });
  const made = field(label, select);
  let shown = "";
  sync(() => {
    const list = typeof options === "function" ? options(current()) : options;
    made.hidden = !list.length;
    if (shown !== JSON.stringify(list)) {
      shown = JSON.stringify(list);
      select.replaceChildren(...list.map(([value, text]) => element("option", { value }, text)));
    }
    select.value = state[name];
  });
  return made;
}

export function classField() {
  return selectField("label", "Class", (model) =>
    model?.classes ? [["", "By index"], ...model.classes.map((name, i) => [String(i), name])] : [],
  );
}

export function truncationField() {
  const output = element("output");
  const input = element("input", { type: "range", min: "0", max: "1", step: "0.05", "data-field": "truncation" });
  const change = settled(PAUSE / 2, () => set({ truncation: input.value }));
  input.addEventListener("input", () => {
    output.textContent = input.value;
    change();
  });
  const made = field("Truncation ψ", input, output);
  made.classList.add("wide");
  sync(() => {
    made.hidden = !current()?.style;
    input.value = state.truncation;
    output.textContent = state.truncation;
  });
  return made;
}

/** One of a few, side by side. `options` is [[value, text]]; `usable(value)` says which of them the model can. */
export function choiceField(name, label, options, usable = () => true) {
  const buttons = options.map(([value, text]) => button(text, () => set({ [name]: value }, { push: true }), { value }));
  sync(() => {
    for (const each of buttons) {
      each.disabled = !usable(each.value);
      each.setAttribute("aria-pressed", String(state[name] === each.value));
    }
  });
  const group = element("div", { class: "segments", role: "group", "aria-label": label }, buttons);
  return element("div", { class: "field" }, element("span", {}, label), group);
}

export function checkField(name, label) {
  const input = element("input", {
    type: "checkbox",
    onchange: () => set({ [name]: input.checked ? "1" : "" }, { push: true }),
  });
  sync(() => (input.checked = state[name] === "1"));
  return element("label", { class: "check" }, input, label);
}

/** Now, and whenever the state changes. */
function sync(work) {
  watch(work);
  work();
}
