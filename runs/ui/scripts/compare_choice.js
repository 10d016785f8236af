// Which runs of the list are ticked, and the way from there to the Compare view.

import { MOST_RUNS } from "./compare_adding.js";
import { h, fill } from "./dom.js";

/** Return the choice: `chosen` are ids in the order in which they were ticked; `onClear()` when all are let go. */
export function compareChoice({ onClear }) {
  const chosen = new Set();
  const element = h("span.compare-choice", { role: "group", "aria-label": "Ticked runs", hidden: true });

  function draw() {
    element.hidden = chosen.size === 0;
    const told = chosen.size === 1 ? "Compare 1 run…" : `Compare ${chosen.size} runs`;
    const way = chosen.size > MOST_RUNS
      ? h("span.soft", {}, `${chosen.size} runs are ticked: at most ${MOST_RUNS} can be compared`)
      : h("a.button", { href: `/compare?runs=${[...chosen].join()}` }, told);
    fill(element, way, h("button.plain", { type: "button", "aria-label": "Tick none", title: "Tick none", onclick: clear }, "×"));
  }

  function clear() {
    chosen.clear();
    draw();
    onClear();
  }

  return {
    element,
    chosen,
    tick(id, isTicked) {
      if (isTicked) chosen.add(id);
      else chosen.delete(id);
      draw();
    },
  };
}
