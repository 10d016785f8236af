// Where things lie in the drawing: in pixels at zoom 1, and on the screen as a view {x, y, zoom} shows it.

/** Pixels of a column and a row, and of the card in it. */
export const COLUMN = 200;
export const ROW = 52;
export const WIDTH = 172;
export const HEIGHT = 38;

/** From these zooms on, names stand beside the signs, and cards in their place. */
export const NAMES_FROM = 0.36;
export const CARDS_FROM = 0.66;

const NEAR_PX = 12;

/** Return where the middle of a node is, at zoom 1. */
export function middle(node) {
  return [node.x * COLUMN, node.y * ROW];
}

/** Return where the middle of a node is on the screen. */
export function onScreen(node, view) {
  return [node.x * COLUMN * view.zoom + view.x, node.y * ROW * view.zoom + view.y];
}

/** Return half the size of a sign on the screen. */
export function signSize(zoom) {
  return Math.min(Math.max(26 * zoom, 2.6), 7);
}

/** Return the smallest rectangle around these nodes: [left, top, right, bottom] at zoom 1. */
export function extent(nodes) {
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  for (const node of nodes) {
    const [x, y] = middle(node);
    left = Math.min(left, x - WIDTH / 2);
    right = Math.max(right, x + WIDTH / 2);
    top = Math.min(top, y - HEIGHT / 2);
    bottom = Math.max(bottom, y + HEIGHT / 2);
  }
  return left <= right ? [left, top, right, bottom] : [0, 0, WIDTH, HEIGHT];
}

/** Return the node at a point of the screen, or near it where nodes are small. */
export function nodeAt(nodes, view, x, y) {
  const isCard = view.zoom >= CARDS_FROM;
  const [inX, inY] = [(WIDTH / 2) * view.zoom, (HEIGHT / 2) * view.zoom];
  let best = null;
  let nearest = isCard ? 1 : NEAR_PX;
  for (const node of nodes) {
    const [atX, atY] = onScreen(node, view);
    const [dx, dy] = [Math.abs(atX - x), Math.abs(atY - y)];
    const far = isCard ? Math.max(dx / inX, dy / inY) : dx <= inX && dy <= inY ? dy / 2 : Math.hypot(dx, dy);
    if (far <= nearest) [best, nearest] = [node, far];
  }
  return best;
}
