// The graph in memory: who reads whom, what is up and down from somewhere, what a filter lets through.

/** Every freshness, the one that needs people first. */
export const FRESHNESS = ["stale", "source_delayed", "not_initialized", "ready"];

/** Activities that are worth a mark; an idle deployment has none. */
export const ACTIVITIES = ["running", "error"];

/** Return the document of `/graph` with its nodes by key, numbered, and their edges hung on them. */
export function modelOf({ nodes, edges }) {
  const byKey = new Map();
  const known = nodes.map((node, at) => {
    const slash = node.key.indexOf("/");
    const made = { ...node, at, name: node.key.slice(slash + 1), words: node.key.toLowerCase(), reads: [], readBy: [] };
    byKey.set(node.key, made);
    return made;
  });
  const drawn = [];
  for (const edge of edges) {
    const source = byKey.get(edge.source);
    const target = byKey.get(edge.target);
    if (!source || !target) continue;
    const made = { source, target, role: edge.role, kind: edge.kind, observed: edge.observed === true };
    source.readBy.push(made);
    target.reads.push(made);
    drawn.push(made);
  }
  return { nodes: known, edges: drawn, byKey, kinds: [...new Set(known.map((node) => node.kind))].sort() };
}

/** Return all that a node reads, directly or through others. */
export function above(node) {
  return closure(node, (one) => one.reads.map((edge) => edge.source));
}

/** Return all that reads a node, directly or through others. */
export function below(node) {
  return closure(node, (one) => one.readBy.map((edge) => edge.target));
}

/** Return the nodes that a filter lets through; all of its parts have to hold. */
export function matching(model, { text = "", states = new Set(), kind = "" }) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return model.nodes.filter(
    (node) =>
      (kind === "" || node.kind === kind) &&
      (states.size === 0 || states.has(node.freshness) || states.has(node.activity)) &&
      words.every((word) => node.words.includes(word)),
  );
}

/** Return how many nodes there are of each freshness and activity. */
export function counts(nodes) {
  const found = new Map([...FRESHNESS, ...ACTIVITIES].map((word) => [word, 0]));
  for (const node of nodes) {
    for (const word of [node.freshness, node.activity]) if (found.has(word)) found.set(word, found.get(word) + 1);
  }
  return found;
}

/** Return the node beside another one: "left" and "right" along the edges, "up" and "down" in its column. */
export function beside(model, node, direction) {
  if (direction === "left") return nearest(node, node.reads.map((edge) => edge.source));
  if (direction === "right") return nearest(node, node.readBy.map((edge) => edge.target));
  const isThere = direction === "up" ? (other) => other.y < node.y : (other) => other.y > node.y;
  return nearest(node, model.nodes.filter((other) => Math.abs(other.x - node.x) < 0.9 && isThere(other)));
}

function nearest(node, others) {
  let best = null;
  for (const other of others) {
    if (!best || Math.abs(other.y - node.y) < Math.abs(best.y - node.y)) best = other;
  }
  return best;
}

function closure(node, next) {
  const found = new Set();
  const open = [node];
  while (open.length) {
    for (const other of next(open.pop())) {
      if (other === node || found.has(other)) continue;
      found.add(other);
      open.push(other);
    }
  }
  return found;
}
