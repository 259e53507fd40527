// Mix: the table of the StyleGAN paper (Karras et al. 2019, figure 3).
// Chosen layers come from the column, the rest from the row.

import { drawSeed, format, formatAll, further, inBody, labelOf, parseAll } from "./address.js";
import { NPY } from "./api.js";
import { blank, canvasOf, draw, tile } from "./canvas.js";
import { button, element, roving } from "./dom.js";
import { truncationField } from "./fields.js";
import { current, truncationFor } from "./models.js";
import { task } from "./notice.js";
import { drawAt, pictures } from "./pictures.js";
import { show as showRequest } from "./request.js";
import { set, state, watch } from "./state.js";
import { offer } from "./uses.js";
import { openPopup } from "./popup.js";

const ROUTE = "v1/style-mix";
const MOST = 16;
const GROUPS = ["coarse", "middle", "fine"];
const OURS = ["rows", "columns", "styles", "truncation", "model"];

export function mixView() {
  const run = task();
  const table = element("div", { class: "mix", role: "group", "aria-label": "Rows mixed with columns" });
  const tabStop = roving(table, "[data-side]");

  table.addEventListener("click", (event) => {
    const node = event.target.closest("[data-side]");
    if (node) open(node, node.dataset.side, Number(node.dataset.at));
  });
  // Pointing at a mix shows where it comes from.
  table.addEventListener("pointerover", (event) => {
    const { row, column } = event.target.closest("[data-row]")?.dataset ?? {};
    for (const node of table.querySelectorAll("[data-side]")) {
      node.classList.toggle("source", node.dataset.at === (node.dataset.side === "rows" ? row : column));
    }
  });
  table.addEventListener("pointerleave", () =>
    table.querySelectorAll(".source").forEach((node) => node.classList.remove("source")),
  );

  function change(side, addresses) {
    set({ [side]: formatAll(addresses) }, { push: true });
  }

  function open(node, side, at) {
    const addresses = parseAll(state[side]);
    const replace = (address) => change(side, addresses.with(at, address));
    const actions = [
      ["Draw another", () => replace({ ...addresses[at], seed: drawSeed(current()), index: "0" })],
      ["Next of its seed", () => replace(further(addresses[at], 1))],
      ["Use elsewhere…", () => offer(node, addresses[at])],
    ];
    if (addresses.length > 1) actions.push(["Take out", () => change(side, addresses.toSpliced(at, 1))]);
    openPopup(node, { address: addresses[at], actions, edit: replace });
  }

  function add(side) {
    const addresses = parseAll(state[side]);
    change(side, [...addresses, { seed: drawSeed(current()), index: "0", label: null }]);
  }

  function load() {
    run(async (signal) => {
      const model = current();
      const [rows, columns] = [parseAll(state.rows), parseAll(state.columns)];
      const chosen = layersOf(state.styles, model);
      const body = {
        model: model.id,
        rows: rows.map(inBody),
        columns: columns.map(inBody),
        styles: groupOf(chosen, model) ?? chosen,
        labels: model.classes ? [...rows, ...columns].map((source) => labelOf(source, model)) : undefined,
        truncation: truncationFor(model),
      };
      showRequest([{ route: ROUTE, body, accept: NPY }]);
      const cells = lay(model, rows, columns, chosen);
      const sources = [...table.querySelectorAll("[data-side]")].map((node) => {
        const address = parseAll(state[node.dataset.side])[Number(node.dataset.at)];
        return drawAt(canvasOf(node), model, address, state.truncation, signal);
      });
      const [found] = await Promise.all([pictures(ROUTE, body, signal), ...sources]);
      cells.forEach((cell, i) => draw(cell, found.picture(i)));
    });
  }

  /** The sources along two edges, and a canvas for every pair: these are given back, row by row. */
  function lay(model, rows, columns, chosen) {
    const focused = document.activeElement?.dataset ?? {};
    const source = (side, word) => (address, at) =>
      tile(model, {
        "data-side": side,
        "data-at": at,
        "aria-label": `${word} ${at + 1}, picture ${format(address)}. Change`,
      });
    const more = (side, word) =>
      button("+", () => add(side), {
        class: "add",
        "aria-label": `Add a ${word}`,
        disabled: parseAll(state[side]).length >= MOST,
      });
    const layers = `layers ${chosen.join(", ")}`;
    const cells = [];
    const nodes = [
      element("span"),
      element("span"),
      ...columns.map(source("columns", "Column")),
      more("columns", "column"),
    ];
    rows.forEach((row, r) => {
      nodes.push(source("rows", "Row")(row, r), element("span"));
      columns.forEach((column, c) => {
        const name = `${format(row)} with ${layers} of ${format(column)}`;
        cells.push(blank(model, { role: "img", "aria-label": name, "data-row": r, "data-column": c }));
      });
      nodes.push(...cells.slice(-columns.length), element("span"));
    });
    nodes.push(more("rows", "row"));
    table.style.setProperty("--columns", columns.length);
    table.style.setProperty("--rows", rows.length + 1);
    table.replaceChildren(...nodes);
    tabStop();
    table.querySelector(`[data-side="${focused.side}"][data-at="${focused.at}"]`)?.focus();
    return cells;
  }

  return {
    controls: [layersField(), truncationField()],
    stage: [
      element(
        "p",
        { class: "hint" },
        "Each picture has the chosen layers of the one above its column, and the rest of the one left of its row.",
      ),
      element("div", { class: "scroller" }, table),
    ],
    show: load,
    hide: run.stop,
    update(changed) {
      if (OURS.some((name) => changed.has(name))) load();
    },
  };
}

/** "fine" or "0,5" -> numbers of layers, in order. */
function layersOf(styles, model) {
  if (GROUPS.includes(styles)) return model.style?.[styles] ?? [];
  return styles === ""
    ? []
    : styles
        .split(",")
        .map(Number)
        .sort((a, b) => a - b);
}

/** The name of a group whose layers these are, all and no others. */
function groupOf(layers, model) {
  return GROUPS.find((group) => model.style?.[group].join() === layers.join());
}

/** Toggles of the groups and of the single layers. */
function layersField() {
  const groups = element("div", { class: "segments", role: "group", "aria-label": "Groups of layers" });
  const single = element("div", { class: "segments small", role: "group", "aria-label": "Single layers" });
  const choose = (layers) => {
    const sorted = [...layers].sort((a, b) => a - b);
    set({ styles: groupOf(sorted, current()) ?? sorted.join(",") }, { push: true });
  };
  const toggle = (layers) => {
    const chosen = new Set(layersOf(state.styles, current()));
    const all = layers.every((layer) => chosen.has(layer));
    layers.forEach((layer) => (all ? chosen.delete(layer) : chosen.add(layer)));
    choose(chosen);
  };
  function sync() {
    const model = current();
    if (!model?.style) return;
    const chosen = new Set(layersOf(state.styles, model));
    if (single.childElementCount !== model.style.layers) {
      groups.replaceChildren(
        ...GROUPS.map((group) => button(group, () => toggle(current().style[group]), { value: group })),
      );
      single.replaceChildren(
        ...Array.from({ length: model.style.layers }, (_, layer) =>
          button(String(layer), () => toggle([layer]), { "aria-label": `Layer ${layer}` }),
        ),
      );
    }
    for (const each of groups.children) {
      const pressed = model.style[each.value].every((layer) => chosen.has(layer));
      each.setAttribute("aria-pressed", String(pressed));
    }
    [...single.children].forEach((each, layer) => each.setAttribute("aria-pressed", String(chosen.has(layer))));
  }
  watch(sync);
  sync();
  const legend = (text) => element("span", {}, text);
  return element(
    "div",
    { class: "wide" },
    element("div", { class: "field" }, legend("From the column"), groups),
    element("div", { class: "field" }, legend("Layer by layer"), single),
  );
}
