// The versions of a deployment, newest first: what each is called, whether it holds, and the run that made it.

import { h } from "./dom.js";
import { ago, bytes, number, shortId } from "./format.js";
import { notify, showProblem } from "./notices.js";
import { card, drawing, table } from "./parts.js";
import { sign } from "./words.js";

const AT_ONCE = 15;

/** Return the part; `ask(below, query)` asks for what lies below the deployment. */
export function versionsPart(ask) {
  const list = h("div");
  const more = h("button", { type: "button", hidden: true, onclick: loadMore }, "Earlier versions");
  const { element, body } = card("Versions", { id: "versions" }, list, more);
  let items = [];
  let cursor = null;
  let wanted = AT_ONCE;

  const draw = drawing(list, (versions) => versions.length ? h("div.flush", {}, table("Versions", [
    { name: "Version", isHeader: true, cell: (one) => [`v${one.number}`, one.label ? [" ", h("span.tag", { title: "Label" }, one.label)] : null, one.aliases.map((name) => [" ", h("span.tag.alias", { title: "Alias" }, name)])] },
    { name: "Holds?", cell: state },
    { name: "Data", cell: (one) => (one.data_end ? `${one.data_start ?? "…"} – ${one.data_end}` : "–") },
    { name: "Rows", class: "number", cell: (one) => number(one.rows) },
    { name: "Size", class: "number", cell: (one) => bytes(one.size_bytes) },
    { name: "Created", class: "number", cell: (one) => ago(one.created_at) },
    { name: "Made by", cell: (one) => h("a.mono", { href: `/runs/${one.run_id}` }, shortId(one.run_id)) },
  ], versions)) : h("p.soft", {}, "It has published none."));

  async function update() {
    try {
      const page = await ask("/versions", { limit: wanted });
      ({ items, next_cursor: cursor } = page);
      show();
    } catch (error) {
      if (error.name !== "AbortError" && !list.childElementCount) showProblem(error, body, { again: update });
    }
  }

  async function loadMore() {
    try {
      const page = await ask("/versions", { limit: AT_ONCE, cursor });
      items = [...items, ...page.items];
      cursor = page.next_cursor;
      wanted = Math.min(500, Math.max(wanted, items.length));
      show();
    } catch (error) {
      if (error.name !== "AbortError") notify(error.message, { kind: "error" });
    }
  }

  function show() {
    draw(items);
    more.hidden = cursor === null;
  }

  return { element, update };
}

function state(one) {
  if (one.withdrawn_at) return h("span", { title: one.withdrawn_reason }, h("span.badge", { data: { word: "refused" } }, sign("refused"), "withdrawn"), one.withdrawn_reason ? h("span.soft", {}, ` ${one.withdrawn_reason}`) : null);
  if (one.removed_at) return h("span.soft", { title: one.removed_reason }, "data removed");
  return one.is_current ? h("span.badge", { data: { word: "ready" } }, sign("ready"), "current") : h("span.soft", {}, "replaced");
}
