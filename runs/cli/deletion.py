"""Deleting runs and taking that back: delete."""

import getpass
import sys
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from ...storage.errors import Conflict, InvalidInput
from ...storage.ids import parse_run_id, show_run_id
from . import EXIT_FAILED
from .completing import complete_deployment, complete_run
from .output import console, json_option, print_json, say, table
from .progress import progress

if TYPE_CHECKING:
    from ..care.deletion import Deletions
    from ..care.deletion_reports import Deletion
    from ..care.erasure import Erased
    from ..models import Run

_MOST_SHOWN = 50


@click.command()
@click.argument("runs", nargs=-1, shell_complete=complete_run)
@click.option("--reason", default="", help="Why: it is recorded, and shown to whoever asks for the run.")
@click.option("--cascade", is_flag=True, help="Also the runs that read their versions, or replay them.")
@click.option("--restore", is_flag=True, help="Take the deletion of these RUNS back.")
@click.option("--hard", is_flag=True, help="For good, at once: not when the grace period has passed.")
@click.option("--list", "lists", is_flag=True, help="List what is deleted and can be restored.")
@click.option("--deployment", shell_complete=complete_deployment, help="In bulk: of this one, such as backtest/book.")
@click.option("--before", type=click.DateTime(["%Y-%m-%d"]), help="In bulk: created before this day (UTC).")
@click.option("--status", help="In bulk: those that ended so, such as failed.")
@click.option("--dry-run", is_flag=True, help="Say what would be deleted, and what not, and do nothing.")
@click.option("--yes", is_flag=True, help="Do not ask before --hard, nor before a deletion in bulk.")
@json_option
def delete(
    *,
    runs: tuple[str, ...],
    reason: str,
    cascade: bool,
    restore: bool,
    hard: bool,
    lists: bool,
    deployment: str | None,
    before: datetime | None,
    status: str | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Delete RUNS that have ended: they are left out of every list, and their data cannot be read.

    That can be taken back until garbage collection erases them. What others rest on is not deleted.
    """
    from .. import interface
    from ..care.deletion_reports import Selection

    selection = Selection(deployment, before.date() if before is not None else None, status)
    in_bulk = selection != Selection()
    if sum((bool(runs), in_bulk, lists)) != 1:
        raise InvalidInput("say which runs: by their ids, or with --deployment, --before, --status; or --list")
    if in_bulk and (cascade or restore):
        raise InvalidInput("--cascade and --restore go with the ids of runs, not with a deletion in bulk")
    if restore and (hard or cascade or dry_run):
        raise InvalidInput("--restore takes a deletion back: leave --hard, --cascade and --dry-run out")
    deletions = interface.deletions()
    who: dict[str, Any] = {"reason": reason, "actor": getpass.getuser()}
    if lists:
        _print_deleted(deletions.deleted(limit=500), as_json=as_json)
        return 0
    if restore:
        _print_restored(deletions.restore(*runs, **who), as_json=as_json)
        return 0
    asks = not dry_run and not yes
    if in_bulk:
        if asks:
            planned = deletions.delete_all(selection, dry_run=True, **who)
            _ask(f"Delete {len(planned.runs):,} runs{' for good' if hard else ''}?")
        with progress() as show:
            watch = partial(show, "delete")
            deletion = deletions.delete_all(selection, dry_run=dry_run, watch=watch, **who)
    else:
        if hard and asks:
            _ask(f"Delete {len(runs):,} runs for good? What they left cannot come back.")
        deletion = deletions.delete(*runs, cascade=cascade, dry_run=dry_run, **who)
    erased: list[Erased] = []
    waiting: list[UUID] = []
    if hard and not dry_run:
        # With those that were deleted before.
        wanted = {*(parse_run_id(run) for run in runs), *(one.run_id for one in deletion.runs)}
        erased, waiting = _erase(deletions, wanted, who)
    if as_json:
        print_json({"deletion": deletion, "erased": erased})
    else:
        _print_deletion(deletion, erased=len(erased))
    _say_waiting(waiting)
    return EXIT_FAILED if deletion.refused else 0


def _erase(deletions: "Deletions", wanted: set[UUID], who: dict[str, Any]) -> "tuple[list[Erased], list[UUID]]":
    """Erase those of these deleted runs that can be now; return them, and the others."""
    erased: list[Erased] = []
    waiting = []
    for one in sorted(wanted):
        try:
            erased += deletions.erase(one, **who)
        except Conflict:
            waiting.append(one)
    return erased, waiting


def _say_waiting(waiting: list[UUID]) -> None:
    if waiting:
        shown = " ".join(show_run_id(one) for one in waiting)
        raise Conflict(
            f"{len(waiting):,} runs are deleted, but not for good: Prefect has not heard of their end yet. Garbage "
            f"collection erases them; or say in a moment: freshline delete --hard --yes {shown}"
        )


def _print_restored(restored: "list[Run]", *, as_json: bool) -> None:
    if as_json:
        print_json(restored)
        return
    for run in restored:
        say(f"{show_run_id(run.id)} is restored")


def _ask(question: str) -> None:
    if not sys.stdin.isatty():
        raise InvalidInput(f"{question} Nobody is there to be asked: say --yes, or look first with --dry-run")
    click.confirm(question, abort=True, err=True)


def _print_deletion(deletion: "Deletion", *, erased: int) -> None:
    out = console()
    done = "were deleted" if deletion.is_done else "would be deleted"
    title = f"{len(deletion.runs):,} runs {done}" + (f", {erased:,} of them for good" if erased else "")
    cells = (
        (
            show_run_id(one.run_id),
            f"{one.deployment}@v{one.version}" if one.version is not None else one.deployment,
            one.status,
            one.ended_at,
            one.size_bytes,
        )
        for one in deletion.runs[:_MOST_SHOWN]
    )
    out.print(table(title, ("run", "version", "status", "ended", "bytes"), cells))
    if deletion.refused:
        reasons = (
            (show_run_id(one.run_id), one.deployment, "; ".join(one.reasons[:5]))
            for one in deletion.refused[:_MOST_SHOWN]
        )
        stay = f"{len(deletion.refused):,} runs stay"
        out.print(table(stay, ("run", "deployment", "why"), reasons))


def _print_deleted(found: Any, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    cells = (
        (show_run_id(one.run_id), one.deployment, one.status, one.deleted_at, one.deleted_by, one.reason)
        for one in found
    )
    columns = ("run", "deployment", "status", "deleted", "by", "why")
    console().print(table("Deleted, and can be restored", columns, cells))
