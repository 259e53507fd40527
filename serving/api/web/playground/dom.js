// Elements, made of attributes and children. Strings become text, so nothing that is shown can be markup.

const PROPERTIES = new Set(["value", "checked", "disabled", "hidden", "selected", "width", "height"]);

/** `element("button", { class: "quiet", onclick: f, "aria-label": "Close" }, "x")`; null and false are left out. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (PROPERTIES.has(key)) made[key] = value;
    else if (value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

export function button(text, onclick, attributes = {}) {
  return element("button", { type: "button", onclick, ...attributes }, text);
}

export const byId = (id) => document.getElementById(id);

/** Says something that happened: a line that passes, and that a screen reader reads. */
export function say(text) {
  const toast = byId("toast");
  toast.textContent = text;
  toast.classList.add("shown");
  clearTimeout(say.timer);
  say.timer = setTimeout(() => toast.classList.remove("shown"), 2500);
}

/** Calls `work` once, `milliseconds` after the last of many calls. */
export function settled(milliseconds, work) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...values), milliseconds);
  };
}

/** In a group of buttons one is reached by Tab, and the arrow keys go on from it. */
export function roving(container, selector, columns = () => 1) {
  const all = () => [...container.querySelectorAll(selector)];
  const choose = (chosen) => all().forEach((each) => (each.tabIndex = each === chosen ? 0 : -1));
  container.addEventListener("focusin", (event) => {
    const reached = event.target.closest(selector);
    if (reached) choose(reached);
  });
  container.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const steps = {
      ArrowLeft: -1,
      ArrowRight: 1,
      ArrowUp: -columns(),
      ArrowDown: columns(),
      Home: -Infinity,
      End: Infinity,
    };
    const items = all();
    const at = items.indexOf(event.target.closest(selector));
    if (!(event.key in steps) || at < 0) return;
    const to = Math.min(items.length - 1, Math.max(0, at + steps[event.key]));
    event.preventDefault();
    items[to].focus();
  });
  return () => {
    const items = all();
    if (!items.some((each) => each.tabIndex === 0 && each === document.activeElement)) choose(items[0]);
  };
}
