// The table of runs: its columns, its head that orders, its rows.

import { h } from "./dom.js";
import { ago, number, plain, secondsOf, shortId, span } from "./format.js";
import { badge } from "./words.js";

/** Every row is as high as that: which ones are in sight is computed, not measured. */
export const ROW_HEIGHT = 38;

const FIXED = [
  { name: "Compare", order: null, class: "tick", isUnseen: true, cell: tick },
  { name: "Status", order: "status", cell: status },
  { name: "Deployment", order: "deployment", cell: deployment, isHeader: true },
  { name: "Run", order: null, class: "wide", cell: (run) => h("span.mono.soft", { title: run.id }, shortId(run.id)) },
  { name: "Trigger", order: "trigger", class: "wide", cell: (run) => h("span.soft", {}, plain(run.trigger)) },
  { name: "Version", order: "version", class: "number wide", cell: (run) => (run.version ? `v${run.version}` : "–") },
  { name: "Created", order: "id", class: "number", isDescending: true, cell: (run) => ago(run.created_at) },
  { name: "Took", order: "duration", class: "number", isDescending: true, cell: (run) => span(secondsOf(run)) },
];

/** Return the columns: those that are always there, and one per metric. */
export function columnsOf(metrics) {
  return [
    ...FIXED,
    ...metrics.map((name) => ({ name, order: `metrics.${quoted(name)}`, class: "number metric", isDescending: true, cell: (run) => number(run.metrics?.[name]) })),
  ];
}

/** Return the head; a click on a name orders by it, another one turns the order round. */
export function headRow(order, metrics, onOrder) {
  const by = order.replace(/^-/, "");
  const isDescending = order.startsWith("-");
  return h(
    "tr", { "aria-rowindex": 1 },
    columnsOf(metrics).map((column) => {
      const isOrdered = column.order !== null && column.order === by;
      const sorted = isOrdered ? (isDescending ? "descending" : "ascending") : null;
      if (column.order === null) return h("th", { scope: "col", class: column.class ?? "" }, column.isUnseen ? h("span.unseen", {}, column.name) : column.name);
      const down = isOrdered ? !isDescending : Boolean(column.isDescending);
      return h(
        "th", { scope: "col", class: column.class ?? "", "aria-sort": sorted },
        h("button.plain", { type: "button", onclick: () => onOrder((down ? "-" : "") + column.order) }, column.name,
          h("span.arrow", { "aria-hidden": "true" }, isOrdered ? (isDescending ? "↓" : "↑") : "")),
      );
    }),
  );
}

/** Return the row of a run; `chosen` are the ids of those that are ticked. */
export function runRow(run, metrics, chosen) {
  return h(
    "tr", { data: { id: run.id } },
    columnsOf(metrics).map((column) => h(column.isHeader ? "th" : "td", { class: column.class ?? "", scope: column.isHeader ? "row" : null }, column.cell(run, chosen))),
  );
}

function tick(run, chosen) {
  return h("input", { type: "checkbox", checked: chosen.has(run.id), value: run.id, "aria-label": `Compare ${run.deployment} ${shortId(run.id)}` });
}

function status(run) {
  const share = typeof run.progress === "number" && !run.ended_at ? run.progress : null;
  return [badge(run.status), share === null ? null : h("span.share", {}, `${Math.round(share * 100)} %`)];
}

function deployment(run) {
  return h("a", { href: `/runs/${encodeURIComponent(run.id)}`, title: run.error_message ?? run.deployment }, run.deployment);
}

/** Return a metric's name as the search language takes it. */
function quoted(name) {
  return /^[A-Za-z_]\w*$/.test(name) ? name : `"${name.replaceAll('"', '""')}"`;
}
