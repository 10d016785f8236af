// Draws the edges: curves from left to right, those on the way from and to the chosen node above the others.

import { CARDS_FROM, COLUMN, NAMES_FROM, ROW, WIDTH, middle } from "./graph_places.js";

const MANY = 400;

/** Draws the edges of one model after another; what is seen from far away is the same from every side, and kept. */
export class Edges {
  #far = null;

  /** Forget what is kept: the graph is another one. */
  forget() {
    this.#far = null;
  }

  /** Draw on a screen of this [width, height, pixel ratio]. */
  draw(context, scene, size, colours) {
    const { model, view, chosen } = scene;
    const { zoom } = view;
    const ratio = size[2];
    const isFar = zoom < NAMES_FROM;
    // From far away a node is its sign alone, in the middle of where its card will be: edges begin there.
    const half = isFar ? 12 : WIDTH / 2;
    const seen = isFar ? model.edges : model.edges.filter(crosses(view, size));
    const curves = isFar ? (this.#far ??= curvesBy(seen, half)) : curvesBy(seen, half);
    context.setTransform(ratio * zoom, 0, 0, ratio * zoom, ratio * view.x, ratio * view.y);
    // Many edges are drawn as hairs: from far away they let the nodes be seen, and a line of one pixel at most is drawn
    // ten times as fast as a thicker one.
    const isMany = seen.length > MANY;
    context.lineWidth = (isMany ? (isFar ? 0.6 : 1) / ratio : 1.1) / zoom;
    context.strokeStyle = colours["--line-strong"];
    context.globalAlpha = chosen ? 0.1 : isMany && isFar ? 0.28 : 0.5;
    context.stroke(curves.declared);
    context.setLineDash([5 / zoom, 4 / zoom]);
    context.stroke(curves.observed);
    context.setLineDash([]);
    if (zoom >= CARDS_FROM) {
      context.globalAlpha = chosen ? 0.25 : 0.8;
      drawHeads(context, seen, colours);
    }
    if (chosen) {
      const ways = seen.filter(isOnWay(scene));
      context.globalAlpha = 0.9;
      context.lineWidth = (ways.length > MANY ? 1 / ratio : 1.6) / zoom;
      context.strokeStyle = colours["--accent"];
      context.stroke(curvesOf(ways, half));
    }
    context.globalAlpha = 1;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
  }
}

/** Return the condition that an edge may be seen: what lies off the screen costs as much to draw as what is on it. */
function crosses(view, [width, height]) {
  const [left, right] = [-view.x / view.zoom / COLUMN - 1, (width - view.x) / view.zoom / COLUMN + 1];
  const [top, bottom] = [-view.y / view.zoom / ROW - 2, (height - view.y) / view.zoom / ROW + 2];
  return ({ source, target }) =>
    source.x <= right && target.x >= left && Math.max(source.y, target.y) >= top && Math.min(source.y, target.y) <= bottom;
}

function isOnWay({ chosen, above, below }) {
  const isUp = (node) => node === chosen || above.has(node);
  const isDown = (node) => node === chosen || below.has(node);
  return ({ source, target }) => (isUp(source) && isUp(target)) || (isDown(source) && isDown(target));
}

function drawHeads(context, edges, colours) {
  context.fillStyle = colours["--line-strong"];
  for (const node of new Set(edges.map((edge) => edge.target))) {
    const [x, y] = middle(node);
    context.beginPath();
    context.moveTo(x - WIDTH / 2, y);
    context.lineTo(x - WIDTH / 2 - 7, y - 3.5);
    context.lineTo(x - WIDTH / 2 - 7, y + 3.5);
    context.fill();
  }
}

function curvesBy(edges, half) {
  return {
    declared: curvesOf(edges.filter((edge) => !edge.observed), half),
    observed: curvesOf(edges.filter((edge) => edge.observed), half),
  };
}

function curvesOf(edges, half) {
  const path = new Path2D();
  for (const edge of edges) {
    const [fromX, fromY] = middle(edge.source);
    const [toX, toY] = middle(edge.target);
    const [left, right] = [fromX + half, toX - half];
    const bend = Math.max(24, (right - left) / 2);
    // An edge that would run behind the cards of its own row goes around them.
    const around = right - left > 2 * COLUMN && Math.abs(toY - fromY) < ROW / 2 ? -1.4 * ROW : 0;
    path.moveTo(left, fromY);
    path.bezierCurveTo(left + bend, fromY + around, right - bend, toY + around, right, toY);
  }
  return path;
}
