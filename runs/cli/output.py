"""How answers look: tables that fit the terminal, or JSON with stable keys."""

import dataclasses
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from ...storage.ids import show_run_id

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from ...lineage.questions import InputVersion
    from ...lineage.reasons import Explanation
    from ..models import Run

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")

_PIPED_WIDTH = 160
_SMALLEST, _LARGEST = 1e-3, 1e15
"""Numbers beyond are shown with an exponent."""
_TREE_DEPTH, _TREE_LINES = 12, 60
"""How deep and how long a tree of reasons is shown: a chain may have thousands of links."""

_STYLE = {
    "ready": "green",
    "completed": "green",
    "source_delayed": "yellow",
    "not_initialized": "dim",
    "skipped": "dim",
    "waiting": "yellow",
    "running": "cyan",
    "stale": "red",
    "retrying": "yellow",
    "cached": "green",
    "failed": "red",
    "crashed": "red",
    "refused": "magenta",
    "cancelled": "magenta",
    "ok": "green",
    "note": "yellow",
    "broken": "red",
}


def console() -> "Console":
    """Return the console: colours and width of the terminal, neither when piped."""
    import sys

    from rich.console import Console

    # A pipe has no width of its own: what is read there by machines or in logs must not be folded at 80.
    return Console(highlight=False, width=None if sys.stdout.isatty() else _PIPED_WIDTH)


def table(title: str, columns: Iterable[str], rows: Iterable[Sequence[Any]]) -> "Table":
    """Return a table; what is a word of ours has its colour."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        made.add_column(Text(column), overflow="fold")
    for row in rows:
        # As Text: a name with [brackets] is data, not markup.
        made.add_row(*(Text(show(cell), style=_STYLE.get(show(cell), "")) for cell in row))
    return made


def show(value: Any) -> str:
    """Return a value as people read it."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, float):
        # A learning rate of 0.00003 is not 0; nor are three hundred digits easier to read than an exponent.
        is_usual = value == 0 or _SMALLEST <= abs(value) < _LARGEST
        return f"{value:,.4f}".rstrip("0").rstrip(".") if is_usual else f"{value:.6g}"
    return str(value)


def seconds_of(run: "Run") -> str:
    """Return how long a run's body took."""
    if run.started_at is None or run.ended_at is None:
        return "-"
    return f"{(run.ended_at - run.started_at).total_seconds():.1f} s"


def print_json(value: Any) -> None:
    """Print JSON; NaN and infinities are null, as JSON has none."""
    click.echo(json.dumps(_plain(value), indent=2, allow_nan=False))


def inputs_table(title: str, inputs: Sequence["InputVersion"]) -> "Table":
    """Return the versions that went into one, nearest first."""
    columns = ("depth", "role", "version", "data until", "produced by", "still current")
    rows = (
        (
            read.depth,
            read.role,
            f"{read.key}@v{read.number}",
            read.data_end,
            show_run_id(read.run_id),
            "yes" if read.is_current else "no",
        )
        for read in inputs
    )
    return table(title, columns, rows)


def changed_columns(diffs: Mapping[str, Any]) -> "Table":
    """Return how the columns differ from those of the version that was current before."""
    return table("Columns that changed", ("table", "column", "change"), _column_changes(diffs))


def reasons_tree(explanation: "Explanation") -> Any:
    """Return the chain of reasons as a tree; what stands behind a deployment is shown once, and not without end."""
    from rich.text import Text
    from rich.tree import Tree

    freshness = explanation.freshness.value
    root = Tree(Text.assemble(f"{explanation.key} is ", (freshness, _STYLE.get(freshness, ""))))
    branches, told, left_out = [root], set(), 0
    for shown, (depth, reason) in enumerate(explanation.lines()):
        if depth >= _TREE_DEPTH or shown >= _TREE_LINES:
            left_out += 1
            continue
        sentence = reason.sentence()
        if reason.because and reason.upstream in told:
            sentence += ", as above"
        elif reason.because:
            told.add(reason.upstream)
        elif reason.origin_run_id is not None and reason.kind != "upstream_stale":
            sentence += f" (by {show_run_id(reason.origin_run_id)})"
        del branches[depth + 1 :]
        branches.append(branches[depth].add(Text(sentence)))
    if left_out:
        root.add(Text(f"and {left_out:,} reasons more, of deployments further up"))
    return root


def _column_changes(diffs: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield table, column and what became of it since the version that was current before."""
    for name, diff in diffs.items():
        for column, kind in diff.get("added", ()):
            yield name, column, f"added: {kind}"
        for column, kind in diff.get("removed", ()):
            yield name, column, f"removed: was {kind}"
        for word in ("widened", "changed"):
            for column, before, after in diff.get(word, ()):
                yield name, column, f"{word}: {before} -> {after}"
        if diff.get("reordered"):
            yield name, "", "in another order"


def _plain(value: Any) -> Any:  # noqa: PLR0911 - one line per type
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "model_dump"):
        return _plain(value.model_dump())
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value) if isinstance(value, UUID) else value
