"""Brings what a body logs to the store: first onto this machine's disk, then in chunks into the database.

Two threads that begin with the first value: one takes what was logged and spools it, at least once a second, whatever
the database does; the other sends, and tries again for as long as it takes. Neither fails the body. A run that is over
sooner starts neither a file nor a statement: its values go with its completion.
"""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING
from uuid import UUID

from ..runs.points.chunks import MOST_POINTS, Chunk, SeriesTaken, chunks_of, decode, merged, table_of
from ..runs.points.spool import Place, Spool
from ..runs.port import BodyPort
from .series import MetricSeries

if TYPE_CHECKING:
    import pyarrow as pa

SPOOL_S = 0.75
"""How long a point is in memory only, at most; with what writing it takes, a second."""
MOST_UNSPOOLED = 1_000_000
"""Points that wait in memory where no disk takes them; beyond that, the oldest are dropped."""

_SEND_S = 1.0
_LONGEST_PAUSE_S = 30.0
_KEPT_POINTS = 4 * MOST_POINTS
"""Points that are kept in memory beside the disk, so that they need not be read back."""
_MERGED_AT_ONCE = 16
"""So many chunks of one size are sent again as one: a run of a day must not leave a chunk for each second."""
_LEAVE_S = 5.0


@dataclass
class _Waiting:
    """A chunk that the store has not acknowledged."""

    first: int
    rows: int
    chunk: Chunk | None
    """None: it is on the disk alone."""
    place: Place | None
    """None: it is in memory alone."""

    @property
    def end(self) -> int:
        return self.first + self.rows


class PointSender:
    """The way of one attempt's points. Its methods may be called from any thread, and raise nothing but `remaining`.

    Args:
        port: where the points go.
        run_id: the run.
        fence: the fence of this attempt.
        has_history: earlier attempts of this run may have sent points.
        clock: seconds.
    """

    def __init__(
        self,
        port: BodyPort,
        run_id: UUID,
        fence: int,
        logger: logging.Logger,
        *,
        has_history: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.series = MetricSeries(self._notice)
        self.dropped = 0
        """Points that were dropped because neither disk nor store took them."""
        self._port, self._run_id, self._fence = port, run_id, fence
        self._logger, self._clock, self._has_history = logger, clock, has_history
        self._lock = threading.Lock()
        """Held while the fields below are looked at or changed; never while something is sent."""
        self._sending = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._taken = 0
        self._latest: dict[str, float] = {}
        self._sent: list[tuple[int, Chunk]] = []
        """What was sent last, with how often it was merged."""
        self._spool: Spool | None = None
        self._spool_is_away = False
        self._failures, self._try_at = 0, 0.0
        self._closed = threading.Event()
        self._many, self._some = threading.Event(), threading.Event()
        self._threads: list[threading.Lock] = []
        """Each thread's lock, which it holds while it works."""

    # What the two threads do.

    def spool(self) -> None:
        """Take what was logged, and write it to the disk."""
        with self._lock:
            self._take()
            self._write()
            self._drop_oldest()
        self._some.set()

    def send(self) -> bool:
        """Send what waits, unless it is too soon after a failure; return whether the store has all of it."""
        if not self._sending.acquire(timeout=_LEAVE_S):
            return False  # the other thread waits for a store that does not answer
        try:
            while True:
                with self._lock:
                    if not self._waiting:
                        if self._spool is not None:
                            self._spool.clear()
                        return True
                    if self._clock() < self._try_at:
                        return False
                try:
                    new, whole, level, latest = self._next_chunk()
                    known = self._port.record_points(self._run_id, self._fence, whole, latest)
                    self._note_answer(new, whole, level, known)
                except Exception as error:
                    self._note_failure(error)
                    return False
        finally:
            self._sending.release()

    # What the end of an attempt does.

    def remaining(self) -> "tuple[Iterator[pa.RecordBatch], SeriesTaken | None] | None":
        """Return the run's whole series, and what it is made of where something was sent before; None: there is none.

        Nothing is sent any more; what is not in the store yet is kept until `discard` or `keep`.

        Raises:
            FreshlineError: what was sent before cannot be read back.
        """
        self._stop()
        tail = self.series.waiting()
        with self._lock:
            waiting, taken = list(self._waiting), self._taken
        if not taken and not self._has_history:
            return (iter(table_of(tail).to_batches()), None) if tail else None
        stored = self._port.sent_points(self._run_id)
        ends: dict[int, int] = {}
        for chunk in stored:
            ends[chunk.fence] = chunk.end
        known = ends.get(self._fence, 0)
        if taken or tail:
            ends[self._fence] = taken + len(tail)
        # An answer that was lost leaves what the store has among what waits.
        own = [one for one in waiting if one.end > known]
        if not stored and not own and not tail:
            return None

        def batches() -> "Iterator[pa.RecordBatch]":
            for chunk in chain(stored, map(self._load, own)):
                yield from decode(chunk.payload).to_batches()
            yield from table_of(tail).to_batches()

        return batches(), SeriesTaken(ends) if stored or taken else None

    def discard(self) -> None:
        """Forget everything: it was published with the run."""
        self._stop()
        with self._lock:
            self.series.take()
            self._waiting.clear()
            self._close_spool()

    def keep(self) -> None:
        """Send what remains, once; what cannot be sent stays on the disk for whoever starts next on this machine."""
        self._stop()
        if not len(self.series) and not self._waiting:
            self.discard()
            return
        with self._lock:
            self._take()
        self._try_at = 0.0
        if self.send():
            self.discard()
            return
        with self._lock:
            self._write()
            lost = sum(one.rows for one in self._waiting if one.place is None)
            if lost:
                self._logger.warning("%d metric values are lost: neither the store nor a disk took them", lost)
            elif self._spool is not None:
                self._logger.warning(
                    "%d metric values wait in %s: the next start on this machine sends them",
                    sum(one.rows for one in self._waiting), self._spool.path,
                )  # fmt: skip
            self._waiting.clear()
            self._close_spool(keep=True)

    def close(self) -> None:
        """Let go of everything, however the attempt has ended; what is not in the store stays on the disk."""
        self._stop()
        with self._lock:
            self._take()
            if self._waiting:
                self._write()
            self._close_spool(keep=bool(self._waiting))
            self._waiting.clear()

    # How it is done.

    def _notice(self) -> None:
        self._many.set()
        if self._threads or self._closed.is_set():
            return
        with self._lock:
            if self._threads or self._closed.is_set():
                return
            self._many.clear()
            self._start(self._keep_spooling)

    def _start(self, work: Callable[[threading.Lock], None]) -> None:
        working = threading.Lock()
        self._threads.append(working)
        threading.Thread(target=work, args=(working,), name="freshline-points", daemon=True).start()

    def _keep_spooling(self, working: threading.Lock) -> None:
        while not self._closed.is_set():
            self._many.wait(SPOOL_S)
            self._many.clear()
            with working:
                if not self._closed.is_set() and len(self.series):
                    self._quietly(self.spool)
                    if len(self._threads) == 1:
                        self._start(self._keep_sending)

    def _keep_sending(self, working: threading.Lock) -> None:
        while not self._closed.is_set():
            self._some.wait(_LONGEST_PAUSE_S if not self._waiting else _SEND_S)
            self._some.clear()
            with working:
                if not self._closed.is_set():
                    self._quietly(self.send)
            self._closed.wait(_SEND_S)

    def _quietly(self, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception:
            self._logger.exception("metric values could not be brought on their way; it is tried again")

    def _stop(self) -> None:
        if self._closed.is_set():
            return
        self._closed.set()
        # The thread that spools is not woken: it ends by itself within a second, and would take the interpreter now.
        self._some.set()
        until = time.monotonic() + _LEAVE_S
        for working in self._threads:
            # One that waits for a store that does not answer is left to itself: what it sends is known by its number.
            # One that only waits ends by itself: a run need not stay for its farewell.
            if working.acquire(timeout=max(0.0, until - time.monotonic())):
                working.release()

    def _take(self) -> None:
        points = self.series.take()
        for chunk in chunks_of(points, first=self._taken):
            self._waiting.append(_Waiting(chunk.first, chunk.rows, chunk, None))
        self._taken += len(points)
        self._latest.update({name: value for name, _, value, _ in points if name in self.series.latest})

    def _write(self) -> None:
        """Write what waits in memory alone."""
        kept = 0
        try:
            for one in self._waiting:
                if one.place is None and one.chunk is not None:
                    if self._spool is None:
                        self._spool = self._port.open_spool(self._run_id, self._fence)
                    one.place = self._spool.append(one.chunk)
                kept += one.rows
                if kept > _KEPT_POINTS:
                    one.chunk = None
        except OSError as error:
            if not self._spool_is_away:
                self._logger.warning("metric values cannot be spooled (%s); they wait in memory", error)
            self._spool_is_away = True
            return
        if self._spool_is_away:
            self._logger.info("metric values are spooled again")
        self._spool_is_away = False

    def _drop_oldest(self) -> None:
        unspooled = [one for one in self._waiting if one.place is None]
        excess = sum(one.rows for one in unspooled) - MOST_UNSPOOLED
        for one in unspooled:
            if excess <= 0:
                return
            self._waiting.remove(one)
            excess -= one.rows
            if not self.dropped:
                self._logger.warning(
                    "metric values are dropped: neither the store nor a disk takes them, and %d wait in memory",
                    MOST_UNSPOOLED,
                )
            self.dropped += one.rows

    def _next_chunk(self) -> tuple[Chunk, Chunk, int, dict[str, float]]:
        """Return what waits first; the chunk to send, which is the same or has what was sent in small pieces before it;
        how often that was merged; and the latest values of what waits.
        """
        with self._lock:
            latest = dict(self._latest)
            group: list[_Waiting] = []
            for one in self._waiting:
                if group and (one.first != group[-1].end or one.end - group[0].first > MOST_POINTS):
                    break
                group.append(one)
        new = merged([self._load(one) for one in group])
        level, before = 0, len(self._sent)
        whole = [new]
        while True:
            alike = self._sent[max(0, before - _MERGED_AT_ONCE + 1) : before]
            if len(alike) < _MERGED_AT_ONCE - 1 or any(of != level for of, _ in alike):
                break
            parts = [chunk for _, chunk in alike]
            follows = all(a.end == b.first for a, b in zip(parts, [*parts[1:], whole[0]], strict=True))
            if not follows or new.end - parts[0].first > MOST_POINTS:
                break
            whole = [*parts, *whole]
            level, before = level + 1, before - len(alike)
        return new, merged(whole), level, latest

    def _load(self, one: _Waiting) -> Chunk:
        chunk = one.chunk  # asked once: what is on the disk leaves the memory at any moment
        if chunk is not None:
            return chunk
        assert self._spool is not None, "what is not in memory was written"
        assert one.place is not None, "what is not in memory was written"
        return self._spool.read(one.place)

    def _note_answer(self, new: Chunk, whole: Chunk, level: int, known: int) -> None:
        with self._lock:
            if self._failures:
                self._logger.info("metric values are sent again")
            waited = len(self._waiting)
            while self._waiting and self._waiting[0].end <= known:
                self._waiting.popleft()
            if waited and len(self._waiting) == waited and whole.first == new.first:
                raise RuntimeError(f"the store has {known:,} values and does not take those from {new.first:,} on")
            self._failures = 0
            if known != whole.end or whole.rows > MOST_POINTS // 2:
                # The store has other pieces than this process remembers, or one that is merged no more.
                self._sent = []
            else:
                self._sent = [(of, one) for of, one in self._sent if one.end <= whole.first]
                self._sent.append((level, whole))
            if not self._waiting:
                self._latest.clear()

    def _note_failure(self, error: Exception) -> None:
        with self._lock:
            if not self._failures:
                self._logger.warning("metric values cannot be sent (%s); they are kept, and the run carries on", error)
            self._failures += 1
            pause_s = min(_LONGEST_PAUSE_S, 0.5 * 2 ** min(self._failures, 16))
            self._try_at = self._clock() + random.uniform(pause_s / 2, pause_s)

    def _close_spool(self, *, keep: bool = False) -> None:
        if self._spool is not None:
            try:
                self._spool.close(remove=not keep)
            except OSError as error:
                self._logger.warning("%s could not be closed: %s", self._spool.path, error)
            self._spool = None
