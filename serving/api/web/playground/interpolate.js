// Interpolate: a way through latent space past keyframes, by hand or as an animation.

import { format, inBody, labelOf, parseAll } from "./address.js";
import { ask, NPY } from "./api.js";
import { blank, canvasOf, draw, tile } from "./canvas.js";
import { button, element, roving, say } from "./dom.js";
import { draggable } from "./drag.js";
import { checkField, choiceField, classField, seedField, selectField, truncationField } from "./fields.js";
import { integer } from "./json.js";
import { current, fittingFrames, truncationFor } from "./models.js";
import { task } from "./notice.js";
import { pictures } from "./pictures.js";
import { Player, RATE } from "./player.js";
import { canRecord, record } from "./record.js";
import { show as showRequest } from "./request.js";
import { set, state } from "./state.js";
import { strip } from "./strip.js";

const ROUTE = "v1/interpolate";
const OURS = ["keyframes", "frames", "method", "space", "loop", "truncation", "model"];
const TRAY = 24; // pictures to drag
const FILE_SIDE = 256; // pixels of a downloaded frame, about
const FRAMES = [60, 120, 180, 240].map((n) => [String(n), `${n}, ${n / RATE} s`]);
const FILES = [
  ["GIF", "image/gif"],
  ["WebP", "image/webp"],
  ["Zip", "application/zip"],
];

export function interpolateView() {
  const run = task();
  const runTray = task();
  const runFile = task();
  const keyframes = strip();
  const canvas = element("canvas", { class: "picture screen", role: "img", "aria-label": "The frame" });
  const slider = element("input", { type: "range", min: "0", value: "0", "aria-label": "Frame", class: "scrub" });
  const counter = element("span", { class: "counter" });
  const play = button("Play", () => set({ playing: state.playing ? "" : "1" }), { class: "primary play" });
  const tray = element("div", { class: "tray", role: "group", "aria-label": "Pictures to add" });
  const trayStop = roving(tray, ".tile");
  const player = new Player(canvas, {
    onframe(frame) {
      slider.value = frame;
      counter.textContent = `${frame + 1} / ${player.frames.length}`;
      slider.setAttribute("aria-valuetext", `Frame ${frame + 1} of ${player.frames.length}`);
    },
    onend: () => set({ playing: "", frame: String(player.frame) }),
  });
  let quiet = false; // a change that was made here

  slider.addEventListener("input", () => {
    quiet = true;
    set({ playing: "", frame: slider.value });
    quiet = false;
    player.pause();
    label();
    player.seek(Number(slider.value));
  });
  tray.addEventListener("click", (event) => {
    const node = event.target.closest(".tile.ready");
    if (!node) return;
    const [chosen] = parseAll(canvasOf(node).dataset.address);
    keyframes.add(chosen);
    say(`Added ${format(chosen)} to the keyframes.`);
  });
  draggable(tray, ".tile.ready", keyframes.zone);
  draggable(keyframes.node, ".tile", keyframes.zone);

  function bodyOf(model) {
    const addresses = parseAll(state.keyframes);
    const chosen = model.classes && addresses.some((address) => address.label !== null);
    const inW = model.style && state.space === "w";
    return {
      model: model.id,
      keyframes: addresses.map(inBody),
      frames: fittingFrames(model, integer(state.frames)),
      method: state.method,
      space: inW ? "w" : undefined,
      loop: state.loop === "1",
      labels: chosen ? addresses.map((address) => labelOf(address, model)) : undefined,
      truncation: truncationFor(model),
    };
  }

  function load() {
    run(async (signal) => {
      const model = current();
      const body = bodyOf(model);
      showRequest([{ route: ROUTE, body, accept: NPY }]);
      keyframes.show();
      player.pause();
      if (!player.frames) draw(canvas, blank(model));
      player.frame = Number(state.frame) || 0;
      const found = await pictures(ROUTE, body, signal);
      slider.max = found.length - 1;
      player.loop = body.loop;
      player.load(found);
      follow();
    });
  }

  function follow() {
    if (state.playing) player.play();
    else player.pause();
    label();
  }

  function label() {
    play.textContent = state.playing ? "Pause" : "Play";
  }

  function loadTray() {
    runTray(async (signal) => {
      const model = current();
      const { seed } = state;
      const start = Math.max(0, Number(state.tray) || 0);
      const label = model.classes ? state.label : "";
      const chosen = label === "" ? undefined : integer(label);
      const truncation = truncationFor(model);
      const body = {
        model: model.id,
        n: TRAY,
        seed: integer(seed),
        start: start || undefined,
        labels: chosen,
        truncation,
      };
      const found = await pictures("v1/sample", body, signal);
      const made = Array.from({ length: TRAY }, (_, i) => {
        const address = { seed, index: String(start + i), label };
        const node = tile(model, {
          class: "tile ready",
          "aria-label": `Add picture ${format(address)} to the keyframes`,
        });
        draw(canvasOf(node), found.picture(i));
        canvasOf(node).dataset.address = format(address);
        return node;
      });
      tray.replaceChildren(...made);
      tray.scrollLeft = 0;
      trayStop();
    });
  }

  function turn(step) {
    set({ tray: String(Math.max(0, (Number(state.tray) || 0) + step * TRAY)) });
  }

  function download(accept) {
    runFile(async (signal) => {
      const model = current();
      const scale = Math.max(1, Math.min(16, Math.floor(FILE_SIDE / model.image.height)));
      const body = { ...bodyOf(model), scale, fps: accept === "application/zip" ? undefined : RATE };
      const request = { route: ROUTE, body, accept };
      showRequest([request]);
      say("The file is being made.");
      const reply = await ask(ROUTE, { body, accept, signal });
      hand(await reply.blob(), `walk-${model.id}.${accept.split("/")[1]}`);
    });
  }

  function hand(blob, name) {
    const url = URL.createObjectURL(blob);
    element("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
    say(`${name} is here.`);
  }

  function recordVideo() {
    runFile(async (signal) => {
      if (!player.frames) return;
      const model = current();
      say("Recording: it takes as long as the walk.");
      const scale = 2 * Math.max(1, Math.round(FILE_SIDE / model.image.height / 2)); // even sides
      const video = await record(player.frames, scale, signal);
      if (!signal.aborted) hand(video, `walk-${model.id}.webm`);
    });
  }

  const files = FILES.map(([name, accept]) =>
    button(name, () => download(accept), { "aria-label": `Download as ${name}` }),
  );
  if (canRecord()) files.push(button("WebM", recordVideo, { "aria-label": "Record as WebM" }));
  return {
    controls: [
      selectField("frames", "Frames", FRAMES),
      choiceField("method", "Method", [
        ["slerp", "slerp"],
        ["lerp", "lerp"],
      ]),
      choiceField(
        "space",
        "Space",
        [
          ["z", "z"],
          ["w", "w"],
        ],
        (space) => space === "z" || Boolean(current()?.style),
      ),
      checkField("loop", "Loop"),
      truncationField(),
      element(
        "div",
        { class: "field wide" },
        element("span", {}, "Download"),
        element("div", { class: "segments" }, files),
      ),
    ],
    stage: [
      element("div", { class: "cinema" }, canvas, element("div", { class: "transport" }, play, slider, counter)),
      element(
        "p",
        { class: "hint" },
        element("b", {}, "Keyframes."),
        " Drag pictures in or choose them below; choose a keyframe to move, change or take it out.",
      ),
      keyframes.node,
      element(
        "div",
        { class: "tray-head" },
        element("p", { class: "hint" }, element("b", {}, "Pictures to add.")),
        seedField("seed", { tray: "0" }),
        classField(),
        element(
          "div",
          { class: "segments" },
          button("‹", () => turn(-1), { "aria-label": "Earlier pictures" }),
          button("›", () => turn(1), { "aria-label": "Later pictures" }),
        ),
      ),
      tray,
    ],
    show() {
      load();
      loadTray();
    },
    hide() {
      [run, runTray, runFile, keyframes].forEach((each) => (each.stop ?? each)());
      player.pause();
    },
    update(changed) {
      if (quiet) return;
      if (OURS.some((name) => changed.has(name))) load();
      else if (changed.has("frame") && !state.playing)
        player.seek(Math.min(Number(state.frame) || 0, (player.frames?.length ?? 1) - 1));
      if (changed.has("playing")) {
        if (!state.playing) set({ frame: String(player.frame) });
        follow();
      }
      if (["seed", "tray", "label", "truncation", "model"].some((name) => changed.has(name))) loadTray();
    },
  };
}
