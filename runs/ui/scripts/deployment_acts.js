// The buttons that ask for a run of a deployment: Run lets the gate decide, Force overrides it.

import { post } from "./api.js";
import { h } from "./dom.js";
import { plain, shortId } from "./format.js";
import { announce, confirm, notify } from "./notices.js";

/** Return the buttons, with `more` behind them; `onAsked()` is called when a run was asked for. */
export function actButtons({ key, external }, { more = null, onAsked }) {
  if (external) {
    return [h("p.soft.external", {}, "Prefect does not run it: its versions are published with ", h("code", {}, "freshline publish"), "."), h("div.buttons", {}, more)];
  }
  return h(
    "div.buttons",
    {},
    h("button.primary", { type: "button", onclick: (event) => run(event.currentTarget, key, onAsked) }, "Run"),
    h("button", { type: "button", onclick: (event) => force(event.currentTarget, key, onAsked) }, "Force…"),
    more,
  );
}

async function run(button, key, onAsked, options = {}) {
  button.disabled = true;
  try {
    const made = await post("/runs", { deployment: key, ...options });
    notify(`${shortId(made.id)} of ${key} is ${plain(made.status)}${made.reason ? `: ${made.reason}` : "."}`);
    announce(`A run of ${key} was created: it is ${plain(made.status)}.`);
  } catch (error) {
    notify(error.message, { kind: "error" });
  } finally {
    button.disabled = false;
    if (document.activeElement === document.body) button.focus();
  }
  onAsked();
}

async function force(button, key, onAsked) {
  const isSure = await confirm(
    `Force a run of ${key}?`,
    "It runs on what its upstreams have now, fresh or not. The record says that you overrode the gate.",
    { action: "Force the run" },
  );
  if (isSure) await run(button, key, onAsked, { on_stale: "force" });
  else button.focus();
}
