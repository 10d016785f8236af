// The choice of one more run to compare: the last ones of the deployments that are compared, or any by its id.

import { get } from "./api.js";
import { h, fill } from "./dom.js";
import { ago, shortId } from "./format.js";
import { badge } from "./words.js";

const LAST_RUNS = 12;
const MOST_DEPLOYMENTS = 4;
/** More than that are not compared at once. */
export const MOST_RUNS = 50;

/** Return the button with its choice; `onAdd(id)` when a run is chosen, `chosen()` are the ids that are compared. */
export function adding({ chosen, onAdd }) {
  let runs = [];
  const list = h("div.choices");
  const field = h("input", { type: "text", "aria-label": "Id of a run", placeholder: "run-…", spellcheck: "false", autocomplete: "off" });
  field.addEventListener("keydown", (event) => event.key === "Enter" && take(field.value.trim()));
  const form = h("div.adding", {}, field, h("button", { type: "button", onclick: () => take(field.value.trim()) }, "Add"));
  const panel = h("div.panel", { popover: "auto", id: "add-run", ontoggle: (event) => event.newState === "open" && fill(list, candidates(runs, { chosen, onAdd: take })) }, h("h2", {}, "Add a run"), list, form);
  const button = h("button", { type: "button", popovertarget: "add-run" }, "Add a run");

  function take(id) {
    if (!id || chosen().includes(id)) return;
    field.value = "";
    panel.hidePopover();
    onAdd(id);
  }

  return {
    element: h("div.columns", {}, button, panel),
    /** Offer runs of the deployments of these. */
    runs(next) {
      runs = next;
      button.disabled = next.length >= MOST_RUNS;
    },
  };
}

/** Return the list of the last runs of the deployments of some runs, but for those that are chosen. */
export function candidates(runs, { chosen, onAdd }) {
  const place = h("div.candidates", {}, h("p.soft", {}, "Loading…"));
  const keys = [...new Set(runs.map((run) => run.deployment))].slice(0, MOST_DEPLOYMENTS);
  look();
  return place;

  async function look() {
    try {
      const pages = await Promise.all(keys.map((deployment) => get("/runs", { deployment, limit: LAST_RUNS })));
      const known = new Set(chosen());
      fill(place, keys.map((key, at) => group(key, pages[at].items.filter((run) => !known.has(run.id)))));
    } catch (error) {
      fill(place, h("p.soft", { role: "alert" }, error.message));
    }
  }

  function group(key, others) {
    const choice = (run) => h("li", {}, h("button.plain.candidate", { type: "button", onclick: () => onAdd(run.id) }, badge(run.status), h("span.mono", {}, shortId(run.id)), h("span.soft", {}, ago(run.created_at))));
    return [h("h3", {}, key), others.length ? h("ul", {}, others.map(choice)) : h("p.soft", {}, "It has no other run.")];
  }
}
