// The Compare view: several runs side by side, with what differs from the first one marked. The address holds their ids.

import { get } from "./api.js";
import { adding, candidates } from "./compare_adding.js";
import { compareSeries } from "./compare_series.js";
import { compareTable } from "./compare_table.js";
import { h, fill } from "./dom.js";
import { announce, showLive, showProblem } from "./notices.js";
import { card, drawing } from "./parts.js";
import { rewrite } from "./router.js";
import { TERMINAL } from "./words.js";

const LOOK_AGAIN_MS = 5000;

export function mount(element, { query }) {
  document.title = "Compare · Freshline";
  const state = { ids: idsOf(query.runs), isAll: query.all === "yes" };
  let asking = new AbortController();
  let timer = 0;

  const title = h("h1", { tabindex: -1 }, "Compare runs");
  const told = h("p.soft");
  const only = h("input", { type: "checkbox", checked: !state.isAll, onchange: () => change({ isAll: !only.checked }) });
  const toggle = h("label.only", {}, only, "Only differences");
  const add = adding({ chosen: () => state.ids, onAdd: (id) => change({ ids: [...state.ids, id] }) });
  const place = h("div");
  const series = compareSeries();
  fill(element, h("header.compare-head", {}, h("div", {}, title, told), h("span.spread"), toggle, add.element), place, series.element);
  const draw = drawing(place, (found) => compareTable(found, {
    isAll: state.isAll,
    onFirst: (id) => change({ ids: [id, ...state.ids.filter((one) => one !== id)] }),
    onRemove: (id) => change({ ids: state.ids.filter((one) => one !== id) }),
  }));
  load();

  function change(next) {
    const had = place.contains(document.activeElement);
    Object.assign(state, next);
    rewrite({ runs: state.ids.join(), all: state.isAll ? "yes" : "" });
    // The button that was pressed is drawn anew, in another place or in none.
    if (had) title.focus();
    load({ isAsked: true });
  }

  async function load({ isAsked = false } = {}) {
    asking.abort();
    clearTimeout(timer);
    asking = new AbortController();
    const { signal } = asking;
    try {
      const found = await read(signal);
      if (signal.aborted) return;
      show(found);
      if (isAsked) announce(told.textContent);
    } catch (error) {
      if (error.name === "AbortError") return;
      draw(null);
      series.show([]);
      toggle.hidden = true;
      fill(told);
      showProblem(error, place, { again: load });
    }
  }

  /** Return the runs and their facts; of a single run there is nothing to be told, of none not even that. */
  async function read(signal) {
    if (!state.ids.length) return { runs: [], facts: [] };
    if (state.ids.length === 1) {
      const run = await get(`/runs/${encodeURIComponent(state.ids[0])}`, {}, { signal });
      state.ids = [run.id];
      return { runs: [run], facts: [] };
    }
    const table = await get("/runs/compare/all", { ids: state.ids.join() }, { signal });
    state.ids = table.runs;
    const named = `id in (${table.runs.map((id) => `'${id}'`).join(", ")})`;
    const page = await get("/runs", { query: named, limit: table.runs.length }, { signal });
    const known = new Map(page.items.map((run) => [run.id, run]));
    const runs = table.runs.map((id, at) => known.get(id) ?? { id, deployment: table.deployments[at], status: "unknown" });
    return { ...table, runs };
  }

  function show(found) {
    const { runs } = found;
    add.runs(runs);
    toggle.hidden = runs.length < 2;
    if (runs.length < 2) {
      fill(told);
      draw(null);
      fill(place, runs.length ? alone(runs[0]) : nothing());
    } else {
      fill(told, `${found.sentence.charAt(0).toUpperCase()}${found.sentence.slice(1)}.`);
      draw({ ...found, isAll: state.isAll });
    }
    series.show(runs.length > 1 ? runs : [], asking.signal);
    if (runs.some((run) => !TERMINAL.has(run.status))) timer = setTimeout(again, LOOK_AGAIN_MS);
  }

  function again() {
    if (document.hidden) timer = setTimeout(again, LOOK_AGAIN_MS);
    else load();
  }

  function alone(run) {
    const { element: one, body } = card("Compare it with", { id: "with" });
    fill(body, h("p", {}, "Choose what to compare ", h("a", { href: `/runs/${run.id}` }, run.deployment, " ", h("span.mono", {}, run.id)), " with: another run of the same deployment, or any other with ", h("strong", {}, "Add a run"), "."),
      candidates([run], { chosen: () => state.ids, onAdd: (id) => change({ ids: [...state.ids, id] }) }));
    return one;
  }

  return () => {
    asking.abort();
    clearTimeout(timer);
    series.close();
    showLive("off");
  };
}

function idsOf(text = "") {
  return [...new Set(text.split(",").map((id) => id.trim()).filter(Boolean))];
}

function nothing() {
  return h("div.empty", {}, h("h2", {}, "No runs are chosen yet"), h("p", {}, "Tick the runs to compare in the ", h("a", { href: "/runs" }, "list of runs"), ", and press Compare."));
}
