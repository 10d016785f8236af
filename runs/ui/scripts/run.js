// The Run view: one run with all that belongs to it, live until it has ended.

import { get } from "./api.js";
import { h, fill } from "./dom.js";
import { announce, showLive, showProblem } from "./notices.js";
import { artifactsPart } from "./run_artifacts.js";
import { factsPart } from "./run_facts.js";
import { headPart } from "./run_head.js";
import { inputsPart } from "./run_inputs.js";
import { logPart } from "./run_log.js";
import { metricsPart } from "./run_metrics.js";
import { stepsPart } from "./run_steps.js";
import { follow } from "./stream.js";
import { standing, TERMINAL } from "./words.js";

const LOOK_AGAIN_MS = 4000;
const GATHER_MS = 250;

export function mount(element, { id }) {
  document.title = "Run · Freshline";
  const path = `/runs/${encodeURIComponent(id)}`;
  const asking = new AbortController();
  const ask = (below = "", query = {}) => get(path + below, query, { signal: asking.signal });
  let stopStream = () => {};
  let timer = 0;
  let run = null;
  let parts = [];

  begin();

  async function begin() {
    fill(element, h("div.waiting-bar", { role: "progressbar", "aria-label": "Loading the run" }));
    try {
      run = await ask();
    } catch (error) {
      return showProblem(error, element, { again: begin });
    }
    const shared = { ask, path, onRun: take };
    const log = logPart(run, shared);
    const main = [metricsPart(run, shared), artifactsPart(run, shared), inputsPart(run, shared)];
    const side = [log, stepsPart(run, shared), factsPart(run, shared)];
    const head = headPart(run, shared);
    parts = [head, ...main, ...side];
    fill(element, head.element, h("div.split", {}, h("div.column", {}, main.map((part) => part.element)), h("div.column", {}, side.map((part) => part.element))));
    show();
    if (TERMINAL.has(run.status)) return showLive("ended");
    await log.ready;
    if (asking.signal.aborted) return;
    stopStream = follow(`${path}/stream`, {
      after: log.last() || null,
      onState: showLive,
      isLast: ({ kind }) => /^run_(completed|failed|cancelled|skipped|refused)$/.test(kind),
      onEvent: (event) => {
        if (event.kind === "resync") log.reload();
        else log.add(event.data);
        // Progress is in the event itself; everything else may have changed the run.
        later(event.kind === "progress_reported" ? LOOK_AGAIN_MS : GATHER_MS);
      },
    });
    later(LOOK_AGAIN_MS);
  }

  function later(delay) {
    if (delay === GATHER_MS) clearTimeout(timer), (timer = 0);
    timer ||= setTimeout(again, delay);
  }

  async function again() {
    timer = 0;
    if (document.hidden) return later(LOOK_AGAIN_MS);
    try {
      take(await ask());
    } catch (error) {
      if (error.name === "AbortError") return;
      if (error.code === "not_found") {
        stopStream();
        return showProblem(error, element);
      }
    }
    if (!TERMINAL.has(run.status)) later(LOOK_AGAIN_MS);
  }

  /** Show the newest state of the run, as an answer to whatever was asked has brought it. */
  function take(next) {
    if (next.status !== run.status) announce(`The run is ${next.status}. ${standing(next)}`);
    run = next;
    show();
  }

  function show() {
    document.title = `${run.deployment} · ${run.status} · Freshline`;
    for (const part of parts) part.update(run);
  }

  return () => {
    asking.abort();
    clearTimeout(timer);
    stopStream();
    for (const part of parts) part.close?.();
    showLive("off");
  };
}
