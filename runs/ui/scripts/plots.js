// Plots of lines, drawn by Bokeh, whose scripts come from the installed package and are loaded when first needed.
//
// No text of a record reaches Bokeh: titles stand beside the plot, and its hints show numbers alone.

import { h, fill } from "./dom.js";

const SCRIPTS = ["/assets/bokeh.min.js", "/assets/bokeh-api.min.js"];
const TICK_PX = 36;
let loading = null;

/** Return a number of JSON, where "NaN" and the infinities are text; what cannot be drawn is NaN. */
export function toNumber(value) {
  const found = typeof value === "number" ? value : Number.NaN;
  return Number.isFinite(found) ? found : Number.NaN;
}

/** Return a figure with its caption above and what belongs to it below. */
export function figureOf(plot, caption, ...below) {
  return h("figure.plot", {}, caption, plot.element, below);
}

/**
 * Return a plot; `show({x, lines: [{name, y, color, isFilled}], label})` draws it, or changes what it shows.
 * `x` are numbers, or milliseconds where `isTime`; a line may have an `x` of its own.
 */
export function linePlot({ isTime, height }) {
  const element = h("div.canvas", { role: "img" });
  element.style.height = `${height}px`;
  let drawn = null;
  let given = null;
  let isClosed = false;
  let turn = 0;

  async function draw() {
    const mine = ++turn;
    let bokeh;
    try {
      bokeh = await load();
    } catch {
      fill(element, h("p.soft", {}, "The plot could not be loaded."));
      return;
    }
    if (isClosed || mine !== turn) return;
    const target = h("div");
    fill(element, target);
    const first = given;
    const figure = await made(bokeh, target, first, { isTime, height });
    if (isClosed || mine !== turn) return; // another one stands there by now
    drawn = figure;
    if (given !== first) change();
  }

  function change() {
    given.lines.forEach((line, place) => (drawn.sources[place].data = { x: line.x ?? given.x, y: line.y }));
  }

  function redraw() {
    drawn = null;
    if (given) draw();
  }

  addEventListener("theme", redraw);
  return {
    element,
    show(next) {
      const isFirst = given === null;
      given = next;
      element.setAttribute("aria-label", next.label);
      if (drawn) change();
      else if (isFirst) draw();
    },
    close() {
      isClosed = true;
      removeEventListener("theme", redraw);
      fill(element);
    },
  };
}

async function made(bokeh, target, { x, lines }, { isTime, height }) {
  const { Plotting } = bokeh;
  const text = colour("--soft");
  const figure = Plotting.figure({
    height,
    sizing_mode: "stretch_width",
    // A drag over a plot is how a finger scrolls the page.
    tools: matchMedia("(pointer: fine)").matches ? "xbox_zoom,reset" : "",
    toolbar_location: null,
    x_axis_type: isTime ? "datetime" : "linear",
    background_fill_color: null,
    border_fill_color: null,
    outline_line_color: null,
    min_border_left: 52, // of plots above one another, the axes too
    min_border_right: 8,
  });
  for (const axis of [figure.xaxis, figure.yaxis]) {
    axis.axis_line_color = colour("--line-strong");
    axis.major_tick_line_color = colour("--line-strong");
    axis.minor_tick_line_color = null;
    axis.major_label_text_color = text;
    axis.major_label_text_font = "system-ui, sans-serif";
    axis.major_label_text_font_size = "11px";
  }
  figure.left[0].ticker.desired_num_ticks = Math.max(2, Math.round(height / TICK_PX));
  figure.xgrid.grid_line_color = null;
  figure.ygrid.grid_line_color = colour("--line");
  const sources = lines.map((line, place) => {
    const source = new bokeh.ColumnDataSource({ data: { x: line.x ?? x, y: line.y } });
    const ink = colour(line.color ?? `--plot-${(place % 6) + 1}`);
    if (line.isFilled) figure.varea({ x: { field: "x" }, y1: { field: "y" }, y2: 0, source, fill_color: ink, fill_alpha: 0.18 });
    figure.line({ x: { field: "x" }, y: { field: "y" }, source, line_color: ink, line_width: 1.8, line_dash: line.isDashed ? [5, 4] : [] });
    if (line.y.length <= 40) figure.scatter({ x: { field: "x" }, y: { field: "y" }, source, size: 4, fill_color: ink, line_color: ink });
    return source;
  });
  const at = isTime ? ["", "@x{%F}"] : ["step", "@x"];
  figure.add_tools(new bokeh.HoverTool({ tooltips: [at, ["", "@y{0.0000a}"]], mode: "vline", formatters: { "@x": isTime ? "datetime" : "numeral" } }));
  await Plotting.show(figure, target);
  return { sources };
}

/** Return a custom property as a colour that a canvas takes: light or dark, as the page is. */
function colour(name) {
  const probe = document.getElementById("main");
  const before = probe.style.color;
  probe.style.color = `var(${name})`;
  const found = getComputedStyle(probe).color;
  probe.style.color = before;
  return found;
}

function load() {
  loading ??= SCRIPTS.reduce((before, source) => before.then(() => script(source)), Promise.resolve())
    .then(() => {
      globalThis.Bokeh.set_log_level("error");
      return globalThis.Bokeh;
    })
    .catch((problem) => {
      loading = null; // whoever draws next tries again
      throw problem;
    });
  return loading;
}

function script(source) {
  return new Promise((resolve, reject) => {
    document.head.append(h("script", { src: source, onload: resolve, onerror: reject }));
  });
}
