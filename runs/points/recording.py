"""What a body logs, arriving in the database: a chunk and the latest values in one transaction.

The points of an attempt may also arrive when the attempt is over, from a spool that its process left behind. The fence
says whose they are: only an attempt of this very run has drawn it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ...storage import faults
from ...storage.database import Database
from ...storage.errors import Conflict
from ...storage.ids import show_run_id
from .. import contents, store
from ..models import RunEvent
from ..recording import metric_rows
from ..status import RunStatus
from . import sent
from .chunks import Chunk, SentChunk

LATE = timedelta(days=7)
"""So long after the end of a run its points are still taken."""

_EVENT = RunEvent.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True)
class PointRecording:
    """The transactions of whoever sends points."""

    database: Database

    def record(self, run_id: UUID, fence: int, chunk: Chunk, latest: Mapping[str, float]) -> int:
        """Store a chunk of an attempt's points; return the number behind the last that is here: see `sent.add`.

        The latest values follow while this attempt is the newest of its run and the run has not completed: what a
        completed run has published stays as it was. Its series may still grow.

        Raises:
            NotFound: there is no such run.
            Conflict: no attempt of this run has drawn this fence, the run has ended more than seven days ago, or it was
                deleted for good.
        """

        def work(connection: Connection) -> int:
            now = self.database.now(connection)
            is_newest = _check_sender(connection, run_id, fence, now=now)
            known = sent.end_of(connection, run_id, fence)
            end = sent.add(connection, run_id, fence, chunk, now=now)
            if is_newest and end > known and latest:
                contents.write_metrics(connection, run_id, metric_rows(latest, {}), now=now)
            return end

        return self.database.write(work)

    def end_of(self, run_id: UUID, fence: int) -> int:
        """Return the number behind the last point of an attempt that has arrived."""
        with self.database.read() as connection:
            return sent.end_of(connection, run_id, fence)

    def chunks(self, run_id: UUID) -> Sequence[SentChunk]:
        """Return the chunks of a run, attempt by attempt."""
        with self.database.read() as connection:
            return sent.chunks_of_run(connection, run_id)


def _check_sender(connection: Connection, run_id: UUID, fence: int, *, now: datetime) -> bool:
    """Lock the run; return whether this attempt's values are the run's latest."""
    if store.change(connection, run_id, actor="worker", now=now, held_fence=fence, brief=True) is not None:
        return True
    run = store.get_run(connection, run_id, lock=True)
    if run.erased_at is not None:
        raise Conflict(f"{show_run_id(run_id)} was deleted for good: its points are not taken any more")
    is_known = run.fence == fence or fence in _fences(connection, run_id)
    if not is_known and faults.is_on(faults.Guard.POINT_FENCE):
        raise Conflict(f"no attempt of {show_run_id(run_id)} has drawn the fence {fence}: its points are not taken")
    if run.ended_at is not None and now - run.ended_at > LATE:
        raise Conflict(
            f"{show_run_id(run_id)} ended at {run.ended_at:%Y-%m-%d %H:%M} UTC, more than {LATE.days} days ago: its "
            "points are not taken any more"
        )
    if run.fence == fence and run.status == RunStatus.COMPLETED:
        sent.begin_behind_table(connection, run_id, fence, now=now)
    return bool(run.fence == fence and run.status != RunStatus.COMPLETED)


def _fences(connection: Connection, run_id: UUID) -> set[int]:
    """Return the fences that the run's claims have drawn."""
    query = sa.select(_EVENT.c.payload).where(_EVENT.c.run_id == run_id, _EVENT.c.kind == "run_started")
    return {payload["fence"] for payload in connection.execute(query).scalars()}
