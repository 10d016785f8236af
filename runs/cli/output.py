"""How answers look: tables that fit the terminal, or JSON with stable keys."""

import dataclasses
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from ...storage.ids import show_run_id
from ...storage.literal import literal
from ..json_numbers import in_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from ...lineage.questions import InputVersion
    from ...lineage.reasons import Explanation
    from ..models import Run
    from .fitting import Fitted

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
    """Return the console: colours and width of the terminal, neither when piped; COLUMNS and NO_COLOR are heeded."""
    from rich.console import Console

    class Literal(Console):
        """What it is given as text is data: no markup, and nothing in it that a terminal would obey."""

        def render_str(self, text: str, **options: Any) -> "Text":
            return super().render_str(literal(text, keep_lines=True), **options)

    # A pipe has no width of its own: what is read there by machines or in logs must not be folded at 80.
    is_piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Literal(highlight=False, markup=False, emoji=False, width=_PIPED_WIDTH if is_piped else None)


def table(title: str, columns: Iterable[str], rows: Iterable[Sequence[Any]], *, lesser: Sequence[str] = ()) -> "Fitted":
    """Return a table that fits; what is a word of ours has its colour. See `Fitted` for `lesser`."""
    from rich.text import Text

    from .fitting import Fitted

    cells = [[_cell(cell) for cell in row] for row in rows]
    # As Text: a name with [brackets] is data, not markup.
    return Fitted(Text(literal(title), style="bold"), [Text(literal(name)) for name in columns], cells, lesser)


def say(text: str, *, err: bool = False) -> None:
    """Print a line, whoever wrote what is in it."""
    click.echo(literal(text), err=err)


def _holds(read: "InputVersion") -> str:
    return "withdrawn" if read.is_withdrawn else "yes" if read.is_current else "no"


def _cell(value: Any) -> "Text":
    from rich.text import Text

    shown = literal(show(value), keep_lines=True)
    return Text(shown, style=_STYLE.get(shown, ""))


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


def told(facts: Mapping[str, Any]) -> str:
    """Return the facts of an event as people read them; what is empty is left out."""
    return ", ".join(f"{name} {show(value)}" for name, value in facts.items() if value not in (None, {}, []))


def seconds_of(run: "Run") -> str:
    """Return how long a run's body took."""
    if run.started_at is None or run.ended_at is None:
        return "-"
    return f"{(run.ended_at - run.started_at).total_seconds():.1f} s"


def print_json(value: Any) -> None:
    """Print JSON, which every parser reads: NaN and infinities are text, as JSON has none."""
    click.echo(json.dumps(plain(value), indent=2, allow_nan=False))


def inputs_table(title: str, inputs: Sequence["InputVersion"]) -> "Fitted":
    """Return the versions that went into one, nearest first."""
    columns = ("depth", "role", "version", "data until", "produced by", "still holds")
    rows = (
        (
            read.depth,
            read.role,
            f"{read.key}@v{read.number}",
            read.data_end,
            show_run_id(read.run_id),
            _holds(read),
        )
        for read in inputs
    )
    return table(title, columns, rows, lesser=("produced by", "depth"))


def changed_columns(diffs: Mapping[str, Any]) -> "Fitted":
    """Return how the columns differ from those of the version that was current before."""
    return table("Columns that changed", ("table", "column", "change"), _column_changes(diffs))


def reasons_tree(explanation: "Explanation") -> Any:
    """Return the chain of reasons as a tree; what stands behind a deployment is shown once, and not without end."""
    from rich.text import Text
    from rich.tree import Tree

    freshness = explanation.freshness.value
    root = Tree(Text.assemble(f"{literal(explanation.key)} is ", (freshness, _STYLE.get(freshness, ""))))
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
        branches.append(branches[depth].add(Text(literal(sentence))))
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


def plain(value: Any) -> Any:  # noqa: PLR0911 - one line per type
    """Return a value as JSON can have it: NaN, infinities, moments and ids are text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = (*(field.name for field in dataclasses.fields(value)), *getattr(value, "DERIVED", ()))
        return {name: plain(getattr(value, name)) for name in names}
    if hasattr(value, "model_dump"):
        # A column whose name Python has for itself has an underscore behind it there, and nowhere else.
        return {name.rstrip("_"): plain(item) for name, item in value.model_dump().items()}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return in_json(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value) if isinstance(value, UUID) else value
