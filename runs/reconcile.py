"""The reconciler: repairs what has diverged from Prefect, and what time alone changes.

Prefect's API state is the authority on Prefect; its events and hooks are not relied on. Every action is a
compare-and-set, so that several reconcilers may run at once.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from ..deployments.gateway import FlowRunFacts, FlowRunState, Gateway
from ..lineage import staleness
from ..lineage.models import Deployment, DeploymentState, Freshness
from ..storage.database import Database
from ..storage.errors import InvalidInput
from . import events, outbox, store
from .ending import end_run, release_orphans, release_waiting
from .intake import ensure_run
from .status import LEASED, RunStatus, StopReason

_LOGGER = logging.getLogger(__name__)
_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]
_STATE = DeploymentState.__table__  # type: ignore[attr-defined]
_ACTOR = "reconciler"
_LOOK_BACK = timedelta(hours=24)

_END_OF = {
    FlowRunState.CANCELLED: (RunStatus.CANCELLED, StopReason.CANCELLED_BY_USER),
    FlowRunState.CRASHED: (RunStatus.FAILED, StopReason.CRASHED),
    FlowRunState.FAILED: (RunStatus.FAILED, StopReason.ERROR),
    # The body returned and yet never completed its run: its result was not published.
    FlowRunState.COMPLETED: (RunStatus.FAILED, StopReason.CRASHED),
}


@dataclass(frozen=True)
class Repairs:
    """What one pass did."""

    expired: int = 0
    """Runs whose lease had run out."""
    closed: int = 0
    """Runs that Prefect says have ended."""
    adopted: int = 0
    """Flow runs that had no run."""
    lapsed: int = 0
    """Deployments whose policy had lapsed."""
    released: int = 0
    """Waiting runs whose upstreams had become ready by something else than a run."""


@dataclass
class Reconciler:
    """Compares the records with Prefect and mends them."""

    database: Database
    gateway: Gateway
    lease_s: float = 60.0
    interval_s: float = 15.0
    """How often it passes; a gap is what is longer than a lease and than three passes."""
    start_within_s: float = 86_400.0
    _last_pass_at: datetime | None = None
    _spare_until: datetime | None = None
    """After a gap nothing expires for one lease: the workers could not beat either."""

    def pass_once(self) -> Repairs:
        """Do everything once.

        Raises:
            PrefectError: Prefect cannot be reached; what needs only the database was done.
        """
        lapsed = self._lapse_policies()
        expired = self._expire_leases()
        released = self._release_ready()
        closed = self._close_ended()
        return Repairs(expired, closed, self._adopt(), lapsed, released)

    def _lapse_policies(self) -> int:
        def work(connection: Connection) -> int:
            now = self.database.now(connection)
            due = connection.execute(
                sa.select(_STATE.c.deployment_id).where(
                    _STATE.c.lapses_at <= now, _STATE.c.freshness != Freshness.STALE
                )
            ).scalars()
            changes = staleness.propagate(connection, list(due), now=now)
            return len(changes)

        return self.database.write(work)

    def _release_ready(self) -> int:
        """Let runs go on whose upstreams are ready without a run having ended, such as after a registration."""

        def work(connection: Connection) -> int:
            now = self.database.now(connection)
            before = store.count_waiting(connection)
            release_orphans(connection, now=now)
            release_waiting(connection, changed=store.awaited_upstreams(connection), now=now)
            return before - store.count_waiting(connection)

        return self.database.write(work)

    def _expire_leases(self) -> int:
        def work(connection: Connection) -> int:
            now = self.database.now(connection)
            if self._is_sparing(now):
                return 0
            expired = 0
            for run in store.active_runs(connection):
                if run.status in LEASED and run.lease_until < now:
                    expired += self._lose(connection, run, now=now)
            return expired

        return self.database.write(work)

    def _is_sparing(self, now: datetime) -> bool:
        """True for one lease after a gap in which the database, or this machine, was away."""
        lease = timedelta(seconds=self.lease_s)
        longest = max(lease, timedelta(seconds=3 * self.interval_s))
        if self._last_pass_at is not None and now - self._last_pass_at > longest:
            self._spare_until = now + lease
        self._last_pass_at = now
        return self._spare_until is not None and now < self._spare_until

    def _close_ended(self) -> int:
        """End the runs whose flow run has ended or is gone."""
        with self.database.read() as connection:
            now = self.database.now(connection)
            runs = [run for run in store.active_runs(connection) if run.flow_run_id is not None]
        if not runs:
            return 0
        flow_runs = self.gateway.read_flow_runs({run.flow_run_id for run in runs})
        found = [(run, flow_runs.get(run.flow_run_id)) for run in self._known_to_this_prefect(runs, flow_runs)]
        # Most runs go on: they cost no write transaction.
        return sum(
            self._close_one(run, flow_run)
            for run, flow_run in found
            if self._end_of(run, flow_run, now=now) is not None
        )

    def _close_one(self, run: Row[Any], flow_run: FlowRunFacts | None) -> bool:
        """One run, one transaction: what is wrong with one must not keep the others."""

        def work(connection: Connection) -> bool:
            return self._close(connection, run, flow_run, now=self.database.now(connection))

        return self.database.write(work)

    def _known_to_this_prefect(self, runs: list[Row[Any]], flow_runs: Mapping[UUID, FlowRunFacts]) -> list[Row[Any]]:
        """Leave out the runs of which this Prefect knows neither the flow run nor the deployment.

        It may be another server than the one that runs them: that nothing is found there says nothing.
        """
        missing = {run.deployment_id for run in runs if run.flow_run_id not in flow_runs}
        if not missing:
            return runs
        query = sa.select(_DEPLOYMENT.c.id, _DEPLOYMENT.c.prefect_deployment_id).where(_DEPLOYMENT.c.id.in_(missing))
        with self.database.read() as connection:
            prefect_ids = {row.id: row.prefect_deployment_id for row in connection.execute(query)}
        present = self.gateway.read_deployments(one for one in prefect_ids.values() if one is not None)
        strange = {deployment for deployment, prefect_id in prefect_ids.items() if prefect_id not in present}
        if strange:
            _LOGGER.warning(
                "Prefect at %s knows neither the flow runs nor %d deployments of runs under way: they are left alone; "
                "is it the server that runs them?", self.gateway.api_url, len(strange),
            )  # fmt: skip
        return [run for run in runs if run.flow_run_id in flow_runs or run.deployment_id not in strange]

    def _close(self, connection: Connection, run: Row[Any], flow_run: FlowRunFacts | None, *, now: datetime) -> bool:
        found = self._end_of(run, flow_run, now=now)
        return found is not None and self._end(connection, run, *found, flow_run, now=now)

    def _end_of(
        self, run: Row[Any], flow_run: FlowRunFacts | None, *, now: datetime
    ) -> tuple[RunStatus, StopReason] | None:
        """Return how the run has ended according to Prefect; None when it goes on."""
        if flow_run is None:
            return RunStatus.CANCELLED, StopReason.DELETED_IN_PREFECT
        if flow_run.state_type == FlowRunState.FAILED and run.attempt == 0:
            return RunStatus.FAILED, StopReason.NEVER_STARTED
        if flow_run.state_type in _END_OF:
            return _END_OF[flow_run.state_type]
        if run.status == RunStatus.PENDING and not flow_run.has_begun:
            due_at = flow_run.expected_start_at or run.created_at
            if now > due_at + timedelta(seconds=self.start_within_s):
                return RunStatus.FAILED, StopReason.NEVER_STARTED
        return None

    def _adopt(self) -> int:
        """Record a run for each flow run of our deployments that has begun or ended without one."""
        with self.database.read() as connection:
            now = self.database.now(connection)
            query = sa.select(_DEPLOYMENT.c.prefect_deployment_id, _DEPLOYMENT.c.created_at).where(
                _DEPLOYMENT.c.prefect_deployment_id.is_not(None), _DEPLOYMENT.c.retired_at.is_(None)
            )
            since = {row.prefect_deployment_id: row.created_at for row in connection.execute(query)}
        if not since:
            return 0
        # A flow run that is still scheduled gets its record when it leaves that state; one from before its
        # deployment was registered gets none.
        left_scheduled = [
            flow_run
            for flow_run in self.gateway.recent_flow_runs(since, since=now - _LOOK_BACK, until=now)
            if flow_run.state_type not in (None, FlowRunState.SCHEDULED, FlowRunState.PENDING)
            and flow_run.expected_start_at >= since[flow_run.deployment_id]
        ]
        if not left_scheduled:
            return 0

        with self.database.read() as connection:
            known = store.known_flow_runs(connection, [flow_run.id for flow_run in left_scheduled])
        return sum(self._adopt_one(flow_run) for flow_run in left_scheduled if flow_run.id not in known)

    def _adopt_one(self, flow_run: FlowRunFacts) -> bool:
        """One flow run, one transaction: one that cannot be recorded must not keep the others."""

        def work(connection: Connection) -> bool:
            now = self.database.now(connection)
            run = ensure_run(connection, flow_run, now=now, is_starting=False)
            if run is not None:
                self._close(connection, run, flow_run, now=now)
            return run is not None

        try:
            return self.database.write(work)
        except InvalidInput as refusal:
            _LOGGER.warning("the flow run %s cannot be recorded: %s", flow_run.name, refusal)
            return False

    def _end(
        self,
        connection: Connection,
        run: Row[Any],
        status: RunStatus,
        reason: StopReason,
        flow_run: FlowRunFacts | None,
        *,
        now: datetime,
        lease_before: datetime | None = None,
    ) -> bool:
        """End a run as Prefect says; a worker that has ended it, or has beaten, meanwhile wins."""
        said = flow_run.state_message if flow_run is not None else None
        event: events.Event
        if status == RunStatus.CANCELLED:
            if run.status == RunStatus.RUNNING:
                store.transition(
                    connection,
                    run.id,
                    RunStatus.CANCELLING,
                    [events.CancelRequested()],
                    actor="prefect",
                    now=now,
                    held_fence=run.fence,
                    cancel_requested_at=now,
                    lease_until=run.lease_until,
                    lease_owner=run.lease_owner,
                )
            event = events.RunCancelled(stop_reason=reason)
        else:
            event = events.RunFailed(stop_reason=reason, message=said)
        ended = end_run(
            connection,
            run.id,
            status,
            reason,
            event,
            actor=_ACTOR,
            now=now,
            held_fence=run.fence,
            lease_before=lease_before,
            error_message=said or run.error_message,
        )
        return ended is not None

    def _lose(self, connection: Connection, run: Row[Any], *, now: datetime) -> bool:
        """End a run whose worker is gone, and have its flow run forced to Crashed."""
        reason = StopReason.LEASE_EXPIRED
        if not self._end(connection, run, RunStatus.FAILED, reason, None, now=now, lease_before=now):
            return False
        if run.flow_run_id is not None:
            outbox.enqueue(connection, outbox.Topic.CRASH, run.id, dedupe_key=f"crash:{run.id}:{run.attempt}", now=now)
        return True
