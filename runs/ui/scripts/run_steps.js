// The steps of a run: Prefect's task runs, and what they add up to.

import { h, fill } from "./dom.js";
import { number, plain, span } from "./format.js";
import { card, drawing, table } from "./parts.js";
import { badge, TERMINAL } from "./words.js";

/** Return the part; see `run.js`. */
export function stepsPart(run, { ask }) {
  const { element, body } = card("Steps", { id: "steps" });
  const list = h("div.flush");
  const sums = h("p.soft");
  fill(body, sums, list);
  let isAsking = false;
  let isDone = false;

  const drawList = drawing(list, (steps) => steps.length ? table("Steps", [
    { name: "Step", isHeader: true, cell: (step) => h("span", { title: step.message }, step.name) },
    { name: "Status", cell: (step) => badge(step.status) },
    { name: "Took", class: "number", cell: (step) => [span(step.duration_s), step.attempt > 1 ? h("span.soft", {}, ` · attempt ${step.attempt}`) : null] },
  ], steps) : null);
  const drawSums = drawing(sums, ({ num_steps: steps, num_failed_steps: failed, step_s: seconds, counters }) => [
    steps ? `${steps} step${steps === 1 ? "" : "s"}${failed ? `, ${failed} failed` : ""}, ${span(seconds)} together` : "None of its tasks is recorded.",
    Object.entries(counters).map(([name, value]) => [" · ", `${plain(name)} ${number(value)}`]),
  ]);

  async function load(isLast) {
    if (isAsking) return;
    isAsking = true;
    try {
      drawList((await ask("/steps")).items);
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
      drawSums(it.usage);
      if (!isDone) load(TERMINAL.has(it.status));
    },
  };
}
