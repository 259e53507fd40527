// Wander: a slow drift through latent space that has no end, from one address of a seed to the next.

import { format, further, inBody, labelOf, parse } from "./address.js";
import { NPY } from "./api.js";
import { canvasOf, tile } from "./canvas.js";
import { button, element, roving } from "./dom.js";
import { classField, selectField, textField, truncationField } from "./fields.js";
import { integer } from "./json.js";
import { current, fittingFrames, truncationFor } from "./models.js";
import { task } from "./notice.js";
import { drawAt, pictures } from "./pictures.js";
import { Player, RATE } from "./player.js";
import { show as showRequest } from "./request.js";
import { set, state } from "./state.js";
import { drawSeed } from "./address.js";
import { offer } from "./uses.js";

const ROUTE = "v1/interpolate";
const MOST_FRAMES = 256;
const TRAIL = 8;
const PACES = [
  ["4", "4 s"],
  ["8", "8 s"],
  ["16", "16 s"],
];
const OURS = ["from", "pace", "label", "truncation", "model"];

export function wanderView() {
  const run = task();
  const runTrail = task();
  const canvas = element("canvas", { class: "picture screen large", role: "img", "aria-label": "Where the wander is" });
  const play = button("Wander", () => set({ playing: state.playing ? "" : "1" }), { class: "primary play" });
  const elsewhere = button("Elsewhere", () => set({ from: `${drawSeed(current())}:0` }, { push: true }));
  const place = element("span", { class: "counter" });
  const trail = element("div", { class: "strip", role: "group", "aria-label": "Addresses on the way" });
  const tabStop = roving(trail, ".tile");
  const player = new Player(canvas, { onend: onward });
  player.loop = false;
  let leg = null; // { from, frames } under way
  let next = null; // a promise of the one after it
  let own = false; // a change of the URL that was made here

  trail.addEventListener("click", (event) => {
    const node = event.target.closest(".tile");
    if (node) offer(node, parse(canvasOf(node).dataset.address));
  });

  function bodyOf(model, from) {
    const label = from.label ?? (state.label || null);
    const ends = [from, further(from, 1)];
    const seconds = Number(state.pace);
    return {
      model: model.id,
      keyframes: ends.map(inBody),
      frames: fittingFrames(model, Math.min(MOST_FRAMES, RATE * seconds + 1)), // the last frame is the next leg's first
      space: model.style ? "w" : undefined,
      labels: model.classes ? (label === null ? ends.map((end) => labelOf(end, model)) : integer(label)) : undefined,
      truncation: truncationFor(model),
    };
  }

  async function fetchLeg(from, signal) {
    const model = current();
    const body = bodyOf(model, from);
    return { from, body, frames: await pictures(ROUTE, body, signal) };
  }

  function load() {
    run(async (signal) => {
      player.pause();
      player.frame = 0;
      next = null;
      const from = parse(state.from);
      showRequest([{ route: ROUTE, body: bodyOf(current(), from), accept: NPY }]);
      begin(await fetchLeg(from, signal), signal);
    });
  }

  function begin(made, signal) {
    leg = made;
    showRequest([{ route: ROUTE, body: leg.body, accept: NPY }]);
    player.frame = 0;
    player.load(leg.frames, (leg.frames.length - 1) / Number(state.pace));
    place.textContent = `${format(leg.from)} to ${format(further(leg.from, 1))}`;
    showTrail();
    next = fetchLeg(further(leg.from, 1), signal);
    next.catch(() => {}); // it is met when its turn comes
    follow();
  }

  /** A leg is over: on to the next, which is here by now. */
  function onward() {
    run(async (signal) => {
      const made = await (next ?? fetchLeg(further(leg.from, 1), signal)).catch(() =>
        fetchLeg(further(leg.from, 1), signal),
      );
      own = true;
      set({ from: format(made.from) });
      own = false;
      begin(made, signal);
    });
  }

  function follow() {
    if (state.playing) player.play();
    else player.pause();
    play.textContent = state.playing ? "Pause" : "Wander";
  }

  function showTrail() {
    const model = current();
    const here = leg.from;
    const passed = [...trail.children]
      .map((node) => canvasOf(node).dataset.address)
      .filter((text) => text !== format(here));
    const same = passed.filter((text) => parse(text).seed === here.seed);
    const addresses = [...same, format(here)].slice(-TRAIL).map(parse);
    trail.replaceChildren(...addresses.map((address) => tile(model, { "aria-label": `Picture ${format(address)}` })));
    runTrail((signal) =>
      Promise.all(
        [...trail.children].map((node, i) => drawAt(canvasOf(node), model, addresses[i], state.truncation, signal)),
      ),
    );
    tabStop();
  }

  return {
    controls: [
      textField("from", "From address"),
      selectField("pace", "To the next address", PACES),
      classField(),
      truncationField(),
    ],
    stage: [
      element("div", { class: "cinema" }, canvas, element("div", { class: "transport" }, play, elsewhere, place)),
      element(
        "p",
        { class: "hint" },
        element("b", {}, "On the way."),
        " The addresses that were passed; choose one to keep it.",
      ),
      trail,
    ],
    show: load,
    hide() {
      run.stop();
      runTrail.stop();
      player.pause();
    },
    update(changed) {
      if (own) return;
      if (OURS.some((name) => changed.has(name))) {
        if (changed.has("model") || changed.has("label") || changed.has("truncation")) trail.replaceChildren();
        load();
      } else if (changed.has("playing")) follow();
    },
  };
}
