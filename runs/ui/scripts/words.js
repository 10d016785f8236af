// The words of the records, as sentences and signs. A status is told by its sign and its name, never by colour alone.

import { h, s } from "./dom.js";
import { plain } from "./format.js";

/** Statuses of a run that never change again. */
export const TERMINAL = new Set(["completed", "failed", "cancelled", "skipped", "refused"]);

/** Every status, in the order of a run's life. */
export const STATUSES = [
  "pending", "waiting", "running", "retrying", "paused", "cancelling",
  "completed", "failed", "cancelled", "skipped", "refused",
];

/** Every run type. */
export const TYPES = [
  "PipelineRun", "ExperimentRun", "TrainingRun", "InferenceRun", "MonitoringRun", "PortfolioOptimizationRun", "BacktestRun",
];

const STOPPED = {
  completed: "It completed, and its result became the current version.",
  superseded: "It completed, but another run had published first: its version did not become the current one.",
  already_ready: "It was skipped: the deployment was ready.",
  upstream_not_ready: "It did not start: an upstream was not ready.",
  error: "Its body raised an error.",
  crashed: "Its process or the infrastructure was lost.",
  lease_expired: "Its worker was not heard of for a whole lease.",
  never_started: "Prefect did not start it in time.",
  not_dispatched: "Prefect refused to create the flow run.",
  timed_out: "Prefect's time limit passed.",
  waited_too_long: "Its upstreams were not ready before its deadline.",
  cancelled_by_user: "Somebody cancelled it.",
  deleted_in_prefect: "Its flow run was deleted in Prefect.",
};

const STANDING = {
  pending: "It is recorded and waits for Prefect to start it.",
  waiting: "The gate holds it until its upstreams are ready.",
  running: "A worker executes it.",
  retrying: "An attempt failed; Prefect will start another one.",
  paused: "It is paused and goes on when it is resumed.",
  cancelling: "Its cancellation was asked for; the worker has not stopped yet.",
};

// 16 × 16, drawn with strokes.
const SIGNS = {
  check: "M3.5 8.5 6.5 11.5 12.5 5",
  cross: "M4.5 4.5 11.5 11.5M11.5 4.5 4.5 11.5",
  minus: "M4 8H12",
  play: "M6 4.5 11.5 8 6 11.5Z",
  pause: "M6 4.5V11.5M10 4.5V11.5",
  clock: "M8 4.5V8L10.5 9.5",
  skip: "M4.5 4.5 8 8 4.5 11.5M8.5 4.5 12 8 8.5 11.5",
  again: "M11.5 6A4 4 0 1 0 12 9M12 3.5V6H9.5",
  dot: "M8 7.9V8.1",
};

const SIGN_OF = {
  completed: "check", ready: "check", cached: "check", failed: "cross", crashed: "cross", stale: "cross", error: "cross",
  cancelled: "minus", cancelling: "minus", refused: "minus", running: "play", paused: "pause", pending: "clock",
  waiting: "clock", source_delayed: "clock", retrying: "again", skipped: "skip", not_initialized: "dot", idle: "dot",
};

/** Return the badge of a status, a freshness or an activity. */
export function badge(word) {
  return h("span.badge", { data: { word } }, sign(word), plain(word));
}

/** Return the sign of a word alone, for those who see; the word has to stand beside it. */
export function sign(word) {
  const path = SIGNS[SIGN_OF[word] ?? "dot"];
  return s("svg.sign", { viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true", data: { word } },
    s("circle", { cx: 8, cy: 8, r: 7 }), s("path", { d: path }));
}

/** Return one sentence on where a run stands or why it ended. */
export function standing(run) {
  const told = run.status in STANDING ? STANDING[run.status] : STOPPED[run.stop_reason];
  return told ?? `It ${run.ended_at ? "ended" : "is"}: ${plain(run.stop_reason ?? run.status)}.`;
}

/** Return the title of an event of a run's log. */
export function eventTitle(kind) {
  const words = plain(kind).replace(/^run /, "");
  return words.charAt(0).toUpperCase() + words.slice(1);
}
