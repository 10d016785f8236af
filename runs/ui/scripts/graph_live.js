// Reads the graph, and follows what changes in it. It is read when the stream has begun, for from there on everything is
// told, so that once is enough; and again when something else than a state has changed.

import { get } from "./api.js";
import { showLive } from "./notices.js";
import { follow } from "./stream.js";

const PATIENCE_MS = 1000;
const GATHER_MS = 400;
const POLL_MS = 10_000;

/**
 * Follow the graph until the returned function is called.
 * `take(graph)` gets all of it. `change(states, ran)` gets what has changed since: the newest state of each deployment by
 * its key, and the keys of those whose runs have changed (null: of any); it returns whether it knows the deployments.
 * `fail(problem)` is told why there is no graph to begin with; nothing follows.
 */
export function followGraph({ take, change, fail }) {
  const controller = new AbortController();
  const { signal } = controller;
  let isTaken = false;
  let isReading = false;
  let isOutdated = false;
  let states = new Map();
  let ran = new Set();
  let timer = 0;
  let poll = 0;
  // A stream that does not begin, or does so late, holds nothing up; nor does a page that nobody sees have one.
  let waiting = setTimeout(read, document.hidden ? 0 : PATIENCE_MS);
  const stopStream = follow("/stream", {
    onEvent: told,
    onState: (state) => {
      showLive(state);
      clearInterval(poll);
      if (state === "refused") poll = setInterval(() => document.hidden || read(), POLL_MS);
      if (state !== "live" && !isTaken && !isReading) read();
    },
  });

  async function read() {
    clearTimeout(waiting);
    if (isReading) {
      isOutdated = true; // it may be of before
      return;
    }
    isReading = true;
    isOutdated = false;
    // What was told until now is in what is read now; what is told while it is read need not be.
    states.clear();
    ran.clear();
    let found = null;
    try {
      found = await get("/graph", {}, { signal });
    } catch (problem) {
      if (signal.aborted) return;
      if (!isTaken) {
        stop();
        fail(problem);
        return;
      }
    } finally {
      isReading = false;
    }
    if (signal.aborted) return;
    if (found === null) {
      waiting = setTimeout(read, POLL_MS);
      return;
    }
    isTaken = true;
    take(found);
    if (isOutdated || states.size || ran.size) gather();
  }

  function told({ kind, data }) {
    if (kind === "resync" && !isTaken) {
      read();
      return;
    }
    if (kind === "deployment" && data?.key) states.set(data.key, data);
    else if (kind === "run" || kind === "run_deleted") ran.add(data?.deployment ?? null);
    else isOutdated = true; // another graph
    gather();
  }

  function gather() {
    timer ||= setTimeout(catchUp, GATHER_MS);
  }

  function catchUp() {
    timer = 0;
    if (isReading || !isTaken) return; // when it is read, this is called again
    if (isOutdated) {
      read();
      return;
    }
    const [toldStates, toldRan] = [states, ran];
    [states, ran] = [new Map(), new Set()];
    if (!change(toldStates, toldRan)) read();
  }

  function stop() {
    controller.abort();
    clearTimeout(waiting);
    clearTimeout(timer);
    clearInterval(poll);
    stopStream();
    showLive("off");
  }

  return stop;
}
