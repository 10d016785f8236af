"""Every end of a run, in one place, and what follows from it: those that waited for it go on or end too."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from ..lineage.models import Activity, DeploymentState, Freshness
from ..storage.words import IfReady
from . import events, outbox, store
from .gate import READY
from .status import LEASED, RunStatus, StopReason

_STATE = DeploymentState.__table__  # type: ignore[attr-defined]


def end_run(
    connection: Connection,
    run_id: UUID,
    status: RunStatus,
    stop_reason: StopReason,
    event: events.Event,
    *,
    actor: str,
    now: datetime,
    held_fence: int | None = None,
    lease_before: datetime | None = None,
    **values: Any,
) -> Row[Any] | None:
    """End a run with its last event; return its row, or None when it was not allowed to end so.

    In the caller's transaction, also: the deployment's activity and last end, and whoever waited for the run.
    """
    row = store.transition(
        connection,
        run_id,
        status,
        [event],
        actor=actor,
        now=now,
        held_fence=held_fence,
        lease_before=lease_before,
        stop_reason=stop_reason,
        **values,
    )
    if row is None:
        return None
    _note_end(connection, row, now=now)
    release_waiting(connection, ended=row, now=now)
    return row


def release_waiting(
    connection: Connection, *, ended: Row[Any] | None = None, changed: Iterable[UUID] = (), now: datetime
) -> None:
    """Let runs go on that waited for this run, or for these deployments to be ready."""
    run_id = ended.id if ended is not None else None
    for dependency in store.dependencies_on(connection, run_id=run_id, upstream_ids=changed):
        # Two upstreams that end at the same moment must see each other's removal.
        if store.get_run(connection, dependency.run_id, lock=True).status != RunStatus.WAITING:
            continue
        is_ready = freshness_now(connection, dependency.upstream_id) in READY
        if ended is not None and dependency.upstream_run_id == ended.id:
            # A run that completes while its own upstream moves leaves its deployment stale: the gate looks again
            # when the waiting run is claimed.
            if ended.status not in (RunStatus.COMPLETED, RunStatus.SKIPPED) and not is_ready:
                _refuse(connection, dependency.run_id, because=ended, now=now)
                continue
        elif not is_ready:
            continue
        if store.remove_dependency(connection, dependency.run_id, dependency.upstream_id) == 0:
            _release(connection, dependency.run_id, now=now)


def release_orphans(connection: Connection, *, now: datetime) -> None:
    """Let runs go on whose last upstream ended without their being told: a net under `release_waiting`."""
    ended, free = store.orphaned_waits(connection)
    for run_id in sorted(ended):
        release_waiting(connection, ended=store.get_run(connection, run_id), now=now)
    for run_id in free:
        if store.get_run(connection, run_id, lock=True).status == RunStatus.WAITING:
            _release(connection, run_id, now=now)


def _release(connection: Connection, run_id: UUID, *, now: datetime) -> None:
    run = store.get_run(connection, run_id)
    if run.request.get("if_ready") == IfReady.SKIP and freshness_now(connection, run.deployment_id) in READY:
        # Early cutoff: what it waited for has made its deployment ready without it.
        end_run(
            connection,
            run_id,
            RunStatus.SKIPPED,
            StopReason.ALREADY_READY,
            events.RunSkipped(stop_reason=StopReason.ALREADY_READY),
            actor="freshline",
            now=now,
        )
        if run.flow_run_id is None:
            return
    else:
        store.transition(connection, run_id, RunStatus.PENDING, [events.RunReleased()], actor="freshline", now=now)
    # A run that began in Prefect is suspended there: its flow run goes on, and claims again.
    topic = outbox.Topic.DISPATCH if run.flow_run_id is None else outbox.Topic.RESUME
    outbox.enqueue(connection, topic, run_id, dedupe_key=f"{topic}:{run_id}:{run.last_seq}", now=now)


def _refuse(connection: Connection, run_id: UUID, *, because: Row[Any], now: datetime) -> None:
    key = store.deployment_key(connection, because.deployment_id)
    reason = f"the run of {key} that was to refresh it {because.status} ({because.stop_reason})"
    row = end_run(
        connection,
        run_id,
        RunStatus.REFUSED,
        StopReason.UPSTREAM_NOT_READY,
        events.RunRefused(stop_reason=StopReason.UPSTREAM_NOT_READY, message=reason),
        actor="freshline",
        now=now,
        error_message=reason,
    )
    if row is not None and row.flow_run_id is not None:
        outbox.enqueue(connection, outbox.Topic.RESUME, run_id, dedupe_key=f"resume:{run_id}:{row.last_seq}", now=now)


def freshness_now(connection: Connection, deployment_id: UUID) -> Freshness:
    """Return the freshness of a deployment as this transaction sees it."""
    query = sa.select(_STATE.c.freshness).where(_STATE.c.deployment_id == deployment_id, _STATE.c.partition == "")
    return Freshness(connection.execute(query).scalar_one())


def _note_end(connection: Connection, run: Row[Any], *, now: datetime) -> None:
    is_this = sa.and_(_STATE.c.deployment_id == run.deployment_id, _STATE.c.partition == run.partition)
    connection.execute(sa.select(_STATE.c.deployment_id).where(is_this).with_for_update(key_share=True)).fetchall()
    values: dict[str, Any] = {"last_run_id": run.id, "last_run_at": now, "last_stop_reason": run.stop_reason}
    if run.attempt > 0:
        # What never started says nothing of the deployment's activity.
        values["activity"] = Activity.ERROR if run.status == RunStatus.FAILED else Activity.IDLE
        if any(other.status in LEASED for other in store.active_runs_of(connection, [run.deployment_id])):
            values["activity"] = Activity.RUNNING
    connection.execute(sa.update(_STATE).where(is_this).values(values))
