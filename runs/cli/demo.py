"""`freshline demo`: the main job, with progress bars and tables."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from .output import console, inputs_table, reasons_tree, seconds_of, show, table

if TYPE_CHECKING:
    from rich.console import Console

    from ...lineage.questions import InputVersion
    from ..demo import FirstPass, SecondPass
    from ..embedded import Embedded
    from ..models import Run
    from ..queries import RunReport

_HEADLINE = (
    "sharpe_ratio",
    "max_drawdown",
    "val_ic",
    "rows_inserted",
    "num_predictions",
    "expected_volatility",
    "psi",
    "rows_computed",
)
_COMPARED = ("total_return", "cagr", "volatility", "sharpe_ratio", "max_drawdown", "turnover", "num_trades")
_SURVIVORS = "The 20 stocks are those that survived until 2022: their returns flatter every Sharpe ratio here."


@click.command()
@click.option("--directory", type=click.Path(path_type=Path), help="Where everything is kept; a new one by default.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the Prefect server; a free one by default.")
@click.option("--keep", is_flag=True, help="Leave the stack up, and print its addresses.")
def demo(*, directory: Path | None, port: int | None, keep: bool) -> None:
    """Run the whole chain on real prices, on this machine; then let a month of prices arrive and run it again."""
    out = console()
    home = directory or Path(tempfile.mkdtemp(prefix="freshline-demo-"))
    out.print(f"Everything is kept in {home}")
    began = time.monotonic()
    with _started(out, home, port) as embedded:
        from ..demo import Demo

        runner = Demo(embedded, watch=lambda title, ids: _watch(out, embedded, title, ids))
        first = runner.first_pass()
        _tell_first(out, embedded, first)
        second = runner.second_pass()
        _tell_second(out, embedded, first, second)
        out.print(f"Done in {time.monotonic() - began:.0f} s. {_SURVIVORS}")
        if keep:
            _stay(out, embedded)


@contextmanager
def _started(out: "Console", home: Path, port: int | None) -> Iterator["Embedded"]:
    """Start the stack and deploy the shipped catalogue, with a spinner that says what is going on."""
    with out.status("starting") as status:
        from ..demo import CATALOGUE
        from ..embedded import embedded

        opened = embedded(
            home, port=port, stage=lambda name: status.update(f"starting: {name}"), reconcile_s=5.0, isolated=True
        )
        with opened as up:
            out.print(f"Prefect is at {up.stack.ui_url}")
            status.update("deploying the catalogue with Prefect")
            registered = up.deploy(CATALOGUE, schedules=False)
            status.stop()
            out.print(f"Deployed {len(registered.created)} deployments; their schedules are paused here.")
            yield up


def _watch(out: "Console", embedded: "Embedded", title: str, run_ids: Sequence[UUID]) -> None:
    """Show a bar per run that these runs need, until all of these have ended."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from ..status import RunStatus

    first = min(run_ids)
    out.rule(title, align="left")
    columns = (TextColumn("{task.description:<24}", markup=False), BarColumn(), TextColumn("{task.fields[status]:<10}"))
    with Progress(*columns, TimeElapsedColumn(), console=out) as progress:
        bars: dict[UUID, Any] = {}
        while True:
            ended = 0
            for key, run in reversed(embedded.queries.runs(limit=100)):
                if run.id < first:
                    continue
                if run.id not in bars:
                    bars[run.id] = progress.add_task(key, total=1.0, start=False, status=run.status)
                if run.started_at is not None:
                    progress.start_task(bars[run.id])
                is_terminal = RunStatus(run.status).is_terminal
                done = 1.0 if is_terminal else run.progress or 0.0
                progress.update(bars[run.id], completed=done, status=run.status)
                if is_terminal:
                    progress.stop_task(bars[run.id])
                    ended += run.id in run_ids
            if ended == len(run_ids):
                return
            embedded.stack.check()
            time.sleep(0.25)


def _tell_first(out: "Console", embedded: "Embedded", first: "FirstPass") -> None:
    out.print(_runs_table(embedded, "Runs", first.runs))
    out.print(_metrics_table("The book", first.book))
    out.print(_SURVIVORS)
    out.print(inputs_table(f"What went into {_name(first.book)}, down to the prices", first.book.inputs))
    out.print(_files_table(embedded, first.book))


def _tell_second(out: "Console", embedded: "Embedded", first: "FirstPass", second: "SecondPass") -> None:
    inserted = show(second.prices.metrics.get("rows_inserted"))
    out.print(f"{_name(second.prices)} has {inserted} new rows.")
    stale = [(explanation.key, len(explanation.reasons)) for explanation in second.became_stale]
    out.print(table("Stale now", ("deployment", "reasons"), stale))
    out.print("The whole chain of reasons for the book:")
    for explanation in second.became_stale:
        if explanation.key == first.book.deployment:
            out.print(reasons_tree(explanation))
    out.print(_runs_table(embedded, "Runs of the second pass", second.runs))
    old, new = first.book, second.book
    rows = [(name, old.metrics.get(name), new.metrics.get(name)) for name in _COMPARED]
    out.print(table("Old and new backtest", ("metric", _name(old), _name(new)), rows))
    before = {(read.key, read.role): _version(read) for read in old.inputs}
    differing = [
        (read.role, read.key, before.get((read.key, read.role)), _version(read))
        for read in new.inputs
        if before.get((read.key, read.role)) != _version(read)
    ]
    out.print(table("Inputs that differ", ("role", "deployment", _name(old), _name(new)), differing))


def _runs_table(embedded: "Embedded", title: str, runs: Sequence[tuple[str, "Run"]]) -> Any:
    metrics = embedded.queries.metrics([run.id for _, run in runs])
    rows = ((key, run.type, run.status, seconds_of(run), _headline(metrics.get(run.id, {}))) for key, run in runs)
    return table(title, ("deployment", "type", "status", "took", "headline metrics"), rows)


def _headline(metrics: dict[str, float]) -> str:
    shown = [f"{name} {show(metrics[name])}" for name in _HEADLINE if name in metrics]
    return ", ".join(shown[:3])


def _metrics_table(title: str, report: "RunReport") -> Any:
    conventions = report.conventions
    rows = ((name, value, conventions.get(name, {}).get("unit")) for name, value in sorted(report.metrics.items()))
    return table(f"{title}: {_name(report)}", ("metric", "value", "unit"), rows)


def _files_table(embedded: "Embedded", report: "RunReport") -> Any:
    objects = embedded.freshline.objects
    rows = [
        (item.name, item.rows, objects.url_of(fragment.name))
        for item in report.artifacts
        if item.kind == "table"
        for fragment in item.stored_table().fragments
    ]
    return table("Its Parquet files", ("table", "rows", "file"), rows)


def _version(read: "InputVersion") -> str:
    return f"v{read.number}" + (f", data until {read.data_end}" if read.data_end else "")


def _name(report: "RunReport") -> str:
    return f"{report.deployment}@v{report.version}"


def _stay(out: "Console", embedded: "Embedded") -> None:
    out.print(f"Prefect's page: {embedded.stack.ui_url}")
    out.print("To ask and to submit from another terminal:")
    out.print(f"  export FRESHLINE_HOME={embedded.directory}")
    out.print("  freshline status")
    out.print("Ctrl-C ends everything.")
    while True:
        embedded.stack.check()
        time.sleep(1.0)
