// The page: tabs, the view that the URL names, and what happens when the server goes and comes.

import { Away } from "./api.js";
import { markCards, mountCards, showThumbs } from "./cards.js";
import { lost, onReturn } from "./connection.js";
import { byId, element } from "./dom.js";
import { mountKey, onKey } from "./key.js";
import { all, current, drawsDigits, load, restrict } from "./models.js";
import { clear, show as showError } from "./notice.js";
import { mount as mountRequest } from "./request.js";
import { DEFAULTS, query, set, state, watch } from "./state.js";

const any = () => true;
const styled = (model) => Boolean(model.style);
// A view is loaded when it is first looked at. `able` says which models it can show.
const VIEWS = {
  sample: { title: "Sample", able: any, module: async () => (await import("./sample.js")).sampleView },
  digits: { title: "Digits", able: drawsDigits, module: async () => (await import("./digits.js")).digitsView },
  interpolate: {
    title: "Interpolate",
    able: any,
    module: async () => (await import("./interpolate.js")).interpolateView,
  },
  explore: {
    title: "Explore",
    able: (model) => Boolean(model.directions?.length),
    module: async () => (await import("./explore.js")).exploreView,
  },
  mix: { title: "Mix", able: styled, module: async () => (await import("./mix.js")).mixView },
  wander: { title: "Wander", able: any, module: async () => (await import("./wander.js")).wanderView },
};
const made = {};
let shown = null;
let started = false;
let unfetched = false; // a view's module, which a browser may not ask for a second time

const tabs = Object.entries(VIEWS).map(([name, { title }]) =>
  element("a", { "data-view": name, onclick: choose }, title),
);
byId("tabs").append(...tabs);
byId("controls").addEventListener("submit", (event) => event.preventDefault());
// Beside the pictures the settings are open; above them, on a phone, they wait.
const beside = matchMedia("(min-width: 60rem)");
const place = () => (byId("settings").open = beside.matches);
beside.addEventListener("change", place);
place();
history.scrollRestoration = "manual"; // the URL says where the page begins
if (matchMedia("(prefers-reduced-motion: reduce)").matches) set({ playing: "" }); // nothing moves that nobody asked to
mountRequest();
mountKey();
onKey(start);
onReturn(async () => {
  if (unfetched) return location.reload(); // the URL says all that was shown
  if (!started) return start();
  const before = served();
  try {
    await load();
  } catch (error) {
    return error instanceof Away ? undefined : showError(error);
  }
  if (served() !== before) return location.reload(); // other models, or other files of theirs
  return shown ? shown.show() : enter();
});
start();

function served() {
  return all()
    .map((model) => `${model.id} ${model.sha256}`)
    .join();
}

async function start() {
  try {
    await load();
  } catch (error) {
    return error instanceof Away ? undefined : showError(error);
  }
  if (started) return change(new Set(["view"]));
  started = true;
  mountCards();
  watch(change);
  await change(new Set(["view"]));
  return showThumbs();
}

function choose(event) {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return; // a new tab or window
  event.preventDefault();
  set({ view: event.currentTarget.dataset.view, playing: "" }, { push: true });
}

async function change(changed) {
  tabs.forEach((tab) => (tab.href = query({ view: tab.dataset.view, playing: "" })));
  if (changed.has("view")) await enter();
  else shown?.update(changed);
  markCards();
}

async function enter() {
  const name = state.view in VIEWS ? state.view : DEFAULTS.view;
  const { title, module, able } = VIEWS[name];
  shown?.hide();
  shown = null;
  clear();
  restrict(able);
  for (const tab of tabs) {
    if (tab.dataset.view === name) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  document.title = `${title} · Ganymede`;
  byId("title").textContent = title;
  let make;
  try {
    make = await module();
  } catch {
    unfetched = true;
    lost();
    return;
  }
  if (name !== (state.view in VIEWS ? state.view : DEFAULTS.view) || shown) return; // another was chosen meanwhile
  shown = made[name] ??= make();
  byId("controls").replaceChildren(...shown.controls);
  byId("view").replaceChildren(...shown.stage);
  byId("view").dataset.view = name;
  scrollTo(0, 0);
  if (current()) shown.show();
  else showError(new Error("No model of this server can do this."));
}
