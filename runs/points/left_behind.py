"""Sends the spools of processes that are gone: whoever starts next on a machine does it, and the background too."""

import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from ...storage.errors import Conflict, NotFound, ObjectCorrupt
from ...storage.ids import show_run_id
from .chunks import Chunk, behind, decode, in_groups, latest_in, merged
from .spool import Leftover, Spools

_LOGGER = logging.getLogger(__name__)
_MOST_FILES = 100
"""In one pass: a process that starts has other things to do."""


class PointStore(Protocol):
    """Where points go: `PointRecording`, or a server that has one."""

    def record(self, run_id: UUID, fence: int, chunk: Chunk, latest: Mapping[str, float]) -> int:
        """Store a chunk of an attempt's points; return the number behind the last that is there."""
        ...

    def end_of(self, run_id: UUID, fence: int) -> int:
        """Return the number behind the last point of an attempt that has arrived."""
        ...


@dataclass(frozen=True)
class LeftBehind:
    """The spools of one store on this machine, and the way into that store."""

    spools: Spools
    recording: PointStore

    def start(self) -> None:
        """Send what is there in the background, if there is anything."""
        if self.spools.has_files():
            threading.Thread(target=self._pass_quietly, name="freshline-spools", daemon=True).start()

    def pass_once(self) -> int:
        """Send the spools whose writers are gone; return how many of them are in the store now.

        A file that the store refuses, or that is damaged, is set aside. The rest is left for the next pass.

        Raises:
            StoreUnavailable: the database cannot be reached; what it has not got stays where it is.
        """
        sent = 0
        for leftover in self.spools.left_behind():
            sent += self._send(leftover)
            if sent == _MOST_FILES:
                break
        return sent

    def _pass_quietly(self) -> None:
        try:
            self.pass_once()
        except Exception as error:
            _LOGGER.warning("spooled metric values could not be sent (%s); they stay for the next start", error)

    def _send(self, leftover: Leftover) -> bool:
        run_id, fence = leftover.run_id, leftover.fence
        try:
            known = self.recording.end_of(run_id, fence)
            new = [chunk for chunk in leftover.chunks if chunk.end > known]
            rows = 0
            for chunk in _as_sent(new):
                latest = latest_in(decode(chunk.payload))
                end = self.recording.record(run_id, fence, chunk, latest)
                if end < chunk.end:
                    self.recording.record(run_id, fence, behind(chunk, end), latest)
                rows += chunk.rows
        except (Conflict, NotFound, ObjectCorrupt) as refusal:
            _LOGGER.warning("%s is not sent but set aside: %s", leftover.path, refusal)
            leftover.close(refused=True)
            return False
        except BaseException:
            leftover.leave()
            raise
        leftover.close()
        if rows:
            _LOGGER.info("%d metric values of %s that a process had left behind are sent", rows, show_run_id(run_id))
        return True


def _as_sent(chunks: list[Chunk]) -> Iterator[Chunk]:
    for group in in_groups(chunks):
        yield merged(group)
