"""What happens to a run, also while it happens: events."""

import json

import click

from ...storage.ids import parse_run_id, show_run_id
from .completing import complete_run
from .output import console, json_option, plain, print_json, say, table, told
from .output import show as show_value


@click.command()
@click.argument("run", shell_complete=complete_run)
@click.option("--follow", is_flag=True, help="Print what comes as well, a line each, until the run has ended.")
@click.option("--after", default=0, show_default=True, type=click.IntRange(0), help="Only what is numbered above that.")
@click.option("--limit", default=200, show_default=True, type=click.IntRange(1), help="The last so many rows.")
@json_option
def events(*, run: str, follow: bool, after: int, limit: int, as_json: bool) -> None:
    """Show what happened to RUN: its log, numbered from 1 without gaps."""
    from ..interface import event_log

    log = event_log()
    if follow:
        for one in log.follow(run, after=after):
            if as_json:
                click.echo(json.dumps(plain(one), allow_nan=False))
            else:
                say(f"{one.seq}  {show_value(one.at)}  {one.kind}  {told(one.facts)}".rstrip())
        return
    found = log.read(run, after=after)
    if as_json:
        print_json(found)
        return
    last = found[-limit:]
    rows = ((one.seq, one.at, one.kind, one.actor, told(one.facts)) for one in last)
    out = console()
    title = f"Events of {show_run_id(parse_run_id(run))}"
    out.print(table(title, ("#", "at", "what", "who", "facts"), rows, lesser=("who",)))
    if len(found) > len(last):
        out.print(f"{len(found) - len(last):,} earlier: use --limit, or --json for all of them")
