// Digits: a number, written in rows of variations; each digit can be drawn anew by itself.

import { canvasOf, draw, tile } from "./canvas.js";
import { button, element, roving } from "./dom.js";
import { seedField, selectField, textField } from "./fields.js";
import { integer } from "./json.js";
import { current } from "./models.js";
import { task } from "./notice.js";
import { drawAt, pictures, urlOf } from "./pictures.js";
import { show as showRequest } from "./request.js";
import { set, state, watch } from "./state.js";

const STRIDE = 1024; // no request has more digits: another drawing of a cell lies beyond those of all others
const VARIATIONS = Array.from({ length: 16 }, (_, i) => [String(i + 1), String(i + 1)]);
const DRAWS = ["digits", "variations", "seed", "model"];

export function digitsView() {
  const run = task();
  const runCells = task();
  const paper = element("div", { class: "paper", role: "group", "aria-label": "Digits" });
  const plain = button("Undo all", () => set({ rolls: "" }, { push: true }), { class: "quiet" });
  const hint = element("p", { class: "hint" }, "Choose a digit to draw it anew. ", plain);
  const tabStop = roving(paper, ".tile", () => state.digits.length);
  let base = null; // the reply to the request for all digits

  // The cells of one number mean nothing in another.
  watch((changed) => {
    if (DRAWS.slice(0, 3).some((name) => changed.has(name)) && !changed.has("rolls")) set({ rolls: "" });
  });
  paper.addEventListener("click", (event) => {
    const cell = event.target.closest(".tile.ready");
    if (cell) roll(Number(cell.dataset.cell));
  });

  function roll(cell) {
    const times = rolls();
    times.set(cell, (times.get(cell) ?? 0) + 1);
    set({ rolls: [...times].map((entry) => entry.join(".")).join(",") }, { push: true });
  }

  function load() {
    run(async (signal) => {
      const model = current();
      const body = {
        model: model.id,
        digits: state.digits,
        rows: integer(state.variations),
        seed: integer(state.seed),
      };
      base = null;
      showRequest([{ route: "v1/digits", body, accept: "application/x-npy" }]);
      const found = await pictures("v1/digits", body, signal);
      base = { model, body, found };
      lay();
    });
  }

  function lay() {
    const { model, body, found } = base;
    const cells = found.length;
    if (paper.childElementCount !== cells) {
      paper.replaceChildren(
        ...Array.from({ length: cells }, (_, cell) => tile(model, { "data-cell": cell, class: "tile ready" })),
      );
    }
    paper.style.setProperty("--columns", body.digits.length);
    tabStop();
    drawCells();
  }

  function drawCells() {
    const { model, body, found } = base;
    const times = rolls();
    plain.hidden = !times.size;
    const anew = [];
    [...paper.children].forEach((cell, i) => {
      const digit = body.digits[i % body.digits.length];
      const index = i + STRIDE * (times.get(i) ?? 0);
      const address = { seed: state.seed, index: String(index), label: String(model.classes.indexOf(digit)) };
      const row = Math.floor(i / body.digits.length) + 1;
      cell.setAttribute("aria-label", `${digit}, row ${row}, picture ${address.seed}:${index}. Draw anew`);
      cell.classList.toggle("anew", times.has(i));
      if (times.has(i)) anew.push([cell, address]);
      else {
        draw(canvasOf(cell), found.picture(i));
        canvasOf(cell).dataset.address = `${address.seed}:${index}@${address.label}`;
      }
    });
    const asked = anew.map(([, address]) => ({
      url: urlOf(model, address, "1"),
      accept: "image/png",
      model,
      address,
    }));
    showRequest([{ route: "v1/digits", body, accept: "application/x-npy" }, ...asked]);
    runCells((signal) =>
      Promise.all(anew.map(([cell, address]) => drawAt(canvasOf(cell), model, address, "1", signal))),
    );
  }

  return {
    controls: [seedField(), selectField("variations", "Variations", VARIATIONS)],
    stage: [
      element("div", { class: "number" }, textField("digits", "Number", { inputmode: "numeric", maxlength: "64" })),
      hint,
      element("div", { class: "scroller" }, paper),
    ],
    show: load,
    hide() {
      run.stop();
      runCells.stop();
    },
    update(changed) {
      if (DRAWS.some((name) => changed.has(name))) load();
      else if (changed.has("rolls") && base) drawCells();
    },
  };
}

/** How often each cell was drawn anew. */
function rolls() {
  const entries = state.rolls.split(",").map((entry) => entry.split(".").map(Number));
  return new Map(entries.filter(([cell, times]) => cell >= 0 && times > 0));
}
