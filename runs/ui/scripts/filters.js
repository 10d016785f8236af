// The filters of the Runs view: each is a chip that says what it lets through, and is taken off with its ×.

import { deploymentPath, get } from "./api.js";
import { h, fill } from "./dom.js";
import { plain } from "./format.js";
import { STATUSES, TYPES } from "./words.js";

const SINCE = [["1h", "last hour"], ["24h", "last 24 hours"], ["7d", "last 7 days"], ["30d", "last 30 days"]];
const HOURS = { "1h": 1, "24h": 24, "7d": 168, "30d": 720 };

/** Names of the filters in the page's address. */
export const FILTERS = ["status", "type", "deployment", "since"];

/** Return what the server is asked for these filters; `now` stays the same for all pages of a list. */
export function filterQuery(state, now) {
  const { status, type, deployment, since } = state;
  const after = since in HOURS ? new Date(now - HOURS[since] * 3_600_000).toISOString() : "";
  return { status, type, deployment, after };
}

/** Return the row of filters, with what `state` says; `onChange(name, value)` when one is chosen or taken off. */
export function filterRow(state, onChange) {
  const row = h("div.filters", { role: "group", "aria-label": "Filters" });

  function draw(current) {
    fill(
      row,
      choice("status", "Status", STATUSES.map((status) => [status, plain(status)]), current, onChange),
      choice("type", "Type", TYPES.map((type) => [type, type]), current, onChange),
      choice("since", "Created", SINCE, current, onChange),
      deploymentChoice(current, onChange),
    );
  }

  draw(state);
  return { element: row, draw };
}

function choice(name, label, options, current, onChange) {
  const value = current[name] ?? "";
  const known = options.some(([one]) => one === value) || value === "" ? options : [...options, [value, value]];
  const select = h(
    "select",
    { "aria-label": label, onchange: (event) => onChange(name, event.target.value) },
    h("option", { value: "" }, `${label}: any`),
    known.map(([one, words]) => h("option", { value: one }, `${label}: ${words}`)),
  );
  select.value = value;
  return h("span.filter", { data: { on: value ? "yes" : "no" } }, select, value && removal(name, label, onChange));
}

function deploymentChoice(current, onChange) {
  const value = current.deployment ?? "";
  const list = h("datalist", { id: "deployments" });
  const field = h("input", {
    type: "text",
    list: "deployments",
    placeholder: "Deployment: any",
    "aria-label": "Deployment",
    value,
    spellcheck: "false",
    autocomplete: "off",
    onchange: (event) => onChange("deployment", event.target.value.trim()),
    onfocus: () => offer(list),
  });
  const chip = h("span.filter", { data: { on: value ? "yes" : "no" } }, field, list, value && removal("deployment", "Deployment", onChange));
  return [chip, /^[^/]+\/./.test(value) && h("a.button.small", { href: deploymentPath(value) }, "Open deployment")];
}

function removal(name, label, onChange) {
  return h("button.plain", { type: "button", "aria-label": `Remove the filter ${label}`, onclick: () => onChange(name, "") }, "×");
}

async function offer(list) {
  if (list.childElementCount) return;
  try {
    const found = await get("/deployments");
    fill(list, (found.items ?? []).map((one) => h("option", { value: one.key })));
  } catch {
    // Names are offered for comfort; the field takes them without.
  }
}
