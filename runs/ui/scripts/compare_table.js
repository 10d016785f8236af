// The table of compared runs: a column for each, a row for each fact, what differs from the first run marked.

import { deploymentPath } from "./api.js";
import { h } from "./dom.js";
import { ago, number, plain, secondsOf, shortId, span } from "./format.js";
import { shown } from "./parts.js";
import { badge } from "./words.js";

const SECTIONS = [
  ["parameters", "Parameters"], ["metrics", "Metrics"], ["inputs", "Inputs"], ["upstream_inputs", "Inputs further up"],
  ["code", "Code"], ["environment", "Environment"], ["outcome", "Outcome"], ["schema", "Columns of tables"],
  ["outputs", "Outputs"], ["request", "Asked of Freshline"],
];
const DIGEST = /^[0-9a-f]{32,}$/;
const INPUT = /^([^/]+\/.+)@v(\d+)$/;

/** Return the custom property with the colour of the run at this place, here and in the plots. */
export function inkOf(place) {
  return `--plot-${(place % 6) + 1}`;
}

/** Return the table; `isAll`: with the facts that are alike in all of them. */
export function compareTable(found, { isAll, onFirst, onRemove }) {
  if (!found) return null;
  const { runs } = found;
  const facts = found.facts.filter((fact) => isAll || !fact.is_equal);
  const known = new Set(SECTIONS.map(([name]) => name));
  const sections = [...SECTIONS, ...[...new Set(facts.map((fact) => fact.section))].filter((name) => !known.has(name)).map((name) => [name, plain(name)])];
  return h(
    "section.card.compare", { "aria-label": "The runs side by side" },
    h(
      "div.scroll", { tabindex: 0, role: "group", "aria-label": "The runs side by side" },
      h(
        "table", { "aria-label": isAll ? "Facts of the runs" : "Differences of the runs" },
        h("thead", {}, h("tr", {}, h("th.fact", { scope: "col" }, "Fact"), runs.map((run, place) => headCell(run, place, { onFirst, onRemove })))),
        sections.map(([name, title]) => sectionBody(title, facts.filter((fact) => fact.section === name), runs.length)),
        facts.length ? null : h("tbody", {}, h("tr", {}, h("td.alike", { colspan: runs.length + 1 }, "They are alike in everything that is recorded of them."))),
      ),
    ),
  );
}

function headCell(run, place, { onFirst, onRemove }) {
  const name = shortId(run.id);
  return h(
    "th.run", { scope: "col", data: { id: run.id } },
    h("div.top", {},
      h("i.ink", { style: { "--ink": `var(${inkOf(place)})` }, data: { dashed: place >= 6 ? "yes" : "no" }, "aria-hidden": "true" }),
      h("a.mono", { href: `/runs/${encodeURIComponent(run.id)}`, title: run.id }, name),
      h("span.spread"),
      place ? h("button.plain", { type: "button", title: "Compare the others with this one", "aria-label": `Compare the others with ${name}`, onclick: () => onFirst(run.id) }, "⇤") : h("span.tag", {}, "first"),
      h("button.plain", { type: "button", title: "Leave it out", "aria-label": `Leave out ${name}`, onclick: () => onRemove(run.id) }, "×")),
    h("div.of", {}, h("a", { href: deploymentPath(run.deployment) }, run.deployment), run.version ? ` v${run.version}` : null),
    h("div.how", {}, badge(run.status), run.created_at ? [" ", h("span", {}, ago(run.created_at))] : null, run.started_at ? [" ", h("span", {}, `· ${span(secondsOf(run))}`)] : null),
  );
}

function sectionBody(title, facts, numRuns) {
  if (!facts.length) return null;
  return h(
    "tbody", {},
    h("tr.section", {}, h("th", { scope: "rowgroup" }, title), h("td", { colspan: numRuns })),
    facts.map((fact) => h("tr", { data: { fact: `${fact.section}.${fact.name}` } }, h("th.fact", { scope: "row" }, fact.name), fact.values.map((value, place) => valueCell(fact, value, place)))),
  );
}

function valueCell(fact, value, place) {
  const isOther = !fact.equals[place];
  return h(
    "td", { data: { differs: isOther ? "yes" : "no" } },
    isOther ? [h("span.sign-other", { "aria-hidden": "true" }, "≠"), h("span.unseen", {}, "differs: ")] : null,
    written(fact, value),
    isOther ? change(fact, value) : sameContent(fact, value),
  );
}

function written(fact, value) {
  if (value === null || value === undefined) return h("span.soft", {}, "–");
  if (typeof value === "number") return number(value);
  if (fact.section === "metrics") return number(value);
  if (typeof value === "string" && DIGEST.test(value)) return h("span.mono", { title: value }, value.slice(0, 12));
  const input = fact.section === "inputs" && INPUT.exec(value);
  if (input) return h("a", { href: deploymentPath(input[1]) }, value);
  return typeof value === "string" && value.length <= 200 ? value : shown(value);
}

/** Return how far a number is from that of the first run. */
function change(fact, value) {
  const [first] = fact.values;
  if (typeof value !== "number" || typeof first !== "number") return null;
  return h("span.change", {}, `${value > first ? "+" : ""}${number(value - first)}`);
}

function sameContent(fact, value) {
  const [first] = fact.values;
  return JSON.stringify(value) === JSON.stringify(first) ? null : h("span.change", {}, "same content");
}
