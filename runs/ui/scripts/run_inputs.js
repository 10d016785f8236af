// What went into a run, whether it still holds, and what was built from it.

import { h, fill } from "./dom.js";
import { number } from "./format.js";
import { card, drawing, table } from "./parts.js";
import { lineageDrawing } from "./lineage_drawing.js";
import { sign, TERMINAL } from "./words.js";

const AGREEMENT = {
  not_read: "pinned, not read",
  not_pinned: "read without having been pinned",
  other_version: "another version was read than was pinned",
};

/** Return the part; see `run.js`. */
export function inputsPart(run, { ask }) {
  const { element, body } = card("Inputs", { id: "inputs" });
  const sentence = h("p");
  const drawn = h("div");
  const reads = h("div.flush");
  const list = h("div.flush");
  fill(body, sentence, drawn, reads, list);
  let isAsking = false;
  let isDone = false;

  const drawReads = drawing(reads, (all) => {
    const odd = all.filter((one) => one.agreement !== "as_pinned" || one.is_withdrawn);
    return odd.length ? [h("h3", {}, "Read otherwise than pinned"), table("Read otherwise than pinned", [
      { name: "Role", isHeader: true, cell: (one) => one.role },
      { name: "Deployment", cell: (one) => one.deployment },
      { name: "Pinned", class: "number", cell: (one) => version(one.pinned) },
      { name: "Read", class: "number", cell: (one) => version(one.read) },
      { name: "How", isUnseen: true, cell: (one) => (one.is_withdrawn ? "withdrawn since" : AGREEMENT[one.agreement]) },
    ], odd)] : null;
  });
  const drawInputs = drawing(list, (inputs) => inputs.length ? [h("h3", {}, "Down to the sources"), table("Inputs, down to the sources", [
    { name: "Version", isHeader: true, cell: (one) => [h("span.depth", { style: { "--depth": one.depth - 1 } }), h("a", { href: `/runs/${encodeURIComponent(one.run_id)}`, title: "The run that made it" }, `${one.deployment}@v${one.number}`)] },
    { name: "Role", cell: (one) => one.role },
    { name: "Data until", cell: (one) => one.data_end ?? "–" },
    { name: "Still holds?", cell: holds },
  ], inputs)] : null);
  const drawSentence = drawing(sentence, ([inputs, numAll, hasEnded]) => {
    if (!inputs.length) return h("span.soft", {}, hasEnded ? "It read no version of another deployment." : "It has read nothing yet.");
    const moved = inputs.filter((one) => !one.is_current || one.is_withdrawn);
    const which = numAll > inputs.length ? `nearest ${inputs.length} of ${number(numAll)}` : inputs.length;
    if (!moved.length) return numAll > inputs.length ? `The ${which} versions that it was built on still hold.` : "All that it was built on still holds.";
    return `${moved.length} of the ${which} versions that it was built on ${moved.length === 1 ? "does" : "do"} not hold any more.`;
  });
  const drawLineage = drawing(drawn, ([it, found]) => lineageDrawing(it, found));

  async function load(it, isLast) {
    if (isAsking) return;
    isAsking = true;
    try {
      const [inputs, lineage] = await Promise.all([ask("/inputs", { recursive: true }), ask("/lineage").catch(() => null)]);
      drawInputs(inputs.items);
      drawSentence([inputs.items, lineage?.num_inputs ?? inputs.items.length, isLast]);
      drawLineage([{ id: it.id, deployment: it.deployment, version: it.version, status: it.status }, { inputs: inputs.items, lineage }]);
      isDone = isLast;
    } catch {
      // The next look at the run asks again.
    } finally {
      isAsking = false;
    }
  }

  return {
    element,
    update(it) {
      drawReads(it.reads);
      if (!isDone) load(it, TERMINAL.has(it.status));
    },
  };
}

function holds(one) {
  const word = one.is_withdrawn || !one.is_current ? "stale" : "ready";
  const told = one.is_withdrawn ? "withdrawn" : one.is_current ? "yes" : "no, it moved on";
  return h("span.holds", { data: { word } }, sign(word), told);
}

function version(number) {
  return number === null ? "–" : `v${number}`;
}
