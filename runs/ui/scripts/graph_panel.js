// What is known of the deployment that was picked: its freshness and the chain of causes, its version and its last runs,
// and the buttons that run it.

import { deploymentPath, get, post } from "./api.js";
import { fill, h } from "./dom.js";
import { ago, plain, secondsOf, shortId, span } from "./format.js";
import { above, below } from "./graph_model.js";
import { shape } from "./graph_signs.js";
import { announce, confirm, notify } from "./notices.js";
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
    const buttons = node.external
      ? h("p.soft", {}, "Prefect does not run it: its versions are published with ", h("code", {}, "freshline publish"), ".")
      : h(
          "div.buttons",
          {},
          h("button.primary", { type: "button", onclick: (event) => this.#run(event.currentTarget, node) }, "Run"),
          h("button", { type: "button", onclick: (event) => this.#force(event.currentTarget, node) }, "Force…"),
        );
    const isBusy = this.#head.contains(document.activeElement) && document.activeElement.closest("button");
    if (isBusy && this.#head.dataset.key === node.key) {
      // Whoever is about to press a button keeps it.
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
    const links = found.chain;
    const left = found.num_links - links.length;
    const half = Math.ceil(links.length / 2);
    const items = links.map((reason) => this.#reason(reason));
    if (left) items.splice(half, 0, h("li.soft", {}, `${left.toLocaleString("en")} more are stale in turn`));
    const others = found.reasons.filter((reason) => !links.some((link) => isSame(link, reason)));
    fill(
      this.#explained,
      items.length ? [h("h3", {}, "Why it is stale"), h("ol.graph-chain", {}, items)] : null,
      others.length ? [h("h3", {}, "Other causes"), h("ul.graph-chain", {}, others.map((reason) => this.#reason(reason)))] : null,
      found.auto_refresh ? h("p.soft", {}, found.auto_refresh) : null,
    );
  }

  #reason(reason) {
    const upstream = reason.upstream && this.#model.byKey.get(reason.upstream);
    const run = reason.origin_run_id;
    const [before, after] = upstream ? split(reason.sentence, upstream.key) : [reason.sentence, ""];
    const link = upstream && h("button.plain.link", { type: "button", onclick: () => this.#choose(upstream) }, upstream.key);
    return h(
      "li",
      {},
      h("p", {}, before, link, after),
      h(
        "p.graph-links",
        {},
        run ? h("a.mono", { href: `/runs/${run}` }, shortId(run)) : null,
        reason.since ? h("span.soft", {}, "since ", ago(reason.since)) : null,
      ),
    );
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

  async #run(button, node, options = {}) {
    button.disabled = true;
    try {
      const made = await post("/runs", { deployment: node.key, ...options });
      notify(`${shortId(made.id)} of ${node.key} is ${plain(made.status)}${made.reason ? `: ${made.reason}` : "."}`);
      announce(`A run of ${node.key} was created: it is ${plain(made.status)}.`);
    } catch (error) {
      notify(error.message, { kind: "error" });
    } finally {
      button.disabled = false;
      if (document.activeElement === document.body) button.focus();
    }
    if (this.#node?.key === node.key) this.refresh();
  }

  async #force(button, node) {
    const isSure = await confirm(
      `Force a run of ${node.key}?`,
      "It runs on what its upstreams have now, fresh or not. The record says that you overrode the gate.",
      { action: "Force the run" },
    );
    if (isSure) await this.#run(button, node, { on_stale: "force" });
    else button.focus();
  }
}

/** Split a sentence where a name stands in it; a sentence without the name gets it at its end. */
function split(sentence, name) {
  const at = sentence.indexOf(name);
  return at < 0 ? [`${sentence}: `, ""] : [sentence.slice(0, at), sentence.slice(at + name.length)];
}

function isSame(one, other) {
  return one.kind === other.kind && one.role === other.role && one.upstream === other.upstream;
}
