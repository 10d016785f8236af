// The view Graph: every deployment coloured by freshness, with a filter, a list and a panel for the one that is picked.

import { fill, h } from "./dom.js";
import { plain } from "./format.js";
import { Filter } from "./graph_filter.js";
import { NodeList } from "./graph_list.js";
import { followGraph } from "./graph_live.js";
import { above, below, modelOf } from "./graph_model.js";
import { Panel } from "./graph_panel.js";
import { Stage } from "./graph_stage.js";
import { announce, showProblem } from "./notices.js";
import { demoHint } from "./parts.js";
import { rewrite } from "./router.js";

const FIELDS = ["freshness", "activity", "version", "data_end", "why", "last_run_at", "last_stop_reason"];

/** Show the graph in an element until the returned function is called. */
export function mount(element, { query = {} } = {}) {
  document.title = "Graph · Freshline";
  const view = new GraphView(element, query);
  view.begin();
  return () => view.end();
}

class GraphView {
  #element;
  #filter;
  #wanted;
  #model = null;
  #shown = new Set();
  #chosen = null;
  #above = new Set();
  #below = new Set();
  #head;
  #list;
  #panel;
  #stage = null;
  #sides;
  #swap;
  #stopFollowing = () => {};

  constructor(element, query) {
    this.#element = element;
    this.#wanted = query.node ?? null;
    this.#filter = new Filter(query, { change: () => this.#filtered(), enter: () => this.#pickFirst() });
  }

  begin() {
    fill(this.#element, title(), h("div.waiting-bar", { role: "status", "aria-label": "Reading the graph" }));
    this.#stopFollowing = followGraph({
      take: (found) => this.#take(modelOf(found)),
      change: (states, ran) => this.#change(states, ran),
      fail: (problem) => showProblem(problem, this.#element, { again: () => this.begin() }),
    });
  }

  end() {
    this.#stopFollowing();
    this.#stage?.stop();
  }

  /** Put another graph in the place of the one that is shown; what was picked stays picked if it is still there. */
  #take(model) {
    this.#model = model;
    if (!model.nodes.length) {
      this.#stage?.stop();
      this.#stage = null;
      fill(this.#element, title(), nothing());
      return;
    }
    const chosen = model.byKey.get(this.#chosen?.key ?? this.#wanted) ?? null;
    this.#wanted = null;
    if (!this.#stage) this.#build();
    this.#filter.offerKinds(model);
    this.#pick(chosen, { isQuiet: true });
    this.#sift();
  }

  #build() {
    const choose = (node) => this.#pick(node, { isNear: true, isFocused: true });
    this.#head = h("p.graph-count");
    this.#list = new NodeList({ choose });
    this.#panel = new Panel({ choose, close: () => this.#letGo() });
    this.#stage = new Stage({ pick: (node, how) => this.#pick(node, how), over: this.#panel.element });
    const list = h("section.graph-list", { "aria-label": "List of deployments" }, this.#head, this.#list.element);
    this.#sides = h("div.graph-main", { data: { side: "drawing" } }, list, this.#stage.element, this.#panel.element);
    this.#swap = h("button.graph-swap", { type: "button", onclick: () => this.#sideOf(this.#sides.dataset.side === "list" ? "drawing" : "list") }, "List");
    fill(this.#element, title(), h("div.graph", {}, h("div.graph-tools", {}, this.#filter.elements, this.#swap), this.#sides));
    this.#stage.start();
  }

  // --- what is shown -----------------------------------------------------------------------------------------------

  #filtered() {
    this.#sift();
    announce(this.#head.textContent);
  }

  #sift() {
    const nodes = this.#filter.matching(this.#model);
    this.#shown = new Set(nodes);
    this.#list.show(nodes, this.#chosen);
    const total = this.#model.nodes.length.toLocaleString("en");
    const isAll = nodes.length === this.#model.nodes.length;
    this.#head.textContent = isAll ? `${total} deployments` : `${nodes.length.toLocaleString("en")} of ${total} deployments`;
    this.#filter.offerStates(this.#model);
    this.#remember();
    this.#show();
  }

  #show() {
    this.#stage.show({ model: this.#model, shown: this.#shown, chosen: this.#chosen, above: this.#above, below: this.#below });
  }

  #remember() {
    rewrite({ ...this.#filter.query, node: this.#chosen?.key ?? "" });
  }

  /** Where there is room for one side alone, show that one. */
  #sideOf(side) {
    this.#sides.dataset.side = side;
    this.#swap.textContent = side === "list" ? "Drawing" : "List";
  }

  // --- what is picked ----------------------------------------------------------------------------------------------

  #pick(node, { isNear = false, isFocused = false, isQuiet = false } = {}) {
    this.#chosen = node;
    this.#above = node ? above(node) : new Set();
    this.#below = node ? below(node) : new Set();
    this.#sides.classList.toggle("with-panel", node !== null);
    if (isFocused) this.#sideOf("drawing");
    this.#panel.show(this.#model, node, { isFocused });
    this.#list.mark(node);
    this.#remember();
    this.#show();
    if (node && isNear) this.#stage.bringNear(node);
    if (node && !isQuiet && !isFocused) announce(node.why || `${node.key} is ${plain(node.freshness)}`);
  }

  #pickFirst() {
    const [first] = this.#shown;
    if (first) this.#pick(first, { isNear: true, isFocused: true });
  }

  #letGo() {
    const hadFocus = this.#panel.element.contains(document.activeElement);
    this.#pick(null);
    if (hadFocus) this.#stage.focus();
  }

  // --- what changes meanwhile --------------------------------------------------------------------------------------

  /** Take in the newest states, and that runs have changed; return whether all the deployments are in this graph. */
  #change(states, ran) {
    const { byKey } = this.#model;
    if (![...states.keys()].every((key) => byKey.has(key))) return false;
    let isOther = false;
    for (const [key, data] of states) {
      const node = byKey.get(key);
      for (const field of FIELDS) {
        if (data[field] === undefined || data[field] === node[field]) continue;
        node[field] = data[field];
        isOther = true;
      }
    }
    if (isOther) this.#sift();
    const key = this.#chosen?.key;
    if (key !== undefined && (states.has(key) || ran.has(key) || ran.has(null))) this.#panel.refresh();
    return true;
  }
}

function title() {
  return h("h1.unseen", {}, "Graph");
}

function nothing() {
  return h(
    "div.empty",
    {},
    h("h2", {}, "There are no deployments yet"),
    h("p", {}, "They are shown here as soon as they are registered. In the directory of your prefect.yaml:"),
    h(
      "ol",
      {},
      h("li", {}, h("code", {}, "freshline init"), " adds a ", h("code", {}, "resource:"), " block to each deployment: what it makes, and what it reads."),
      h("li", {}, h("code", {}, "freshline deploy"), " deploys them with Prefect and registers them."),
      h("li", {}, "Run one: from here, from Prefect, or with ", h("code", {}, "freshline submit"), "."),
    ),
    demoHint(),
  );
}
