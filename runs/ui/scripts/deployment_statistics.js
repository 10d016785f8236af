// How the runs of a deployment have gone in the last thirty days: counts, failures, durations, and a bar for each day.

import { h, s, fill } from "./dom.js";
import { number, plain, span } from "./format.js";
import { showProblem } from "./notices.js";
import { card, drawing, table } from "./parts.js";

const DAYS = 30;
const DAY_MS = 86_400_000;
const [STEP, HEIGHT] = [10, 56];
const KINDS = [["failed", (one) => one.statuses.failed ?? 0], ["completed", (one) => one.statuses.completed ?? 0]];

/** Return the part; `ask(route, query)` asks about this deployment. */
export function statisticsPart(ask) {
  const { element, body } = card("Last 30 days", { id: "statistics" });
  const draw = drawing(body, ([group, last]) => group ? [tiles(group), bars(group.trend ?? [], last), durations(group.trend ?? [])] : h("p.soft", {}, "It has not run in the last 30 days."));

  async function update() {
    try {
      const found = await ask("/statistics", { since: `${DAYS}d` });
      draw([found.groups[0] ?? null, found.until.slice(0, 10)]);
    } catch (error) {
      if (error.name !== "AbortError" && !body.childElementCount) showProblem(error, body, { again: update });
    }
  }

  return { element, update };
}

function tiles(group) {
  const rate = group.failure_rate === null ? "–" : `${number(Math.round(group.failure_rate * 1000) / 10)} %`;
  const told = [["runs", number(group.num_runs)], ["failed", rate], ["median", span(group.p50_s)], ["95 % within", span(group.p95_s)]];
  return h("dl.tiles", {}, told.map(([name, value]) => h("div.tile", {}, h("dt", {}, name), h("dd", {}, value))));
}

function bars(trend, last) {
  const byDay = new Map(trend.map((one) => [one.day, one]));
  const days = Array.from({ length: DAYS + 1 }, (_, place) => new Date(Date.parse(last) - (DAYS - place) * DAY_MS).toISOString().slice(0, 10));
  const most = Math.max(1, ...trend.map((one) => one.num_runs));
  const drawn = days.flatMap((day, place) => bar(byDay.get(day), place, most));
  const failed = trend.reduce((sum, one) => sum + (one.statuses.failed ?? 0), 0);
  return h(
    "figure.trend", {},
    s("svg", { viewBox: `0 0 ${STEP * days.length} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": `Runs per day in the last 30 days: at most ${most} a day, on ${trend.length} days; ${failed} failed` }, s("path.base", { d: `M0 ${HEIGHT - 0.5}H${STEP * days.length}` }), drawn),
    h("figcaption", {}, h("span", {}, days[0]), h("span.legend", {}, ["completed", "failed", "other"].map((kind) => h("span", { data: { kind } }, h("i", { "aria-hidden": "true" }), kind))), h("span", {}, days.at(-1))),
  );
}

/** Return the parts of a day's bar from the bottom up: failed, completed, all others. */
function bar(one, place, most) {
  if (!one) return [];
  const told = KINDS.map(([kind, count]) => [kind, count(one)]);
  const rest = one.num_runs - told.reduce((sum, [, count]) => sum + count, 0);
  let top = HEIGHT;
  return [...told, ["other", rest]].filter(([, count]) => count > 0).map(([kind, count]) => {
    const height = (count / most) * (HEIGHT - 2);
    top -= height;
    return s("rect", { x: place * STEP + 1, y: top, width: STEP - 2, height, data: { kind } }, s("title", {}, `${one.day}: ${count} ${kind}`));
  });
}

function durations(trend) {
  if (!trend.length) return null;
  const rows = h("div");
  const list = () => fill(rows, h("div.values", {}, table("Runs by day", [
    { name: "Day", isHeader: true, cell: (one) => one.day },
    { name: "Runs", class: "number", cell: (one) => h("span", { title: Object.entries(one.statuses).map(([status, count]) => `${count} ${plain(status)}`).join(", ") }, number(one.num_runs)) },
    { name: "Failed", class: "number", cell: (one) => number(one.statuses.failed ?? 0) },
    { name: "Median", class: "number", cell: (one) => span(one.p50_s) },
    { name: "95 % within", class: "number", cell: (one) => span(one.p95_s) },
  ], trend.toReversed())));
  return h("details", { ontoggle: (event) => event.target.open && list() }, h("summary", {}, "Day by day"), rows);
}
