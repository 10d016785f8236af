// What is known of the deployment that was picked: its freshness and the chain of causes, its version and its last runs,
// and the buttons that run it.

import { deploymentPath, get } from "./api.js";
import { causes } from "./causes.js";
import { actButtons } from "./deployment_acts.js";
import { fill, h } from "./dom.js";
import { ago, plain, secondsOf, shortId, span } from "./format.js";
import { above, below } from "./graph_model.js";
import { shape } from "./graph_signs.js";
import { badge } from "./words.js";

const LAST_RUNS = 6;
const NEIGHBOURS = 8;

/** A panel beside the graph. `choose(node)` goes to another deployment, `close()` takes the panel away. */
export class Panel {
  #node = null;
  #model = null;
  #choose;
  #close;
  #controller = null;
  #explained = h("div");
  #runs = h("div");
  #head = h("div");
  #ties = h("div");
  #facts = h("div");

  constructor({ choose, close }) {
    this.#choose = choose;
    this.#close = close;
    this.element = h(
      "aside.graph-panel",
      { "aria-label": "The deployment", hidden: true, onkeydown: (event) => event.key === "Escape" && close() },
      this.#head, this.#explained, this.#facts, this.#runs, this.#ties,
    );
  }

  /** Show a deployment; null: none. */
  show(model, node, { isFocused = false } = {}) {
    this.#controller?.abort();
    this.#model = model;
    const isSame = node !== null && this.#node?.key === node.key;
    this.#node = node;
    this.element.hidden = node === null;
    if (!node) return;
    this.#drawHead();
    this.#drawFacts();
    this.#drawTies();
    if (!isSame) {
      fill(this.#explained);
      fill(this.#runs);
      this.element.scrollTop = 0;
    }
    if (isFocused) this.element.querySelector("h2").focus();
    this.#read();
  }

  /** Read again what the server knows of it. */
  refresh() {
    if (this.#node) this.show(this.#model, this.#node);
  }

  async #read() {
    const { signal } = (this.#controller = new AbortController());
    const node = this.#node;
    const asked = [
      [this.#explained, get(`${deploymentPath(node.key)}/explanation`, {}, { signal }), (found) => this.#drawExplanation(found)],
      [this.#runs, get("/runs", { deployment: node.key, limit: LAST_RUNS }, { signal }), (found) => this.#drawRuns(found.items)],
    ];
    await Promise.all(asked.map(async ([place, answer, draw]) => {
      try {
        const found = await answer;
        if (!signal.aborted) draw(found);
      } catch (error) {
        if (!signal.aborted) fill(place, h("p.graph-error", { role: "alert" }, error.message));
      }
    }));
  }

  #drawHead() {
    const node = this.#node;
    const more = h("a.button", { href: deploymentPath(node.key) }, "Open");
    const buttons = actButtons(node, { more, onAsked: () => this.#node?.key === node.key && this.refresh() });
    if (this.#head.contains(document.activeElement) && this.#head.dataset.key === node.key) {
      // The keyboard keeps its place, at a button or at the heading.
      this.#head.querySelector(".graph-words").replaceWith(this.#words());
      this.#head.querySelector(".graph-why").textContent = this.#sentence();
      return;
    }
    this.#head.dataset.key = node.key;
    fill(
      this.#head,
      h(
        "header",
        {},
        h("div", {}, h("p.graph-kind", {}, node.kind), h("h2", { tabindex: -1 }, node.name)),
        h("button.plain", { type: "button", "aria-label": "Close the panel", onclick: () => this.#close() }, "×"),
      ),
      this.#words(),
      h("p.graph-why", {}, this.#sentence()),
      buttons,
    );
  }

  #words() {
    const { freshness, activity } = this.#node;
    const words = activity === "idle" ? [freshness] : [freshness, activity];
    return h("p.graph-words", {}, words.map((word) => h("span.badge", { data: { word } }, shape(word), plain(word))));
  }

  #sentence() {
    const { why, freshness } = this.#node;
    return why || `${this.#node.key} is ${plain(freshness)}`;
  }

  #drawExplanation(found) {
    const link = (key) => {
      const node = this.#model.byKey.get(key);
      return node && h("button.plain.link", { type: "button", onclick: () => this.#choose(node) }, key);
    };
    fill(this.#explained, causes(found, link));
  }

  #drawFacts() {
    const node = this.#node;
    const facts = [
      ["Version", node.version === null ? "none yet" : `v${node.version}`],
      ["Data until", node.data_end ?? "–"],
      ["Last run", node.last_run_at ? [ago(node.last_run_at), node.last_stop_reason ? ` · ${plain(node.last_stop_reason)}` : ""] : "–"],
    ];
    fill(this.#facts, h("h3", {}, "Now"), h("dl.facts", {}, facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])));
  }

  #drawRuns(runs) {
    const rows = runs.map((run) =>
      h(
        "li",
        {},
        badge(run.status),
        h("a.mono", { href: `/runs/${run.id}` }, shortId(run.id)),
        h("span.soft", {}, ago(run.created_at), run.started_at ? ` · ${span(secondsOf(run))}` : ""),
      ),
    );
    const all = h("a", { href: `/runs?${new URLSearchParams({ deployment: this.#node.key })}` }, "All of its runs");
    fill(this.#runs, h("h3", {}, "Last runs"), rows.length ? [h("ul.graph-runs", {}, rows), all] : h("p.soft", {}, "It has never run."));
  }

  #drawTies() {
    const node = this.#node;
    fill(
      this.#ties,
      this.#side("Reads", node.reads.map((edge) => [edge.source, edge.role]), above(node).size),
      this.#side("Read by", node.readBy.map((edge) => [edge.target, edge.role]), below(node).size),
    );
  }

  #side(title, ties, total) {
    if (!ties.length) return null;
    const far = total > ties.length ? ` (${total.toLocaleString("en")} with those beyond)` : "";
    return [
      h("h3", {}, `${title} ${ties.length.toLocaleString("en")}${far}`),
      h(
        "ul.graph-ties",
        {},
        ties.slice(0, NEIGHBOURS).map(([other, role]) =>
          h(
            "li",
            {},
            h("button.plain.link", { type: "button", onclick: () => this.#choose(other) }, other.key),
            role === other.name ? null : h("span.soft", {}, ` as ${role}`),
          ),
        ),
        ties.length > NEIGHBOURS ? h("li.soft", {}, `and ${(ties.length - NEIGHBOURS).toLocaleString("en")} more`) : null,
      ),
    ];
  }
}
