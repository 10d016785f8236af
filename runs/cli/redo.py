"""What is done again: replay a run, backfill a range of data dates."""

import getpass
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from ...storage.ids import show_run_id
from ...storage.words import UpdateMode
from . import EXIT_FAILED, EXIT_REFUSED
from .completing import complete_deployment, complete_run
from .output import console, json_option, print_json, say, show, table
from .progress import busy, progress, waiting
from .running import _parameter as parameter

if TYPE_CHECKING:
    from ..redo.backfill_plan import BackfillPreview
    from ..redo.backfill_reports import BackfillReport
    from ..redo.replay_comparison import ReplayComparison

_DAY = click.DateTime(["%Y-%m-%d"])
_COUNTED = ("completed", "skipped", "failed", "refused", "cancelled", "under_way", "planned")


@click.command()
@click.argument("run", shell_complete=complete_run)
@click.option("--wait", "waits", is_flag=True, help="Return when the replay has ended, and print the comparison.")
@click.option("--compare", "compares", is_flag=True, help="RUN is a replay that has ended: print its comparison.")
@click.option("--key", help="Idempotency key: the same key gives the same replay.")
@json_option
def replay(*, run: str, waits: bool, compares: bool, key: str | None, as_json: bool) -> int:
    """Run again on the versions that RUN read, with its parameters, and compare what comes out.

    Exit code 0: equal; 1: different, or the replay did not complete.
    """
    from .. import interface

    if not compares:
        recorded = interface.replay(run, idempotency_key=key, actor=getpass.getuser())
        if waits:
            with waiting(f"replay {show_run_id(recorded.id)}") as moved:
                recorded = interface.wait(recorded.id, watch=moved)
        if not waits or recorded.status != "completed":
            _say_run(recorded, as_json=as_json)
            if recorded.status == "refused":
                return EXIT_REFUSED
            return EXIT_FAILED if recorded.status in ("failed", "cancelled") else 0
        run = show_run_id(recorded.id)
    with busy("comparing the results"):
        comparison = interface.compare_replay(run)
    if as_json:
        print_json({"is_equal": comparison.is_equal, "sentence": comparison.sentence(), "comparison": comparison})
    else:
        _print_comparison(comparison)
    return 0 if comparison.is_equal else EXIT_FAILED


def _say_run(run: Any, *, as_json: bool) -> None:
    if as_json:
        print_json(run)
        return
    ended = f" ({run.stop_reason})" if run.stop_reason else ""
    why = run.error_message or (run.decision or {}).get("reason") or ""
    say(f"{show_run_id(run.id)} {run.status}{ended}: {why}")


def _print_comparison(comparison: "ReplayComparison") -> None:
    out = console()
    out.print(comparison.sentence())
    if comparison.code:
        cells = ((one.what.replace("_", " "), one.original, one.replay) for one in comparison.code)
        out.print(table("Code", ("what", "original", "replay"), cells))
    outputs = (
        (one.name, one.kind, "equal" if one.is_equal else "different", _digest(one.original_digest),
         _digest(one.replay_digest), _of_output(one))
        for one in comparison.outputs
    )  # fmt: skip
    columns = ("output", "kind", "result", "original", "replay", "what differs")
    out.print(table("Outputs", columns, outputs))
    for one in comparison.outputs:
        if one.table is not None and one.table.different_columns:
            cells_of = (
                (column.name, column.original_type, column.replay_type, column.rows_different,
                 column.max_abs_difference)
                for column in one.table.different_columns
            )  # fmt: skip
            names = ("column", "type", "type in the replay", "rows that differ", "largest difference")
            out.print(table(f"Columns of {one.name} that differ", names, cells_of))
    metrics = (
        (one.name, one.original, one.replay, one.difference, one.unit, _of_metric(one)) for one in comparison.metrics
    )
    out.print(table("Metrics", ("name", "original", "replay", "difference", "unit", "result"), metrics))


def _digest(digest: str | None) -> str | None:
    return None if digest is None else digest[:12]


def _of_output(output: Any) -> str:
    if output.original_digest is None:
        return "only the replay wrote it"
    if output.replay_digest is None:
        return "only the original wrote it"
    if output.table is None:
        return output.note or ""
    compared = output.table
    parts = []
    if compared.original_rows != compared.replay_rows:
        parts.append(f"{compared.original_rows:,} rows, {compared.replay_rows:,} in the replay")
    parts += [f"without {name}" for name in compared.only_original]
    parts += [f"also {name}" for name in compared.only_replay]
    if compared.different_columns:
        parts.append(f"{len(compared.different_columns)} of {len(compared.columns)} columns")
    return "; ".join(parts) or "how the same values are stored"


def _of_metric(metric: Any) -> str:
    if metric.is_equal:
        return "equal"
    return "different" if metric.counts else "a measured time"


class _Backfill(click.Group):
    """`backfill DEPLOYMENT …` is `backfill start DEPLOYMENT …`: what is no command is a deployment."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            return "start", self.commands["start"], args
        return super().resolve_command(ctx, args)


@click.group(
    cls=_Backfill,
    no_args_is_help=True,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
def backfill() -> None:
    """Run a deployment for a range of data dates.

    \b
    freshline backfill DEPLOYMENT --from 2024-01-02 --to 2024-03-28
    freshline backfill start --help
    """


@backfill.command()
@click.argument("deployment", shell_complete=complete_deployment)
@click.option("--from", "first", type=_DAY, required=True, help="The first data date.")
@click.option("--to", "last", type=_DAY, required=True, help="The last data date, included.")
@click.option("--calendar", help="The sessions of an exchange calendar, such as XNYS.")
@click.option("--every", help="A step instead: 1d, 2w or 1mo.")
@click.option("--limit", default=1, show_default=True, type=click.IntRange(1, 1000), help="Runs under way at once.")
@click.option("--again", is_flag=True, help="Also the dates that have a run already.")
@click.option(
    "-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter; VALUE is JSON or text."
)
@click.option("--on-stale", type=click.Choice(["wait", "refuse", "force"]), help="When an upstream is not ready.")
@click.option("--update-mode", type=click.Choice([word.value for word in UpdateMode]), help="For a refresh.")
@click.option("--max-failures", default=0, show_default=True, type=click.IntRange(0), help="Go on after so many.")
@click.option("--preview", "previews", is_flag=True, help="Only say what would run.")
@click.option("--wait", "waits", is_flag=True, help="Return when it has ended, with a progress bar.")
@json_option
def start(
    *,
    deployment: str,
    first: datetime,
    last: datetime,
    params: tuple[str, ...],
    previews: bool,
    waits: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Run DEPLOYMENT for each data date of a range."""
    from .. import interface

    options["parameters"] = dict(parameter(text) for text in params)
    if previews:
        preview = interface.preview_backfill(deployment, first.date(), last.date(), **options)
        if as_json:
            print_json(preview)
        else:
            _print_preview(preview)
        return 0
    report = interface.backfill(deployment, first.date(), last.date(), actor=getpass.getuser(), **options)
    return _end(report, waits=waits, as_json=as_json)


@backfill.command(name="list")
@click.argument("deployment", required=False, shell_complete=complete_deployment)
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 500), help="How many.")
@json_option
def list_(*, deployment: str | None, limit: int, as_json: bool) -> None:
    """List backfills, newest first; of one DEPLOYMENT, or of all."""
    from .. import interface

    found = interface.backfills().newest(deployment=deployment, limit=limit)
    if as_json:
        print_json(found)
        return
    columns = ("backfill", "deployment", "status", "from", "to", "done", "of", "dates", "created")
    cells = (
        (one.name, one.deployment, one.status, one.first, one.last, one.num_done, one.num_dates, _counts(one.counts),
         one.created_at)
        for one in found
    )  # fmt: skip
    console().print(table("Backfills", columns, cells))


@backfill.command(name="show")
@click.argument("backfill_id", metavar="BACKFILL")
@click.option("--wait", "waits", is_flag=True, help="Return when it has ended, with a progress bar.")
@json_option
def show_(*, backfill_id: str, waits: bool, as_json: bool) -> int:
    """Show a BACKFILL with its dates."""
    from .. import interface

    report = interface.backfills().get(backfill_id)
    return _end(report, waits=waits, as_json=as_json, with_dates=True)


@backfill.command()
@click.argument("backfill_id", metavar="BACKFILL")
@json_option
def cancel(*, backfill_id: str, as_json: bool) -> None:
    """Cancel a BACKFILL and its runs under way; what was done stays."""
    from .. import interface

    _end(interface.backfills().cancel(backfill_id, actor=getpass.getuser()), waits=False, as_json=as_json)


@backfill.command()
@click.argument("backfill_id", metavar="BACKFILL")
@click.option("--wait", "waits", is_flag=True, help="Return when it has ended, with a progress bar.")
@json_option
def resume(*, backfill_id: str, waits: bool, as_json: bool) -> int:
    """Go on with a BACKFILL: the dates that had no turn, and those that did not end well."""
    from .. import interface

    return _end(interface.backfills().resume(backfill_id), waits=waits, as_json=as_json)


def _end(report: "BackfillReport", *, waits: bool, as_json: bool, with_dates: bool = False) -> int:
    """Print a backfill; return the exit code: 1 when it has ended and not every date is done."""
    if waits:
        report = _wait(report)
    if as_json:
        print_json({"name": report.name, "report": report})
    else:
        _print_report(report, with_dates=with_dates or waits)
    is_bad = report.ended_at is not None and report.num_done < report.num_dates
    return EXIT_FAILED if is_bad and (waits or with_dates) else 0


def _wait(report: "BackfillReport") -> "BackfillReport":
    from .. import interface

    with progress() as show_progress:

        def moved(now: "BackfillReport") -> None:
            ended = now.num_dates - now.counts.get("planned", 0) - now.counts.get("under_way", 0)
            show_progress(f"{report.deployment} {report.first} to {report.last}", ended, now.num_dates)

        return interface.backfills().wait(report.id, on_change=moved)


def _print_report(report: "BackfillReport", *, with_dates: bool) -> None:
    why = f": {report.reason}" if report.reason else ""
    done = f"{report.num_done:,} of {report.num_dates:,} dates done"
    say(f"{report.name} of {report.deployment} is {report.status}, {done}{why}")
    if with_dates:
        columns = ("data date", "status", "run", "tries", "why")
        cells = (
            (one.data_date, one.status, show_run_id(one.run_id) if one.run_id else None, one.tries, one.reason)
            for one in report.dates
        )
        title = f"{report.first} to {report.last}, {report.calendar or f'every {report.every}'}"
        console().print(table(title, columns, cells))


def _print_preview(preview: "BackfillPreview") -> None:
    dates = preview.calendar or f"every {preview.every}"
    out = console()
    count = f"{len(preview.dates):,} dates of {preview.deployment} ({dates}) would run"
    out.print(f"{count}; {len(preview.existing):,} have a run already")
    out.print(table("Would run", ("data date",), ((one,) for one in preview.dates)))
    if preview.existing:
        cells = ((one.data_date, show_run_id(one.run_id), one.status) for one in preview.existing)
        out.print(table("Left out", ("data date", "run", "status"), cells))


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {show(counts[name])}" for name in _COUNTED if counts.get(name))
