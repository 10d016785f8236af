// The small drawing of a run's lineage: what went into it at the left, what was built from it at the right.

import { h, s } from "./dom.js";

const WIDTH = 164;
const HEIGHT = 40;
const GAP_X = 44;
const GAP_Y = 12;
const BEND_HEIGHT = 10;
const MOST = 60;
const SMALLEST = 0.7;

/** Return the drawing of a run with its inputs and, where they are known, its consumers; null when there is nothing. */
export function lineageDrawing(run, { inputs, lineage }) {
  let { nodes, edges } = graphOf(run, inputs, lineage);
  // Of very much, what it read itself and what read it.
  if (nodes.length > MOST) ({ nodes, edges } = graphOf(run, ...nearest(inputs, lineage)));
  if (nodes.length < 2 || nodes.length > MOST) return null;
  const { paths, width, height } = laidOut(nodes, edges);
  const label = `Lineage: ${inputs.length} version${inputs.length === 1 ? "" : "s"} went into this run, ${nodes.length > inputs.length ? "drawn from the sources at the left" : "the nearest of them are drawn"}.`;
  const svg = s(
    "svg", { viewBox: `-2 -2 ${width + 4} ${height + 4}`, width: width + 4, height: height + 4, "aria-label": label, style: { "min-width": `${Math.round(width * SMALLEST)}px` } },
    s("g", { "aria-hidden": "true" }, paths.map((points) => s("path.edge", { d: curve(points) }))),
    nodes.map(box),
  );
  const scroller = h("div.scroll.lineage", { tabindex: 0, role: "group", "aria-label": label }, svg);
  // The run itself stands at the right.
  requestAnimationFrame(() => (scroller.scrollLeft = scroller.scrollWidth));
  return scroller;
}

function nearest(inputs, lineage) {
  const isNear = (one) => one.depth === 1;
  return [inputs.filter(isNear), { ...lineage, consumers: (lineage?.consumers ?? []).filter(isNear) }];
}

function graphOf(run, inputs, lineage) {
  const own = run.version ? `${run.deployment}@v${run.version}` : run.deployment;
  const middle = Math.max(0, ...inputs.map((one) => one.depth));
  const nodes = [{ key: own, column: middle, title: run.deployment, text: run.version ? `v${run.version} · this run` : "this run", word: "self", href: null }];
  const edges = [];
  const add = (one, column, word) => {
    const key = `${one.deployment}@v${one.number}`;
    const text = `v${one.number}${one.data_end ? ` · ${one.data_end}` : ""}`;
    if (!nodes.some((node) => node.key === key)) nodes.push({ key, column, title: one.deployment, text, word, href: `/runs/${encodeURIComponent(one.run_id)}` });
    return key;
  };
  for (const one of inputs) {
    const key = add(one, middle - one.depth, one.is_current && !one.is_withdrawn ? "ready" : "stale");
    if (one.depth === 1) edges.push([key, own]);
  }
  for (const one of lineage?.consumers ?? []) {
    const key = add(one, middle + one.depth, one.is_current ? "ready" : "not_initialized");
    if (one.depth === 1) edges.push([own, key]);
  }
  const known = new Set(nodes.map((node) => node.key));
  for (const { source, target } of lineage?.edges ?? []) {
    const isNew = !edges.some(([a, b]) => a === source && b === target);
    if (isNew && known.has(source) && known.has(target)) edges.push([source, target]);
  }
  layered(nodes, edges);
  return { nodes, edges };
}

/** Put every node right of all that it was built from: the shortest way, which the depth says, may be shorter. */
function layered(nodes, edges) {
  const at = new Map(nodes.map((node) => [node.key, node]));
  for (let round = 0, hasMoved = true; hasMoved && round < nodes.length; round += 1) {
    hasMoved = false;
    for (const [source, target] of edges) {
      const needed = at.get(source).column + 1;
      if (at.get(target).column >= needed) continue;
      at.get(target).column = needed;
      hasMoved = true;
    }
  }
}

/** Give every node its place; an edge over several columns gets a bend in each, so that it passes beside the boxes. */
function laidOut(nodes, edges) {
  const at = new Map(nodes.map((node) => [node.key, node]));
  const columns = [];
  const put = (item) => (columns[item.column] ??= []).push(item);
  for (const node of nodes) put(Object.assign(node, { height: HEIGHT, before: [] }));
  const chains = edges.map(([source, target]) => {
    const chain = [at.get(source)];
    const last = at.get(target);
    for (let column = chain[0].column + 1; column < last.column; column += 1) {
      const bend = { column, height: BEND_HEIGHT, isBend: true, before: [chain.at(-1)] };
      put(bend);
      chain.push(bend);
    }
    last.before.push(chain.at(-1));
    return [...chain, last];
  });
  const filled = columns.filter(Boolean);
  const heightOf = (items) => items.reduce((sum, item) => sum + item.height + GAP_Y, -GAP_Y);
  const height = Math.max(...filled.map(heightOf));
  filled.forEach((items, place) => {
    // Where it comes from says how high it stands: fewer edges cross.
    const mean = (item) => (item.before.length ? item.before.reduce((sum, one) => sum + (one.y ?? 0) + one.height / 2, 0) / item.before.length : height / 2);
    items.sort((a, b) => mean(a) - mean(b));
    let y = (height - heightOf(items)) / 2;
    for (const item of items) {
      Object.assign(item, { x: place * (WIDTH + GAP_X), y });
      y += item.height + GAP_Y;
    }
  });
  const paths = chains.map((chain) => chain.flatMap((item, place) => {
    const y = item.y + item.height / 2;
    if (place === 0) return [[item.x + WIDTH, y]];
    return place === chain.length - 1 ? [[item.x, y]] : [[item.x, y], [item.x + WIDTH, y]];
  }));
  return { paths, width: filled.length * (WIDTH + GAP_X) - GAP_X, height };
}

/** Return the path through the points: curved between two columns, straight across one. */
function curve([[x, y], ...rest]) {
  let [fromX, fromY] = [x, y];
  let path = `M${x} ${y}`;
  rest.forEach(([toX, toY], place) => {
    const middle = (fromX + toX) / 2;
    path += place % 2 === 0 ? `C${middle} ${fromY} ${middle} ${toY} ${toX} ${toY}` : `L${toX} ${toY}`;
    [fromX, fromY] = [toX, toY];
  });
  return path;
}

function box(node) {
  const shape = s(
    "g.node", { data: { word: node.word }, transform: `translate(${node.x} ${node.y})` },
    s("title", {}, `${node.title} ${node.text}${node.word === "stale" ? ", does not hold any more" : ""}`),
    s("rect.frame", { width: WIDTH, height: HEIGHT, rx: 6 }),
    s("rect.mark", { width: 4, height: HEIGHT, rx: 2 }),
    s("text.name", { x: 14, y: 17 }, short(node.title, 18)),
    s("text", { x: 14, y: 32 }, short(node.text, 24)),
  );
  return node.href ? s("a", { href: node.href }, shape) : shape;
}

function short(text, most) {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}
