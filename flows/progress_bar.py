"""The bar that a terminal shows while a body goes through its items."""

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


def shown(items: Iterable[T], *, total: int | None, label: str) -> Iterator[tuple[float | None, T]]:
    """Yield each item with the part that is done after it, from 0 to 1; None where nobody knows how many there are.

    The bar goes to the error stream, and only to a terminal.
    """
    from rich.console import Console
    from rich.progress import track

    expected = total if total is not None else _length_of(items)
    console = Console(stderr=True)
    bar = track(items, description=label, total=expected, console=console, disable=not console.is_terminal)
    for done, item in enumerate(bar, start=1):
        yield (done / expected if expected else None), item


def _length_of(items: Iterable[Any]) -> int | None:
    try:
        return len(items)  # type: ignore[arg-type]  # that is the question
    except TypeError:
        return None
