// The deployments as a list beside the drawing: the same filter, the same choice, and all that a screen reader needs.

import { fill, h } from "./dom.js";
import { plain } from "./format.js";
import { shape } from "./graph_signs.js";

const AT_ONCE = 150;

/** A list of deployments, filled as far as somebody scrolls; `choose(node)` is told what is picked. */
export class NodeList {
  #box = h("div.graph-options", {
    role: "listbox",
    tabindex: 0,
    "aria-label": "Deployments",
    onkeydown: (event) => this.#pressed(event),
    onclick: (event) => this.#clicked(event),
    onscroll: () => this.#more(),
  });
  #choose;
  #nodes = [];
  #active = null;
  #chosen = null;

  constructor({ choose }) {
    this.#choose = choose;
    this.element = this.#box;
  }

  /** Show these, and that one of them as chosen. */
  show(nodes, chosen) {
    this.#nodes = nodes;
    this.#chosen = chosen;
    if (!nodes.includes(this.#active)) this.#active = nodes.includes(chosen) ? chosen : null;
    const many = Math.max(Math.min(this.#box.childElementCount, nodes.length), Math.min(AT_ONCE, nodes.length));
    const needed = Math.max(many, Math.min(nodes.indexOf(this.#active) + 1, nodes.length));
    fill(this.#box, nodes.slice(0, needed).map((node, at) => this.#option(node, at)));
    this.#mark();
  }

  /** Mark another one as chosen, and bring it into sight. */
  mark(chosen) {
    this.#chosen = chosen;
    if (this.#nodes.includes(chosen)) this.#active = chosen;
    this.#mark();
    if (this.#nodes.includes(chosen)) this.#reveal();
  }

  #option(node, at) {
    const state = node.activity === "idle" ? plain(node.freshness) : `${plain(node.freshness)}, ${plain(node.activity)}`;
    return h(
      "div.graph-option",
      { role: "option", id: `node-${node.at}`, "aria-setsize": this.#nodes.length, "aria-posinset": at + 1, data: { key: node.key } },
      shape(node.freshness),
      h("span.graph-name", { title: node.key }, node.name),
      node.activity === "idle" ? null : shape(node.activity),
      h("span.graph-kind", {}, node.kind),
      h("span.unseen", {}, `, ${state}`),
    );
  }

  #mark() {
    for (const option of this.#box.children) {
      option.setAttribute("aria-selected", String(option.dataset.key === this.#chosen?.key));
      option.classList.toggle("active", option.dataset.key === this.#active?.key);
    }
    if (this.#active) this.#box.setAttribute("aria-activedescendant", `node-${this.#active.at}`);
    else this.#box.removeAttribute("aria-activedescendant");
  }

  #pressed(event) {
    const here = this.#nodes.indexOf(this.#active);
    const last = this.#nodes.length - 1;
    const goal = { ArrowDown: here + 1, ArrowUp: here < 0 ? last : here - 1, Home: 0, End: last, PageDown: here + 12, PageUp: here - 12 }[event.key];
    if (goal !== undefined && last >= 0) {
      event.preventDefault();
      this.#active = this.#nodes[Math.min(Math.max(goal, 0), last)];
      this.#mark();
      this.#reveal();
    } else if ((event.key === "Enter" || event.key === " ") && this.#active) {
      event.preventDefault();
      this.#choose(this.#active);
    }
  }

  #clicked(event) {
    const key = event.target.closest("[role=option]")?.dataset.key;
    const node = this.#nodes.find((one) => one.key === key);
    if (!node) return;
    this.#active = node;
    this.#choose(node);
  }

  #reveal() {
    const at = this.#nodes.indexOf(this.#active);
    if (at >= this.#box.childElementCount) this.#append(at + 1 - this.#box.childElementCount);
    this.#mark();
    this.#box.children[at]?.scrollIntoView({ block: "nearest" });
  }

  #more() {
    const isNearEnd = this.#box.scrollTop + this.#box.clientHeight > this.#box.scrollHeight - 400;
    if (isNearEnd && this.#box.childElementCount < this.#nodes.length) this.#append(AT_ONCE);
  }

  #append(count) {
    const from = this.#box.childElementCount;
    this.#box.append(...this.#nodes.slice(from, from + count).map((node, at) => this.#option(node, from + at)));
    this.#mark();
  }
}
