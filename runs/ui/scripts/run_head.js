// The head of the Run view: what the run is, how it stands, why it ended, and what can be asked of it.

import { deploymentPath, post } from "./api.js";
import { h, fill } from "./dom.js";
import { ago, moment, plain, secondsOf, span } from "./format.js";
import { confirm, notify } from "./notices.js";
import { copying, drawing, facts } from "./parts.js";
import { badge, standing, TERMINAL } from "./words.js";

const ACTS = {
  pause: { label: "Pause", when: ["running"], asks: "Its body is told at its next heartbeat; its flow run is suspended then, and holds no worker.", done: "Its pause is asked for." },
  resume: { label: "Resume", when: ["paused"], asks: "Prefect starts its flow run again, as the next attempt of this run.", done: "It goes on when Prefect has started its flow run." },
  cancel: { label: "Cancel run", when: ["pending", "waiting", "running", "retrying", "paused"], asks: "What it has done until now is not published. A run that has ended never starts again.", done: "Its cancellation is asked for.", isDangerous: true },
};

/** Return the part; see `run.js`. */
export function headPart(run, { path, onRun }) {
  const top = h("div.run-top");
  const buttons = h("div.buttons");
  const told = h("p.standing");
  const progress = h("div.progress", { role: "progressbar", "aria-label": "Progress", "aria-valuemin": 0, "aria-valuemax": 100, hidden: true }, h("i"));
  const error = h("div");
  const list = h("div");
  const took = h("span");
  let last = run;
  const ticking = setInterval(tick, 1000);

  const drawTop = drawing(top, (it) => [
    h("nav.trail", { "aria-label": "Where this is" }, h("a", { href: "/runs" }, "Runs"), h("span", { "aria-hidden": "true" }, "/"), h("a", { href: `/runs?deployment=${encodeURIComponent(it.deployment)}` }, it.deployment)),
    h("div.title", {}, h("h1", {}, it.deployment), badge(it.status), it.version ? h("span.tag", {}, `v${it.version}`) : null),
    h("div.run-id.mono", {}, it.id, copying(it.id, "the run's id")),
  ]);
  const drawButtons = drawing(buttons, ([id, status, prefect, deployment]) => [
    h("a.button", { href: deploymentPath(deployment) }, "Deployment"),
    h("a.button", { href: `/compare?runs=${encodeURIComponent(id)}` }, "Compare…"),
    h("a.button", { href: `/?node=${encodeURIComponent(deployment)}` }, "Show in the graph"),
    prefect && h("a.button", { href: prefect, target: "_blank", rel: "noreferrer" }, "Open in Prefect", h("span", { "aria-hidden": "true" }, "↗")),
    Object.entries(ACTS).filter(([, act]) => act.when.includes(status)).map(([name, act]) =>
      h("button", { type: "button", class: act.isDangerous ? "danger" : "", onclick: () => perform(name, act) }, act.label)),
  ]);
  const drawTold = drawing(told, ([sentence, reason, asked]) => [sentence, reason && ` ${reason}`, asked && h("strong", {}, ` ${asked}`)]);
  const drawError = drawing(error, ([type, message, traceback, isEnd]) => message && !isEnd ? failure(type, message, traceback) : null);
  const drawFacts = drawing(list, (it) => facts([
    ["Type", it.type],
    ["Trigger", [plain(it.trigger), it.trigger_name && ` “${it.trigger_name}”`, ` by ${it.actor}`]],
    ["Created", moment(it.created_at)],
    ["Started", it.started_at && moment(it.started_at)],
    ["Ended", it.ended_at && [moment(it.ended_at), isRecent(it.ended_at) ? [" · ", ago(it.ended_at)] : null]],
    ["Took", took],
    ["Data as of", it.data_as_of],
    ["Attempt", it.attempt > 1 ? it.attempt : null],
    ["Next attempt", it.resume_due_at && !it.ended_at && moment(it.resume_due_at)],
    ["Part of", it.parent_id && link(it.parent_id)],
    ["Retry of", it.retry_of && link(it.retry_of)],
    ["Repeats", it.replay_of && link(it.replay_of)],
  ]));

  async function perform(name, act) {
    const isSure = await confirm(`${act.label.replace(" run", "")} this run?`, `${last.deployment}. ${act.asks}`, { action: act.label, isDangerous: act.isDangerous });
    if (!isSure) return;
    try {
      onRun(await post(`${path}/${name}`, { actor: "page" }));
      notify(act.done);
    } catch (problem) {
      notify(problem.message, { kind: "error" });
    }
  }

  function tick() {
    if (!last.ended_at) fill(took, span(secondsOf(last)));
  }

  return {
    element: h("header.card.run-head", {}, h("div.row", {}, top, buttons), told, progress, error, list),
    update(it) {
      last = it;
      const reason = it.decision?.reason;
      const asked = it.status === "running" && it.pause_requested_at ? "Its pause is asked for." : null;
      drawTop({ id: it.id, deployment: it.deployment, status: it.status, version: it.version });
      drawButtons([it.id, it.status, it.links?.prefect ?? null, it.deployment]);
      drawTold([standing(it), ["refused", "waiting", "skipped"].includes(it.status) ? sentence(it.error_message ?? reason) : null, asked]);
      drawError([it.error_type, it.error_message, it.error_traceback, ["refused", "skipped"].includes(it.status)]);
      drawFacts(Object.fromEntries(["type", "trigger", "trigger_name", "actor", "created_at", "started_at", "ended_at", "data_as_of", "attempt", "resume_due_at", "parent_id", "retry_of", "replay_of"].map((name) => [name, it[name]])));
      fill(took, span(secondsOf(it)));
      const share = typeof it.progress === "number" && !TERMINAL.has(it.status) ? Math.round(it.progress * 100) : null;
      progress.hidden = share === null;
      if (share !== null) {
        progress.setAttribute("aria-valuenow", share);
        progress.firstChild.style.inlineSize = `${share}%`;
      }
    },
    close: () => clearInterval(ticking),
  };
}

function isRecent(iso) {
  return Date.now() - Date.parse(iso) < 30 * 86_400_000;
}

function failure(type, message, traceback) {
  return h(
    "div.failure", {},
    h("p", {}, h("strong.mono", {}, type ?? "Error"), " ", message),
    traceback && h("details", {}, h("summary", {}, "Traceback"), h("pre.text", { tabindex: 0 }, traceback)),
  );
}

function link(id) {
  return h("a.mono", { href: `/runs/${encodeURIComponent(id)}` }, id);
}

function sentence(text) {
  if (!text) return null;
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}
