// Which view the address means, and the change from one view to the next without loading the page anew.

import { h, fill } from "./dom.js";
import { announce, showProblem } from "./notices.js";

const VIEWS = [
  { name: "graph", pattern: /^\/$/, load: () => import("./graph.js") },
  { name: "runs", pattern: /^\/runs\/?$/, load: () => import("./runs.js") },
  { name: "run", under: "runs", pattern: /^\/runs\/([^/]+)\/?$/, load: () => import("./run.js"), parameters: ["id"] },
  { name: "compare", under: "runs", pattern: /^\/compare\/?$/, load: () => import("./compare.js") },
  { name: "deployment", under: "graph", pattern: /^\/deployments\/([^/]+)\/([^/]+)\/?$/, load: () => import("./deployment.js"), parameters: ["kind", "resource"] },
];

let unmount = null;
let turn = 0;
let shownView = null;
let shownAddress = null;

/** Show what the address says, now and whenever it changes. */
export function start() {
  addEventListener("popstate", () => {
    // Another place in the same view, such as the content that a link skips to, is the browser's affair.
    if (here() !== shownAddress) show();
  });
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href]");
    if (!link || !isOurs(link, event)) return;
    event.preventDefault();
    navigate(link.href);
  });
  show();
}

/** Go to an address of the page. */
export function navigate(address) {
  history.pushState(null, "", address);
  show({ isNew: true });
}

/** Write the view's own state into the address, without a step in the history and without a new view. */
export function rewrite(query) {
  const text = new URLSearchParams(Object.entries(query).filter(([, value]) => value)).toString();
  history.replaceState(history.state, "", location.pathname + (text ? `?${text}` : ""));
  shownAddress = here();
}

function here() {
  return location.pathname + location.search;
}

async function show({ isNew = false } = {}) {
  const mine = ++turn;
  shownAddress = here();
  const main = document.getElementById("main");
  const place = matched(location.pathname);
  stop();
  for (const link of document.querySelectorAll("nav [data-view]")) {
    const isHere = link.dataset.view === (place?.view.under ?? place?.view.name);
    if (isHere) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (!place) {
    document.title = "Not found · Freshline";
    fill(main, h("div.empty", {}, h("h1", {}, "There is no such page"), h("p", {}, h("a", { href: "/" }, "Go to the graph"))));
    return;
  }
  const element = h("div.view", { data: { view: place.view.name } });
  fill(main, element);
  try {
    const module = await place.view.load();
    if (mine !== turn) return;
    const parameters = { ...place.parameters, query: Object.fromEntries(new URLSearchParams(location.search)) };
    unmount = module.mount(element, parameters) ?? null;
  } catch (error) {
    if (mine !== turn) return;
    showProblem(error, element);
  }
  scrollTo(0, 0);
  if (isNew || shownView !== null) {
    main.focus({ preventScroll: true });
    announce(document.title);
  }
  shownView = place.view.name;
}

function stop() {
  const last = unmount;
  unmount = null;
  last?.();
}

function matched(path) {
  for (const view of VIEWS) {
    const found = view.pattern.exec(path);
    if (!found) continue;
    const parameters = {};
    try {
      (view.parameters ?? []).forEach((name, place) => (parameters[name] = decodeURIComponent(found[place + 1])));
    } catch {
      return null;
    }
    return { view, parameters };
  }
  return null;
}

function isOurs(link, event) {
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return false;
  if (link.target || link.hasAttribute("download") || link.origin !== location.origin) return false;
  const isAnchor = link.hash !== "" && link.pathname === location.pathname && link.search === location.search;
  return !isAnchor && matched(link.pathname) !== null;
}
