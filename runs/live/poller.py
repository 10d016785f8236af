"""One thread that asks the database what is new, for all subscribers of this process.

It runs while somebody listens, and asks as often for one as for a thousand: which of the followed runs have new
entries, what they are, and what has changed in the project if somebody watches it. What it finds is put into the
subscribers' buffers; it never waits for one of them.
"""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from ...storage.database import Database
from ...storage.errors import FreshlineError
from . import rows
from .changes import Changes, Look
from .feeds import LogFeed, LogPart, Notify, ProjectFeed
from .rows import LoggedEvent

_LOGGER = logging.getLogger(__name__)
_PAGE = 100
"""Entries of a log that are read at once."""
_LONGEST_WAIT_S = 5.0
"""Between two attempts while the database cannot be asked."""


@dataclass
class _Followed:
    """A run that somebody follows."""

    head: int
    """The number up to which its subscribers were given everything."""
    feeds: set[LogFeed] = field(default_factory=set)


class Live:
    """Follows runs and the project of one tenant; asks nothing while nobody listens.

    Args:
        database: where the records are.
        tenant_id: whose.
        poll_s: how often followed runs are looked at.
        project_s: how often the project is, at most, and its deployments half as often.
        most_share: the share of its time that may go into looking at the project: where that takes long it is done less
            often, so that watching is never what a store is busy with.
    """

    def __init__(
        self,
        database: Database,
        *,
        tenant_id: str = "default",
        poll_s: float = 0.25,
        project_s: float = 0.5,
        most_share: float = 0.1,
    ) -> None:
        self._database = database
        self._poll_s = poll_s
        self._project_s = project_s
        self._most_share = most_share
        self._changes = Changes(tenant_id=tenant_id)
        self._lock = threading.Condition()
        self._followed: dict[UUID, _Followed] = {}
        self._watching: set[ProjectFeed] = set()
        self._joining: set[ProjectFeed] = set()
        self._subscribers: set[LogFeed | ProjectFeed] = set()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._project_due = self._states_due = 0.0

    @property
    def is_polling(self) -> bool:
        """True while somebody listens."""
        with self._lock:
            return self._thread is not None

    @property
    def num_subscribers(self) -> int:
        """How many listen, those included that are still reading what they have missed."""
        return len(self._subscribers)

    def follow(self, run_id: UUID, *, after: int = 0, notify: Notify) -> LogFeed:
        """Subscribe to a run's log after entry `after`; the first part is read with `read_on`."""
        feed = LogFeed(run_id, after, notify)
        with self._lock:
            self._subscribers.add(feed)
            if self._is_closed:
                feed.end()
        return feed

    def watch(self, *, cursor: str | None = None, deployment: str | None = None, notify: Notify) -> ProjectFeed:
        """Subscribe to what changes in the project after a cursor, or of one deployment there."""
        feed = ProjectFeed(cursor, deployment, notify)
        with self._lock:
            self._subscribers.add(feed)
            if self._is_closed:
                feed.end()
            else:
                self._joining.add(feed)
                self._wake()
        return feed

    def read_on(self, feed: LogFeed) -> LogPart:
        """Return what a subscriber of a run is behind, a page of it, from the log itself.

        A page that is not full is the end of the log: from there on the poller brings what comes.

        Raises:
            StoreUnavailable: the database cannot be reached.
        """
        if self._is_closed:
            feed.end()
            return LogPart(is_over=True)
        with self._database.read() as connection:
            events = rows.events_after(connection, feed.run_id, feed.after, most=_PAGE)
            head = next(iter(rows.heads_of(connection, [feed.run_id])), None)
        feed.advance(events)
        if head is None or (head.ended_at is not None and feed.after >= head.last_seq):
            feed.end()
            return LogPart(events, is_over=True)
        return LogPart(events, is_behind=len(events) == _PAGE or not self._join(feed))

    def leave(self, feed: LogFeed | ProjectFeed) -> None:
        """Forget a subscriber. The last one of all lets the polling end."""
        with self._lock:
            self._subscribers.discard(feed)
            if isinstance(feed, ProjectFeed):
                self._watching.discard(feed)
                self._joining.discard(feed)
            elif (followed := self._followed.get(feed.run_id)) is not None:
                followed.feeds.discard(feed)
                if not followed.feeds:
                    del self._followed[feed.run_id]
            if not self._is_needed():
                self._lock.notify_all()

    def close(self) -> None:
        """Let every subscriber go, at once, and those that still come. Polling ends."""
        with self._lock:
            self._is_closed = True
            feeds = list(self._subscribers)
            self._watching, self._joining, self._followed = set(), set(), {}
            thread = self._thread
            self._lock.notify_all()
        for feed in feeds:
            feed.end()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=5)

    def poll_once(self) -> bool:
        """Ask once, and tell the subscribers; return whether there is more than was read."""
        with self._lock:
            heads = {run_id: followed.head for run_id, followed in self._followed.items()}
            joining = set(self._joining)
            began = time.monotonic()
            is_watched = bool(joining) or (bool(self._watching) and began >= self._project_due)
        with self._database.read() as connection:
            found = self._new_entries(connection, heads)
            look = None
            if is_watched:
                read_states = began >= self._states_due
                asked = time.monotonic()
                now = self._database.now(connection)
                look = self._changes.look(connection, now=now, deployments=read_states)
                took = time.monotonic() - asked
                pause_s = max(self._project_s, took / self._most_share)
                self._project_due = began + pause_s
                if read_states:
                    self._states_due = began + 2 * pause_s
        is_more = self._tell(found)
        if look is not None:
            self._tell_project(look, joining)
        return is_more

    def _join(self, feed: LogFeed) -> bool:
        """Let the poller bring what follows; False: it has brought more to others than this one has read."""
        with self._lock:
            if self._is_closed:
                feed.end()
                return True
            followed = self._followed.setdefault(feed.run_id, _Followed(feed.after))
            if followed.head > feed.after:
                return False
            feed.join()
            followed.feeds.add(feed)
            self._wake(soon=False)
            return True

    def _wake(self, *, soon: bool = True) -> None:
        """Start the thread unless it runs; called with the lock."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name="freshline-live", daemon=True)
            self._thread.start()
        elif soon:
            self._lock.notify_all()

    def _loop(self) -> None:
        wait_s = self._poll_s
        while True:
            with self._lock:
                if not self._is_needed():
                    self._thread = None
                    return
            has_failed = False
            try:
                wait_s = 0.0 if self.poll_once() else self._poll_s
            except FreshlineError as error:
                has_failed = True
                _LOGGER.warning("what is followed live cannot be read, and is tried again: %s", error)
            except Exception:
                has_failed = True
                _LOGGER.exception("following live failed; it tries again")
            if has_failed:
                wait_s = min(_LONGEST_WAIT_S, max(2 * wait_s, self._poll_s))
            with self._lock:
                if self._is_needed() and (has_failed or not self._joining):
                    self._lock.wait(wait_s)

    def _is_needed(self) -> bool:
        return bool(self._followed or self._watching or self._joining)

    def _new_entries(
        self, connection: Any, heads: dict[UUID, int]
    ) -> dict[UUID, tuple[Sequence[LoggedEvent], int | None]]:
        """Return the new entries of the runs that have some, or have ended; with the number of the last one then."""
        if not heads:
            return {}
        found: dict[UUID, tuple[Sequence[LoggedEvent], int | None]] = {}
        seen = {row.id: row for row in rows.heads_of(connection, heads)}
        for run_id, head in heads.items():
            row = seen.get(run_id)
            if row is None:
                found[run_id] = ((), head)
            elif row.last_seq > head or row.ended_at is not None:
                events = rows.events_after(connection, run_id, head, most=_PAGE) if row.last_seq > head else ()
                found[run_id] = (events, row.last_seq if row.ended_at is not None else None)
        return found

    def _tell(self, found: dict[UUID, tuple[Sequence[LoggedEvent], int | None]]) -> bool:
        is_more = False
        with self._lock:
            for run_id, (events, last) in found.items():
                followed = self._followed.get(run_id)
                if followed is None or (events and events[0].seq != followed.head + 1):
                    continue  # whoever followed it left meanwhile; others came
                if events:
                    followed.head = events[-1].seq
                is_over = last is not None and followed.head >= last
                is_more = is_more or len(events) == _PAGE
                followed.feeds = {feed for feed in followed.feeds if feed.offer(events, is_over=is_over)}
                if is_over or not followed.feeds:
                    del self._followed[run_id]
        return is_more

    def _tell_project(self, look: Look, joining: set[ProjectFeed]) -> None:
        changes = self._changes.take_in(look)
        with self._lock:
            for feed in self._watching:
                if look.is_first:
                    feed.restart(self._changes.cursor)
                else:
                    feed.offer(changes, self._changes.cursor)
            for feed in joining & self._joining:
                feed.start(self._changes)
                self._joining.discard(feed)
                self._watching.add(feed)
