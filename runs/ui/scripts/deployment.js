// The Deployment view: one deployment with its freshness and why, versions, runs, statistics and neighbours, live.

import { deploymentPath, get } from "./api.js";
import { causes } from "./causes.js";
import { headPart } from "./deployment_head.js";
import { statisticsPart } from "./deployment_statistics.js";
import { versionsPart } from "./deployment_versions.js";
import { h, fill } from "./dom.js";
import { ago, plain, secondsOf, shortId, span } from "./format.js";
import { announce, showLive, showProblem } from "./notices.js";
import { card, drawing, table } from "./parts.js";
import { follow } from "./stream.js";
import { badge } from "./words.js";

const GATHER_MS = 400;
const LAST_RUNS = 12;
const MOST_TIES = 40;

export function mount(element, { kind, resource }) {
  const key = `${kind}/${resource}`;
  const path = deploymentPath(key);
  document.title = `${key} · Freshline`;
  const asking = new AbortController();
  const ask = (below = "", query = {}) => get(path + below, query, { signal: asking.signal });
  let stopStream = () => {};
  let timer = 0;
  let last = null;
  let parts = [];

  begin();

  async function begin() {
    fill(element, h("div.waiting-bar", { role: "progressbar", "aria-label": "Loading the deployment" }));
    try {
      last = await ask();
    } catch (error) {
      return showProblem(error, element, { again: begin });
    }
    const elsewhere = (route, query) => get(route, { deployment: key, ...query }, { signal: asking.signal });
    const head = headPart({ onAsked: again });
    const main = [causesPart(ask), versionsPart(ask), runsPart(elsewhere, key)];
    const side = [statisticsPart(elsewhere), tiesPart("Reads", "upstream", ask), tiesPart("Read by", "downstream", ask)];
    parts = [head, ...main, ...side];
    fill(element, head.element, h("div.split", {}, h("div.column", {}, main.map((part) => part.element)), h("div.column", {}, side.map((part) => part.element))));
    show();
    stopStream = follow("/stream", { query: { deployment: key }, onState: showLive, onEvent: () => (timer ||= setTimeout(again, GATHER_MS)) });
  }

  async function again() {
    clearTimeout(timer);
    timer = 0;
    try {
      const next = await ask();
      if (next.freshness !== last.freshness || next.activity !== last.activity) announce(`${key} is ${plain(next.freshness)}. ${next.why}`);
      last = next;
      show();
    } catch (error) {
      if (error.code !== "not_found") return;
      stopStream();
      showProblem(error, element);
    }
  }

  function show() {
    for (const part of parts) part.update(last);
  }

  return () => {
    asking.abort();
    clearTimeout(timer);
    stopStream();
    showLive("off");
  };
}

/** Return what reads a part anew: what is asked for while an answer is under way is asked for after it. */
function reading(read, place) {
  let isAsking = false;
  let isWanted = false;
  return async function update() {
    isWanted = true;
    if (isAsking) return;
    isAsking = true;
    while (isWanted) {
      isWanted = false;
      try {
        await read();
      } catch (error) {
        if (error.name !== "AbortError" && !place.childElementCount) showProblem(error, place, { again: update });
      }
    }
    isAsking = false;
  };
}

function causesPart(ask) {
  const { element, body } = card("Why", { id: "why" });
  element.hidden = true;
  const link = (key) => h("a", { href: deploymentPath(key) }, key);
  const draw = drawing(body, (found) => causes(found, link));
  return {
    element,
    update: reading(async () => {
      const found = await ask("/explanation");
      element.hidden = !found.reasons.length;
      draw(found);
    }, body),
  };
}

function runsPart(ask, key) {
  const more = h("a", { href: `/runs?${new URLSearchParams({ deployment: key })}` }, "All of its runs");
  const compare = h("a", { hidden: true }, "Compare the last two");
  const { element, body } = card("Last runs", { id: "runs", more: h("span.ways", {}, compare, more) });
  const draw = drawing(body, (runs) => runs.length ? h("div.flush", {}, table("Last runs", [
    { name: "Status", cell: (run) => badge(run.status) },
    { name: "Run", isHeader: true, cell: (run) => h("a.mono", { href: `/runs/${run.id}`, title: run.error_message ?? run.id }, shortId(run.id)) },
    { name: "Why it ended", cell: (run) => h("span.soft", {}, run.stop_reason && run.stop_reason !== run.status ? plain(run.stop_reason) : "") },
    { name: "Version", class: "number", cell: (run) => (run.version ? `v${run.version}` : "–") },
    { name: "Trigger", cell: (run) => h("span.soft", {}, plain(run.trigger)) },
    { name: "Created", class: "number", cell: (run) => ago(run.created_at) },
    { name: "Took", class: "number", cell: (run) => span(secondsOf(run)) },
  ], runs)) : h("p.soft", {}, "It has never run."));
  return {
    element,
    update: reading(async () => {
      const { items } = await ask("/runs", { limit: LAST_RUNS, metrics: "," });
      compare.hidden = items.length < 2;
      if (items.length > 1) compare.href = `/compare?runs=${items[1].id},${items[0].id}`;
      draw(items);
    }, body),
  };
}

function tiesPart(title, route, ask) {
  const count = h("span.soft");
  const { element, body } = card(title, { id: route, more: count });
  const item = (one) => h("li", {}, h("a", { href: deploymentPath(one.key) }, one.key), badge(one.freshness),
    h("span.soft", {}, [one.version ? `v${one.version}` : null, one.depth === 1 && one.role !== one.key.split("/").at(-1) ? `as ${one.role}` : null, one.is_observed ? "not declared" : null, one.is_retired ? "retired" : null].filter(Boolean).join(" · ")));
  const list = (some) => [h("ul.ties", {}, some.slice(0, MOST_TIES).map(item)), some.length > MOST_TIES ? h("p.soft", {}, `and ${(some.length - MOST_TIES).toLocaleString("en")} more`) : null];
  const draw = drawing(body, ({ items, next_cursor: rest }) => {
    const near = items.filter((one) => one.depth === 1);
    const beyond = [...new Map(items.filter((one) => one.depth > 1).map((one) => [one.key, one])).values()];
    const told = `${beyond.length.toLocaleString("en")}${rest ? " and more" : ""} beyond`;
    fill(count, near.length ? `${near.length.toLocaleString("en")}` : "");
    if (!near.length) return h("p.soft", {}, route === "upstream" ? "It reads no other deployment." : "No other deployment reads it.");
    return [list(near), beyond.length ? h("details", {}, h("summary", {}, told), list(beyond)) : null];
  });
  return { element, update: reading(async () => draw(await ask(`/${route}`)), body) };
}
