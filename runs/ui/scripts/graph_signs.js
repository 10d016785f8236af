// The signs of freshness in the graph: a shape of its own for each, so that none is told by colour alone.

import { s } from "./dom.js";

/** Custom property with the colour of each word. */
export const INK = {
  ready: "--good",
  source_delayed: "--warn",
  stale: "--bad",
  not_initialized: "--mute",
  running: "--busy",
  error: "--bad",
};

// Of a size of 1 from the middle to the rim: a circle, a diamond, a triangle, a ring; a play sign and a cross.
const OUTLINES = {
  stale: [[0, -1.15], [1.15, 0], [0, 1.15], [-1.15, 0]],
  source_delayed: [[0, -1.1], [1.1, 0.85], [-1.1, 0.85]],
  running: [[-0.7, -1], [1, 0], [-0.7, 1]],
};

/** Add the sign of a freshness to a path; `ring` says that it is to be stroked, not filled. */
export function trace(path, word, x, y, size) {
  const outline = OUTLINES[word];
  if (!outline) {
    path.moveTo(x + size, y);
    path.arc(x, y, size, 0, 2 * Math.PI);
    return;
  }
  outline.forEach(([dx, dy], at) => path[at ? "lineTo" : "moveTo"](x + dx * size, y + dy * size));
  path.closePath();
}

/** Return whether a sign is drawn as a line around nothing. */
export function isHollow(word) {
  return word === "not_initialized";
}

/** Return the sign as an image for the page's text; the word has to stand beside it. */
export function shape(word) {
  const outline = OUTLINES[word];
  const attributes = { class: isHollow(word) ? "hollow" : "" };
  let drawn;
  if (word === "error") drawn = s("path", { class: "hollow", d: "M-.8-.8.8.8M.8-.8-.8.8" });
  else if (outline) drawn = s("polygon", { points: outline.map((point) => point.join()).join(" "), ...attributes });
  else drawn = s("circle", { r: isHollow(word) ? 0.9 : 1, ...attributes });
  return s("svg.shape", { viewBox: "-1.4 -1.4 2.8 2.8", width: 12, height: 12, "aria-hidden": "true", data: { word } }, drawn);
}
