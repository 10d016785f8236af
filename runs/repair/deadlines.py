"""What time alone ends: a lease that nobody renews, a cancellation that nobody heeds, a wait without an end.

And a retry that nobody makes. Between two attempts a run holds no lease. Measured on Prefect 3.8.8: the process that
made the failed attempt sleeps until the next one is due; its flow run is meanwhile `AwaitingRetry` (SCHEDULED), with a
policy that says `in_process`, and workers leave such a flow run alone. When that process is killed, its worker says
Crashed within a second. When the worker is lost too, or there is none, as in a script, the flow run stays
`AwaitingRetry` for good: another worker on the same pool starts new flow runs, and not this one. Only a retry by hand
(`reschedule`) goes to a worker, and may have to wait for one as long as any flow run.

And a claim that nobody makes: a run that no worker holds, although Prefect has called its flow run Running for longer
than a lease. Its process died before its claim, or before it suspended itself. One that was only stopped, and claims
later, gets a run of the next generation: this one was given up.

Needs the database and nothing else, but for what Prefect is asked about by the reconciler: it goes on while Prefect is
away. Each run is a transaction of its own.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from ...deployments.gateway import FlowRunFacts
from ...lineage.models import Deployment, DeploymentState
from ...storage import faults
from ...storage.database import Database
from ...storage.faults import Guard
from ...storage.statement import one_of
from ...storage.words import Trigger
from .. import outbox, store
from .. import run_events as events
from ..gate import READY
from ..models import RunDependency, RunEvent
from ..status import LEASED, TERMINAL, RunStatus, StopReason
from .closing import Ending, close, log, running_for

_LOGGER = logging.getLogger(__name__)
_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]
_STATE = DeploymentState.__table__  # type: ignore[attr-defined]
_DEPENDENCY = RunDependency.__table__  # type: ignore[attr-defined]
_EVENT = RunEvent.__table__  # type: ignore[attr-defined]
_RUN = store.RUN
_DAY_S = 86_400.0
_IS_CALLED = sa.and_(_RUN.c.background.is_(False), one_of(_RUN.c.trigger, {Trigger.MANUAL, Trigger.SUBFLOW}))
"""Of a flow that a script or another flow calls: no worker ever starts it."""

CRASH_AFTER = timedelta(seconds=60)
"""How long Prefect's worker has to end the process of a flow run whose cancellation was forced."""


_WITHOUT_LEASE = frozenset({RunStatus.PENDING, RunStatus.WAITING, RunStatus.PAUSED})
"""No worker holds such a run, and none is asleep with it as with one that is retried."""


@dataclass
class Grace:
    """After a gap between two looks nothing is ended for one lease: the workers could not be heard of either."""

    lease_s: float
    longest_gap_s: float
    """Whoever looks less often than this was away, and so may the workers have been."""
    _last_look_at: datetime | None = None
    _until: datetime | None = None

    def look(self, now: datetime) -> bool:
        """Look, and return whether what seems to be lost is spared."""
        if self._last_look_at is not None and now - self._last_look_at > timedelta(seconds=self.longest_gap_s):
            self._until = now + timedelta(seconds=self.lease_s)
        self._last_look_at = now
        return self._until is not None and now < self._until


@dataclass
class Deadlines:
    """Ends what has run out of time."""

    database: Database
    lease_s: float
    cancel_within_s: float
    wait_within_s: float
    grace: Grace
    """After a gap in which the database, or this machine, was away."""

    def expire_leases(self) -> int:
        """End the runs whose worker was not heard of for a lease, and have their flow runs forced to Crashed."""
        with self.database.read() as connection:
            now = self.database.now(connection)
            lost = _found(connection, one_of(_RUN.c.status, LEASED), _RUN.c.lease_until < now)
        if self.grace.look(now) or not faults.is_on(Guard.LEASE):
            return 0
        return sum(self._expire(run) for run in lost)

    def end_lost_retries(self) -> int:
        """End the runs of called flows whose next attempt did not begin within a lease of its time.

        What a worker might start is Prefect's to say: the reconciler asks it about `overdue_retries`.
        """
        return sum(self.end_retry(run) for run in self._overdue_retries(_IS_CALLED))

    def overdue_retries(self) -> list[Row[Any]]:
        """Return the runs that worker and Prefect may still have, whose next attempt was due a lease ago."""
        return self._overdue_retries(sa.not_(_IS_CALLED))

    def end_retry(self, run: Row[Any]) -> bool:
        """End a run between two attempts whose process is gone, and have its flow run forced to Crashed."""
        why = "its next attempt did not begin: its process is gone"
        if run.error_message:
            why = f"{why}; the last one failed: {run.error_message}"
        return self._crash(run, Ending(RunStatus.FAILED, StopReason.CRASHED, why), why)

    def unclaimed(self, runs: Iterable[Row[Any]], flow_runs: Mapping[UUID, FlowRunFacts]) -> set[UUID]:
        """Return which of these runs no worker holds, although Prefect has executed their flow runs for a lease.

        Nor has anything happened to such a run for as long: one that was adopted late has its time too.
        """
        lease = timedelta(seconds=self.lease_s)
        with self.database.read() as connection:
            now = self.database.now(connection)
            suspects = [
                run.id
                for run in runs
                if run.status in _WITHOUT_LEASE
                # Prefect calls a flow Running that was called, and unwound by the suspension of its caller.
                and (flow_run := flow_runs.get(run.flow_run_id)) is not None
                and flow_run.deployment_id is not None
                and running_for(flow_run, now=now) >= lease
            ]
            if self.grace.look(now) or not suspects:
                return set()
            changed = sa.select(_EVENT.c.run_id).where(_EVENT.c.run_id.in_(suspects), _EVENT.c.at > now - lease)
            return set(suspects) - set(connection.execute(changed).scalars())

    def end_unclaimed(self, run: Row[Any]) -> bool:
        """End a run that no worker holds and whose process is gone, and have its flow run forced to Crashed."""
        why = "its process was lost before it held the run: nothing was heard of it for a whole lease"
        return self._crash(run, Ending(RunStatus.FAILED, StopReason.CRASHED, why), why)

    def end_left_behind(self) -> int:
        """End the runs that were suspended within a flow that called them, and has ended without calling again.

        Nobody can suspend a called flow. But its caller's suspension unwinds it too: measured on Prefect 3.8.8, its
        next task raises the signal, its flow run stays Running, and the caller that is resumed calls it in the same
        flow run, which is its next attempt.
        """
        why = "the run that called it ended while it was suspended"
        cancelled = Ending(RunStatus.CANCELLED, StopReason.CANCELLED_BY_USER, why)
        crashed = Ending(RunStatus.FAILED, StopReason.CRASHED, why)
        with self.database.read() as connection:
            left = [(run, cancelled) for run in _left_behind(connection, {RunStatus.CANCELLED})]
            left += [(run, crashed) for run in _left_behind(connection, TERMINAL - {RunStatus.CANCELLED})]
        return sum(self._crash(run, ending, why) for run, ending in left)

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

    def _overdue_retries(self, *conditions: sa.ColumnElement[bool]) -> list[Row[Any]]:
        failed = sa.select(sa.func.max(_EVENT.c.at)).where(
            _EVENT.c.run_id == _RUN.c.id, _EVENT.c.kind == "attempt_failed"
        )
        due_at = sa.func.coalesce(_RUN.c.resume_due_at, failed.scalar_subquery())
        is_retrying = one_of(_RUN.c.status, {RunStatus.RETRYING})
        with self.database.read() as connection:
            now = self.database.now(connection)
            is_overdue = due_at <= now - timedelta(seconds=self.lease_s)
            overdue = _found(connection, _RUN.c.ended_at.is_(None), is_retrying, is_overdue, *conditions)
        return [] if self.grace.look(now) else overdue

    def _expire(self, run: Row[Any]) -> bool:
        faults.reach("reconcile.expiring")
        why = f"its worker {run.lease_owner} was not heard of for a whole lease"
        ended = self._crash(run, Ending(RunStatus.FAILED, StopReason.LEASE_EXPIRED), why, holds_lease=True)
        faults.reach("reconcile.expired")
        return ended

    def _crash(self, run: Row[Any], ending: Ending, why: str, *, holds_lease: bool = False) -> bool:
        """End a run whose process is gone, and have its flow run forced to Crashed; a heartbeat wins."""

        def work(connection: Connection) -> Row[Any] | None:
            now = self.database.now(connection)
            ended = close(connection, run, ending, now=now, lease_before=now if holds_lease else None)
            if ended is not None and ended.flow_run_id is not None:
                key = f"crash:{run.id}:{run.attempt}"
                outbox.enqueue(connection, outbox.Topic.CRASH, run.id, dedupe_key=key, now=now)
            return ended

        return self._log(self.database.write(work), why)

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
                outbox.resume(connection, ended, now=now)
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


def _left_behind(connection: Connection, ends: frozenset[RunStatus] | set[RunStatus]) -> list[Row[Any]]:
    """Return the runs that are suspended although the run that called them has ended so."""
    caller = _RUN.alias("caller")
    has_ended = sa.exists().where(caller.c.id == _RUN.c.parent_id, one_of(caller.c.status, ends))
    is_paused = one_of(_RUN.c.status, {RunStatus.PAUSED})
    return _found(connection, _RUN.c.ended_at.is_(None), is_paused, _IS_CALLED, has_ended)


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
