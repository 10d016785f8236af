// The small drawing of a run's lineage: what went into it at the left, what was built from it at the right.

import { h, s } from "./dom.js";

const WIDTH = 168;
const HEIGHT = 40;
const GAP_X = 54;
const GAP_Y = 12;
const MOST = 60;

/** Return the drawing of a run with its inputs and, where they are known, its consumers; null when there is nothing. */
export function lineageDrawing(run, { inputs, lineage }) {
  const { nodes, edges } = graphOf(run, inputs, lineage);
  if (nodes.length < 2 || nodes.length > MOST) return null;
  const columns = new Map();
  for (const node of nodes) columns.set(node.column, [...(columns.get(node.column) ?? []), node]);
  const order = [...columns.keys()].sort((a, b) => a - b);
  const tallest = Math.max(...[...columns.values()].map((column) => column.length));
  const height = tallest * (HEIGHT + GAP_Y) - GAP_Y;
  const width = order.length * (WIDTH + GAP_X) - GAP_X;
  order.forEach((column, place) => {
    const here = columns.get(column);
    const top = (height - here.length * (HEIGHT + GAP_Y) + GAP_Y) / 2;
    here.forEach((node, index) => Object.assign(node, { x: place * (WIDTH + GAP_X), y: top + index * (HEIGHT + GAP_Y) }));
  });
  const at = new Map(nodes.map((node) => [node.key, node]));
  const label = `Lineage: ${inputs.length} versions went into this run, drawn from the sources at the left.`;
  return h(
    "div.scroll.lineage", { tabindex: 0, role: "region", "aria-label": label },
    s("svg", { viewBox: `-2 -2 ${width + 4} ${height + 4}`, width: width + 4, height: height + 4, "aria-label": label },
      s("g", { "aria-hidden": "true" }, edges.map(([source, target]) => line(at.get(source), at.get(target)))),
      nodes.map(box)),
  );
}

function graphOf(run, inputs, lineage) {
  const own = run.version ? `${run.deployment}@v${run.version}` : run.deployment;
  const deepest = Math.max(0, ...inputs.map((one) => one.depth));
  const nodes = [{ key: own, column: deepest + 1, title: run.deployment, text: run.version ? `v${run.version} · this run` : "this run", word: "self", href: null }];
  const edges = [];
  for (const one of inputs) {
    const key = `${one.deployment}@v${one.number}`;
    nodes.push({ key, column: deepest + 1 - one.depth, title: one.deployment, text: `v${one.number}${one.data_end ? ` · ${one.data_end}` : ""}`, word: one.is_current && !one.is_withdrawn ? "ready" : "stale", href: `/runs/${encodeURIComponent(one.run_id)}` });
  }
  for (const one of lineage?.consumers ?? []) {
    const key = `${one.deployment}@v${one.number}`;
    if (nodes.some((node) => node.key === key)) continue;
    nodes.push({ key, column: deepest + 1 + one.depth, title: one.deployment, text: `v${one.number}`, word: one.is_current ? "ready" : "not_initialized", href: `/runs/${encodeURIComponent(one.run_id)}` });
    if (one.depth === 1) edges.push([own, key]);
  }
  const known = new Set(nodes.map((node) => node.key));
  const told = (lineage?.edges ?? []).map((edge) => [edge.source, edge.target]);
  const direct = inputs.filter((one) => one.depth === 1).map((one) => [`${one.deployment}@v${one.number}`, own]);
  for (const [source, target] of [...told, ...direct]) {
    const isNew = !edges.some(([a, b]) => a === source && b === target);
    if (isNew && known.has(source) && known.has(target)) edges.push([source, target]);
  }
  return { nodes, edges };
}

function line(from, to) {
  const [x1, y1, x2, y2] = [from.x + WIDTH, from.y + HEIGHT / 2, to.x, to.y + HEIGHT / 2];
  const bend = Math.max(18, (x2 - x1) / 2);
  return s("path.edge", { d: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}` });
}

function box(node) {
  const shape = s(
    "g.node", { data: { word: node.word }, transform: `translate(${node.x} ${node.y})` },
    s("rect", { width: WIDTH, height: HEIGHT, rx: 6 }),
    s("rect.mark", { width: 4, height: HEIGHT, rx: 2 }),
    s("text.name", { x: 14, y: 17 }, short(node.title, 22)),
    s("text", { x: 14, y: 32 }, short(node.text, 24)),
    s("title", {}, `${node.title} ${node.text}${node.word === "stale" ? ", does not hold any more" : ""}`),
  );
  return node.href ? s("a", { href: node.href }, shape) : shape;
}

function short(text, most) {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}
