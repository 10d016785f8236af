"""How runs have gone, in numbers: stats."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from .completing import complete_deployment
from .output import console, json_option, print_json, show, table

if TYPE_CHECKING:
    from ..aggregate_reports import Statistics

_COLUMNS = ("runs", "completed", "failed", "others", "failure rate", "p50", "p95", "p99")
_LESSER = ("others", "p99", "p50", "failure rate")
"""Columns that a narrow terminal can do without, the first one first."""
_MOMENT = "A moment such as 2026-11-01 (UTC), or how long ago, such as 7d"


@click.command()
@click.option(
    "--by",
    "group_by",
    type=click.Choice(["deployment", "type", "nothing"]),
    default="deployment",
    show_default=True,
    help="What runs are counted by.",
)
@click.option("--deployment", metavar="KEY", shell_complete=complete_deployment, help="Only the runs of this one.")
@click.option("--type", "type_", metavar="TYPE", help="Only runs of this type, such as BacktestRun.")
@click.option("--since", metavar="WHEN", default="30d", show_default=True, help=f"{_MOMENT}.")
@click.option("--until", metavar="WHEN", help=f"{_MOMENT}; by default now.")
@click.option("--trend", is_flag=True, help="A row for each day, in UTC.")
@json_option
def stats(
    *,
    group_by: str,
    deployment: str | None,
    type_: str | None,
    since: str,
    until: str | None,
    trend: bool,
    as_json: bool,
) -> None:
    """Count the runs that were created in a span of time: how many ended how, and how long they took."""
    from ..interface import statistics

    found = statistics(
        group_by=group_by, deployment=deployment, type=type_, since=since, until=until, trend=trend or as_json
    )
    if as_json:
        print_json(found.to_json())
        return
    title = f"Runs from {found.since:%Y-%m-%d %H:%M} to {found.until:%Y-%m-%d %H:%M} UTC"
    first = "type" if group_by == "type" else "deployment" if group_by == "deployment" else "which"
    out = console()
    if trend:
        out.print(table(title, (first, "day", *_COLUMNS), _days(found), lesser=_LESSER))
        if found.num_without_trend:
            out.print(f"{found.num_without_trend:,} more have their days left out: name one with --deployment")
        return
    out.print(table(title, (first, *_COLUMNS), ((one.group, *_cells(one)) for one in found.groups), lesser=_LESSER))
    counters = [(one.group, name, total) for one in found.groups for name, total in one.counters.items()]
    if counters:
        out.print(table("Counted", (first, "counter", "sum"), counters))


def _days(found: "Statistics") -> Iterator[tuple[Any, ...]]:
    for one in found.groups:
        for day in one.trend or ():
            yield one.group, day.day, *_cells(day)


def _cells(one: Any) -> tuple[Any, ...]:
    completed, failed = one.statuses.get("completed", 0), one.statuses.get("failed", 0)
    rate = None if one.failure_rate is None else f"{one.failure_rate:.1%}"
    took = (None if value is None else f"{show(value)} s" for value in (one.p50_s, one.p95_s, one.p99_s))
    return one.num_runs, completed, failed, one.num_runs - completed - failed, rate, *took
