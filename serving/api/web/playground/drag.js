// Dragging pictures by mouse, pen or finger. What a drag does can be done with keys and taps as well.

import { canvasOf, draw } from "./canvas.js";
import { element } from "./dom.js";

const SLACK = 6; // pixels that a click may slip

/**
 * Lets what `selector` finds in `container` be dragged. `zone` takes it: `over(x, y)` while it is above the zone,
 * `drop(node, x, y)` when it is let go there, `leave()` when it is not.
 */
export function draggable(container, selector, zone) {
  container.addEventListener("pointerdown", (event) => {
    const node = event.target.closest(selector);
    if (node && event.button === 0 && event.isPrimary) follow(node, event, zone);
  });
  container.addEventListener("dragstart", (event) => event.preventDefault());
}

function follow(node, begin, zone) {
  const ended = new AbortController();
  const { signal } = ended;
  let ghost = null;
  const inside = (event) => {
    const { left, right, top, bottom } = zone.node.getBoundingClientRect();
    return event.clientX >= left && event.clientX <= right && event.clientY >= top && event.clientY <= bottom;
  };
  const end = () => {
    ended.abort();
    ghost?.remove();
    node.classList.remove("dragged");
    zone.leave();
  };
  const move = (event) => {
    if (event.pointerId !== begin.pointerId) return;
    if (!ghost) {
      if (Math.hypot(event.clientX - begin.clientX, event.clientY - begin.clientY) < SLACK) return;
      ghost = lift(node);
      node.classList.add("dragged");
    }
    ghost.style.transform = `translate(${event.clientX}px, ${event.clientY}px) translate(-50%, -50%)`;
    if (inside(event)) zone.over(event.clientX, event.clientY);
    else zone.leave();
  };
  const release = (event) => {
    if (event.pointerId !== begin.pointerId) return;
    const moved = ghost !== null;
    end();
    if (!moved) return;
    const swallow = (click) => click.stopPropagation(); // the click that ends a drag is none
    addEventListener("click", swallow, { capture: true, once: true });
    setTimeout(() => removeEventListener("click", swallow, { capture: true }));
    if (inside(event)) zone.drop(node, event.clientX, event.clientY);
  };
  addEventListener("pointermove", move, { signal });
  addEventListener("pointerup", release, { signal });
  addEventListener("pointercancel", end, { signal });
}

function lift(node) {
  const from = canvasOf(node);
  const ghost = element("canvas", { class: "picture ghost", "aria-hidden": "true" });
  draw(ghost, from.getContext("2d").getImageData(0, 0, from.width, from.height));
  ghost.style.width = `${from.clientWidth}px`;
  document.body.append(ghost);
  return ghost;
}
