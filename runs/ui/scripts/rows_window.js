// Shows those rows of a long list that are in sight, so that a hundred thousand cost no more than a hundred.

import { h } from "./dom.js";

const SPARE = 24;

/**
 * Return the body of a table in `scroller`, whose rows are all `rowHeight` high and made by `make(item, place)`.
 * `onNearEnd()` is called when the last rows come near.
 */
export function rowsWindow({ scroller, body, rowHeight, numColumns, make, onNearEnd }) {
  const made = new Map();
  const above = spacer(numColumns);
  const below = spacer(numColumns);
  let items = [];
  let frame = 0;
  body.replaceChildren(above, below);
  scroller.addEventListener("scroll", later, { passive: true });
  const watched = new ResizeObserver(later);
  watched.observe(scroller);

  function later() {
    frame ||= requestAnimationFrame(draw);
  }

  function draw() {
    frame = 0;
    const first = Math.max(0, Math.floor(scroller.scrollTop / rowHeight) - SPARE);
    const last = Math.min(items.length, Math.ceil((scroller.scrollTop + scroller.clientHeight) / rowHeight) + SPARE);
    const wanted = items.slice(first, last);
    const ids = new Set(wanted.map((item) => item.id));
    for (const [id, row] of made) if (!ids.has(id)) drop(id, row);
    let at = above.nextSibling;
    wanted.forEach((item, offset) => {
      const row = made.get(item.id) ?? remember(item, first + offset);
      row.setAttribute("aria-rowindex", first + offset + 2);
      if (at === row) at = at.nextSibling;
      else body.insertBefore(row, at);
    });
    size(above, first * rowHeight);
    size(below, (items.length - last) * rowHeight);
    if (last + SPARE >= items.length) onNearEnd();
  }

  function remember(item, place) {
    const row = make(item, place);
    made.set(item.id, row);
    return row;
  }

  function drop(id, row) {
    // A row that is gone must not take the keyboard's place with it.
    if (row.contains(document.activeElement)) scroller.focus({ preventScroll: true });
    row.remove();
    made.delete(id);
  }

  return {
    /** Show these items; the rows of those that are the same object as before stay as they are. */
    set(next) {
      const before = new Map(items.map((item) => [item.id, item]));
      const active = document.activeElement;
      const focused = active?.closest?.("tr[data-id]")?.dataset.id;
      const control = active?.matches("input") ? "input" : "a";
      for (const item of next) {
        const row = made.get(item.id);
        if (!row || before.get(item.id) === item) continue;
        const fresh = make(item);
        made.set(item.id, fresh);
        row.replaceWith(fresh);
        if (item.id === focused) fresh.querySelector(control)?.focus({ preventScroll: true });
      }
      items = next;
      draw();
    },
    /** Make every row anew, because columns changed. */
    remake(columns) {
      made.clear();
      for (const one of [above, below]) one.firstChild.colSpan = columns;
      body.replaceChildren(above, below);
      draw();
    },
    close() {
      cancelAnimationFrame(frame);
      watched.disconnect();
      scroller.removeEventListener("scroll", later);
    },
  };
}

function spacer(numColumns) {
  return h("tr.spacer", { "aria-hidden": "true" }, h("td", { colspan: numColumns }));
}

function size(row, height) {
  row.hidden = height === 0;
  row.firstChild.style.height = `${height}px`;
}
