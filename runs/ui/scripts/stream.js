// Follows a stream of events for as long as the page is seen, and takes it up again where it broke.
//
// Not an EventSource: that one needs the name of each kind of event in advance and hides why it was refused.
// A hidden page closes its stream, since a browser opens only six connections to a host.

import { address, problemOf } from "./api.js";

const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 15_000;

/**
 * Follow a stream below /api/v1 until the returned function is called, or the server ends it for good.
 * `onEvent({id, kind, data})` gets each event; kind "resync" means: read everything again.
 * `onState("live" | "waiting" | "ended" | "refused", problem?)` says how it stands.
 */
export function follow(path, { query = {}, after = null, onEvent, onState = () => {}, isLast = () => false }) {
  let lastId = after;
  let controller = null;
  let delay = FIRST_DELAY_MS;
  let timer = 0;
  let isOver = false;

  async function open() {
    if (isOver || document.hidden || controller) return;
    const mine = new AbortController();
    controller = mine;
    try {
      const headers = { Accept: "text/event-stream" };
      if (lastId !== null) headers["Last-Event-ID"] = String(lastId);
      const response = await fetch(address(path, query), { headers, signal: mine.signal, credentials: "same-origin" });
      if (response.status >= 400 && response.status < 500 && response.status !== 429) {
        isOver = true;
        onState("refused", await problemOf(response));
        return;
      }
      if (response.status === 204) return finish();
      if (!response.ok) throw new Error(`status ${response.status}`);
      onState("live");
      for await (const event of events(response.body)) {
        delay = FIRST_DELAY_MS;
        if (event.id !== null) lastId = event.id;
        if (event.retry !== null) delay = event.retry;
        if (event.data === null) continue;
        onEvent(event);
        if (isLast(event)) return finish();
      }
      throw new Error("the stream ended");
    } catch {
      if (isOver || mine !== controller || mine.signal.aborted) return;
      onState("waiting");
      timer = setTimeout(open, delay);
      delay = Math.min(delay * 2, LONGEST_DELAY_MS);
    } finally {
      if (controller === mine) controller = null;
    }
  }

  function finish() {
    isOver = true;
    controller?.abort();
    onState("ended");
  }

  function close() {
    clearTimeout(timer);
    controller?.abort();
    controller = null;
  }

  function seen() {
    if (document.hidden) close();
    else open();
  }

  document.addEventListener("visibilitychange", seen);
  open();
  return () => {
    isOver = true;
    document.removeEventListener("visibilitychange", seen);
    close();
  };
}

/** Yield the events of a body as the standard defines them (HTML, "server-sent events"). */
async function* events(body) {
  let rest = "";
  let event = blank();
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    for (const line of lines) {
      if (line !== "") {
        take(event, line);
        continue;
      }
      if (event.text !== null || event.id !== null || event.retry !== null) {
        yield { id: event.id, kind: event.kind, retry: event.retry, data: parsed(event.text) };
      }
      event = blank();
    }
  }
}

function blank() {
  return { id: null, kind: "message", text: null, retry: null };
}

function take(event, line) {
  const colon = line.indexOf(":");
  if (colon === 0) return;
  const field = colon < 0 ? line : line.slice(0, colon);
  const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
  if (field === "data") event.text = event.text === null ? value : `${event.text}\n${value}`;
  else if (field === "event") event.kind = value;
  else if (field === "id") event.id = value;
  else if (field === "retry" && /^\d+$/.test(value)) event.retry = Number(value);
}

function parsed(text) {
  if (text === null) return null;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
