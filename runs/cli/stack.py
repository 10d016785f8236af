"""What keeps running: up, reconcile."""

import gc
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .output import console

if TYPE_CHECKING:
    from rich.console import Console

    from ..api.serving import Serving

_NEW_OBJECTS = 10_000
"""More than a few answers have while they are made: they are gone before anybody looks for garbage."""


@click.command()
@click.option("--port", default=4200, show_default=True, type=click.IntRange(1, 65535), help="Of the Prefect server.")
@click.option("--worker-limit", type=click.IntRange(1), help="How many flow runs at once.")
@click.option("--directory", type=click.Path(path_type=Path), help="Where it is kept; FRESHLINE_HOME by default.")
def up(*, port: int, worker_limit: int | None, directory: Path | None) -> None:
    """Start everything on this machine: Prefect, a worker, dispatcher, reconciler, API and page. Ctrl-C ends it."""
    from ...storage.settings import load_settings
    from .. import logs
    from ..api.serving import Serving
    from ..embedded import embedded

    out = console()
    settings = load_settings()
    logs.configure(settings.log_format)
    home = directory or settings.home
    with (
        out.status("starting") as status,
        embedded(
            home,
            port=port,
            worker_limit=worker_limit,
            stage=lambda name: status.update(f"starting: {name}"),
            # A port that is not known before it is taken has no links.
            page_url=f"http://127.0.0.1:{settings.api_port}" if settings.api_port else None,
        ) as stack,
        Serving(stack.freshline) as serving,
        settled(),
    ):
        status.stop()
        closed = on_terminate()
        print_page(out, serving)
        out.print(f"Prefect: {stack.stack.ui_url}   records, objects and logs: {stack.directory}")
        out.print("In another terminal:")
        out.print(f"  export FRESHLINE_HOME={stack.directory} PREFECT_API_URL={stack.stack.api_url}")
        out.print("  freshline deploy")
        while not closed.wait(1.0):
            stack.stack.check()
            serving.check()


@click.command()
def reconcile() -> None:
    """Dispatch and reconcile, without anything else; several may run at once. Ctrl-C ends it."""
    from .. import logs
    from ..background import Background
    from ..composition import open_freshline

    freshline = open_freshline()
    logs.configure(freshline.settings.log_format)
    gateway = freshline.gateway()
    with Background(freshline, gateway):
        closed = on_terminate()
        console().print(f"dispatching to {gateway.api_url}; Ctrl-C ends it")
        closed.wait()


def print_page(out: "Console", serving: "Serving") -> None:
    """Print where the page is: with the token to a terminal alone."""
    for line in serving.told(to_terminal=sys.stdout.isatty()):
        out.print(line, soft_wrap=True)


def on_terminate() -> threading.Event:
    """Return an event that SIGTERM sets, so that a service manager ends us as Ctrl-C does.

    Called before anybody is told that the program runs: who hears it may end it at once.
    """
    closed = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: closed.set())
    return closed


@contextmanager
def settled() -> Iterator[None]:
    """Have the garbage collector leave alone what is there now, and look less often at the rest, until the block ends.

    What a server has imported is a quarter of a million objects, which stay. To look through all of them stops every
    answer for a tenth of a second and more, once in some hundred answers.
    """
    gc.collect()
    gc.freeze()
    usual = gc.get_threshold()
    gc.set_threshold(_NEW_OBJECTS, *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)
        gc.unfreeze()
