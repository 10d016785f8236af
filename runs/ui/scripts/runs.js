// The Runs view: every run, searched, filtered, ordered, live.

import { get } from "./api.js";
import { columnChooser } from "./columns.js";
import { compareChoice } from "./compare_choice.js";
import { h, fill } from "./dom.js";
import { FILTERS, filterQuery, filterRow } from "./filters.js";
import { announce, notify, showLive, showProblem } from "./notices.js";
import { demoHint } from "./parts.js";
import { navigate, rewrite } from "./router.js";
import { rowsWindow } from "./rows_window.js";
import { ROW_HEIGHT, columnsOf, headRow, runRow } from "./runs_table.js";
import { searchBox } from "./search_box.js";
import { follow } from "./stream.js";

const PAGE = 100;
const MOST = 20_000;
const GATHER_MS = 400;
const PATIENCE_MS = 1000;
const MOST_ASKED_AGAIN = 100;
const MOST_LOOKED_AT = 8;
const NEWEST = "-id";

export function mount(element, { query }) {
  document.title = "Runs · Freshline";
  const state = {
    q: query.q ?? "",
    order: query.order || NEWEST,
    metrics: (query.metrics ?? localStorage.getItem("metrics") ?? "").split(",").filter(Boolean),
    ...Object.fromEntries(FILTERS.map((name) => [name, query[name] ?? ""])),
  };
  let items = [];
  let cursor = null;
  let isAsked = false;
  let isLoading = false;
  let isRead = false;
  let isOutdated = false;
  let askedAt = Date.now();
  let asking = new AbortController();
  const changed = new Set();
  let gathering = 0;

  const search = searchBox(state.q, (text) => change({ q: text }));
  const filters = filterRow(state, (name, value) => change({ [name]: value }));
  const columns = columnChooser(state.metrics, { known, onChange: (names) => change({ metrics: names }) });
  const compared = compareChoice({ onClear: () => rows.set(items.map((run) => ({ ...run }))) });
  const head = h("thead");
  const body = h("tbody");
  const table = h("table.runs", { "aria-label": "Runs" }, head, body);
  const nothing = h("div", { hidden: true });
  const scroller = h("div.scroll", { tabindex: 0, role: "region", "aria-label": "Runs, newest first unless ordered otherwise" }, table, nothing);
  const busy = h("div.waiting-bar", { "aria-hidden": "true" });
  const foot = h("p.foot.soft");
  fill(
    element,
    h("div.tools", {}, h("h1", {}, "Runs"), search.element, h("div.line", {}, filters.element, h("span.spread"), compared.element, columns.element)),
    h("section.card.list", { "aria-label": "Runs" }, busy, scroller, foot),
  );
  const rows = rowsWindow({ scroller, body, rowHeight: ROW_HEIGHT, numColumns: 9, make: (run) => runRow(run, state.metrics, compared.chosen), onNearEnd: () => more() });
  body.addEventListener("click", openRow);
  body.addEventListener("change", ({ target }) => compared.tick(target.value, target.checked));
  body.addEventListener("keydown", moveRow);
  drawHead();
  // Read when the stream has begun: from there on everything is told, so that once is enough. A stream that does not
  // begin, or does so late, holds nothing up; nor does a page that nobody sees have one.
  const waiting = setTimeout(load, document.hidden ? 0 : PATIENCE_MS);
  const stopStream = follow("/stream", {
    onState: (live) => {
      showLive(live);
      if (live !== "live" && !isAsked) load();
    },
    onEvent: told,
  });
  const ticking = setInterval(tick, 30_000);

  function change(next) {
    Object.assign(state, next);
    search.set(state.q);
    filters.draw(state);
    localStorage.setItem("metrics", state.metrics.join(","));
    rewrite({ ...state, order: state.order === NEWEST ? "" : state.order, metrics: state.metrics.join(",") });
    drawHead();
    load();
  }

  function drawHead() {
    fill(head, headRow(state.order, state.metrics, (order) => change({ order })));
    rows.remake(columnsOf(state.metrics).length);
  }

  function asked(more = {}) {
    return { query: state.q, order_by: state.order, metrics: state.metrics.join(","), ...filterQuery(state, askedAt), ...more };
  }

  /** Return the names of the metrics of some runs in sight: one of each deployment. */
  async function known() {
    const ended = items.filter((run) => run.status === "completed");
    const some = [...new Map(ended.toReversed().map((run) => [run.deployment, run])).values()].slice(0, MOST_LOOKED_AT);
    const found = await Promise.allSettled(some.map((run) => get(`/runs/${run.id}/metrics`)));
    return found.flatMap(({ value }) => (value?.items ?? []).map((metric) => metric.name));
  }

  async function load() {
    clearTimeout(waiting);
    asking.abort();
    asking = new AbortController();
    const { signal } = asking;
    isAsked = isLoading = true;
    // What was told until now is in what is read now; what is told while it is read need not be.
    isOutdated = false;
    changed.clear();
    askedAt = Date.now();
    busy.hidden = false;
    try {
      const page = await get("/runs", asked({ limit: PAGE }), { signal });
      search.tell(null);
      take(page.items, page.next_cursor);
      scroller.scrollTop = 0;
      announce(words());
      isRead = true;
    } catch (error) {
      if (error.name === "AbortError") return;
      isRead = false;
      take([], null);
      // What is wrong with the search stands below it; anything else in the place of the list.
      if (error.errors?.[0]?.pointer === "/query/query") {
        search.tell(error);
        fill(nothing, h("div.empty", {}, h("p", {}, "The search could not be understood.")));
      } else showProblem(error, nothing, { again: load });
      nothing.dataset.shows = "problem";
      fill(foot);
      nothing.hidden = false;
    } finally {
      if (!signal.aborted) {
        isLoading = false;
        busy.hidden = true;
      }
    }
  }

  async function more() {
    if (isLoading || cursor === null || items.length >= MOST) return;
    isLoading = true;
    busy.hidden = false;
    const { signal } = asking;
    try {
      const page = await get("/runs", asked({ limit: PAGE, cursor }), { signal });
      const known = new Set(items.map((run) => run.id));
      take([...items, ...page.items.filter((run) => !known.has(run.id))], page.next_cursor);
    } catch (error) {
      if (error.name === "AbortError") return;
      cursor = null;
      notify(error.message, { kind: "error" });
    } finally {
      if (!signal.aborted) {
        isLoading = false;
        busy.hidden = true;
      }
    }
  }

  function take(next, nextCursor = cursor) {
    items = next;
    cursor = nextCursor;
    nothing.hidden = items.length > 0;
    table.hidden = items.length === 0;
    if (!items.length) showNothing();
    table.setAttribute("aria-rowcount", cursor === null ? items.length + 1 : -1);
    rows.set(items);
    fill(foot, words());
  }

  function words() {
    const count = items.length.toLocaleString("en");
    if (!items.length) return "No runs";
    if (items.length >= MOST && cursor !== null) return `The first ${count} runs; search for fewer to see others`;
    return cursor === null ? `${count} run${items.length === 1 ? "" : "s"}` : `${count} runs, and more when you scroll`;
  }

  function showNothing() {
    const shows = state.q || FILTERS.some((name) => state[name]) ? "no match" : "no runs";
    // What is shown already stays: a button that is drawn anew while it is pressed is not pressed.
    if (nothing.dataset.shows === shows) return;
    nothing.dataset.shows = shows;
    fill(nothing, empty(shows === "no match"));
  }

  function empty(isNarrowed) {
    if (isNarrowed) {
      const all = () => change({ q: "", ...Object.fromEntries(FILTERS.map((name) => [name, ""])) });
      return h("div.empty", {}, h("h2", {}, "No run matches"), h("p", {}, "Take a filter off, or search for something else."), h("button", { type: "button", onclick: all }, "Show all runs"));
    }
    return h(
      "div.empty", {}, h("h2", {}, "There are no runs yet"),
      h("p", {}, "Every run is listed here from the moment it is asked for: from the ", h("a", { href: "/" }, "graph"), ", from Prefect, by a schedule, or with ", h("code", {}, "freshline submit"), "."),
      demoHint(),
    );
  }

  // What changes comes as the run's newest state; whether it still matches, and its metrics, are asked for.
  function told({ kind, data }) {
    if (kind === "resync") {
      if (!isAsked) {
        load();
        return;
      }
      isOutdated = true;
    } else if (kind === "run") {
      const place = items.findIndex((run) => run.id === data.id);
      if (place >= 0) take(items.with(place, { ...items[place], ...data }));
      changed.add(data.id);
    } else if (kind === "run_deleted") {
      if (items.some((run) => run.id === data.id)) take(items.filter((run) => run.id !== data.id));
      if (!isLoading) return;
      changed.add(data.id);
    } else return;
    gather();
  }

  function gather() {
    gathering ||= setTimeout(catchUp, GATHER_MS);
  }

  function catchUp() {
    gathering = 0;
    if (isLoading) {
      gather(); // what is being read may be of before
      return;
    }
    if (!isRead || !(isOutdated || changed.size)) return;
    const ids = [...changed].slice(0, MOST_ASKED_AGAIN);
    changed.clear();
    isOutdated = false;
    refresh(ids);
  }

  async function refresh(ids) {
    const { signal } = asking;
    try {
      const page = await get("/runs", asked({ limit: PAGE }), { signal });
      const missing = ids.filter((id) => items.some((run) => run.id === id) && !page.items.some((run) => run.id === id));
      let again = [];
      if (missing.length) {
        const query = `${state.q ? `(${state.q}) and ` : ""}id in (${missing.map((id) => `'${id}'`).join(", ")})`;
        again = (await get("/runs", asked({ query, limit: missing.length }), { signal })).items;
      }
      merge(page, again, new Set(missing));
    } catch (error) {
      if (error.name !== "AbortError") showLive("waiting");
    }
  }

  /** Put the first page in the place of its own rows; what was loaded below it stays, in its newest state. */
  function merge(page, again, missing) {
    const fresh = new Map([...page.items, ...again].map((run) => [run.id, run]));
    const first = new Set(page.items.map((run) => run.id));
    const kept = items.filter((run) => !first.has(run.id) && (!missing.has(run.id) || fresh.has(run.id)));
    const before = new Map(items.map((run) => [run.id, run]));
    const isShort = page.next_cursor === null;
    const next = [...page.items, ...(isShort ? [] : kept)].map((run) => same(before.get(run.id), fresh.get(run.id) ?? run));
    const added = page.items.filter((run) => !before.has(run.id)).length;
    const wasScrolled = scroller.scrollTop > ROW_HEIGHT;
    take(next, isShort ? null : cursor);
    if (wasScrolled && added && state.order === NEWEST) scroller.scrollTop += added * ROW_HEIGHT;
    if (added) announce(`${added} new run${added === 1 ? "" : "s"}`);
  }

  function tick() {
    if (document.hidden) return;
    rows.set(items.map((run) => ({ ...run })));
  }

  function openRow(event) {
    if (event.target.closest("a, button, input, .tick") || String(getSelection())) return;
    const row = event.target.closest("tr[data-id]");
    if (row) navigate(`/runs/${row.dataset.id}`);
  }

  function moveRow(event) {
    const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    const row = step && event.target.closest("tr[data-id]")?.[step];
    if (!row?.dataset.id) return;
    event.preventDefault();
    row.querySelector(event.target.matches("input") ? "input" : "a").focus();
    row.scrollIntoView({ block: "nearest" });
  }

  return () => {
    clearInterval(ticking);
    clearTimeout(waiting);
    clearTimeout(gathering);
    asking.abort();
    stopStream();
    rows.close();
    showLive("off");
  };
}

/** Return the run as it was when nothing of it has changed: its row is then left alone. */
function same(before, after) {
  return before && JSON.stringify(before) === JSON.stringify(after) ? before : after;
}
