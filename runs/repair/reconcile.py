"""The reconciler: repairs what has diverged from Prefect, and what time alone changes.

Prefect's API state is the authority on Prefect; its events and hooks are not relied on. Every action is a
compare-and-set, so that several reconcilers may run at once. First what needs only the database, which goes on while
Prefect is away; then what is read from Prefect.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from ...deployments.gateway import FlowRunFacts, FlowRunState, Gateway
from ...lineage.models import Deployment
from ...storage import faults
from ...storage.database import Database
from .. import store, waits
from ..ending import release_orphans, release_waiting
from ..redo.backfilling import advance_all
from ..status import LEASED, RunStatus, StopReason
from .adoption import Adoption
from .auto_refresh import refresh_stale
from .closing import Ending, close, ending_of, log, pass_on_cancel
from .deadlines import Deadlines, Grace
from .lapses import sweep
from .mirror import Mirror
from .passes import note_pass

_LOGGER = logging.getLogger(__name__)
_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]
_DISPATCH_WITHIN = timedelta(seconds=60)
"""Before, a run without a flow run says nothing: its dispatch is on its way."""


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
    forced: int = 0
    """Runs that had not stopped in time after their cancellation was asked for."""
    refused: int = 0
    """Runs that had waited too long for their upstreams."""
    mirrored: int = 0
    """Runs of whose steps there was something new."""
    lost: int = 0
    """Runs without a lease whose process was gone."""
    outlived: int = 0
    """Flow runs that Prefect took for running long after their run had ended."""
    backfilled: int = 0
    """Backfills of which runs had ended, or dates had their turn."""
    refreshed: int = 0
    """Stale deployments that got a run by themselves."""


@dataclass
class Reconciler:
    """Compares the records with Prefect and mends them."""

    database: Database
    gateway: Gateway
    lease_s: float = 60.0
    interval_s: float = 15.0
    """How often it passes; a gap is what is longer than a lease and than three passes."""
    start_within_s: float = 86_400.0
    cancel_within_s: float = 180.0
    wait_within_s: float = 7 * 86_400.0

    def __post_init__(self) -> None:
        longest_gap_s = max(self.lease_s, 3 * self.interval_s)
        self._deadlines = Deadlines(
            self.database,
            lease_s=self.lease_s,
            cancel_within_s=self.cancel_within_s,
            wait_within_s=self.wait_within_s,
            grace=Grace(self.lease_s, longest_gap_s),
        )
        self._prefect = Grace(self.lease_s, longest_gap_s)
        self._adoption = Adoption(
            self.database,
            self.gateway,
            start_within_s=self.start_within_s,
            lease_s=self.lease_s,
            grace=self._prefect,
        )
        self._mirror = Mirror(self.database, self.gateway)
        self._not_refreshed: dict[UUID, str] = {}

    def pass_once(self) -> Repairs:
        """Do everything once.

        Raises:
            PrefectError: Prefect cannot be reached; what needs only the database was done.
        """
        faults.reach("reconcile.begin")
        lapsed = sweep(self.database)
        expired = self._deadlines.expire_leases()
        lost = self._deadlines.end_lost_retries() + self._deadlines.end_left_behind()
        forced = self._deadlines.force_cancels()
        released = self._release_ready()
        refused = self._deadlines.refuse_waits()
        backfilled = advance_all(self.database)
        refreshed = refresh_stale(self.database, self._not_refreshed)
        now, runs = self._active()
        closed = self._close_ended([run for run in runs if run.flow_run_id is not None], now=now)
        closed += self._close_homeless([run for run in runs if run.flow_run_id is None], now=now)
        adopted, outlived = self._adoption.pass_once()
        mirrored = self._mirror.pass_once()
        self._note(began_at=now)
        return Repairs(
            expired,
            closed,
            adopted,
            lapsed,
            released,
            forced,
            refused,
            mirrored,
            lost,
            outlived,
            backfilled,
            refreshed,
        )

    def _note(self, *, began_at: datetime) -> None:
        """Leave word of this pass for whoever watches over the reconciler."""
        self.database.write(
            lambda connection: note_pass(connection, began_at=began_at, now=self.database.now(connection)),
            durable=False,
        )

    def _release_ready(self) -> int:
        """Let runs go on whose upstreams are ready without a run having ended, such as after a registration."""

        def work(connection: Connection) -> list[Row[Any]]:
            now = self.database.now(connection)
            before = _waiting(connection)
            release_orphans(connection, now=now)
            release_waiting(connection, changed=waits.awaited_upstreams(connection), now=now)
            return [store.get_run(connection, run_id) for run_id in sorted(before - _waiting(connection))]

        with self.database.read() as connection:
            if not waits.count_waiting(connection):
                return 0
        released = self.database.write(work)
        for run in released:
            log(_LOGGER, self.database, run, "it does not wait any more")
        return len(released)

    def _active(self) -> tuple[datetime, list[Row[Any]]]:
        with self.database.read() as connection:
            return self.database.now(connection), store.active_runs(connection)

    def _close_ended(self, runs: list[Row[Any]], *, now: datetime) -> int:
        """End the runs whose flow run has ended or is gone, and pass on that one is being cancelled."""
        if not runs:
            return 0
        is_retrying = any(run.status == RunStatus.RETRYING for run in runs)
        overdue = {run.id for run in self._deadlines.overdue_retries()} if is_retrying else set()
        flow_runs = self.gateway.read_flow_runs({run.flow_run_id for run in runs})
        # Whoever is to suspend itself needs Prefect for it.
        unclaimed = set() if self._prefect.look(now) else self._deadlines.unclaimed(runs, flow_runs)
        closed = 0
        # Most runs go on: they cost no write transaction.
        for run in self._known_to_this_prefect(runs, flow_runs):
            flow_run = flow_runs.get(run.flow_run_id)
            ending = ending_of(run, flow_run, now=now, start_within_s=self.start_within_s)
            if ending is not None:
                closed += self._close_one(run, ending)
            elif run.id in overdue and _had_a_process(flow_run):
                closed += self._deadlines.end_retry(run)
            elif run.id in unclaimed:
                closed += self._deadlines.end_unclaimed(run)
            elif _is_being_cancelled(run, flow_run):
                self._pass_on_cancel(run)
        return closed

    def _close_homeless(self, runs: list[Row[Any]], *, now: datetime) -> int:
        """End the runs that wait for a flow run of a deployment that Prefect does not have any more."""
        before = now - _DISPATCH_WITHIN
        runs = [run for run in runs if run.status == RunStatus.PENDING and run.created_at <= before]
        gone = self._gone_deployments({run.deployment_id for run in runs}) if runs else {}
        message = "its deployment {} was deleted in Prefect before it could be dispatched: deploy it again"
        return sum(
            self._close_one(
                run,
                Ending(RunStatus.FAILED, StopReason.NOT_DISPATCHED, message.format(gone[run.deployment_id])),
            )
            for run in runs
            if run.deployment_id in gone
        )

    def _close_one(self, run: Row[Any], ending: Ending) -> bool:
        """One run, one transaction: what is wrong with one must not keep the others."""
        faults.reach("reconcile.closing")
        ended = self.database.write(
            lambda connection: close(connection, run, ending, now=self.database.now(connection))
        )
        faults.reach("reconcile.closed")
        if ended is None:
            return False
        log(_LOGGER, self.database, ended, ending.message or "its flow run has ended in Prefect")
        return True

    def _pass_on_cancel(self, run: Row[Any]) -> None:
        changed = self.database.write(
            lambda connection: pass_on_cancel(connection, run, now=self.database.now(connection))
        )
        if changed is not None:
            log(_LOGGER, self.database, changed, "its flow run is being cancelled in Prefect")

    def _known_to_this_prefect(self, runs: list[Row[Any]], flow_runs: Mapping[UUID, FlowRunFacts]) -> list[Row[Any]]:
        """Leave out the runs of which this Prefect knows neither the flow run nor the deployment.

        It may be another server than the one that runs them: that nothing is found there says nothing. Only where it
        is theirs beyond doubt, and no worker holds a run that would be ended by its lease, the deployment is gone.
        """
        missing = {run.deployment_id for run in runs if run.flow_run_id not in flow_runs}
        if not missing:
            return runs
        absent = self._absent_deployments(missing)
        gone = self._gone_deployments(absent) if absent else {}
        strange = absent - gone.keys()
        if strange:
            _LOGGER.warning(
                "Prefect at %s knows neither the flow runs nor %d deployments of runs under way: they are left alone; "
                "is it the server that runs them?", self.gateway.api_url, len(strange),
            )  # fmt: skip
        return [
            run
            for run in runs
            if run.flow_run_id in flow_runs
            or run.deployment_id not in absent
            or (run.deployment_id in gone and run.status not in LEASED)
        ]

    def _absent_deployments(self, deployment_ids: set[UUID]) -> set[UUID]:
        """Return those of these deployments that this Prefect does not have."""
        query = sa.select(_DEPLOYMENT.c.id, _DEPLOYMENT.c.prefect_deployment_id).where(
            _DEPLOYMENT.c.id.in_(deployment_ids)
        )
        with self.database.read() as connection:
            prefect_ids = {row.id: row.prefect_deployment_id for row in connection.execute(query)}
        present = self.gateway.read_deployments(one for one in prefect_ids.values() if one is not None)
        return {deployment for deployment, prefect_id in prefect_ids.items() if prefect_id not in present}

    def _gone_deployments(self, deployment_ids: set[UUID]) -> dict[UUID, str]:
        """Return those of these deployments, with their keys, that were deleted in this Prefect.

        It is theirs when it has another deployment of the same project.
        """
        asked = _DEPLOYMENT.alias("asked")
        is_of_theirs = sa.and_(
            asked.c.id.in_(deployment_ids),
            asked.c.tenant_id == _DEPLOYMENT.c.tenant_id,
            asked.c.project == _DEPLOYMENT.c.project,
        )
        query = sa.select(_DEPLOYMENT).where(
            _DEPLOYMENT.c.prefect_deployment_id.is_not(None), sa.exists().where(is_of_theirs)
        )
        with self.database.read() as connection:
            rows = list(connection.execute(query))
        present = self.gateway.read_deployments(row.prefect_deployment_id for row in rows)
        served = {(row.tenant_id, row.project) for row in rows if row.prefect_deployment_id in present}
        return {
            row.id: row.key
            for row in rows
            if row.id in deployment_ids
            and row.prefect_deployment_id not in present
            and (row.tenant_id, row.project) in served
        }


def _waiting(connection: Connection) -> set[UUID]:
    query = sa.select(store.RUN.c.id).where(store.RUN.c.ended_at.is_(None), store.RUN.c.status == RunStatus.WAITING)
    return set(connection.execute(query).scalars())


def _is_being_cancelled(run: Row[Any], flow_run: FlowRunFacts | None) -> bool:
    is_cancelling = flow_run is not None and flow_run.state_type == FlowRunState.CANCELLING
    return is_cancelling and run.status == RunStatus.RUNNING


def _had_a_process(flow_run: FlowRunFacts | None) -> bool:
    """True when Prefect takes the flow run for one that a process executes, or sleeps in before its next attempt."""
    return flow_run is not None and (flow_run.state_type == FlowRunState.RUNNING or flow_run.is_retried_in_process)
