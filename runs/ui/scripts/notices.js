// What the page says of itself: problems that people must see, and changes that a screen reader speaks.

import { h, fill } from "./dom.js";

const STAYS_MS = 6000;
let last = 0;

/** Show one message above the view; an error stays until it is closed, the rest goes by itself. */
export function notify(message, { kind = "info" } = {}) {
  const region = document.getElementById("notices");
  const close = () => notice.remove();
  const notice = h(
    "div.notice",
    { data: { kind }, role: kind === "error" ? "alert" : "status" },
    h("span", {}, message),
    h("button.plain", { type: "button", "aria-label": "Close this message", onclick: close }, "×"),
  );
  for (const other of region.children) if (other.firstChild.textContent === message) other.remove();
  region.append(notice);
  if (kind !== "error") setTimeout(close, STAYS_MS);
}

/** Say to screen readers what changed; the same words are not said twice in a row within a second. */
export function announce(words) {
  const region = document.getElementById("said");
  if (region.textContent === words && performance.now() - last < 1000) return;
  last = performance.now();
  region.textContent = words;
}

/** Show a problem in the place of a view or a part of it, with a button to try again where that may help. */
export function showProblem(error, element, { again = null } = {}) {
  if (error?.name === "AbortError") return;
  if (!error?.code) console.error(error);
  const title = { not_found: "Not found", unauthenticated: "Not signed in", unavailable: "No answer" }[error?.code] ?? "That did not work";
  const message = error?.code ? error.message : "The page made a mistake; the console of your browser says more.";
  const retry = again && h("button", { type: "button", onclick: again }, "Try again");
  fill(element, h("div.empty", { role: "alert", data: { kind: "error" } }, h("h2", {}, title), h("p", {}, message), retry));
}

/** Show whether what is seen follows the store: "live", "waiting", "ended", "off". */
export function showLive(state) {
  const words = { live: "Live", waiting: "Reconnecting…", ended: "Ended", refused: "Not live", off: "" };
  document.getElementById("live").dataset.state = state;
  document.getElementById("live-text").textContent = words[state] ?? "";
}

/** Ask before something that cannot be taken back; resolves to true or false. */
export function confirm(title, text, { action, isDangerous = false } = {}) {
  return new Promise((resolve) => {
    const dialog = h(
      "dialog",
      { "aria-labelledby": "asked", onclose: () => (dialog.remove(), resolve(dialog.returnValue === "yes")) },
      h("h2", { id: "asked" }, title),
      h("p", {}, text),
      h(
        "div.buttons",
        {},
        h("button", { type: "button", autofocus: true, onclick: () => dialog.close("no") }, "Back"),
        h("button.primary", { type: "button", class: isDangerous ? "danger" : "", onclick: () => dialog.close("yes") }, action),
      ),
    );
    document.body.append(dialog);
    dialog.showModal();
  });
}
