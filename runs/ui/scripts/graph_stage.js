// The drawing on the page: where it is seen from, what is pointed at in it, and what pointers, keys and buttons do there.

import { h } from "./dom.js";
import { Drawing } from "./graph_drawing.js";
import { beside } from "./graph_model.js";
import { fitting, glide, listen, moved, zoomed } from "./graph_moves.js";
import { extent, middle, nodeAt, onScreen } from "./graph_places.js";

const KEYS =
  "Arrow keys move the drawing, plus and minus zoom, 0 shows all of it. Enter picks the deployment in the middle; with " +
  "shift, arrow keys go from the picked one to what it reads, to its readers, and up and down. Escape lets go. The " +
  "list of deployments beside the drawing has the same content.";

/**
 * A drawing, seen from somewhere. `pick(node, {isNear, isFocused})` is told what is picked in it (null: nothing);
 * `over` is the element that may cover a part of it.
 */
export class Stage {
  #pick;
  #over;
  #scene = null;
  #pointed = null;
  #place = { x: 0, y: 0, zoom: 1 };
  #goal = null;
  #isPlaced = false;
  #calm = matchMedia("(prefers-reduced-motion: reduce)");
  #drawing;
  #box;
  #observer = new ResizeObserver(() => this.#resized());
  #listening = new AbortController();
  #stopGlide = () => {};

  constructor({ pick, over }) {
    this.#pick = pick;
    this.#over = over;
    const [still, moving] = [h("canvas", { "aria-hidden": "true" }), h("canvas", { "aria-hidden": "true" })];
    this.#box = h(
      "div.graph-stage",
      { tabindex: 0, role: "application", "aria-label": "Drawing of the graph", "aria-describedby": "graph-keys", onkeydown: (event) => this.#pressed(event) },
      still,
      moving,
    );
    this.element = h(
      "div.graph-field",
      {},
      this.#box,
      h("p.unseen", { id: "graph-keys" }, KEYS),
      h("p.graph-hint", { "aria-hidden": "true" }, "Drag to move · scroll to zoom · click a deployment"),
      h(
        "div.graph-zoom",
        { role: "group", "aria-label": "Zoom" },
        button("+", "Zoom in", () => this.#zoom(1.5)),
        button("−", "Zoom out", () => this.#zoom(1 / 1.5)),
        button("Fit", "Show all of it", () => this.#fit({ isGliding: true })),
      ),
    );
  }

  /** Begin to draw: the element is in the document by now, where its colours are known. */
  start() {
    const [still, moving] = this.#box.children;
    this.#drawing = new Drawing(still, moving, { isCalm: this.#calm.matches });
    listen(this.#box, {
      read: () => this.#place,
      write: (place) => this.#move(place),
      click: (x, y) => this.#pick(this.#at(x, y)),
      point: (x, y) => this.#point(x === null ? null : this.#at(x, y)),
    });
    this.#observer.observe(this.element);
    const { signal } = this.#listening;
    addEventListener("theme", () => this.#drawing.recolour(), { signal });
    const calm = () => {
      this.#drawing.isCalm = this.#calm.matches;
      this.#show();
    };
    this.#calm.addEventListener("change", calm, { signal });
  }

  /** Draw this from now on: `{model, shown, chosen, above, below}`. */
  show(scene) {
    if (scene.model !== this.#scene?.model) this.#pointed = null;
    this.#scene = scene;
    this.#show();
  }

  /** Let the keyboard be here. */
  focus() {
    this.#box.focus();
  }

  /** Draw no more. */
  stop() {
    this.#stopGlide();
    this.#listening.abort();
    this.#observer.disconnect();
    this.#drawing.stop();
  }

  /** Show a node where its name can be read, and move no more than that takes. */
  bringNear(node) {
    const [width, height] = this.#size({ isClear: true });
    if (width <= 0 || height <= 0) return;
    const zoom = Math.max(this.#place.zoom, 0.8);
    const [x, y] = middle(node);
    const [atX, atY] = onScreen(node, this.#place);
    const isSeen = Math.min(atX, width - atX) > Math.min(120, width / 3) && Math.min(atY, height - atY) > Math.min(60, height / 3);
    if (isSeen && zoom === this.#place.zoom) return;
    this.#glide({ x: width / 2 - x * zoom, y: height / 2 - y * zoom, zoom });
  }

  #show() {
    if (this.#scene) this.#drawing.show({ ...this.#scene, view: this.#place, pointed: this.#pointed });
  }

  #at(x, y) {
    return nodeAt(this.#scene.model.nodes, this.#place, x, y);
  }

  #point(node) {
    if (node === this.#pointed) return;
    this.#pointed = node;
    this.#box.classList.toggle("on-node", node !== null);
    this.#drawing.point(node);
  }

  #pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const [width, height] = this.#size();
    const { model, chosen } = this.#scene;
    const direction = event.key.startsWith("Arrow") ? event.key.slice(5).toLowerCase() : null;
    if (event.shiftKey && direction) {
      const next = chosen && beside(model, chosen, direction);
      if (next) this.#pick(next, { isNear: true });
    } else if (event.key === "Enter") {
      const node = chosen ?? this.#nearestTo(width / 2, height / 2);
      if (node) this.#pick(node, { isNear: true, isFocused: true });
    } else if (event.key === "Escape") this.#pick(null);
    else if (event.key === "0") this.#fit({ isGliding: true });
    else {
      const place = moved(this.#place, event.key, width, height);
      if (!place) return;
      this.#move(place);
    }
    event.preventDefault();
  }

  #nearestTo(x, y) {
    let best = null;
    let nearest = Infinity;
    for (const node of this.#scene.shown) {
      const [atX, atY] = onScreen(node, this.#place);
      const far = Math.hypot(atX - x, atY - y);
      if (far < nearest) [best, nearest] = [node, far];
    }
    return best;
  }

  /** Return the width and height of the drawing; with `isClear`, of what is not covered. */
  #size({ isClear = false } = {}) {
    const size = [this.#box.clientWidth, this.#box.clientHeight];
    if (!isClear || this.#over.hidden) return size;
    const [stage, over] = [this.#box.getBoundingClientRect(), this.#over.getBoundingClientRect()];
    if (over.left >= stage.right || over.top >= stage.bottom) return size;
    return over.top > stage.top + 1 ? [size[0], over.top - stage.top] : [over.left - stage.left, size[1]];
  }

  #resized() {
    const [width, height] = this.#size();
    if (!this.#drawing.resize(width, height) || this.#isPlaced) return;
    this.#isPlaced = true;
    this.#fit();
    if (this.#scene.chosen) this.bringNear(this.#scene.chosen);
  }

  #move(place) {
    this.#stopGlide();
    this.#goal = null;
    this.#place = place;
    this.#show();
  }

  #glide(place) {
    this.#stopGlide();
    this.#goal = place;
    const show = (next) => {
      this.#place = next;
      if (next === place) this.#goal = null;
      this.#show();
    };
    this.#stopGlide = glide(this.#place, place, show, { isCalm: this.#calm.matches });
  }

  #zoom(factor) {
    const [width, height] = this.#size();
    this.#glide(zoomed(this.#goal ?? this.#place, factor, width / 2, height / 2));
  }

  #fit({ isGliding = false } = {}) {
    const { model, shown } = this.#scene;
    const place = fitting(extent(shown.size ? [...shown] : model.nodes), ...this.#size({ isClear: true }));
    if (isGliding) this.#glide(place);
    else this.#move(place);
  }
}

function button(text, label, act) {
  return h("button", { type: "button", title: label, "aria-label": label, onclick: act }, text);
}
