// The search field: the language of the command line, with examples, and the place of a mistake below it.

import { h, fill } from "./dom.js";

const EXAMPLES = [
  ["sharpe_ratio > 1 and started_at > -7d", "a metric, in the last seven days"],
  ["status = failed or status = refused", "what did not come through"],
  ["deployment = 'backtest/book' and duration > 5m", "long runs of one deployment"],
  ["inputs has 'refresh/prices@v12'", "what read this version"],
  ["parameters.lookback_d >= 252 and tags has 'nightly'", "parameters and tags"],
  ["error_type is not null and not trigger = schedule", "errors of runs that people started"],
];

/** Return the search field; `onSearch(text)` when something else is to be looked for. */
export function searchBox(text, onSearch) {
  const field = h("input", {
    type: "search",
    id: "search",
    class: "mono",
    value: text,
    placeholder: "sharpe_ratio > 1 and started_at > -7d",
    "aria-label": "Search runs",
    "aria-describedby": "mistake",
    "aria-keyshortcuts": "/",
    spellcheck: "false",
    autocomplete: "off",
    autocapitalize: "off",
    data: { search: "yes" },
  });
  const mistake = h("div.mistake", { id: "mistake", "aria-live": "polite" });
  const examples = h(
    "div.panel",
    { popover: "auto", id: "examples" },
    h("h2", {}, "Searches"),
    h("ul", {}, EXAMPLES.map(([query, words]) => h("li", {}, h("button.plain", { type: "button", onclick: () => use(query) }, h("code", {}, query)), h("span.soft", {}, words)))),
  );
  field.addEventListener("keydown", (event) => event.key === "Enter" && onSearch(field.value.trim()));
  // Also when the × of the field empties it. Some browsers tell of Enter in this way too.
  field.addEventListener("search", () => field.value === "" && onSearch(""));

  function use(query) {
    examples.hidePopover();
    field.value = query;
    field.focus();
    onSearch(query);
  }

  return {
    element: h(
      "div.search",
      { role: "search" },
      h("div.line", {}, field, h("kbd", { "aria-hidden": "true" }, "/"), h("button", { type: "button", popovertarget: "examples" }, "Examples")),
      mistake,
      examples,
    ),
    /** Show what is wrong with the search, or nothing. */
    tell(problem) {
      field.setAttribute("aria-invalid", problem ? "true" : "false");
      fill(mistake, problem ? [h("p", {}, problem.message), pointed(field.value, problem.message)] : null);
    },
    set(next) {
      field.value = next;
    },
  };
}

/** Return the text with a caret below the character that the message names. */
function pointed(text, message) {
  const found = /at character (\d+)/.exec(message);
  if (!found || !text) return null;
  const place = Math.min(Number(found[1]) - 1, text.length);
  return h("pre", { "aria-hidden": "true" }, `${text.replace(/[^\S ]/g, " ")}\n${" ".repeat(place)}^`);
}
