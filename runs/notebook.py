"""How a run shows itself in a notebook: what it is, what it measured, what it read and whether that still holds.

Owns the HTML and the drawing. Whatever people wrote is text in it; nothing in it is a script, is fetched from
elsewhere, or has colours of its own, so that it is read on light and dark pages.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from ..lineage.listing import as_html, html_table
from ..lineage.questions import InputVersion
from ..storage.ids import show_run_id
from .models import Run

_MOST_DRAWN = 12
"""Versions in a drawing: it is to be seen at a glance, and the table has all."""
_LONGEST = 26
_WIDTH, _HEIGHT, _COLUMN, _ROW = 190, 34, 230, 46


@dataclass(frozen=True)
class RunView:
    """What a notebook shows of a run."""

    run: Run
    deployment: str | None = None
    version: int | None = None
    metrics: Sequence[tuple[str, float, str | None]] = ()
    """Name, value and unit."""
    inputs: Sequence[InputVersion] = ()
    """What it read, or has pinned, down to the sources."""
    edges: Sequence[tuple[UUID, UUID]] | None = None
    """Which of the nearest versions was read by which, (read, reader); None: nobody asked, and nothing is drawn."""
    status_now: str | None = None
    """What the store says by now."""


def run_html(view: RunView) -> str:
    """Return a run as HTML."""
    parts = [html_table(("fact", "value"), _facts(view), caption=show_run_id(view.run.id))]
    if view.metrics:
        parts.append(html_table(("metric", "value", "unit"), view.metrics, caption="Metrics"))
    if view.inputs:
        rows = [(one.role, one.version, one.data_end, show_run_id(one.run_id), verdict(one)) for one in view.inputs]
        columns = ("role", "version", "data until", "produced by", "does it still hold?")
        shown = rows[:60]
        table = html_table(columns, shown, caption=_holding(view.inputs), more=len(rows) - len(shown))
        parts += [table] if view.edges is None else [table, drawing(view)]
    return f"<div>{''.join(parts)}</div>"


def verdict(one: InputVersion) -> str:
    """Say whether what was read still holds."""
    if one.is_withdrawn:
        return "no: withdrawn"
    return "yes" if one.is_current else "no: there is a newer one"


def nearest_of(inputs: Iterable[InputVersion]) -> list[InputVersion]:
    """Return the versions that are drawn, each once."""
    once: dict[UUID, InputVersion] = {}
    for one in inputs:
        once.setdefault(one.version_id, one)
    return sorted(once.values(), key=lambda one: (one.depth, one.key, one.number))[:_MOST_DRAWN]


def drawing(view: RunView) -> str:
    """Return the nearest versions that went into a run as an SVG: sources on the left, the run on the right."""
    nearest = nearest_of(view.inputs)
    own = [(one.version_id, view.run.id) for one in nearest if one.depth == 1]
    there = {view.run.id, *(one.version_id for one in nearest)}
    edges = [(upper, reader) for upper, reader in (*own, *(view.edges or ())) if {upper, reader} <= there]
    steps = _steps(view.run.id, edges)
    deepest = max(steps.values())
    places: dict[UUID, tuple[int, int]] = {}
    heights: dict[int, int] = {}

    def take(step: int) -> tuple[int, int]:
        heights[step] = heights.get(step, 0) + 1
        return (deepest - step) * _COLUMN, (heights[step] - 1) * _ROW

    for one in nearest:
        places[one.version_id] = take(steps[one.version_id])
    # A line across a column has a place of its own there, or it would run through a box.
    ways = [[take(step) for step in range(steps[upper] - 1, steps[reader], -1)] for upper, reader in edges]
    tallest = max(heights.values())
    places[view.run.id] = (deepest * _COLUMN, (tallest - 1) * _ROW // 2)
    lines = [_line([places[upper], *way, places[reader]]) for (upper, reader), way in zip(edges, ways, strict=True)]
    boxes = [_box(places[one.version_id], one.version, _under(one), is_firm=one.holds) for one in nearest]
    name = f"{view.deployment}@v{view.version}" if view.version is not None else view.deployment or "this run"
    boxes.append(_box(places[view.run.id], name, view.run.status, is_firm=True))
    more = len({one.version_id for one in view.inputs}) - len(nearest)
    label = "What went into the run" + (f"; {more:,} more are further up" if more else "")
    width, height = deepest * _COLUMN + _WIDTH + 2, tallest * _ROW
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{width}" height="{height + 16}" '
        f'viewBox="-1 -1 {width} {height + 16}" fill="none" stroke="currentColor" style="max-width:100%">'
        f"<title>{as_html(label)}</title>{''.join(lines)}{''.join(boxes)}"
        f"{_text(0, height + 8, label, size=10) if more else ''}</svg>"
    )


def _steps(run_id: UUID, edges: Sequence[tuple[UUID, UUID]]) -> dict[UUID, int]:
    """Return how far left of the run each version stands: by the longest way, so that every line goes to the right."""
    steps = {run_id: 0}
    for _ in range(_MOST_DRAWN):
        for upper, reader in edges:
            if reader in steps:
                steps[upper] = max(steps.get(upper, 0), steps[reader] + 1)
    return steps


def _facts(view: RunView) -> list[tuple[str, Any]]:
    run = view.run
    took = run.ended_at - run.started_at if run.ended_at is not None and run.started_at is not None else None
    changed = view.status_now is not None and view.status_now != run.status
    facts = {
        "deployment": view.deployment,
        "type": run.type,
        "status": f"{run.status}; by now {view.status_now}, get it again" if changed else run.status,
        "stop reason": run.stop_reason,
        "version": f"{view.deployment}@v{view.version}" if view.version is not None else None,
        "trigger": f"{run.trigger} by {run.actor}",
        "parameters": ", ".join(f"{name}={value}" for name, value in (run.parameters or {}).items()),
        "data as of": run.data_as_of,
        "created": run.created_at,
        "took": f"{took.total_seconds():.1f} s" if took is not None else None,
        "gate": (run.decision or {}).get("reason"),
        "error": run.error_message,
        "tags": ", ".join(run.tags or ()),
    }
    return [(name, value) for name, value in facts.items() if value not in (None, "")]


def _holding(inputs: Sequence[InputVersion]) -> str:
    outdated = sum(not one.holds for one in inputs)
    if not outdated:
        return "Inputs, down to the sources: everything still holds"
    return f"Inputs, down to the sources: {outdated:,} of {len(inputs):,} no longer hold"


def _under(one: InputVersion) -> str:
    if one.is_withdrawn:
        return "withdrawn"
    until = f"until {one.data_end}" if one.data_end is not None else "holds"
    return until if one.is_current else "outdated"


def _line(places: Sequence[tuple[int, int]]) -> str:
    """Return a line from the right side of the first place to the left side of the last one."""
    half = _HEIGHT // 2
    (x, y), *others = places
    drawn = f"M{x + _WIDTH} {y + half}"
    for at, (right, lower) in enumerate(others, start=1):
        middle = right - (_COLUMN - _WIDTH) // 2
        drawn += f"C{middle} {y + half} {middle} {lower + half} {right} {lower + half}"
        drawn += f"H{right + _WIDTH}" if at < len(others) else ""
        y = lower
    return f'<path d="{drawn}" opacity="0.6"/>'


def _box(place: tuple[int, int], name: str, under: str, *, is_firm: bool) -> str:
    x, y = place
    # What does not hold is dashed as well as said: a colour alone is not seen by all.
    dashes = "" if is_firm else ' stroke-dasharray="4 3"'
    return (
        f"<g><title>{as_html(f'{name}: {under}')}</title>"
        f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="4"{dashes}/>'
        f"{_text(x + 8, y + 14, name, size=12)}{_text(x + 8, y + 28, under, size=10)}</g>"
    )


def _text(x: int, y: int, text: str, *, size: int) -> str:
    shown = text if len(text) <= _LONGEST or size < 12 else f"{text[: _LONGEST // 2]}…{text[-_LONGEST // 2 :]}"
    return f'<text x="{x}" y="{y}" font-size="{size}" fill="currentColor" stroke="none">{as_html(shown)}</text>'
