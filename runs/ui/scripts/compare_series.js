// The metrics of compared runs over time: one plot for each name, with a line for each run.

import { get } from "./api.js";
import { inkOf } from "./compare_table.js";
import { h, fill } from "./dom.js";
import { number, shortId } from "./format.js";
import { card, drawing, table } from "./parts.js";
import { figureOf, linePlot, toNumber } from "./plots.js";

const MAX_POINTS = 300;
const MOST_RUNS = 12;
const SHOWN_FIRST = 6;

/** Return the part: `show(runs, signal)` draws what these have logged, `close()` ends it. */
export function compareSeries() {
  const note = h("p.soft");
  const plots = h("div.plots");
  const more = h("button", { type: "button", hidden: true, onclick: showAll }, "");
  const { element, body } = card("Metrics over time", { id: "series" }, note, plots, more);
  let drawn = [];
  let groups = [];
  let isAll = false;
  element.hidden = true;

  const draw = drawing(plots, ([, wanted]) => {
    for (const plot of drawn) plot.close();
    drawn = wanted.map(overlaid);
    return drawn.map((plot) => plot.element);
  });

  async function show(runs, signal) {
    const some = runs.slice(0, MOST_RUNS);
    const found = await Promise.allSettled(some.map((run) => get(`/runs/${run.id}/series`, { max_points: MAX_POINTS }, { signal })));
    if (signal?.aborted) return;
    const byName = new Map();
    found.forEach(({ value }, place) => {
      for (const one of value?.items ?? []) {
        if (one.values.length > 1) byName.set(one.name, [...(byName.get(one.name) ?? []), { ...one, id: some[place].id, place }]);
      }
    });
    // What most of them have comes first.
    groups = [...byName].sort(([a, ours], [b, theirs]) => theirs.length - ours.length || a.localeCompare(b));
    element.hidden = groups.length === 0;
    const failed = found.filter(({ status }) => status === "rejected").length;
    fill(note, runs.length > MOST_RUNS ? `Of the first ${MOST_RUNS} runs. ` : null, failed ? `Of ${failed} they could not be read.` : null);
    write();
  }

  function write() {
    draw([groups.length, isAll ? groups : groups.slice(0, SHOWN_FIRST)]);
    more.hidden = isAll || groups.length <= SHOWN_FIRST;
    fill(more, `Show all ${groups.length} plots`);
  }

  function showAll() {
    isAll = true;
    write();
  }

  return {
    element,
    show,
    close() {
      for (const plot of drawn) plot.close();
    },
  };
}

/** Return one plot with a line for each run, and what the lines end in as a table. */
function overlaid([name, series]) {
  const plot = linePlot({ isTime: false, height: 220 });
  const lines = series.map((one) => ({
    name: one.id,
    x: one.steps.some((step) => step === null) ? one.values.map((_, at) => at) : one.steps,
    y: one.values.map(toNumber),
    color: inkOf(one.place),
    isDashed: one.place >= 6,
  }));
  const lasts = series.map((one) => `${shortId(one.id)} ${number(one.values.at(-1))}`).join(", ");
  plot.show({ x: [], lines, label: `${name} of ${series.length} run${series.length === 1 ? "" : "s"}; last values: ${lasts}` });
  const finite = (one) => one.values.map(toNumber).filter(Number.isFinite);
  const values = h("details", {}, h("summary", {}, "Values"), h("div.values", {}, table(`Values of ${name}`, [
    { name: "Run", isHeader: true, cell: (one) => [h("i.ink", { style: { "--ink": `var(${inkOf(one.place)})` }, data: { dashed: one.place >= 6 ? "yes" : "no" }, "aria-hidden": "true" }), h("span.mono", {}, shortId(one.id))] },
    { name: "Last", class: "number", cell: (one) => number(one.values.at(-1)) },
    { name: "Least", class: "number", cell: (one) => number(finite(one).reduce((a, b) => Math.min(a, b), Infinity)) },
    { name: "Most", class: "number", cell: (one) => number(finite(one).reduce((a, b) => Math.max(a, b), -Infinity)) },
    { name: "Points", class: "number", cell: (one) => number(one.num_points) },
  ], series)));
  const told = h("span.soft", {}, series.length === 1 ? "1 run" : `${series.length} runs`);
  return { element: figureOf(plot, h("figcaption", {}, h("strong", {}, name), h("span.spread"), told), values), close: plot.close };
}
