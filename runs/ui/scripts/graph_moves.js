// How the view of the graph is moved: wheel, drag, pinch, buttons and keys. A view is {x, y, zoom}: where the origin of
// the drawing lies on the screen, in pixels, and how large it is.

export const FARTHEST = 0.015;
export const NEAREST = 2.5;
const MARGIN_PX = 52;
const STEP_PX = 80;
const STEP_ZOOM = 1.35;
const A_CLICK_PX = 5;
const GLIDE_MS = 220;

/** Return the view in which a rectangle [left, top, right, bottom] fills a screen of this size; never larger than 1. */
export function fitting([left, top, right, bottom], width, height) {
  const margin = Math.min(MARGIN_PX, width / 16, height / 8);
  const zoom = limited(Math.min((width - 2 * margin) / (right - left), (height - 2 * margin) / (bottom - top), 1));
  return { x: (width - (left + right) * zoom) / 2, y: (height - (top + bottom) * zoom) / 2, zoom };
}

/** Return the view after a zoom that leaves the point (x, y) of the screen where it is. */
export function zoomed(view, factor, x, y) {
  const zoom = limited(view.zoom * factor);
  return { x: x - ((x - view.x) * zoom) / view.zoom, y: y - ((y - view.y) * zoom) / view.zoom, zoom };
}

/** Return what a key does to a view of a screen of this size; null: nothing. */
export function moved(view, key, width, height) {
  switch (key) {
    case "ArrowLeft": return { ...view, x: view.x + STEP_PX };
    case "ArrowRight": return { ...view, x: view.x - STEP_PX };
    case "ArrowUp": return { ...view, y: view.y + STEP_PX };
    case "ArrowDown": return { ...view, y: view.y - STEP_PX };
    case "+": case "=": return zoomed(view, STEP_ZOOM, width / 2, height / 2);
    case "-": return zoomed(view, 1 / STEP_ZOOM, width / 2, height / 2);
    default: return null;
  }
}

/** Go from one view to another one, in steps or, where nothing may move, at once; returns how to stop. */
export function glide(from, to, show, { isCalm }) {
  if (isCalm) {
    show(to);
    return () => {};
  }
  const began = performance.now();
  let frame = requestAnimationFrame(function step(now) {
    const done = Math.min(Math.max((now - began) / GLIDE_MS, 0), 1);
    const part = 1 - (1 - done) ** 3;
    show(done === 1 ? to : between(from, to, part));
    if (done < 1) frame = requestAnimationFrame(step);
  });
  return () => cancelAnimationFrame(frame);
}

/**
 * Let pointers move what an element shows. `read()` gives the view, `write(view)` takes the new one, `click(x, y)` and
 * `point(x, y)` (null: nowhere) tell what is pressed and pointed at; all in pixels of the element.
 */
export function listen(element, { read, write, click, point }) {
  const pointers = new Map();
  let travelled = 0;

  const at = (event) => {
    const box = element.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  element.addEventListener("wheel", (event) => {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : 1;
    // A pinch on a touchpad comes as a wheel with ctrl, in much smaller steps.
    write(zoomed(read(), Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.0016)), ...at(event)));
  }, { passive: false });

  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    if (pointers.size === 0) travelled = 0;
    pointers.set(event.pointerId, at(event));
    element.setPointerCapture(event.pointerId);
  });

  element.addEventListener("pointermove", (event) => {
    const here = at(event);
    const before = pointers.get(event.pointerId);
    if (!before) return point(...here);
    const view = read();
    if (pointers.size === 1) {
      travelled += Math.hypot(here[0] - before[0], here[1] - before[1]);
      if (travelled > A_CLICK_PX) write({ ...view, x: view.x + here[0] - before[0], y: view.y + here[1] - before[1] });
    } else {
      travelled = Infinity;
      const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
      const factor = distance(here, other) / Math.max(distance(before, other), 1);
      const shifted = { ...view, x: view.x + (here[0] - before[0]) / 2, y: view.y + (here[1] - before[1]) / 2 };
      write(zoomed(shifted, factor, (here[0] + other[0]) / 2, (here[1] + other[1]) / 2));
    }
    pointers.set(event.pointerId, here);
  });

  const release = (event) => {
    if (!pointers.delete(event.pointerId)) return;
    if (event.type === "pointerup" && pointers.size === 0 && travelled <= A_CLICK_PX) click(...at(event));
  };
  element.addEventListener("pointerup", release);
  element.addEventListener("pointercancel", release);
  element.addEventListener("pointerleave", () => point(null, null));
}

function between(from, to, part) {
  // The zoom in equal ratios, so that near and far it seems to go at one speed.
  const zoom = from.zoom * (to.zoom / from.zoom) ** part;
  const share = Math.abs(to.zoom - from.zoom) < 1e-9 ? part : (zoom - from.zoom) / (to.zoom - from.zoom);
  return { x: from.x + (to.x - from.x) * share, y: from.y + (to.y - from.y) * share, zoom };
}

function distance([x1, y1], [x2, y2]) {
  return Math.hypot(x1 - x2, y1 - y2);
}

function limited(zoom) {
  return Math.min(Math.max(zoom, FARTHEST), NEAREST);
}
