// What a run wrote: tables with their first rows and, where there is one, the equity curve; files to download.

import { h, fill } from "./dom.js";
import { bytes, number } from "./format.js";
import { announce, showProblem } from "./notices.js";
import { card, drawing, table } from "./parts.js";
import { figureOf, linePlot, toNumber } from "./plots.js";

const PREVIEW_ROWS = 50;
const CURVE_ROWS = 500;

/** Return the part; see `run.js`. */
export function artifactsPart(run, { ask }) {
  const { element, body } = card("Tables and files", { id: "artifacts" });
  const curves = h("div");
  const list = h("div.flush");
  const opened = h("div.preview");
  fill(body, curves, list, opened);
  const shownCurves = new Map();
  let opener = null;

  const drawList = drawing(list, (artifacts) => artifacts.length ? table("Tables and files", [
    { name: "Name", isHeader: true, cell: (one) => [one.name, one.publish ? null : h("span.tag", { title: "It belongs to the run alone, not to the published version." }, "unpublished")] },
    { name: "Kind", cell: (one) => one.kind },
    { name: "Rows", class: "number", cell: (one) => number(one.rows) },
    { name: "Size", class: "number", cell: (one) => bytes(one.size_bytes) },
    { name: "Data", cell: (one) => (one.first_data_date ? `${one.first_data_date} – ${one.last_data_date}` : "–") },
    { name: "Read it", isUnseen: true, cell: (one) => (one.removed_reason ? h("span.soft", {}, `removed: ${one.removed_reason}`) : acts(one)) },
  ], artifacts) : h("p.soft.pad", {}, "It wrote none."));

  function acts(one) {
    const download = h("a.button.small", { href: one.content_url, download: one.name, "aria-label": `Download ${one.name}` }, "Download");
    if (!one.preview_url) return h("div.buttons", {}, download);
    const button = h("button.small", { type: "button", "aria-expanded": "false", "aria-label": `Show the first rows of ${one.name}`, onclick: () => toggle(one, button) }, "Rows");
    return h("div.buttons", {}, button, download);
  }

  /** Show the first rows of one table below the list, in the place of those of another one; the same again closes it. */
  async function toggle(one, button) {
    const wasOpen = button === opener;
    close();
    if (wasOpen) return;
    opener = button;
    button.setAttribute("aria-expanded", "true");
    fill(opened, h("p.soft", {}, "Loading…"));
    try {
      const preview = await ask(`/artifacts/${one.id}/preview`, { limit: PREVIEW_ROWS });
      if (opener !== button) return;
      fill(opened, previewTable(one.name, preview, close));
      announce(`The first rows of ${one.name} are shown below the list`);
    } catch (error) {
      if (opener === button) showProblem(error, opened);
    }
  }

  function close() {
    opener?.setAttribute("aria-expanded", "false");
    if (opened.contains(document.activeElement)) opener?.focus();
    opener = null;
    fill(opened);
  }

  async function drawCurves(artifacts) {
    for (const one of artifacts) {
      const names = (one.columns ?? []).map(([name]) => name);
      if (one.removed_reason || !one.preview_url || !one.rows || !names.includes("equity") || shownCurves.has(one.id)) continue;
      shownCurves.set(one.id, null);
      const every = Math.ceil(one.rows / CURVE_ROWS);
      try {
        shownCurves.set(one.id, curve(one.name, await ask(`/artifacts/${one.id}/preview`, { limit: CURVE_ROWS, every }), every));
      } catch (error) {
        if (error.name === "AbortError") return;
        shownCurves.set(one.id, undrawn(one.name, error));
      }
      fill(curves, [...shownCurves.values()].filter(Boolean).map((shown) => shown.element));
    }
  }

  return {
    element,
    update(it) {
      drawList(it.artifacts);
      drawCurves(it.artifacts);
    },
    close() {
      for (const shown of shownCurves.values()) shown?.close();
    },
  };
}

function previewTable(name, { columns, rows, num_rows: numRows }, close) {
  const told = rows.length < numRows ? `The first ${number(rows.length)} of ${number(numRows)} rows` : `${number(numRows)} rows`;
  return [
    h("header", {}, h("h3", {}, name), h("span.soft", {}, told), h("span.spread"), h("button.plain", { type: "button", "aria-label": "Close these rows", onclick: close }, "×")),
    table(`${name}: ${told}`, columns.map(([column, type], place) => ({
      name: h("span", { title: type }, column),
      class: /int|float|double|decimal/.test(type) ? "number" : "",
      cell: (row) => (typeof row[place] === "object" && row[place] !== null ? JSON.stringify(row[place]) : typeof row[place] === "number" ? number(row[place]) : String(row[place] ?? "–")),
    })), rows),
  ];
}

/** Return why there is no plot of a table, for the place of the plot. */
function undrawn(name, error) {
  if (!error.code) console.error(error);
  const why = error.code ? error.message : "the page made a mistake; the console of your browser says more.";
  return { element: h("p.soft.pad", { role: "status" }, `The plot of ${name} is not drawn: ${why}`), close: () => {} };
}

/** Return the plot of a table of which each `every`-th row is here: equity, and drawdown and benchmark where it has them. */
function curve(name, { columns, rows, num_rows: numRows }, every) {
  const names = columns.map(([column]) => column);
  const dateAt = columns.findIndex(([, type]) => /date|timestamp/.test(type));
  const column = (wanted) => rows.map((row) => toNumber(row[names.indexOf(wanted)]));
  const x = rows.map((row, place) => (dateAt < 0 ? place * every : Date.parse(row[dateAt])));
  const equity = column("equity");
  const isTime = dateAt >= 0;
  const lines = [{ name: "equity", y: equity }];
  if (names.includes("benchmark")) lines.push({ name: "benchmark", y: column("benchmark"), color: "--mute", isDashed: true });
  const plot = linePlot({ isTime, height: 240 });
  const part = rows.length < numRows ? `, ${number(rows.length)} of ${number(numRows)} rows` : "";
  plot.show({ x, lines, label: `${name}: equity from ${number(equity[0])} to ${number(equity.at(-1))}${part}` });
  const key = h("span.legend", {}, lines.map((line) => h("span", { data: { dashed: line.isDashed ? "yes" : "no" } }, h("i", { "aria-hidden": "true" }), line.name)));
  const figures = [figureOf(plot, h("figcaption", {}, h("strong", {}, name), h("span.soft", {}, part.slice(2)), h("span.spread"), key))];
  const below = names.includes("drawdown") ? linePlot({ isTime, height: 110 }) : null;
  if (below) {
    const drawdown = column("drawdown");
    below.show({ x, lines: [{ name: "drawdown", y: drawdown, color: "--bad", isFilled: true }], label: `${name}: the deepest drawdown is ${number(Math.min(...drawdown.filter(Number.isFinite)))}` });
    figures.push(figureOf(below, h("figcaption", {}, h("span.soft", {}, "drawdown"))));
  }
  return { element: h("div.curve", {}, figures), close: () => (plot.close(), below?.close()) };
}
