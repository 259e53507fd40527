// Sample: the stream of a seed, from an index on, for as long as one scrolls.

import { format, labelOf } from "./address.js";
import { draw, canvasOf, tile } from "./canvas.js";
import { button, element, roving } from "./dom.js";
import { classField, plain, seedField, selectField, textField, truncationField } from "./fields.js";
import { integer } from "./json.js";
import { current, fitting, truncationFor } from "./models.js";
import { task } from "./notice.js";
import { pictures } from "./pictures.js";
import { show as showRequest } from "./request.js";
import { set, state } from "./state.js";
import { offer } from "./uses.js";

const AHEAD = 700; // pixels below the screen that are filled
const MOST = 256; // pictures of a request
const COUNTS = ["16", "32", "64", "128", "256"];
const OURS = ["seed", "start", "count", "label", "truncation", "model"];

export function sampleView() {
  const run = task();
  const grid = element("div", { class: "grid", role: "group", "aria-label": "Pictures" });
  const end = element("div", { class: "end" });
  const earlier = button("Earlier pictures", goBack, { class: "earlier", hidden: true });
  const tabStop = roving(grid, ".tile", columns);
  let first = 0n; // the index of the first picture on the page
  let loading = false;
  let visible = false;
  let followed = null; // the start that scrolling has put into the URL

  grid.addEventListener("click", (event) => {
    const chosen = event.target.closest(".tile.ready");
    if (chosen) offer(chosen, { seed: state.seed, index: chosen.dataset.index, label: state.label });
  });
  new IntersectionObserver((entries) => entries[0].isIntersecting && more(), {
    rootMargin: `0px 0px ${AHEAD}px`,
  }).observe(end);
  addEventListener("scroll", () => visible && requestAnimationFrame(follow), { passive: true });

  function columns() {
    return getComputedStyle(grid).gridTemplateColumns.split(" ").length;
  }

  function restart() {
    grid.replaceChildren();
    scrollTo(0, 0);
    first = integer(state.start);
    earlier.hidden = typeof first !== "bigint" || first <= 0n;
    loading = false;
    more();
  }

  /** One request more, and again while there is room on the screen. */
  function more() {
    if (loading || !visible) return;
    loading = true;
    run(async (signal) => {
      const model = current();
      const begin = typeof first === "bigint" ? first + BigInt(grid.childElementCount) : first;
      const body = bodyOf(model, begin);
      showRequest([{ route: "v1/sample", body, accept: "application/x-npy" }]);
      const tiles = Array.from({ length: Math.min(MOST, Number(body.n) || 0) }, (_, i) => empty(model, begin, i));
      grid.append(...tiles);
      try {
        const found = await pictures("v1/sample", body, signal);
        tiles.forEach((each, i) => fill(each, model, found.picture(i)));
      } catch (error) {
        tiles.forEach((each) => each.remove());
        throw error; // and no more until it is asked for again: the end, which comes into sight now, asks for none
      }
      if (!signal.aborted) loading = false;
      tabStop();
      if (end.getBoundingClientRect().top < innerHeight + AHEAD) setTimeout(more);
    });
  }

  function bodyOf(model, start) {
    return {
      model: model.id,
      n: fitting(model, integer(state.count)),
      seed: integer(state.seed),
      start: start === 0n ? undefined : start,
      labels: model.classes && state.label !== "" ? integer(state.label) : undefined,
      truncation: truncationFor(model),
    };
  }

  function empty(model, begin, i) {
    const index = typeof begin === "bigint" ? begin + BigInt(i) : BigInt(i);
    return tile(model, {
      tabindex: "-1",
      "data-index": String(index),
      "aria-label": `Picture ${state.seed}:${index}`,
      disabled: true,
    });
  }

  function fill(made, model, picture) {
    draw(canvasOf(made), picture);
    made.disabled = false;
    made.classList.add("ready");
    const address = { seed: state.seed, index: made.dataset.index, label: state.label };
    canvasOf(made).dataset.address = format(address);
    if (model.classes)
      made.setAttribute("aria-label", `Picture ${format(address)}, class ${model.classes[labelOf(address, model)]}`);
  }

  /** The first row on the screen is where the page begins when it is loaded again. */
  function follow() {
    if (!visible || typeof first !== "bigint" || !grid.firstElementChild) return;
    const { height } = grid.firstElementChild.getBoundingClientRect();
    const gap = parseFloat(getComputedStyle(grid).rowGap) || 0;
    const top = document.querySelector(".top").offsetHeight;
    const row = Math.max(0, Math.round((top - grid.getBoundingClientRect().top) / (height + gap)));
    followed = String(first + BigInt(Math.min(row * columns(), Math.max(0, grid.childElementCount - 1))));
    set({ start: followed });
  }

  function goBack() {
    const count = BigInt(state.count);
    set({ start: String(first > count ? first - count : 0n) }, { push: true });
  }

  return {
    controls: [
      seedField("seed", { start: "0" }),
      textField("start", "From index", { inputmode: "numeric" }, plain),
      selectField(
        "count",
        "Pictures a request",
        COUNTS.map((count) => [count, count]),
      ),
      classField(),
      truncationField(),
    ],
    stage: [earlier, grid, end],
    show() {
      visible = true;
      restart();
    },
    hide() {
      visible = false;
      run.stop();
    },
    update(changed) {
      const scrolled = state.start === followed;
      if (!OURS.some((name) => changed.has(name) && !(name === "start" && scrolled))) return;
      followed = null;
      restart();
    },
  };
}
