"""Progress bars of long work, on the error stream: what is printed at the end may be JSON."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ...storage.literal import literal

if TYPE_CHECKING:
    from ..models import Run

Show = Callable[[str, int, int], None]
"""Told what is done, how much of it, and of how much; 0: nobody knows."""


@contextmanager
def progress() -> Iterator[Show]:
    """Give what shows how far the work is, where somebody looks; a line for each kind of work, in its turn."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(literal(what), total=None)
            bars.update(tasks[what], completed=done, total=of or None)

        yield show


@contextmanager
def busy(what: str) -> Iterator[None]:
    """Show that something is going on whose length nobody knows, where somebody looks."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status(Text(literal(what))):
        yield


@contextmanager
def waiting(what: str) -> "Iterator[Callable[[Run], None]]":
    """Give what shows how far a run is that somebody waits for, where somebody looks."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(literal(what), total=None)

        def moved(run: "Run") -> None:
            # A run that does not say how far it is has a bar that only moves.
            total = 1.0 if run.progress is not None else None
            bars.update(task, description=f"{literal(what)} {run.status}", completed=run.progress or 0.0, total=total)

        yield moved
