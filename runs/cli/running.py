"""Acts on runs: submit, cancel, pause, resume."""

import getpass
import json
from datetime import datetime
from typing import Any

import click

from ...storage.errors import InvalidInput
from ...storage.ids import show_run_id
from ...storage.words import IfReady, OnStale, UpdateMode
from . import EXIT_FAILED, EXIT_REFUSED
from .completing import complete_deployment, complete_run
from .output import json_option, print_json, say
from .progress import waiting


@click.command()
@click.argument("deployment", shell_complete=complete_deployment)
@click.option(
    "-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter; VALUE is JSON or text."
)
@click.option(
    "--on-stale", type=click.Choice([word.value for word in OnStale]), help="What to do when an upstream is not ready."
)
@click.option(
    "--if-ready", type=click.Choice([word.value for word in IfReady]), help="What to do when it is ready already."
)
@click.option(
    "--update-mode", type=click.Choice([word.value for word in UpdateMode]), default="incremental", show_default=True
)
@click.option("--data-as-of", type=click.DateTime(["%Y-%m-%d"]), help="Nothing later is read.")
@click.option("--key", help="Idempotency key: the same key gives the same run.")
@click.option("--wait", "waits", is_flag=True, help="Return when the run has ended.")
@json_option
def submit(
    *,
    deployment: str,
    params: tuple[str, ...],
    on_stale: str | None,
    if_ready: str | None,
    update_mode: str,
    data_as_of: datetime | None,
    key: str | None,
    waits: bool,
    as_json: bool,
) -> int:
    """Run a DEPLOYMENT, such as backtest/book."""
    from .. import interface

    run = interface.submit(
        deployment,
        dict(_parameter(text) for text in params),
        on_stale=on_stale,
        if_ready=if_ready,
        update_mode=update_mode,
        data_as_of=data_as_of.date() if data_as_of is not None else None,
        idempotency_key=key,
        actor=getpass.getuser(),
    )
    if waits:
        with waiting(f"{deployment} {show_run_id(run.id)}") as moved:
            run = interface.wait(run.id, watch=moved)
    if as_json:
        print_json(run)
    else:
        reason = (run.decision or {}).get("reason") or ""
        ended = f" ({run.stop_reason})" if run.stop_reason else ""
        say(f"{show_run_id(run.id)} {run.status}{ended}: {run.error_message or reason}")
    if run.status == "refused":
        return EXIT_REFUSED
    return EXIT_FAILED if run.status in ("failed", "cancelled") else 0


@click.command()
@click.argument("run", shell_complete=complete_run)
@json_option
def cancel(*, run: str, as_json: bool) -> None:
    """Ask for the end of a RUN."""
    from .. import interface

    _say(interface.cancel(run, actor=getpass.getuser()), as_json=as_json)


@click.command()
@click.argument("run", shell_complete=complete_run)
@json_option
def pause(*, run: str, as_json: bool) -> None:
    """Ask a running RUN to pause: it is told at its next heartbeat."""
    from .. import interface

    _say(interface.pause(run, actor=getpass.getuser()), as_json=as_json)


@click.command()
@click.argument("run", shell_complete=complete_run)
@json_option
def resume(*, run: str, as_json: bool) -> None:
    """Let a paused RUN go on, as its next attempt."""
    from .. import interface

    _say(interface.resume(run, actor=getpass.getuser()), as_json=as_json)


def _say(run: Any, *, as_json: bool) -> None:
    if as_json:
        print_json(run)
    else:
        say(f"{show_run_id(run.id)} {run.status}")


def _parameter(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InvalidInput(f"--param {text!r}: write NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
