// The view Graph: every deployment coloured by freshness, with a filter, a list and a panel for the one that is picked.

import { get } from "./api.js";
import { fill, h } from "./dom.js";
import { plain } from "./format.js";
import { Drawing } from "./graph_drawing.js";
import { NodeList } from "./graph_list.js";
import { ACTIVITIES, FRESHNESS, above, below, beside, counts, matching, modelOf } from "./graph_model.js";
import { fitting, glide, listen, moved, zoomed } from "./graph_moves.js";
import { Panel } from "./graph_panel.js";
import { extent, middle, nodeAt, onScreen } from "./graph_places.js";
import { shape } from "./graph_signs.js";
import { announce, showLive, showProblem } from "./notices.js";
import { demoHint } from "./parts.js";
import { rewrite } from "./router.js";
import { follow } from "./stream.js";

const POLL_MS = 10_000;
const GATHER_MS = 400;
const STATES = new Set([...FRESHNESS, ...ACTIVITIES]);
const FIELDS = ["freshness", "activity", "version", "data_end", "why", "last_run_at", "last_stop_reason"];
const KEYS =
  "Arrow keys move the drawing, plus and minus zoom, 0 shows all of it. Enter picks the deployment in the middle; with " +
  "shift, arrow keys go from the picked one to what it reads, to its readers, and up and down. Escape lets go. The " +
  "list of deployments beside the drawing has the same content.";

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
  #pointed = null;
  #above = new Set();
  #below = new Set();
  #place = { x: 0, y: 0, zoom: 1 };
  #goal = null;
  #isPlaced = false;
  #drawing = null;
  #calm = matchMedia("(prefers-reduced-motion: reduce)");
  #endings = [];
  #controller = new AbortController();
  #timer = 0;
  #news = new Map();
  #stopGlide = () => {};

  constructor(element, query) {
    this.#element = element;
    const states = (query.state ?? "").split(",").filter((word) => STATES.has(word));
    this.#filter = { text: query.q ?? "", states: new Set(states), kind: query.kind ?? "" };
    this.#wanted = query.node ?? null;
  }

  begin() {
    fill(this.#element, h("h1.unseen", {}, "Graph"), h("div.waiting-bar", { role: "status", "aria-label": "Reading the graph" }));
    this.#read();
  }

  end() {
    this.#controller.abort();
    clearTimeout(this.#timer);
    this.#stopGlide();
    this.#drawing?.stop();
    for (const end of this.#endings) end();
    showLive("off");
  }

  async #read() {
    let found;
    try {
      found = await get("/graph", {}, { signal: this.#controller.signal });
    } catch (error) {
      if (error.name === "AbortError" || this.#model) return;
      showProblem(error, this.#element, { again: () => this.begin() });
      return;
    }
    if (this.#controller.signal.aborted) return;
    const isFirst = this.#model === null;
    this.#take(modelOf(found));
    if (isFirst) this.#watch();
  }

  /** Put another graph in the place of the one that is shown; what was picked stays picked if it is still there. */
  #take(model) {
    const isEmpty = !this.#model?.nodes.length;
    this.#model = model;
    if (!model.nodes.length) {
      this.#drawing?.stop();
      this.#drawing = null;
      fill(this.#element, h("h1.unseen", {}, "Graph"), nothing());
      return;
    }
    const chosen = model.byKey.get(this.#chosen?.key ?? this.#wanted) ?? null;
    this.#wanted = null;
    this.#pointed = null;
    if (isEmpty) this.#build();
    this.#drawKinds();
    this.#pick(chosen, { isQuiet: true });
    this.#sift();
  }

  #build() {
    const search = h("input.graph-search", {
      type: "search",
      placeholder: "Filter deployments",
      "aria-label": "Filter deployments by name",
      value: this.#filter.text,
      autocomplete: "off",
      spellcheck: "false",
      data: { search: "" },
      oninput: () => this.#change({ text: search.value }),
      onkeydown: (event) => event.key === "Enter" && this.#pickFirst(),
    });
    this.kinds = h("select", { "aria-label": "Kind", onchange: () => this.#change({ kind: this.kinds.value }) });
    this.chips = h("div.graph-chips", { role: "group", "aria-label": "Freshness and activity" });
    this.head = h("p.graph-count");
    this.list = new NodeList({ choose: (node) => this.#pick(node, { isNear: true, isFocused: true }) });
    this.panel = new Panel({ choose: (node) => this.#pick(node, { isNear: true, isFocused: true }), close: () => this.#letGo() });
    const [still, moving] = [h("canvas", { "aria-hidden": "true" }), h("canvas", { "aria-hidden": "true" })];
    this.stage = h(
      "div.graph-stage",
      { tabindex: 0, role: "application", "aria-label": "Drawing of the graph", "aria-describedby": "graph-keys", onkeydown: (event) => this.#pressed(event) },
      still,
      moving,
    );
    const field = h(
      "div.graph-field",
      {},
      this.stage,
      h("p.unseen", { id: "graph-keys" }, KEYS),
      h("p.graph-hint", { "aria-hidden": "true" }, "Drag to move · scroll to zoom · click a deployment"),
      h(
        "div.graph-zoom",
        { role: "group", "aria-label": "Zoom" },
        this.#tool("+", "Zoom in", () => this.#zoom(1.5)),
        this.#tool("−", "Zoom out", () => this.#zoom(1 / 1.5)),
        this.#tool("Fit", "Show all of it", () => this.#fit({ isGliding: true })),
      ),
    );
    this.sides = h("div.graph-main", { data: { side: "drawing" } }, h("section.graph-list", { "aria-label": "List of deployments" }, this.head, this.list.element), field, this.panel.element);
    this.swap = h("button.graph-swap", { type: "button", onclick: () => this.#sideOf(this.sides.dataset.side === "list" ? "drawing" : "list") }, "List");
    fill(this.#element, h("h1.unseen", {}, "Graph"), h("div.graph", {}, h("div.graph-tools", {}, search, this.kinds, this.chips, this.swap), this.sides));
    this.#drawing?.stop();
    this.#drawing = new Drawing(still, moving, { isCalm: this.#calm.matches });
    this.#isPlaced = false;
    listen(this.stage, {
      read: () => this.#place,
      write: (place) => this.#move(place),
      click: (x, y) => this.#clicked(x, y),
      point: (x, y) => this.#point(x, y),
    });
    const observer = new ResizeObserver(() => this.#resized());
    observer.observe(field);
    this.#endings.push(() => observer.disconnect());
  }

  #tool(text, label, act) {
    return h("button", { type: "button", title: label, "aria-label": label, onclick: act }, text);
  }

  // --- what is shown -----------------------------------------------------------------------------------------------

  #change(part) {
    this.#filter = { ...this.#filter, ...part };
    this.#sift();
    announce(this.head.textContent);
  }

  #sift() {
    const nodes = matching(this.#model, this.#filter);
    this.#shown = new Set(nodes);
    this.list.show(nodes, this.#chosen);
    const total = this.#model.nodes.length.toLocaleString("en");
    const isAll = nodes.length === this.#model.nodes.length;
    this.head.textContent = isAll ? `${total} deployments` : `${nodes.length.toLocaleString("en")} of ${total} deployments`;
    this.#drawChips();
    this.#remember();
    this.#show();
  }

  #drawChips() {
    const found = counts(matching(this.#model, { ...this.#filter, states: new Set() }));
    const words = [...FRESHNESS, ...ACTIVITIES].filter((word) => FRESHNESS.includes(word) || found.get(word) || this.#filter.states.has(word));
    const focused = this.chips.contains(document.activeElement) ? document.activeElement.dataset.word : null;
    fill(
      this.chips,
      words.map((word) =>
        h(
          "button.graph-chip",
          { type: "button", "aria-pressed": String(this.#filter.states.has(word)), data: { word }, onclick: () => this.#toggle(word) },
          shape(word),
          plain(word),
          h("span.graph-number", {}, found.get(word).toLocaleString("en")),
        ),
      ),
    );
    if (focused) this.chips.querySelector(`[data-word="${focused}"]`)?.focus();
  }

  #drawKinds() {
    const kinds = ["", ...this.#model.kinds];
    if (!kinds.includes(this.#filter.kind)) this.#filter.kind = "";
    fill(this.kinds, kinds.map((kind) => h("option", { value: kind }, kind || "All kinds")));
    this.kinds.value = this.#filter.kind;
  }

  #toggle(word) {
    const states = new Set(this.#filter.states);
    if (!states.delete(word)) states.add(word);
    this.#change({ states });
  }

  #remember() {
    const { text, states, kind } = this.#filter;
    rewrite({ q: text, state: [...states].join(), kind, node: this.#chosen?.key ?? "" });
  }

  #show() {
    this.#drawing?.show({
      model: this.#model,
      view: this.#place,
      shown: this.#shown,
      chosen: this.#chosen,
      pointed: this.#pointed,
      above: this.#above,
      below: this.#below,
    });
  }

  // --- what is picked ----------------------------------------------------------------------------------------------

  #pick(node, { isNear = false, isFocused = false, isQuiet = false } = {}) {
    this.#chosen = node;
    this.#above = node ? above(node) : new Set();
    this.#below = node ? below(node) : new Set();
    this.sides.classList.toggle("with-panel", node !== null);
    if (isFocused) this.#sideOf("drawing");
    this.panel.show(this.#model, node, { isFocused });
    this.list.mark(node);
    this.#remember();
    this.#show();
    if (node && isNear) this.#bringNear(node);
    if (node && !isQuiet && !isFocused) announce(node.why || `${node.key} is ${plain(node.freshness)}`);
  }

  #pickFirst() {
    const [first] = this.#shown;
    if (first) this.#pick(first, { isNear: true, isFocused: true });
  }

  #letGo() {
    const hadFocus = this.panel.element.contains(document.activeElement);
    this.#pick(null);
    if (hadFocus) this.stage.focus();
  }

  #clicked(x, y) {
    const node = nodeAt(this.#model.nodes, this.#place, x, y);
    this.#pick(node);
  }

  #point(x, y) {
    const node = x === null ? null : nodeAt(this.#model.nodes, this.#place, x, y);
    if (node === this.#pointed) return;
    this.#pointed = node;
    this.stage.classList.toggle("on-node", node !== null);
    this.#drawing?.point(node);
  }

  #pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const [width, height] = this.#size();
    const direction = event.key.startsWith("Arrow") ? event.key.slice(5).toLowerCase() : null;
    if (event.shiftKey && direction) {
      const next = this.#chosen && beside(this.#model, this.#chosen, direction);
      if (next) this.#pick(next, { isNear: true });
    } else if (event.key === "Enter") {
      const node = this.#chosen ?? this.#nearestTo(width / 2, height / 2);
      if (node) this.#pick(node, { isNear: true, isFocused: true });
    } else if (event.key === "Escape") this.#pick(null);
    else if (event.key === "0") this.#fit({ isGliding: true });
    else {
      const place = moved(this.#place, event.key, width, height);
      if (!place) return;
      this.#move(place);
    }
    event.preventDefault();
  }

  #nearestTo(x, y) {
    let best = null;
    let nearest = Infinity;
    for (const node of this.#shown) {
      const [atX, atY] = onScreen(node, this.#place);
      const far = Math.hypot(atX - x, atY - y);
      if (far < nearest) [best, nearest] = [node, far];
    }
    return best;
  }

  // --- where it is shown from --------------------------------------------------------------------------------------

  /** Return the width and height of the drawing; with `isClear`, of what the panel does not cover. */
  #size({ isClear = false } = {}) {
    const size = [this.stage.clientWidth, this.stage.clientHeight];
    const panel = this.panel.element;
    if (!isClear || panel.hidden) return size;
    const [stage, over] = [this.stage.getBoundingClientRect(), panel.getBoundingClientRect()];
    if (over.left >= stage.right || over.top >= stage.bottom) return size;
    return over.top > stage.top + 1 ? [size[0], over.top - stage.top] : [over.left - stage.left, size[1]];
  }

  #resized() {
    const [width, height] = this.#size();
    if (!this.#drawing?.resize(width, height) || this.#isPlaced) return;
    this.#isPlaced = true;
    this.#fit();
    if (this.#chosen) this.#bringNear(this.#chosen);
  }

  #move(place) {
    this.#stopGlide();
    this.#goal = null;
    this.#place = place;
    this.#show();
  }

  #glide(place) {
    this.#stopGlide();
    this.#goal = place;
    const show = (next) => {
      this.#place = next;
      if (next === place) this.#goal = null;
      this.#show();
    };
    this.#stopGlide = glide(this.#place, place, show, { isCalm: this.#calm.matches });
  }

  #zoom(factor) {
    const [width, height] = this.#size();
    this.#glide(zoomed(this.#goal ?? this.#place, factor, width / 2, height / 2));
  }

  #fit({ isGliding = false } = {}) {
    const nodes = this.#shown.size ? [...this.#shown] : this.#model.nodes;
    const place = fitting(extent(nodes), ...this.#size({ isClear: true }));
    if (isGliding) this.#glide(place);
    else this.#move(place);
  }

  /** Show a node where its name can be read, and move no more than that takes. */
  #bringNear(node) {
    const [width, height] = this.#size({ isClear: true });
    if (width <= 0 || height <= 0) return;
    const zoom = Math.max(this.#place.zoom, 0.8);
    const [x, y] = middle(node);
    const [atX, atY] = onScreen(node, this.#place);
    const isSeen = Math.min(atX, width - atX) > Math.min(120, width / 3) && Math.min(atY, height - atY) > Math.min(60, height / 3);
    if (isSeen && zoom === this.#place.zoom) return;
    this.#glide({ x: width / 2 - x * zoom, y: height / 2 - y * zoom, zoom });
  }

  /** Where there is room for one side alone, show that one. */
  #sideOf(side) {
    this.sides.dataset.side = side;
    this.swap.textContent = side === "list" ? "Drawing" : "List";
  }

  // --- what changes meanwhile --------------------------------------------------------------------------------------

  #watch() {
    let poll = 0;
    const stop = follow("/stream", {
      onEvent: (event) => this.#told(event),
      onState: (state) => {
        showLive(state);
        clearInterval(poll);
        if (state === "refused") poll = setInterval(() => document.hidden || this.#again(), POLL_MS);
      },
    });
    const recolour = () => this.#drawing?.recolour();
    const calm = () => {
      if (this.#drawing) this.#drawing.isCalm = this.#calm.matches;
      this.#show();
    };
    addEventListener("theme", recolour);
    this.#calm.addEventListener("change", calm);
    this.#endings.push(stop, () => clearInterval(poll));
    this.#endings.push(() => removeEventListener("theme", recolour), () => this.#calm.removeEventListener("change", calm));
  }

  #told({ kind, data }) {
    if (kind === "deployment" && this.#model.byKey.has(data?.key)) this.#news.set(data.key, data);
    else if (kind === "run" || kind === "run_deleted") {
      if (!data?.deployment || data.deployment === this.#chosen?.key) this.#news.set(this.#chosen?.key, this.#news.get(this.#chosen?.key) ?? {});
    } else this.#news.set("", null); // another graph: read all of it
    if (!this.#timer) this.#timer = setTimeout(() => this.#catchUp(), GATHER_MS);
  }

  #catchUp() {
    this.#timer = 0;
    const news = this.#news;
    this.#news = new Map();
    if (news.has("")) return this.#again();
    let isOther = false;
    for (const [key, data] of news) {
      const node = this.#model.byKey.get(key);
      for (const field of FIELDS) {
        if (!node || data[field] === undefined || data[field] === node[field]) continue;
        node[field] = data[field];
        isOther = true;
      }
    }
    if (isOther) this.#sift();
    if (this.#chosen && news.has(this.#chosen.key)) this.panel.refresh();
    return undefined;
  }

  #again() {
    return this.#read();
  }
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
