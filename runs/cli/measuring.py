"""What runs measure: metrics."""

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from ...storage.ids import show_run_id
from ..json_numbers import in_json
from .completing import complete_run
from .output import console, json_option, print_json, say, table
from .output import show as show_value

if TYPE_CHECKING:
    from ..points.reading import RunMetrics, SeriesReader

_BARS = "▁▂▃▄▅▆▇█"
_SPARKS = 60


def _reader() -> "SeriesReader":
    from ..interface import series_reader

    return series_reader()


@click.command()
@click.argument("run", shell_complete=complete_run)
@click.argument("names", nargs=-1)
@click.option("--follow", is_flag=True, help="Print what is logged, a line each, until the run has ended.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="The last so many values.")
@json_option
def metrics(*, run: str, names: tuple[str, ...], follow: bool, limit: int, as_json: bool) -> None:
    """Show the latest metrics of RUN; with NAMES, what was logged of them over time."""
    reader = _reader()
    if follow:
        for part in reader.follow(run, names or None):
            for row in _rows(part):
                say(json.dumps(_plain(row)) if as_json else _line(row))
        return
    if not names:
        found = reader.metrics(run)
        if as_json:
            print_json(found)
        else:
            _show_latest(found)
        return
    series = reader.series(run, names)
    if as_json:
        print_json([_plain(row) for row in _rows(series)])
    else:
        _show_series(series, list(dict.fromkeys(names)), limit=limit)


def _show_latest(found: "RunMetrics") -> None:
    out = console()
    cells = ((one.name, one.value, one.unit, _convention(one.convention), one.at) for one in found.latest)
    title = f"{show_run_id(found.run_id)} ({found.status})"
    out.print(table(title, ("metric", "latest", "unit", "convention", "at"), cells))
    count = f"{found.num_points:,} values were" if found.num_points != 1 else "1 value was"
    out.print(f"{count} logged over time: name a metric to see its own")


def _convention(convention: dict[str, Any] | None) -> str | None:
    told = {name: value for name, value in (convention or {}).items() if name != "unit" and value is not None}
    return ", ".join(f"{name}={value}" for name, value in told.items()) or None


def _show_series(series: Any, names: list[str], *, limit: int) -> None:
    import pyarrow.compute as pc

    out = console()
    for name in names:
        own = series.filter(pc.field("name") == name)
        values = own["value"].to_pylist()
        finite = [value for value in values if math.isfinite(value)]
        among = f", {show_value(min(finite))} to {show_value(max(finite))}" if finite else ""
        title = f"{name}: {len(values):,} value{'' if len(values) == 1 else 's'}{among}"
        last = own.slice(max(0, own.num_rows - limit))
        rows = ((row["step"], row["value"], row["at"]) for row in _rows(last))
        out.print(table(title, ("step", "value", "at"), rows))
        out.print(sparkline(values))
        if own.num_rows > limit:
            out.print(f"{own.num_rows - limit:,} earlier: use --limit, or --json for all of them")


def sparkline(values: Sequence[float], width: int = _SPARKS) -> str:
    """Return values as a row of bars: each is the mean of a stretch of them, a blank where none is finite."""
    means = []
    num_bars = min(width, len(values))
    for number in range(num_bars):
        stretch = values[number * len(values) // num_bars : (number + 1) * len(values) // num_bars]
        finite = [value for value in stretch if math.isfinite(value)]
        means.append(sum(finite) / len(finite) if finite else math.nan)
    known = [mean for mean in means if math.isfinite(mean)]
    if not known:
        return " " * len(means)
    low, span = min(known), (max(known) - min(known)) or 1.0
    return "".join(_bar((mean - low) / span) for mean in means)


def _bar(share: float) -> str:
    return _BARS[min(len(_BARS) - 1, int(share * len(_BARS)))] if math.isfinite(share) else " "


def _rows(series: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = series.to_pylist()
    return rows


def _line(row: dict[str, Any]) -> str:
    return f"{show_value(row['at'])}  {row['name']}  step {row['step']}  {row['value']:.10g}"


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as JSON can have it: NaN and infinities are text."""
    return {**row, "at": row["at"].isoformat(), "value": in_json(row["value"])}
