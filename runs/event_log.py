"""A run's log as people read it: what is there, and what comes until the run has ended.

Owns how the log is followed. What can happen is in `run_events`; the rows are written by `store`.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from ..lineage.listing import Listing
from ..storage.database import Database
from ..storage.errors import FreshlineError, InvalidInput
from ..storage.ids import parse_run_id, show_run_id
from . import store
from .care import acts
from .run_events import Event, parse_event
from .status import RunStatus

_PAGE = 500
"""Entries that are read at once: a log may have a million."""
_POLL_S, _LONGEST_POLL_S, _SLOWER = 0.2, 2.0, 1.5
"""How long to wait for news at first and at most, and how much longer each time that there are none."""


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """One entry of a run's log."""

    seq: int
    """1, 2, 3… without gaps."""
    at: datetime
    """When, by the database's clock."""
    kind: str
    """What happened, in the past tense."""
    actor: str
    """Who did it."""
    facts: dict[str, Any]
    """The event's own facts."""

    @property
    def event(self) -> Event:
        """The entry as a typed event.

        Raises:
            pydantic.ValidationError: a newer program wrote it, and this one does not know it.
        """
        return parse_event(self.kind, self.facts)


@dataclass(frozen=True)
class EventLog:
    """Reads the logs of one store's runs."""

    database: Database
    tenant_id: str = "default"

    def read(self, run_id: UUID | str, *, after: int = 0, limit: int | None = None) -> Listing[LoggedEvent]:
        """Return the entries with a number above `after`, in order, at most `limit` of them.

        Raises:
            InvalidInput: `after` is negative.
            NotFound: there is no such run.
            RunDeleted: it was deleted; the message says by whom and why.
        """
        return self._page(run_id, after=after, limit=limit)[0]

    def follow(
        self,
        run_id: UUID | str,
        *,
        after: int = 0,
        timeout_s: float | None = None,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> Iterator[LoggedEvent]:
        """Yield the entries with a number above `after`, and then what is new, until the run has ended.

        Each entry comes once and in order; go on behind the last one that was seen with its number as `after`. Nobody
        is asked more often than five times a second, and less often where nothing happens.

        Raises:
            FreshlineError: the run had not ended after `timeout_s` seconds.
            InvalidInput, NotFound, RunDeleted: as `read`, before the first entry is asked for.
        """
        first = self._page(run_id, after=after, limit=_PAGE)
        return self._follow(run_id, first, after=after, timeout_s=timeout_s, sleep=sleep, clock=clock)

    def _follow(
        self,
        run_id: UUID | str,
        page: tuple[Listing[LoggedEvent], RunStatus],
        *,
        after: int,
        timeout_s: float | None,
        sleep: Callable[[float], object],
        clock: Callable[[], float],
    ) -> Iterator[LoggedEvent]:
        deadline = None if timeout_s is None else clock() + timeout_s
        pause_s = _POLL_S
        while True:
            found, status = page
            yield from found
            if found:
                after, pause_s = found[-1].seq, _POLL_S
            if len(found) < _PAGE:
                # Status and entries are of one snapshot: what ended the run is among them.
                if status.is_terminal:
                    return
                if deadline is not None and clock() > deadline:
                    raise FreshlineError(f"{show_run_id(parse_run_id(run_id))} is still {status} after {timeout_s:g} s")
                sleep(pause_s)
                pause_s = min(_LONGEST_POLL_S, pause_s * _SLOWER)
            page = self._page(run_id, after=after, limit=_PAGE)

    def _page(self, run_id: UUID | str, *, after: int, limit: int | None) -> tuple[Listing[LoggedEvent], RunStatus]:
        if after < 0:
            raise InvalidInput(f"after={after}: the numbers of a log begin at 1; 0 means all of it")
        with self.database.read() as connection:
            run = acts.readable_run(connection, run_id, tenant_id=self.tenant_id)
            rows = store.events_of(connection, run.id, after=after, limit=limit)
        entries = (LoggedEvent(row.seq, row.at, row.kind, row.actor, row.payload) for row in rows)
        return Listing(entries, LoggedEvent), RunStatus(run.status)
