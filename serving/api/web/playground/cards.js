// The models, as cards to choose from; a card opens with the model's figures and pictures.

import { draw } from "./canvas.js";
import { button, byId, element } from "./dom.js";
import { all, current, fitting, isAble } from "./models.js";
import { task } from "./notice.js";
import { pictures } from "./pictures.js";
import { set, state, watch } from "./state.js";

const THUMBS = 4;
const SAMPLES = 60;
const LARGE = 512; // pixels: one of these images takes a second, and fills the row
const FRACTIONS = /accuracy|worst_class|precision|recall|share|neighbour|copying/; // shown in percent
const NAMES = { fid: "FID", kid: "KID", ppl: "PPL", inception_score: "Inception Score" };

const dialog = element("dialog", { class: "box sheet", "aria-labelledby": "card-title" });
const runSamples = task();

export function mountCards() {
  document.body.append(dialog);
  dialog.addEventListener("close", () => set({ card: "" }));
  byId("models").append(element("div", { class: "cards" }, all().map(card)));
  watch((changed) => changed.has("card") && openCard());
  openCard();
}

/** Shows which model is chosen, and which the view can show. */
export function markCards() {
  const chosen = current();
  for (const node of document.querySelectorAll(".card")) {
    const model = all().find((each) => each.id === node.dataset.model);
    const choose = node.querySelector(".choose");
    if (model === chosen && !node.classList.contains("chosen")) bring(node);
    node.classList.toggle("chosen", model === chosen);
    choose.disabled = !isAble(model);
    choose.setAttribute("aria-pressed", String(model === chosen));
  }
}

/** Scrolls the row of cards, where it is one, to a card. */
function bring(node) {
  const row = node.parentElement;
  row.scrollLeft = node.offsetLeft - row.offsetLeft - (row.clientWidth - node.offsetWidth) / 2;
}

function card(model) {
  const thumbs = element("span", { class: "thumbs", "aria-hidden": "true" });
  const choose = button("", () => set({ model: model.id }, { push: true }), { class: "choose" });
  choose.append(
    thumbs,
    element(
      "span",
      { class: "about" },
      element("strong", {}, model.name),
      facts(model).map((line) => element("span", {}, line)),
    ),
  );
  const details = button("Card", () => set({ card: model.id }, { push: true }), {
    class: "quiet more",
    "aria-label": `Card of ${model.name}`,
  });
  return element("div", { class: "card", "data-model": model.id }, choose, details);
}

function facts(model) {
  const fid = model.metrics.find((metric) => metric.name === "fid");
  const bytes = Object.values(model.files).reduce((sum, file) => sum + file.size, 0);
  const size = `${(bytes / 1e6).toFixed(1)} MB`;
  const origin = [model.dataset.name, `${model.image.width} px`].filter(Boolean).join(" · ");
  return [origin, fid ? `${size} · FID ${fid.value.toFixed(1)}` : size];
}

const sampled = (model, n, signal) => pictures("v1/sample", { model: model.id, n, seed: 0n }, signal);

/** Draws a few pictures on each card, one card after the other: the view comes first. */
export async function showThumbs() {
  for (const model of all()) {
    const thumbs = document.querySelector(`.card[data-model="${CSS.escape(model.id)}"] .thumbs`);
    const found = await patient(() => sampled(model, model.image.width < LARGE ? THUMBS : 1));
    if (found) append(thumbs, found);
  }
}

/** What `work` gives, asked again when the server says; null where it fails: what is wrong, the view says. */
async function patient(work) {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!error.retryAfter) return null;
      await new Promise((resolve) => setTimeout(resolve, 1000 * error.retryAfter));
    }
  }
}

function append(node, found) {
  for (let i = 0; i < found.length; i += 1) {
    const canvas = element("canvas", { class: "picture" });
    draw(canvas, found.picture(i));
    node.append(canvas);
  }
}

function openCard() {
  const model = all().find((each) => each.id === state.card);
  if (!model) return dialog.open && dialog.close();
  const count = fitting(model, SAMPLES);
  const samples = element("div", {
    class: "samples",
    role: "img",
    "aria-label": `${count} pictures of ${model.name}, seed 0, not chosen`,
  });
  const { training, dataset } = model;
  dialog.replaceChildren(
    element(
      "div",
      { class: "sheet-head" },
      element("h2", { id: "card-title" }, model.name),
      button("Close", () => dialog.close()),
    ),
    samples,
    element("p", { class: "small" }, `Seed 0, indices 0 to ${count - 1}; not chosen by hand.`),
    element("h3", {}, "Figures"),
    element("div", { class: "scroller", tabindex: "0", role: "region", "aria-label": "Figures" }, figures(model)),
    element("h3", {}, "Model"),
    element(
      "dl",
      {},
      described("Id", model.id),
      described("Family", model.family),
      described(
        "Pictures",
        `${model.image.width} × ${model.image.height}, ${model.image.channels === 1 ? "grey" : "RGB"}`,
      ),
      described("Latent", `${model.latent_size} numbers${model.style ? `, ${model.style.layers} style layers` : ""}`),
      described("Classes", model.classes?.join(", ")),
      described("Data", known(dataset)),
      described("Weights", model.licence),
      described("Trained", trained(training)),
      described("sha256", model.sha256),
    ),
  );
  if (!dialog.open) dialog.showModal();
  runSamples(async (signal) => append(samples, await sampled(model, count, signal)));
  return undefined;
}

/** Of an imported model some of it is unknown, or all. */
function known({ name, licence, source }) {
  const details = [licence, source].filter(Boolean).join("; ");
  return name && (details ? `${name} (${details})` : name);
}

function trained({ images_seen: seen, seconds, device, source }) {
  if (source) return `Imported from ${source.file} (${source.format})`;
  return `${(seen / 1e6).toFixed(2)} million pictures in ${Math.round(seconds / 60)} min on ${device}`;
}

function described(term, value) {
  return value ? [element("dt", {}, term), element("dd", {}, value)] : [];
}

function figures(model) {
  const cells = (kind, values) =>
    element(
      "tr",
      {},
      values.map((value) => element(kind, kind === "th" ? { scope: "col" } : {}, value)),
    );
  const rows = model.metrics.map((metric) =>
    cells("td", [
      title(metric.name),
      shown(metric.name, metric.value),
      metric.floor === undefined ? "" : shown(metric.name, metric.floor),
      metric.protocol,
    ]),
  );
  return element(
    "table",
    {},
    element("thead", {}, cells("th", ["Figure", "Value", "Real pictures", "Protocol"])),
    element("tbody", {}, rows),
  );
}

const title = (name) => NAMES[name] ?? name[0].toUpperCase() + name.slice(1).replaceAll("_", " ");

function shown(name, value) {
  return FRACTIONS.test(name) ? `${(100 * value).toFixed(1)} %` : value.toFixed(name === "kid" ? 4 : 2);
}
