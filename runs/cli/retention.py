"""How long data are kept: retention plan, retention apply."""

import sys
from typing import TYPE_CHECKING

import click

from ...storage.errors import InvalidInput
from .completing import complete_deployment
from .output import console, json_option, print_json, say, table
from .progress import progress

if TYPE_CHECKING:
    from ..care.keeping import RetentionPlan

_MOST_SHOWN = 100


@click.group()
def retention() -> None:
    """Let go the data that no rule keeps; the rules are in prefect.yaml, and the records stay."""


@retention.command("plan")
@click.argument("deployment", required=False, shell_complete=complete_deployment)
@json_option
def show_plan(*, deployment: str | None, as_json: bool) -> None:
    """Say what would go, what stays and why: of one DEPLOYMENT, or of all. Nothing is changed."""
    from .. import interface

    planned = interface.retention().plan(deployment)
    if as_json:
        print_json(planned)
        return
    _print_plan(planned)


@retention.command("apply")
@click.argument("deployment", required=False, shell_complete=complete_deployment)
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def carry_out(*, deployment: str | None, yes: bool, as_json: bool) -> None:
    """Let go what the plan says: of one DEPLOYMENT, or of all. Interrupted, call it again.

    The data cannot be read from then on. Their objects are deleted by `freshline gc`, after its grace period.
    """
    from .. import interface

    keeper = interface.retention()
    planned = keeper.plan(deployment)
    if planned.removed and not yes:
        question = f"Let go the data of {len(planned.removed):,} runs, {planned.freed_bytes:,} bytes?"
        if not sys.stdin.isatty():
            raise InvalidInput(f"{question} Nobody is there to be asked: say --yes, or look first: retention plan")
        click.confirm(question, abort=True, err=True)
    with progress() as show:
        removed = keeper.apply(planned, watch=lambda done, of: show("let go", done, of))
    if as_json:
        print_json(removed)
        return
    spared = f"; {len(removed.spared):,} were needed by then" if removed.spared else ""
    freed = f"{removed.freed_bytes:,} bytes go with `freshline gc`"
    say(f"let go the data of {len(removed.holdings):,} runs{spared}; {freed}")


def _print_plan(planned: "RetentionPlan") -> None:
    out = console()
    cells = ((one.name, one.deployment, one.ended_at, one.size_bytes, one.rule) for one in planned.removed)
    title = (
        f"Would go: the data of {len(planned.removed):,} runs, {planned.size_bytes:,} bytes, of which "
        f"{planned.freed_bytes:,} nobody else needs"
    )
    columns = ("what", "deployment", "ended", "bytes", "rule")
    out.print(table(title, columns, list(cells)[:_MOST_SHOWN]))
    kept = ((one.name, one.ended_at, one.size_bytes, one.reason) for one in planned.kept)
    out.print(table(f"Stay: {len(planned.kept):,}", ("what", "ended", "bytes", "why"), list(kept)[:_MOST_SHOWN]))
    if planned.without_rule:
        shown = ", ".join(planned.without_rule[:20])
        more = f" and {len(planned.without_rule) - 20:,} more" if len(planned.without_rule) > 20 else ""
        out.print(f"Without a rule, so everything stays, and what they have read: {shown}{more}")
