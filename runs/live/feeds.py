"""What a subscriber holds: a buffer that is bounded, filled by the poller's thread and emptied by its own.

A subscriber that does not read costs its buffer and no more: when that is full it is dropped, and the subscriber is
told. One that follows a run then reads on in the log itself, where it stands; one that follows the project has to look
again at everything.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from .rows import LoggedEvent

if TYPE_CHECKING:
    from .changes import Change, Changes

Notify = Callable[[], Any]
"""Called from another thread when there is something to take."""

RUN_BUFFER = 500
"""Entries of its log that a subscriber of a run may be behind before its buffer is dropped."""
RUN_BUFFER_CHARACTERS = 1_000_000
"""What they may hold together."""
PROJECT_BUFFER = 2_000
"""Runs and deployments of which a subscriber of the project may have news before its buffer is dropped."""


@dataclass(frozen=True, slots=True)
class LogPart:
    """What a subscriber of a run gets at once."""

    events: Sequence[LoggedEvent] = ()
    is_over: bool = False
    """These were the last ones: the run has ended, or the server is about to."""
    is_behind: bool = False
    """More is in the log than in the buffer: read on there."""
    num_dropped: int = 0
    """Entries that were in the buffer when it was dropped; they are read from the log again."""


@dataclass(frozen=True, slots=True)
class Resync:
    """The subscriber has to look at everything again: what came before is not told."""

    cursor: str
    """From here on everything is told."""
    why: str
    """`started`: it has seen nothing yet. `unknown_cursor`: what followed its cursor is not known, or not any more.
    `slow`: it did not read fast enough."""


@dataclass(frozen=True, slots=True)
class ProjectPart:
    """What a subscriber of the project gets at once; a resync comes before the changes."""

    resync: Resync | None = None
    changes: Sequence["Change"] = ()
    is_over: bool = False


class LogFeed:
    """A subscriber of one run's log; made by `Live.follow`."""

    def __init__(self, run_id: UUID, after: int, notify: Notify, *, limit: int = RUN_BUFFER) -> None:
        self.run_id = run_id
        self.after = after
        """The number of the last entry that it was given."""
        self._notify = notify
        self._limit = limit
        self._lock = threading.Lock()
        self._buffer: list[LoggedEvent] = []
        self._num_characters = 0
        self._is_behind = True
        self._is_over = False
        self._num_dropped = 0

    def take(self) -> LogPart:
        """Return what has come, and forget it."""
        with self._lock:
            events = [event for event in self._buffer if event.seq > self.after]
            self._buffer, self._num_characters = [], 0
            if events:
                self.after = events[-1].seq
            part = LogPart(events, self._is_over and not self._is_behind, self._is_behind, self._num_dropped)
            self._num_dropped = 0
            return part

    def advance(self, events: Sequence[LoggedEvent]) -> None:
        """Count as given what was read from the log itself."""
        if events:
            self.after = events[-1].seq

    def join(self) -> None:
        """From here on the poller brings what comes."""
        with self._lock:
            self._is_behind = False

    def offer(self, events: Sequence[LoggedEvent], *, is_over: bool) -> bool:
        """Put entries into the buffer; False: it is full, was dropped, and gets nothing more before it joins again."""
        with self._lock:
            self._num_characters += sum(len(event.text) for event in events)
            if len(self._buffer) + len(events) > self._limit or self._num_characters > RUN_BUFFER_CHARACTERS:
                self._num_dropped = len(self._buffer) + len(events)
                self._buffer, self._num_characters, self._is_behind = [], 0, True
            else:
                self._buffer.extend(events)
                self._is_over = self._is_over or is_over
            fits = not self._is_behind
        self._notify()
        return fits

    def end(self) -> None:
        """Let the subscriber go: nothing comes any more."""
        with self._lock:
            self._is_over, self._is_behind = True, False
        self._notify()


class ProjectFeed:
    """A subscriber of what changes in the project; made by `Live.watch`."""

    def __init__(
        self, cursor: str | None, deployment: str | None, notify: Notify, *, limit: int = PROJECT_BUFFER
    ) -> None:
        self._cursor = cursor
        self._deployment = deployment
        self._notify = notify
        self._limit = limit
        self._lock = threading.Lock()
        self._buffer: dict[str, Change] = {}
        self._resync: Resync | None = None
        self._is_over = False

    def take(self) -> ProjectPart:
        """Return what has come, and forget it."""
        with self._lock:
            part = ProjectPart(self._resync, list(self._buffer.values()), self._is_over)
            self._resync, self._buffer = None, {}
            return part

    def start(self, changes: "Changes") -> None:
        """Give it what followed its cursor, or tell it to look at everything."""
        missed = None if self._cursor is None else changes.after(self._cursor)
        if missed is not None:
            self.offer(missed, changes.cursor)
            return
        self.restart(changes.cursor, "started" if self._cursor is None else "unknown_cursor")

    def restart(self, cursor: str, why: str = "unknown_cursor") -> None:
        """Tell it to look at everything: what was before the cursor is not told."""
        with self._lock:
            self._buffer, self._resync = {}, Resync(cursor, why)
        self._notify()

    def offer(self, changes: Sequence["Change"], cursor: str) -> None:
        """Put changes into the buffer, the newest of each run and deployment; `cursor` is where they end."""
        wanted = [one for one in changes if self._deployment in (None, one.deployment)]
        if not wanted:
            return
        with self._lock:
            for change in wanted:
                self._buffer.pop(change.key, None)  # the order is that of the cursors
                self._buffer[change.key] = change
            if len(self._buffer) > self._limit:
                self._buffer = {}
                self._resync = Resync(cursor, "slow")
        self._notify()

    def end(self) -> None:
        """Let the subscriber go: nothing comes any more."""
        with self._lock:
            self._is_over = True
        self._notify()
