// The log of a run: its events, newest first, as they come.

import { h, fill } from "./dom.js";
import { number, plain, timeOfDay } from "./format.js";
import { showProblem } from "./notices.js";
import { card } from "./parts.js";
import { eventTitle } from "./words.js";

const AT_ONCE = 200;
const MOST_SHOWN = 2000;

const WORD_OF = {
  run_completed: "completed", run_failed: "failed", run_cancelled: "cancelled", run_skipped: "skipped", run_refused: "refused",
  run_started: "running", run_waiting: "waiting", run_paused: "paused", attempt_failed: "failed", cancel_requested: "cancelling",
  version_published: "ready",
};

/** Return the part; see `run.js`. */
export function logPart(run, { ask }) {
  const list = h("ol.log", { "aria-label": "Events, newest first", reversed: true, tabindex: 0 });
  const earlier = h("button", { type: "button", hidden: true, onclick: loadEarlier }, "Earlier events");
  const count = h("span.soft");
  const none = h("p.soft", { hidden: true }, "None is recorded.");
  const { element, body } = card("Events", { id: "events", more: count }, none, list, earlier);
  const begin = Math.max(0, run.last_seq - AT_ONCE);
  let first = begin;
  let last = begin;
  let newest = null;
  let isReading = false;
  const ready = reload();

  /** Read what is missing between what is shown and what is recorded. */
  async function reload() {
    isReading = true;
    try {
      let page;
      do {
        page = await ask("/events", { after: last || null, limit: 500 });
        for (const event of page.items) add(event);
      } while (page.next_cursor && page.items.length);
      mark();
    } catch (error) {
      if (list.childElementCount === 0) showProblem(error, body, { again: reload });
    } finally {
      isReading = false;
    }
  }

  async function loadEarlier() {
    const from = Math.max(0, first - AT_ONCE);
    const page = await ask("/events", { after: from || null, limit: first - from });
    const rows = page.items.filter((event) => event.seq <= first).map(row);
    list.append(...rows.reverse());
    first = from;
    mark();
  }

  function add(event) {
    if (!event?.seq || event.seq <= last) return;
    if (event.seq > last + 1 && !isReading) return void reload();
    last = event.seq;
    const made = row(event);
    // Progress comes up to five times a second: the newest takes the place of the one before.
    if (event.kind === "progress_reported" && newest?.dataset.kind === "progress_reported") newest.replaceWith(made);
    else list.prepend(made);
    newest = made;
    if (list.childElementCount > MOST_SHOWN) list.lastChild.remove();
    mark();
  }

  function mark() {
    earlier.hidden = first === 0;
    fill(count, `${last.toLocaleString("en")} event${last === 1 ? "" : "s"}`);
    none.hidden = last > 0;
  }

  return { element, add, reload, ready, last: () => last, update() {} };
}

function row(event) {
  const told = Object.entries(event.payload ?? {}).filter(([name, value]) => value !== null && name !== "affected");
  return h(
    "li", { data: { kind: event.kind, word: WORD_OF[event.kind] ?? "" }, value: event.seq },
    h("i", { "aria-hidden": "true" }),
    h("div", {},
      h("div.what", {}, h("strong", {}, eventTitle(event.kind)), h("span.soft", {}, event.actor), h("span.spread"), h("span.soft.when", {}, timeOfDay(event.at))),
      told.length ? h("div.told", {}, told.map(([name, value]) => h("span", {}, h("span.soft", {}, `${plain(name)} `), brief(value)))) : null),
  );
}

function brief(value) {
  if (typeof value === "number") return number(value);
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.length > 300 ? `${text.slice(0, 300)}…` : text;
}
