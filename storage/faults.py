"""Where a test makes things fail: named points that a process reaches, and guards that can be switched off.

Outside of tests neither does anything: nobody watches, and every guard is on. Only a test's own process can change
that, by calling `watched` or `switched_off`; no setting and no variable reaches here.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum


class Guard(StrEnum):
    """What keeps the promise; each is shown to be needed by a test that fails without it."""

    DISPATCH_KEY = "dispatch_key"
    """Prefect's idempotency key names the run: a dispatch that is sent twice makes one flow run."""
    FENCE = "fence"
    """Whoever does not hold the run's fence changes nothing."""
    LEASE = "lease"
    """A run whose worker is lost is ended when its lease has run out."""
    EVENT_COUNTER = "event_counter"
    """Event numbers come from the run's row, in the statement that changes it."""
    LOCK_ORDER = "lock_order"
    """States are locked in the order of their ids."""
    POINTER_FENCE = "pointer_fence"
    """The current version is that of whoever pinned its inputs last, whoever completes last."""
    BASE = "base"
    """What continues a version becomes current only while that one is."""
    CLEARING = "clearing"
    """A cause is removed in the transaction that removes its reason."""
    SWEEP_NEED = "sweep_need"
    """A sweep looks for artifacts again when it decides that an object goes."""
    TAKE_UP = "take_up"
    """What a sweep has decided to delete cannot be recorded as if it were there."""
    REMOVAL_NEED = "removal_need"
    """Retention looks again, under the version's lock, whether somebody needs the data."""
    SELF = "self"
    """What a deployment reads of itself is no edge: it is not made stale by its own next version."""
    POINT_NUMBERS = "point_numbers"
    """Metric points are known by their number: what is sent twice is stored once."""
    POINT_FENCE = "point_fence"
    """Late metric points are taken from an attempt of their run alone."""


_watcher: Callable[[str], None] | None = None
_off: frozenset[Guard] = frozenset()


def reach(point: str) -> None:
    """Say that this process has come to a named point, such as `complete.published`."""
    if _watcher is not None:
        _watcher(point)


def is_on(guard: Guard) -> bool:
    """Return whether a guard is on."""
    return guard not in _off


@contextmanager
def watched(watcher: Callable[[str], None]) -> Iterator[None]:
    """Call `watcher` with the name of every point that is reached meanwhile; it may raise, or end the process."""
    global _watcher  # noqa: PLW0603 - one per process: the point is not told who watches
    before, _watcher = _watcher, watcher
    try:
        yield
    finally:
        _watcher = before


@contextmanager
def switched_off(*guards: Guard) -> Iterator[None]:
    """Do without these guards meanwhile."""
    global _off  # noqa: PLW0603 - one per process: guards are asked for where they stand
    before, _off = _off, _off | frozenset(guards)
    try:
        yield
    finally:
        _off = before
