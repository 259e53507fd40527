// Explore: one image, and a slider for each semantic direction of its model.

import { format, further, parse } from "./address.js";
import { NPY } from "./api.js";
import { draw } from "./canvas.js";
import { button, element } from "./dom.js";
import { textField, truncationField } from "./fields.js";
import { integer } from "./json.js";
import { current, truncationFor } from "./models.js";
import { task } from "./notice.js";
import { pictures } from "./pictures.js";
import { copyText, show as showRequest } from "./request.js";
import { set, state } from "./state.js";

const ROUTE = "v1/sample";
const MOST = 8; // edits of a request
const PATIENCE = 150; // milliseconds after which an update is dropped for a newer one
const OURS = ["from", "edits", "truncation", "model"];
const ORDER = ["attribute", "sefa", "ganspace"]; // named directions first

export function exploreView() {
  const run = task();
  const canvas = element("canvas", { class: "picture screen", role: "img", "aria-label": "The edited image" });
  const place = element("span", { class: "counter" });
  const sliders = element("div", { class: "sliders", role: "group", "aria-label": "Directions" });
  let shown = ""; // the model and directions whose sliders are there
  let wanted = false; // a newer image than the one in flight
  let sent = 0; // when the one in flight was asked for; 0 without one

  /** { name: strength } of the URL, as texts. */
  const edits = () => Object.fromEntries((state.edits ? state.edits.split(",") : []).map((edit) => edit.split(":")));

  function bodyOf(model) {
    const { seed, index } = parse(state.from);
    const steps = Object.entries(edits()).map(([direction, strength]) => ({ direction, strength: Number(strength) }));
    return {
      model: model.id,
      seed: integer(seed),
      start: index === "0" ? undefined : integer(index),
      edits: steps.length ? steps : undefined,
      truncation: truncationFor(model),
    };
  }

  /** One request is in flight; of those that come meanwhile only the newest is sent, when its turn comes. */
  function update() {
    const body = bodyOf(current());
    showRequest([{ route: ROUTE, body, accept: NPY }]);
    place.textContent = format(parse(state.from));
    wanted = true;
    if (!sent || performance.now() - sent > PATIENCE) send();
  }

  function send() {
    wanted = false;
    sent = performance.now();
    const mine = sent;
    run(async (signal) => {
      try {
        const found = await pictures(ROUTE, bodyOf(current()), signal);
        if (signal.aborted) return;
        draw(canvas, found.picture(0));
        canvas.dataset.updates = Number(canvas.dataset.updates ?? 0) + 1;
      } finally {
        if (sent === mine) {
          sent = 0;
          if (wanted) send();
        }
      }
    });
  }

  function move(name, strength) {
    const all = edits();
    if (Number(strength) === 0) delete all[name];
    else all[name] = strength;
    set({ edits: Object.entries(all).map((edit) => edit.join(":")).join(",") });
  }

  function slider({ name, layers }) {
    const output = element("output", {}, "0");
    const input = element("input", {
      type: "range",
      min: "-5",
      max: "5",
      step: "0.1",
      value: "0",
      "data-direction": name,
      "aria-label": name,
      title: `Layers ${layers.join(", ")}`,
      oninput: () => move(name, input.value),
      ondblclick: () => move(name, "0"),
    });
    return element("label", { class: "field" }, element("span", {}, name), input, output);
  }

  function build() {
    const directions = [...(current().directions ?? [])].sort(
      (a, b) => ORDER.indexOf(a.method) - ORDER.indexOf(b.method),
    );
    const found = JSON.stringify([current().id, directions.map(({ name }) => name)]);
    if (found !== shown) sliders.replaceChildren(...directions.map(slider));
    shown = found;
    const all = edits();
    const full = Object.keys(all).length >= MOST;
    for (const input of sliders.querySelectorAll("input")) {
      const strength = all[input.dataset.direction] ?? "0";
      if (Number(input.value) !== Number(strength)) input.value = strength;
      input.disabled = full && !(input.dataset.direction in all); // a request takes no more
      input.parentElement.querySelector("output").textContent = input.value;
    }
  }

  function show() {
    build();
    update();
  }

  return {
    controls: [textField("from", "Address"), truncationField()],
    stage: [
      element(
        "div",
        { class: "cinema" },
        canvas,
        element(
          "div",
          { class: "transport" },
          button("Reset", () => set({ edits: "" }, { push: true })),
          button("Next image", () => set({ from: format(further(parse(state.from), 1)) }, { push: true })),
          button("Copy as request", copyText),
          place,
        ),
      ),
      sliders,
    ],
    show,
    hide() {
      run.stop();
      sent = 0;
      wanted = false;
    },
    update(changed) {
      if (OURS.some((name) => changed.has(name))) show();
    },
  };
}
