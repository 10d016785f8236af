// How values are written for people: times, spans, numbers, sizes.

import { h } from "./dom.js";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "narrow" });
const absolute = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const whole = new Intl.NumberFormat("en-US");

/** Return a `<time>`: how long ago, with the exact time (yours and UTC) when pointed at. */
export function ago(iso, { now = Date.now() } = {}) {
  if (!iso) return "–";
  return h("time", { datetime: iso, title: `${absolute.format(new Date(iso))} · ${iso}` }, agoText(iso, now));
}

/** Return how long ago something was, in words. */
export function agoText(iso, now = Date.now()) {
  const past = Date.parse(iso) - now;
  const size = Math.abs(past);
  if (size < 10_000) return "now";
  if (size < MINUTE) return relative.format(Math.trunc(past / 1000), "second");
  if (size < HOUR) return relative.format(Math.trunc(past / MINUTE), "minute");
  if (size < DAY) return relative.format(Math.trunc(past / HOUR), "hour");
  if (size < 30 * DAY) return relative.format(Math.trunc(past / DAY), "day");
  return iso.slice(0, 10);
}

/** Return a `<time>` with date and time of day, in the reader's time zone. */
export function moment(iso) {
  return iso ? h("time", { datetime: iso, title: iso }, absolute.format(new Date(iso))) : "–";
}

/** Return a `<time>` with the time of day alone. */
export function timeOfDay(iso) {
  return iso ? h("time", { datetime: iso, title: `${absolute.format(new Date(iso))} · ${iso}` }, clock.format(new Date(iso))) : "–";
}

/** Return a span of seconds in words: 0.4 s, 12 s, 3 min 5 s, 2 h 10 min. */
export function span(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  if (seconds < 10) return `${Number(seconds.toPrecision(2))} s`;
  const total = Math.round(seconds);
  if (total < 60) return `${total} s`;
  if (total < 3600) return `${Math.trunc(total / 60)} min ${total % 60} s`;
  if (total < 86_400) return `${Math.trunc(total / 3600)} h ${Math.trunc((total % 3600) / 60)} min`;
  return `${Math.trunc(total / 86_400)} d ${Math.trunc((total % 86_400) / 3600)} h`;
}

/** Return how many seconds a run took, or has taken until now; null when it has not started. */
export function secondsOf(run, now = Date.now()) {
  if (!run.started_at) return null;
  return ((run.ended_at ? Date.parse(run.ended_at) : now) - Date.parse(run.started_at)) / 1000;
}

/** Return a number as people read it; what JSON has no number for comes as text ("NaN") and stays as it is. */
export function number(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value).replace("-Infinity", "−∞").replace("Infinity", "∞");
  if (Number.isInteger(value) && Math.abs(value) < 1e15) return whole.format(value).replace("-", "−");
  const size = Math.abs(value);
  const text = size >= 1e-3 && size < 1e15 ? significant(value, size) : value.toPrecision(5);
  return text.replace("-", "−");
}

/** Return a number with its unit; a share is shown as a percentage. */
export function measured(value, unit) {
  if (!unit || unit === "1" || typeof value !== "number") return number(value);
  if (unit === "share" || unit === "fraction" || unit === "ratio of 1") return `${number(value * 100)} %`;
  return `${number(value)} ${unit}`;
}

/** Return a size in bytes as people read it. */
export function bytes(size) {
  if (size === null || size === undefined) return "–";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let place = 0;
  let left = size;
  while (left >= 1000 && place < units.length - 1) {
    left /= 1000;
    place += 1;
  }
  return `${place ? left.toPrecision(3) : left} ${units[place]}`;
}

/** Return a word of ours as people write it: `not_initialized` is "not initialized". */
export function plain(word) {
  return String(word ?? "–").replaceAll("_", " ");
}

/** Return a run's id short enough for a table; its last letters differ most. */
export function shortId(id) {
  return id.startsWith("run-") ? `run-…${id.slice(-8)}` : id;
}

function significant(value, size) {
  return new Intl.NumberFormat("en-US", { maximumFractionDigits: size < 1 ? 4 : size < 1000 ? 4 : 1 }).format(value);
}
