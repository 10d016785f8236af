// Asks the server. What goes wrong becomes a `Problem` with one sentence that people can act on.

const ROOT = "/api/v1";
const MOST_KEPT = 30;
/** Path -> what was answered last, and its tag. Kept here and not by the browser, whose cache lets a request wait for
 * another one of the same address: up to 20 seconds for one that was given up. */
const kept = new Map();

/** What the server refused or could not do; `message` is for people, `code` for the page. */
export class Problem extends Error {
  constructor(code, message, { status = 0, errors = [] } = {}) {
    super(message);
    this.name = "Problem";
    this.code = code;
    this.status = status;
    this.errors = errors;
  }
}

/** Return the JSON of a GET; `query` loses what is null, undefined or empty. */
export function get(path, query = {}, { signal } = {}) {
  return ask("GET", path + queryText(query), { signal });
}

/** Return the JSON that a POST answers with. */
export function post(path, body = undefined, { signal } = {}) {
  return ask("POST", path, { body, signal });
}

/** Return the address of a path below `/api/v1`. */
export function address(path, query = {}) {
  return ROOT + path + queryText(query);
}

/** Return a deployment's key as two path segments. */
export function deploymentPath(key) {
  const [kind, ...resource] = key.split("/");
  return `/deployments/${encodeURIComponent(kind)}/${encodeURIComponent(resource.join("/"))}`;
}

/** Return the Problem that a response tells of. */
export async function problemOf(response) {
  let told = {};
  try {
    told = await response.json();
  } catch {
    // A proxy, or a server that is going down, answers with something else: the status has to do.
  }
  if (response.status === 401) {
    return new Problem("unauthenticated", "You are not signed in: open the address that `freshline up` printed, with its token.", {
      status: 401,
    });
  }
  const code = told.code ?? (response.status >= 500 ? "internal" : "invalid_argument");
  const message = told.detail || told.title || `The server answered ${response.status}.`;
  return new Problem(code, message, { status: response.status, errors: told.errors ?? [] });
}

function queryText(query) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return given.length ? `?${new URLSearchParams(given)}` : "";
}

async function ask(method, path, { body, signal }) {
  const headers = { Accept: "application/json" };
  const known = method === "GET" ? kept.get(path) : undefined;
  if (known) headers["If-None-Match"] = known.tag;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(ROOT + path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
      cache: "no-store",
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("unavailable", "Freshline does not answer. Is `freshline up` running?");
  }
  if (known && response.status === 304) return JSON.parse(known.text);
  if (!response.ok) throw await problemOf(response);
  if (response.status === 204) return null;
  const text = await response.text();
  if (method === "GET") keep(path, response.headers.get("ETag"), text);
  return JSON.parse(text);
}

function keep(path, tag, text) {
  kept.delete(path);
  if (!tag) return;
  kept.set(path, { tag, text });
  if (kept.size > MOST_KEPT) kept.delete(kept.keys().next().value);
}
