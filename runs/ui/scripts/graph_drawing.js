// Draws the graph on two canvases: one with nodes and edges, drawn when something changes, and one above it with what
// moves (the pulse of what is running, the frame of what is pointed at). What is drawn depends on how near it is:
// signs alone from far away, then names, then cards.

import { Edges } from "./graph_edges.js";
import { FRESHNESS } from "./graph_model.js";
import { CARDS_FROM, COLUMN, HEIGHT, NAMES_FROM, WIDTH, middle, onScreen, signSize } from "./graph_places.js";
import { INK, isHollow, trace } from "./graph_signs.js";

const PULSE_MS = 1600;
const MARGIN = 40;
const ELLIPSIS_PX = 11;
const TAG_PX = 360;

/** Draws a model as a view shows it. `isCalm`: nothing moves. */
export class Drawing {
  #still;
  #moving;
  #colours = {};
  #widths = new Map();
  #edges = new Edges();
  #frame = 0;
  #isStale = false;
  #scene = null;
  #size = [0, 0, 1];

  constructor(still, moving, { isCalm }) {
    this.#still = still;
    this.#moving = moving;
    this.isCalm = isCalm;
    this.recolour();
  }

  /** Take the size of the element around it; return whether it has one. */
  resize(width, height) {
    const ratio = Math.min(devicePixelRatio || 1, 2);
    this.#size = [width, height, ratio];
    for (const canvas of [this.#still, this.#moving]) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    this.#draw();
    return width > 0 && height > 0;
  }

  /** Read the colours again: somebody has chosen others. */
  recolour() {
    const style = getComputedStyle(this.#still);
    // A colour that depends on the scheme is resolved on an element only.
    const probe = document.createElement("span");
    this.#still.parentElement.append(probe);
    const names = [...Object.values(INK), "--surface", "--ground", "--line", "--line-strong", "--text", "--soft", "--accent", "--focus"];
    for (const name of new Set(names)) {
      probe.style.color = `var(${name})`;
      this.#colours[name] = getComputedStyle(probe).color;
    }
    probe.remove();
    this.font = style.fontFamily;
    this.#widths.clear();
    this.show(this.#scene);
  }

  /** Draw this from now on: `{model, view, shown, chosen, pointed, above, below}`. */
  show(scene) {
    if (!scene) return;
    if (scene.model !== this.#scene?.model) this.#edges.forget();
    this.#scene = scene;
    this.#isStale = true;
    this.#ask();
  }

  /** Draw a frame around what is pointed at. */
  point(node) {
    this.#scene = { ...this.#scene, pointed: node };
    this.#ask();
  }

  /** Stop drawing. */
  stop() {
    cancelAnimationFrame(this.#frame);
    this.#frame = -1;
  }

  #ask() {
    if (this.#frame === 0) this.#frame = requestAnimationFrame(() => this.#tick());
  }

  #tick() {
    this.#frame = 0;
    if (this.#isStale) this.#draw();
    else this.#drawMoving();
    if (!this.isCalm && !document.hidden && this.#running().length) this.#ask();
  }

  #running() {
    return this.#scene ? this.#visible().filter((node) => node.activity === "running" && this.#isLit(node)) : [];
  }

  /** Return whether a node is let through, and on the way from or to the chosen one if there is one. */
  #isLit(node) {
    const { shown, chosen, above, below } = this.#scene;
    return shown.has(node) && (!chosen || node === chosen || above.has(node) || below.has(node));
  }

  #visible() {
    const { model, view } = this.#scene;
    const [width, height] = this.#size;
    const [left, right] = [(-view.x - MARGIN) / view.zoom, (width - view.x + MARGIN) / view.zoom];
    const [top, bottom] = [(-view.y - MARGIN) / view.zoom, (height - view.y + MARGIN) / view.zoom];
    return model.nodes.filter((node) => {
      const [x, y] = middle(node);
      return x + WIDTH / 2 >= left && x - WIDTH / 2 <= right && y + HEIGHT >= top && y - HEIGHT <= bottom;
    });
  }

  #draw() {
    if (!this.#scene || this.#size[0] === 0) return;
    this.#isStale = false;
    const [width, height, ratio] = this.#size;
    const context = this.#still.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    this.#edges.draw(context, this.#scene, this.#size, this.#colours);
    const nodes = this.#visible();
    const { view } = this.#scene;
    const [off, on] = [[], []];
    for (const node of nodes) (this.#isLit(node) ? on : off).push(node);
    const drawNodes = view.zoom >= CARDS_FROM ? this.#drawCards : this.#drawSigns;
    context.globalAlpha = 0.22;
    drawNodes.call(this, context, off, view);
    context.globalAlpha = 1;
    drawNodes.call(this, context, on, view);
    this.#drawMoving();
    if (!performance.getEntriesByName("graph-drawn").length) performance.mark("graph-drawn");
  }

  #drawSigns(context, nodes, view) {
    const size = signSize(view.zoom);
    const hasNames = view.zoom >= NAMES_FROM;
    const shift = hasNames ? (-WIDTH / 2) * view.zoom + size + 2 : 0;
    for (const word of FRESHNESS) {
      const path = new Path2D();
      for (const node of nodes) {
        if (node.freshness !== word) continue;
        const [x, y] = onScreen(node, view);
        trace(path, word, x + shift, y, isHollow(word) ? size * 0.8 : size);
      }
      context.lineWidth = Math.max(size * 0.35, 1.2);
      context.strokeStyle = context.fillStyle = this.#colours[INK[word]];
      if (!isHollow(word)) context.fill(path);
      else context.stroke(path);
    }
    const failed = new Path2D();
    for (const node of nodes) {
      if (node.activity !== "error") continue;
      const [x, y] = onScreen(node, view);
      cross(failed, x + shift + size * (hasNames ? -1.7 : 1.5), y - size * 0.9, size * 0.6);
    }
    context.lineWidth = Math.max(size * 0.3, 1.2);
    context.strokeStyle = this.#colours["--text"];
    context.stroke(failed);
    if (!hasNames) return;
    context.font = `11px ${this.font}`;
    context.textBaseline = "middle";
    context.fillStyle = this.#colours["--text"];
    // An edge through a name cannot be read.
    context.strokeStyle = this.#colours["--ground"];
    context.lineWidth = 5;
    context.lineJoin = "round";
    const room = (COLUMN - 24) * view.zoom - 2 * size - 8;
    for (const node of nodes) {
      const [x, y] = onScreen(node, view);
      const label = this.#label(context, node.name, room);
      context.strokeText(label, x + shift + size + 5, y);
      context.fillText(label, x + shift + size + 5, y);
    }
  }

  #drawCards(context, nodes, view) {
    const [, , ratio] = this.#size;
    const alpha = context.globalAlpha;
    context.save();
    context.setTransform(ratio * view.zoom, 0, 0, ratio * view.zoom, ratio * view.x, ratio * view.y);
    context.textBaseline = "alphabetic";
    for (const node of nodes) {
      const [x, y] = middle(node);
      const [left, top] = [x - WIDTH / 2, y - HEIGHT / 2];
      const ink = this.#colours[INK[node.freshness]];
      context.beginPath();
      context.roundRect(left, top, WIDTH, HEIGHT, 7);
      // Opaque even when it is pale: an edge through a name cannot be read.
      context.globalAlpha = 1;
      context.fillStyle = this.#colours["--surface"];
      context.fill();
      context.globalAlpha = alpha;
      context.lineWidth = 1;
      context.strokeStyle = this.#colours["--line-strong"];
      context.stroke();
      context.globalAlpha = alpha * 0.16;
      context.fillStyle = ink;
      context.beginPath();
      context.roundRect(left, top, HEIGHT - 6, HEIGHT, [7, 0, 0, 7]);
      context.fill();
      context.globalAlpha = alpha;
      const sign = new Path2D();
      trace(sign, node.freshness, left + 16, y, 6);
      context.lineWidth = 2;
      context.strokeStyle = ink;
      if (isHollow(node.freshness)) context.stroke(sign);
      else context.fill(sign);
      const room = WIDTH - (node.activity === "idle" ? 47 : 62);
      context.fillStyle = this.#colours["--text"];
      context.font = `600 13px ${this.font}`;
      context.fillText(this.#label(context, node.name, room), left + 40, y - 2);
      context.fillStyle = this.#colours["--soft"];
      context.font = `11px ${this.font}`;
      const second = node.version === null ? node.kind : `${node.kind} · v${node.version}`;
      context.fillText(this.#label(context, second, room), left + 40, y + 12);
      this.#drawActivity(context, node, left + WIDTH - 13, y);
    }
    context.restore();
  }

  #drawActivity(context, node, x, y) {
    if (node.activity === "idle" || !INK[node.activity]) return;
    const path = new Path2D();
    if (node.activity === "running") trace(path, "running", x, y, 4.5);
    else cross(path, x, y, 4);
    context.lineWidth = 2;
    context.fillStyle = context.strokeStyle = this.#colours[INK[node.activity]];
    if (node.activity === "running") context.fill(path);
    else context.stroke(path);
  }

  #drawMoving() {
    const [width, height, ratio] = this.#size;
    const context = this.#moving.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const { view, chosen, pointed } = this.#scene;
    const phase = (performance.now() % PULSE_MS) / PULSE_MS;
    context.strokeStyle = this.#colours["--busy"];
    const reach = view.zoom >= CARDS_FROM ? 8 : 6;
    context.lineWidth = view.zoom >= CARDS_FROM ? 2 : 1.6;
    for (const node of this.#running()) {
      context.globalAlpha = 0.9;
      this.#frameOf(context, node, view, 1);
      if (this.isCalm) continue;
      context.globalAlpha = 1 - phase;
      this.#frameOf(context, node, view, 1 + reach * phase);
    }
    context.globalAlpha = 1;
    for (const [node, colour] of [[pointed, "--line-strong"], [chosen, "--text"]]) {
      if (!node) continue;
      context.lineWidth = 2.5;
      context.strokeStyle = this.#colours[colour];
      this.#frameOf(context, node, view, 3);
    }
    for (const node of new Set([chosen, pointed])) if (node && view.zoom < CARDS_FROM) this.#drawTag(context, node, view);
  }

  #frameOf(context, node, view, distance) {
    const [x, y] = onScreen(node, view);
    const isSign = view.zoom < NAMES_FROM;
    const size = signSize(view.zoom) + 1;
    const [w, h] = isSign ? [2 * size, 2 * size] : [WIDTH * view.zoom, Math.max(HEIGHT * view.zoom, 14)];
    context.beginPath();
    context.roundRect(x - w / 2 - distance, y - h / 2 - distance, w + 2 * distance, h + 2 * distance, isSign ? size + distance : 7);
    context.stroke();
  }

  #drawTag(context, node, view) {
    const [width] = this.#size;
    context.font = `600 12px ${this.font}`;
    const label = this.#label(context, node.key, Math.min(width - 24, TAG_PX));
    const room = context.measureText(label).width + 16;
    const [middleX, middleY] = onScreen(node, view);
    const x = Math.min(Math.max(middleX - room / 2, 4), Math.max(width - room - 4, 4));
    const y = middleY < 40 ? middleY + 12 : middleY - 36;
    context.fillStyle = this.#colours["--text"];
    context.beginPath();
    context.roundRect(x, y, room, 22, 5);
    context.fill();
    context.fillStyle = this.#colours["--ground"];
    context.textBaseline = "middle";
    context.fillText(label, x + 8, y + 11.5);
  }

  /** Return as much of a text as there is room for. Measured once: room changes with every step of the zoom. */
  #label(context, text, room) {
    const key = `${context.font} ${text}`;
    let width = this.#widths.get(key);
    if (width === undefined) {
      if (this.#widths.size > 50_000) this.#widths.clear();
      width = context.measureText(text).width;
      this.#widths.set(key, width);
    }
    if (width <= room) return text;
    const kept = Math.floor((text.length * (room - ELLIPSIS_PX)) / width);
    return kept > 0 ? `${text.slice(0, kept)}…` : "";
  }
}

function cross(path, x, y, size) {
  path.moveTo(x - size, y - size);
  path.lineTo(x + size, y + size);
  path.moveTo(x + size, y - size);
  path.lineTo(x - size, y + size);
}
