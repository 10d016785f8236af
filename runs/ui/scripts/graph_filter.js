// What of the graph is let through: words, a kind, freshness and activity, and the fields in which people say so.

import { fill, h } from "./dom.js";
import { plain } from "./format.js";
import { ACTIVITIES, FRESHNESS, counts, matching } from "./graph_model.js";
import { shape } from "./graph_signs.js";

const STATES = new Set([...FRESHNESS, ...ACTIVITIES]);

/** A filter as an address has it; `change()` is told when somebody changes it, `enter()` when the search is to pick. */
export class Filter {
  #text;
  #states;
  #kind;
  #change;
  #search;
  #kinds;
  #chips;

  constructor({ q = "", state = "", kind = "" }, { change, enter }) {
    this.#text = q;
    this.#states = new Set(state.split(",").filter((word) => STATES.has(word)));
    this.#kind = kind;
    this.#change = change;
    this.#search = h("input.graph-search", {
      type: "search",
      placeholder: "Filter deployments",
      "aria-label": "Filter deployments by name",
      value: q,
      autocomplete: "off",
      spellcheck: "false",
      data: { search: "" },
      oninput: () => this.#set(() => (this.#text = this.#search.value)),
      onkeydown: (event) => event.key === "Enter" && enter(),
    });
    this.#kinds = h("select", { "aria-label": "Kind", onchange: () => this.#set(() => (this.#kind = this.#kinds.value)) });
    this.#chips = h("div.graph-chips", { role: "group", "aria-label": "Freshness and activity" });
    this.elements = [this.#search, this.#kinds, this.#chips];
  }

  /** What the address holds of it. */
  get query() {
    return { q: this.#text, state: [...this.#states].join(), kind: this.#kind };
  }

  /** Return the nodes that are let through. */
  matching(model) {
    return matching(model, { text: this.#text, states: this.#states, kind: this.#kind });
  }

  /** Offer the kinds of this graph. */
  offerKinds(model) {
    const kinds = ["", ...model.kinds];
    if (!kinds.includes(this.#kind)) this.#kind = "";
    fill(this.#kinds, kinds.map((kind) => h("option", { value: kind }, kind || "All kinds")));
    this.#kinds.value = this.#kind;
  }

  /** Offer freshness and activities, each with how many there are among what else is let through. */
  offerStates(model) {
    const found = counts(matching(model, { text: this.#text, kind: this.#kind }));
    const words = [...STATES].filter((word) => FRESHNESS.includes(word) || found.get(word) || this.#states.has(word));
    const focused = this.#chips.contains(document.activeElement) ? document.activeElement.dataset.word : null;
    fill(
      this.#chips,
      words.map((word) =>
        h(
          "button.graph-chip",
          { type: "button", "aria-pressed": String(this.#states.has(word)), data: { word }, onclick: () => this.#toggle(word) },
          shape(word),
          plain(word),
          h("span.graph-number", {}, found.get(word).toLocaleString("en")),
        ),
      ),
    );
    if (focused) this.#chips.querySelector(`[data-word="${focused}"]`)?.focus();
  }

  #toggle(word) {
    this.#set(() => this.#states.delete(word) || this.#states.add(word));
  }

  #set(act) {
    act();
    this.#change();
  }
}
