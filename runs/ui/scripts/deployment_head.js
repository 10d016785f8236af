// The head of the Deployment view: how it stands, in one sentence and in facts, and what can be asked of it.

import { deploymentPath } from "./api.js";
import { actButtons } from "./deployment_acts.js";
import { h } from "./dom.js";
import { ago, moment, plain } from "./format.js";
import { drawing, facts } from "./parts.js";
import { badge } from "./words.js";

/** Return the part; `onAsked()` is called when a run was asked for. */
export function headPart({ onAsked }) {
  const top = h("div.run-top");
  const acts = h("div.deployment-acts");
  const told = h("div.standing");
  const list = h("div");

  const drawTop = drawing(top, ([key, kind, freshness, activity, version]) => [
    h("nav.trail", { "aria-label": "Where this is" }, h("a", { href: "/" }, "Graph"), h("span", { "aria-hidden": "true" }, "/"), h("span", {}, kind)),
    h("div.title", {}, h("h1", {}, key), badge(freshness), activity === "idle" ? null : badge(activity), version === null ? null : h("span.tag", {}, `v${version}`)),
  ]);
  const drawActs = drawing(acts, ([key, external]) => actButtons({ key, external }, {
    onAsked,
    more: h("a.button", { href: `/?node=${encodeURIComponent(key)}` }, "Show in the graph"),
  }));
  const drawTold = drawing(told, ([why, follows]) => [h("p", {}, why), follows && h("p.soft", {}, follows)]);
  const drawFacts = drawing(list, (it) => facts([
    ["Data until", it.data_end],
    ["Last run", it.last_run_at && [ago(it.last_run_at), it.last_stop_reason ? ` · ${plain(it.last_stop_reason)}` : ""]],
    ["Policy", it.policy && policyText(it.policy)],
    ["Lapses", it.lapses_at && [moment(it.lapses_at), " · ", ago(it.lapses_at)]],
    ["Aliases", it.aliases.length > 0 && it.aliases.map((one) => h("span.tag", { title: one.is_withdrawn ? "This version is withdrawn." : one.reason }, `${one.name} → v${one.number}${one.is_withdrawn ? ", withdrawn" : ""}`))],
    ["Resource", `${it.resource} (${it.resource_kind})`],
    ["In Prefect", it.prefect_name],
    ["Project", it.project],
    ["Registered", moment(it.registered_at)],
  ]));

  return {
    element: h("header.card.run-head", {}, h("div.row", {}, top, acts), told, list),
    update(it) {
      drawTop([it.key, it.kind, it.freshness, it.activity, it.version]);
      drawActs([it.key, it.external]);
      drawTold([it.why || `${it.key} is ${plain(it.freshness)}`, it.auto_refresh]);
      drawFacts(it);
    },
  };
}

function policyText(policy) {
  return Object.entries(policy)
    .filter(([, value]) => value !== null)
    .map(([name, value]) => `${plain(name)} ${typeof value === "object" ? JSON.stringify(value) : value}`)
    .join(", ");
}
