"""Runs that are looked for: `freshline runs`."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from ...storage.ids import show_run_id
from .completing import complete_deployment
from .output import console, json_option, plain, print_json, say, seconds_of, table

if TYPE_CHECKING:
    from ..searching.found import FoundRun


@click.command()
@click.argument("query", required=False, shell_complete=complete_deployment)
@click.option("--order-by", help="A field or metric, such as -sharpe_ratio: largest first. Without it, newest first.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 500), help="How many.")
@click.option("--metrics", "named", help="Metrics to show, such as sharpe_ratio,max_drawdown.")
@json_option
def runs(*, query: str | None, order_by: str | None, limit: int, named: str | None, as_json: bool) -> None:
    """List runs for which a QUERY holds, such as "status = failed and started_at > -7d", or all.

    The key of a deployment, such as backtest/book, is a query as well: its runs.
    """
    from ..interface import search

    metrics = [name.strip() for name in named.split(",") if name.strip()] if named is not None else []
    wanted = None if as_json and named is None else metrics
    asked = search(_query(query), order_by=order_by, limit=limit, metrics=wanted)
    page = asked.page(size=limit)
    if {*metrics}.difference(*(found.metrics for found in page.items)):
        for name, nearest in asked.unknown_metrics().items():
            hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
            say(f"Warning: no run has a metric {name!r}{hint}", err=True)
    if as_json:
        print_json([_document(found) for found in page.items])
        return
    columns = ("run", "deployment", "type", "status", "stop reason", "trigger", "created", "took", *metrics)
    lesser = ("type", "trigger", "stop reason", "took")
    console().print(table("Runs", columns, _rows(page.items, metrics), lesser=lesser))


def _query(written: str | None) -> str | None:
    """Return a query; the key of a deployment alone means its runs."""
    if written is None or "/" not in written or any(one.isspace() or one in "'\"" for one in written):
        return written
    return f"deployment = '{written}'"


def _document(found: "FoundRun") -> dict[str, object]:
    return {"deployment": found.deployment, **plain(found.run), "version": found.version, "metrics": found.metrics}


def _rows(found: Iterable["FoundRun"], metrics: Iterable[str]) -> Iterable[tuple[object, ...]]:
    for one in found:
        run = one.run
        facts = (run.type, run.status, run.stop_reason, run.trigger, run.created_at, seconds_of(run))
        yield (show_run_id(run.id), one.deployment, *facts, *(one.metrics.get(name) for name in metrics))
