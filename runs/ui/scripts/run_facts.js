// What a run was asked and made of: parameters, tags, metadata, the gate's verdict, code and environment.

import { h, fill } from "./dom.js";
import { moment, plain } from "./format.js";
import { card, drawing, facts, shown, table } from "./parts.js";
import { badge } from "./words.js";

/** Return the part; see `run.js`. */
export function factsPart() {
  const asked = h("div");
  const gate = h("div");
  const made = h("div");
  const element = h("div.column", {}, asked, gate, made);

  const drawAsked = drawing(asked, (it) => {
    const { element: one, body } = card("Asked for", { id: "asked-for" });
    const groups = [["Parameters", it.parameters], ["Request", it.request], ["Details", it.detail], ["Metadata", it.metadata], ["Outputs", it.outputs]];
    const filled = groups.map(([title, values]) => [title, given(values)]).filter(([, values]) => values.length);
    fill(
      body,
      it.tags.length ? h("p.tags", {}, it.tags.map((tag) => h("span.tag", {}, tag))) : null,
      filled.map(([title, values]) => [h("h3", {}, title), facts(values.map(([name, value]) => [name, shown(value)]))]),
      filled.length || it.tags.length ? null : h("p.soft", {}, "Nothing but to run."),
    );
    return one;
  });
  const drawGate = drawing(gate, (decision) => {
    if (!decision) return null;
    const { element: one, body } = card("The gate", { id: "gate" });
    const upstreams = decision.upstreams ?? decision.evidence?.upstreams ?? [];
    fill(
      body,
      h("p", {}, h("strong", {}, plain(decision.verdict)), decision.reason ? `: ${decision.reason}` : null),
      Array.isArray(upstreams) && upstreams.length ? h("div.flush", {}, table("What the gate saw", [
        { name: "Upstream", isHeader: true, cell: (one) => one.deployment ?? one.key ?? one.role },
        { name: "Freshness", cell: (one) => (one.freshness ? badge(one.freshness) : "–") },
        { name: "Version", class: "number", cell: (one) => (one.version ? `v${one.version}` : "–") },
      ], upstreams)) : null,
    );
    return one;
  });
  const drawMade = drawing(made, (it) => {
    const { element: one, body } = card("Made of", { id: "made-of" });
    const digest = (text) => text && h("span.mono", { title: text }, text.slice(0, 16));
    fill(body, facts([
      ["Commit", digest(it.git_commit)],
      ["Code", digest(it.code_digest)],
      ["Declaration", digest(it.declaration_digest)],
      ["Environment", digest(it.environment_digest)],
      ["Result", digest(it.final_state_digest)],
      ["Flow run", it.flow_run_id && h("span.mono", {}, it.flow_run_id)],
      ["Heard of", it.heartbeat_at && moment(it.heartbeat_at)],
      ["Project", it.project],
      ["Workflow", given(it.workflow).length ? shown(it.workflow) : null],
    ]));
    return one;
  });

  return {
    element,
    update(it) {
      const pick = (...names) => Object.fromEntries(names.map((name) => [name, it[name]]));
      drawAsked(pick("parameters", "request", "detail", "metadata", "outputs", "tags"));
      drawGate(it.decision);
      drawMade(pick("git_commit", "code_digest", "declaration_digest", "environment_digest", "final_state_digest", "flow_run_id", "heartbeat_at", "project", "workflow"));
    },
  };
}

function given(values) {
  return Object.entries(values ?? {}).filter(([, value]) => value !== null && value !== undefined);
}
