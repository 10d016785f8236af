// The metrics of a run: the latest value of each, and how each came to be over time.

import { h, fill } from "./dom.js";
import { measured, number, plain } from "./format.js";
import { card, drawing } from "./parts.js";
import { figureOf, linePlot, toNumber } from "./plots.js";
import { TERMINAL } from "./words.js";

const MAX_POINTS = 600;
const SHOWN_FIRST = 6;
const MOST_IN_TABLE = 200;
const TILES_FIRST = 24;

/** Return the part; see `run.js`. */
export function metricsPart(run, { ask }) {
  const { element, body } = card("Metrics", { id: "metrics" });
  const tiles = h("div");
  const sift = h("input", { type: "search", placeholder: "Filter metrics", "aria-label": "Filter metrics by name", autocomplete: "off", spellcheck: "false", oninput: () => drawTiles([...latest, sift.value, hasAllTiles]) });
  const sifted = h("span.soft", { "aria-live": "polite" });
  const sifting = h("div.sifting", { hidden: true }, sift, sifted);
  const plots = h("div.plots");
  const more = h("button", { type: "button", hidden: true, onclick: showAll }, "");
  fill(body, sifting, tiles, plots, more);
  const drawn = new Map();
  let series = [];
  let isAll = false;
  let isAsking = false;
  let isDone = false;
  let latest = [];
  let hasAllTiles = false;

  const drawTiles = drawing(tiles, ([metrics, conventions, text]) => {
    const names = Object.keys(metrics).sort();
    sifting.hidden = names.length <= TILES_FIRST;
    if (!names.length) return h("p.soft", {}, "It has no metrics.");
    const wanted = plain(text.trim().toLowerCase());
    const found = names.filter((name) => plain(name.toLowerCase()).includes(wanted));
    const shown = hasAllTiles ? found : found.slice(0, TILES_FIRST);
    fill(sifted, shown.length === names.length ? `${names.length} metrics` : `${shown.length} of ${names.length} metrics`);
    return [
      h("dl.tiles", {}, shown.map((name) => tile(name, metrics[name], conventions[name]))),
      shown.length < found.length ? h("button.rest", { type: "button", onclick: showAllTiles }, `Show all ${found.length}`) : null,
    ];
  });

  function showAllTiles() {
    hasAllTiles = true;
    drawTiles([...latest, sift.value, hasAllTiles]);
    sift.focus();
  }

  async function load(isLast) {
    if (isAsking) return;
    isAsking = true;
    try {
      const found = await ask("/series", { max_points: MAX_POINTS });
      series = found.items.filter((one) => one.values.length > 1);
      isDone = isLast;
      draw();
    } catch {
      // The next look at the run asks again.
    } finally {
      isAsking = false;
    }
  }

  function draw() {
    const wanted = isAll ? series : series.slice(0, SHOWN_FIRST);
    for (const one of wanted) {
      const known = drawn.get(one.name);
      if (known) known.update(one);
      else {
        const made = seriesPlot(one);
        drawn.set(one.name, made);
        plots.append(made.element);
      }
    }
    more.hidden = isAll || series.length <= SHOWN_FIRST;
    fill(more, `Show all ${series.length} plots`);
  }

  function showAll() {
    isAll = true;
    draw();
  }

  return {
    element,
    update(it) {
      latest = [it.metrics, it.conventions];
      drawTiles([...latest, sift.value, hasAllTiles]);
      if (!isDone) load(TERMINAL.has(it.status));
    },
    close() {
      for (const one of drawn.values()) one.close();
    },
  };
}

function tile(name, value, convention) {
  const told = Object.entries(convention ?? {}).filter(([key]) => key !== "unit").map(([key, one]) => `${plain(key)}: ${typeof one === "object" ? JSON.stringify(one) : one}`);
  return h("div.tile", { title: [name, ...told].join("\n") }, h("dt", {}, plain(name)), h("dd", {}, measuredParts(value, convention?.unit)));
}

function measuredParts(value, unit) {
  const [told, ...rest] = measured(value, unit).split(" ");
  return [told, rest.length ? h("small", {}, ` ${rest.join(" ")}`) : null];
}

/** Return one plot with its values as a table for those who do not see it. */
function seriesPlot(first) {
  const plot = linePlot({ isTime: false, height: 190 });
  const caption = h("figcaption", {});
  const rows = h("div");
  const details = h("details", { ontoggle: () => fillTable() }, h("summary", {}, "Values"), rows);
  const figure = figureOf(plot, caption, details);
  let last = first;

  function fillTable() {
    if (!details.open) return fill(rows);
    const from = Math.max(0, last.values.length - MOST_IN_TABLE);
    fill(rows, h("div.scroll.values", { tabindex: 0, role: "group", "aria-label": `Values of ${last.name}` },
      h("table", {}, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Step"), h("th.number", { scope: "col" }, "Value"))),
        h("tbody", {}, last.values.slice(from).map((value, place) => h("tr", {}, h("td", {}, last.steps[from + place] ?? from + place), h("td.number", {}, number(value))))))));
  }

  function update(one) {
    last = one;
    const values = one.values.map(toNumber);
    const finite = values.filter(Number.isFinite);
    const steps = one.steps.some((step) => step === null) ? values.map((_, place) => place) : one.steps;
    const end = number(one.values.at(-1));
    fill(caption, h("strong", {}, one.name), h("span.spread"), h("span.soft", {}, `last ${end}`));
    plot.show({
      x: steps,
      lines: [{ name: one.name, y: values }],
      label: `${one.name}: ${one.num_points} values, from ${number(Math.min(...finite))} to ${number(Math.max(...finite))}, last ${end}`,
    });
    if (details.open) fillTable();
  }

  update(first);
  return { element: figure, update, close: plot.close };
}
