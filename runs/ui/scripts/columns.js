// Which metrics the Runs view has as columns: chosen from those that the runs in sight have, or written by name.

import { h, fill } from "./dom.js";

/** Return the button with its list; `onChange(names)` when another set is wanted, `known()` resolves to what there is. */
export function columnChooser(chosen, { known, onChange }) {
  let names = [...chosen];
  let found = [];
  const list = h("div.choices", { role: "group", "aria-label": "Metrics" });
  const field = h("input", { type: "text", "aria-label": "Name of a metric", placeholder: "Another metric", spellcheck: "false", autocomplete: "off" });
  const form = h("div.adding", {}, field, h("button", { type: "button", onclick: add }, "Add"));
  field.addEventListener("keydown", (event) => event.key === "Enter" && add());
  const panel = h("div.panel", { popover: "auto", id: "columns", ontoggle: (event) => event.newState === "open" && look() }, h("h2", {}, "Metrics as columns"), list, form);
  const count = h("span.count");
  const button = h("button", { type: "button", popovertarget: "columns" }, "Columns", count);

  function add() {
    const name = field.value.trim();
    field.value = "";
    if (name && !names.includes(name)) change([...names, name]);
  }

  function change(next) {
    names = next;
    draw();
    onChange(names);
  }

  async function look() {
    draw();
    found = await known();
    draw();
  }

  function draw() {
    fill(count, names.length ? ` ${names.length}` : "");
    const all = [...new Set([...names, ...found])].sort();
    fill(list, all.length ? all.map(choice) : h("p.soft", {}, "The runs in sight have no metrics."));
  }

  function choice(name) {
    const isChosen = names.includes(name);
    const box = h("input", { type: "checkbox", checked: isChosen, onchange: () => toggle(name, box) });
    return h("label", {}, box, h("span", {}, name));
  }

  function toggle(name, box) {
    // The list is not drawn anew, so that the keyboard stays where it is.
    names = box.checked ? [...names, name] : names.filter((one) => one !== name);
    fill(count, names.length ? ` ${names.length}` : "");
    onChange(names);
  }

  draw();
  return { element: h("div.columns", {}, button, panel), names: () => names };
}
