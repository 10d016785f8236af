"""What time alone ends: a lease that nobody renews, a cancellation that nobody heeds, a wait without an end.

Needs the database and nothing else: it goes on while Prefect is away. Each run is a transaction of its own.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from ..lineage.models import Deployment, DeploymentState
from ..storage import faults
from ..storage.database import Database
from ..storage.faults import Guard
from ..storage.statement import one_of
from . import events, outbox, store
from .closing import Ending, close, log
from .gate import READY
from .models import RunDependency, RunEvent
from .status import LEASED, RunStatus, StopReason

_LOGGER = logging.getLogger(__name__)
_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]
_STATE = DeploymentState.__table__  # type: ignore[attr-defined]
_DEPENDENCY = RunDependency.__table__  # type: ignore[attr-defined]
_EVENT = RunEvent.__table__  # type: ignore[attr-defined]
_RUN = store.RUN
_DAY_S = 86_400.0

CRASH_AFTER = timedelta(seconds=60)
"""How long Prefect's worker has to end the process of a flow run whose cancellation was forced."""


@dataclass
class Deadlines:
    """Ends what has run out of time."""

    database: Database
    lease_s: float
    cancel_within_s: float
    wait_within_s: float
    longest_gap_s: float
    """Whoever looks less often than this was away, and so may the workers have been."""
    _last_look_at: datetime | None = None
    _spare_until: datetime | None = None
    """After a gap nothing expires for one lease: the workers could not beat either."""

    def expire_leases(self) -> int:
        """End the runs whose worker was not heard of for a lease, and have their flow runs forced to Crashed."""
        with self.database.read() as connection:
            now = self.database.now(connection)
            lost = _found(connection, one_of(_RUN.c.status, LEASED), _RUN.c.lease_until < now)
        if self._is_sparing(now) or not faults.is_on(Guard.LEASE):
            return 0
        return sum(self._expire(run) for run in lost)

    def force_cancels(self) -> int:
        """End the runs that go on long after their cancellation was asked for.

        Their worker is fenced at its next heartbeat. The flow run is cancelled in Prefect, whose worker then ends the
        process, and forced to Crashed if that does not happen.
        """
        with self.database.read() as connection:
            cutoff = self.database.now(connection) - timedelta(seconds=self.cancel_within_s)
            is_cancelling = one_of(_RUN.c.status, {RunStatus.CANCELLING})
            due = _found(connection, _RUN.c.ended_at.is_(None), is_cancelling, _RUN.c.cancel_requested_at <= cutoff)
        return sum(self._force(run) for run in due)

    def refuse_waits(self) -> int:
        """Refuse the runs that have waited too long for their upstreams, naming those that are not ready."""
        began = sa.select(sa.func.max(_EVENT.c.at)).where(_EVENT.c.run_id == _RUN.c.id, _EVENT.c.kind == "run_waiting")
        with self.database.read() as connection:
            cutoff = self.database.now(connection) - timedelta(seconds=self.wait_within_s)
            is_waiting = one_of(_RUN.c.status, {RunStatus.WAITING})
            is_due = sa.and_(_RUN.c.created_at <= cutoff, began.scalar_subquery() <= cutoff)
            due = _found(connection, _RUN.c.ended_at.is_(None), is_waiting, is_due)
        return sum(self._refuse(run) for run in due)

    def _is_sparing(self, now: datetime) -> bool:
        """True for one lease after a gap in which the database, or this machine, was away."""
        if self._last_look_at is not None and now - self._last_look_at > timedelta(seconds=self.longest_gap_s):
            self._spare_until = now + timedelta(seconds=self.lease_s)
        self._last_look_at = now
        return self._spare_until is not None and now < self._spare_until

    def _expire(self, run: Row[Any]) -> bool:
        def work(connection: Connection) -> Row[Any] | None:
            now = self.database.now(connection)
            ended = close(
                connection, run, Ending(RunStatus.FAILED, StopReason.LEASE_EXPIRED), now=now, lease_before=now
            )
            if ended is not None and ended.flow_run_id is not None:
                key = f"crash:{run.id}:{run.attempt}"
                outbox.enqueue(connection, outbox.Topic.CRASH, run.id, dedupe_key=key, now=now)
            return ended

        faults.reach("reconcile.expiring")
        ended = self.database.write(work)
        faults.reach("reconcile.expired")
        return self._log(ended, f"its worker {run.lease_owner} was not heard of for a whole lease")

    def _force(self, run: Row[Any]) -> bool:
        def work(connection: Connection) -> Row[Any] | None:
            now = self.database.now(connection)
            after_s = (now - run.cancel_requested_at).total_seconds()
            cancelled = Ending(RunStatus.CANCELLED, StopReason.CANCELLED_BY_USER)
            ended = close(connection, run, cancelled, now=now, first=[events.CancelForced(after_s=after_s)])
            if ended is not None and ended.flow_run_id is not None:
                outbox.enqueue(connection, outbox.Topic.CANCEL, run.id, dedupe_key=f"cancel:{run.id}", now=now)
                key = f"crash:{run.id}:{run.attempt}"
                outbox.enqueue(connection, outbox.Topic.CRASH, run.id, dedupe_key=key, now=now + CRASH_AFTER)
            return ended

        ended = self.database.write(work)
        return self._log(ended, f"it did not stop within {_shown(self.cancel_within_s)} of its cancellation")

    def _refuse(self, run: Row[Any]) -> bool:
        def work(connection: Connection) -> Row[Any] | None:
            now = self.database.now(connection)
            for_what = " and ".join(_awaited(connection, run)) or "its upstreams"
            message = f"it waited {_shown(self.wait_within_s)} for {for_what}"
            ended = close(connection, run, Ending(RunStatus.REFUSED, StopReason.WAITED_TOO_LONG, message), now=now)
            if ended is not None and ended.flow_run_id is not None:
                # Its flow run is suspended: it comes to its end by claiming once more.
                key = f"resume:{run.id}:{ended.last_seq}"
                outbox.enqueue(connection, outbox.Topic.RESUME, run.id, dedupe_key=key, now=now)
            return ended

        ended = self.database.write(work)
        return self._log(ended, ended.error_message if ended is not None else "")

    def _log(self, ended: Row[Any] | None, message: str) -> bool:
        if ended is None:
            return False
        log(_LOGGER, self.database, ended, message)
        return True


def _found(connection: Connection, *conditions: sa.ColumnElement[bool]) -> list[Row[Any]]:
    """Return the runs for which all of this holds, oldest first."""
    # Sorted here: for the sake of the order SQLite would read every run that there ever was.
    return sorted(connection.execute(sa.select(_RUN).where(*conditions)), key=lambda run: run.id)


def _awaited(connection: Connection, run: Row[Any]) -> list[str]:
    """Return what the run waits for and is not ready, such as `refresh/prices (stale)`."""
    rows = connection.execute(
        sa.select(_DEPLOYMENT.c.key, _STATE.c.freshness)
        .join(_DEPENDENCY, _DEPENDENCY.c.upstream_id == _DEPLOYMENT.c.id)
        .join(_STATE, sa.and_(_STATE.c.deployment_id == _DEPLOYMENT.c.id, _STATE.c.partition == ""))
        .where(_DEPENDENCY.c.run_id == run.id, _STATE.c.freshness.not_in(sorted(READY)))
        .order_by(_DEPLOYMENT.c.key)
    )
    return [f"{row.key} ({row.freshness})" for row in rows]


def _shown(seconds: float) -> str:
    return f"{seconds:g} s" if seconds < _DAY_S else f"{seconds / _DAY_S:g} days"
