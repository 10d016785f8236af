// Parts that several views are made of: cards, tables, lists of facts, text to copy.

import { h, fill, s } from "./dom.js";
import { announce } from "./notices.js";

const COPY = "M5.5 5.5H13.5V13.5H5.5ZM10.5 5.5V2.5H2.5V10.5H5.5";
const DONE = "M3.5 8.5 6.5 11.5 12.5 5";

/** Return a card with a title; `more` stands at the right of it. */
export function card(title, { id = null, more = null } = {}, ...children) {
  const body = h("div.body", {}, children);
  const heading = h("h2", { id: id && `${id}-title` }, title);
  const element = h("section.card", { id, "aria-labelledby": id && `${id}-title` }, h("header", {}, heading, h("span.spread"), more), body);
  return { element, body, heading };
}

/** Return a table; a column is {name, class, cell(row), isHeader}. */
export function table(label, columns, rows) {
  return h(
    "div.scroll", { tabindex: 0, role: "group", "aria-label": label },
    h(
      "table", { "aria-label": label },
      h("thead", {}, h("tr", {}, columns.map((column) => h("th", { scope: "col", class: column.class ?? "" }, column.isUnseen ? h("span.unseen", {}, column.name) : column.name)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, columns.map((column) => cellOf(column, row))))),
    ),
  );
}

/** Return a list of facts out of [name, value] pairs; those without a value are left out. */
export function facts(pairs) {
  const given = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== false);
  return h("dl.facts", {}, given.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

/** Return any JSON value as people read it: an object as a list of facts, short text as it is, the rest as JSON. */
export function shown(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "object") return typeof value === "string" && value.length > 200 ? h("pre.text", {}, value) : h("span.mono", {}, String(value));
  const text = JSON.stringify(value);
  return text.length <= 80 ? h("span.mono", {}, text) : h("details", {}, h("summary.mono", {}, `${text.slice(0, 60)}…`), h("pre.text", {}, JSON.stringify(value, null, 2)));
}

/** Return what a newcomer without deployments of their own can do. */
export function demoHint() {
  return h("p", {}, "To look around first, ", h("code", {}, "freshline demo --keep"), " runs a whole chain and prints the address of its page.");
}

/** Return a button that copies text. */
export function copying(text, what) {
  const button = h("button.plain.copy", { type: "button", "aria-label": `Copy ${what}`, title: `Copy ${what}` }, icon(COPY));
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text);
    announce(`Copied ${what}`);
    fill(button, icon(DONE));
    setTimeout(() => fill(button, icon(COPY)), 1500);
  });
  return button;
}

/** Return a function that draws into an element only when what is drawn has changed, so that nothing opened closes. */
export function drawing(element, make) {
  let last = null;
  return (value) => {
    const text = JSON.stringify(value);
    if (text === last) return false;
    last = text;
    fill(element, make(value));
    return true;
  };
}

function icon(path) {
  return s("svg.icon", { viewBox: "0 0 16 16", width: 14, height: 14, "aria-hidden": "true" }, s("path", { d: path }));
}

function cellOf(column, row) {
  return h(column.isHeader ? "th" : "td", { scope: column.isHeader ? "row" : null, class: column.class ?? "" }, column.cell(row));
}
