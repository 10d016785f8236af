"""Every end of a run, in one place, and what follows from it: those that waited for it go on or end too."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from ..lineage import staleness
from ..lineage.models import Activity, Deployment, DeploymentState, Freshness
from ..storage.compiled import Answer
from ..storage.statement import Statement
from ..storage.words import IfReady
from . import outbox, run_statements, store, waits
from . import run_events as events
from .gate import READY
from .status import RunStatus, StopReason

_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]
_STATE = DeploymentState.__table__  # type: ignore[attr-defined]
_FRESHNESS = Statement(
    lambda _: sa.select(_STATE.c.freshness).where(
        _STATE.c.deployment_id == sa.bindparam("deployment_id"), _STATE.c.partition == ""
    )
)
_READINESS = Statement(
    lambda _: (
        sa.select(_STATE.c.freshness)
        .join(_DEPLOYMENT, _DEPLOYMENT.c.id == _STATE.c.deployment_id)
        .where(
            _STATE.c.deployment_id == sa.bindparam("deployment_id"),
            _STATE.c.partition == "",
            _DEPLOYMENT.c.retired_at.is_(None),
        )
    )
)
_IS_THIS = sa.and_(_STATE.c.deployment_id == sa.bindparam("of_deployment"), _STATE.c.partition == "")
_MANY = 1000
"""Of so many deployments that changed, few are waited for: those are asked for first."""
_NOTED = ("last_run_id", "last_run_at", "last_stop_reason")


def _note_statement(columns: Iterable[str], **more: Any) -> Statement:
    values = {name: sa.bindparam(f"new_{name}", type_=_STATE.c[name].type) for name in columns}
    return Statement(lambda _: sa.update(_STATE).where(_IS_THIS).values({**values, **more}))


_NOTE_END = _note_statement(_NOTED)
_NOTE_END_OF_STARTED = _note_statement(
    _NOTED, activity=run_statements.activity_after(_STATE.c.deployment_id, "idle_activity")
)


@dataclass(frozen=True)
class Held:
    """What a transaction that ends a run has locked before: the run, and the state of its deployment."""

    run: Any
    """The run's row, in a status from which it may end so."""
    waiting: Answer
    """What waits for the run or for its deployment: `waits.ask_dependencies`, asked under these locks."""


def end_run(
    connection: Connection,
    run_id: UUID,
    status: RunStatus,
    stop_reason: StopReason,
    *happened: events.Event,
    actor: str,
    now: datetime,
    started_at: datetime | None = None,
    changed: Iterable[UUID] = (),
    held: Held | None = None,
    held_fence: int | None = None,
    lease_before: datetime | None = None,
    brief: bool = False,
    **values: Any,
) -> Row[Any] | None:
    """End a run with its last events; return its row, or None when it was not allowed to end so.

    In the caller's transaction, also: the deployment's activity and last end, and whoever waited for the run, or for
    the deployments that `changed` in this transaction. `started_at` is when its body first started, if it did;
    `held` is what this transaction has locked of it already. A `brief` row is without the columns of JSON.
    """
    values["stop_reason"] = stop_reason
    values["duration_ns"] = None if started_at is None else (now - started_at) // timedelta(microseconds=1) * 1000
    row: Row[Any] | None
    if held is not None:
        row = store.move(connection, held.run, status, happened, actor=actor, now=now, **values)
    else:
        row = store.transition(
            connection,
            run_id,
            status,
            happened,
            actor=actor,
            now=now,
            held_fence=held_fence,
            lease_before=lease_before,
            brief=brief,
            **values,
        )
        if row is None:
            return None
        # Two runs of the deployment that end at the same moment must see each other's end.
        staleness.lock_states(connection, [row.deployment_id])
    assert row is not None, "what is held may be moved"
    _note_end(connection, row, now=now)
    release_waiting(connection, ended=row, changed=changed, now=now, waiting=held.waiting if held is not None else None)
    return row


def release_waiting(
    connection: Connection,
    *,
    ended: Row[Any] | None = None,
    changed: Iterable[UUID] = (),
    now: datetime,
    waiting: Answer | None = None,
) -> None:
    """Let runs go on that waited for this run, or for these deployments to be ready.

    `waiting` is what waits for the run or for its own deployment, asked before, under the lock of its state.
    """
    run_id, changed = ended.id if ended is not None else None, set(changed)
    if len(changed) > _MANY:
        changed &= waits.awaited_upstreams(connection)
    if waiting is None or ended is None or not changed <= {ended.deployment_id}:
        waiting = waits.ask_dependencies(connection, run_id=run_id, upstream_ids=changed)
    for dependency in waiting.rows():
        if dependency.upstream_run_id is None and dependency.upstream_id not in changed:
            continue
        # Two upstreams that end at the same moment must see each other's removal.
        if store.get_run(connection, dependency.run_id, lock=True).status != RunStatus.WAITING:
            continue
        # As the gate sees it: a retired upstream is not ready, whatever its state says.
        is_ready = _READINESS.scalar(connection, deployment_id=dependency.upstream_id) in READY
        if ended is not None and dependency.upstream_run_id == ended.id:
            # A run that completes while its own upstream moves leaves its deployment stale: the gate looks again
            # when the waiting run is claimed.
            if ended.status not in (RunStatus.COMPLETED, RunStatus.SKIPPED) and not is_ready:
                _refuse(connection, dependency.run_id, because=ended, now=now)
                continue
        elif not is_ready:
            continue
        if waits.remove_dependency(connection, dependency.run_id, dependency.upstream_id) == 0:
            _release(connection, dependency.run_id, now=now)


def release_orphans(connection: Connection, *, now: datetime) -> None:
    """Let runs go on whose last upstream ended without their being told: a net under `release_waiting`."""
    ended, free = waits.orphaned_waits(connection)
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
    if run.flow_run_id is None:
        outbox.dispatch(connection, run, now=now)
    else:
        # It began in Prefect and is suspended there: its flow run goes on, and claims again.
        outbox.resume(connection, run, now=now)


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
        outbox.resume(connection, row, now=now)


def freshness_now(connection: Connection, deployment_id: UUID) -> Freshness:
    """Return the freshness of a deployment as this transaction sees it."""
    return Freshness(str(_FRESHNESS.scalar(connection, deployment_id=deployment_id)))


def _note_end(connection: Connection, run: Row[Any], *, now: datetime) -> None:
    noted = {
        "of_deployment": run.deployment_id,
        "new_last_run_id": run.id,
        "new_last_run_at": now,
        "new_last_stop_reason": run.stop_reason,
    }
    if run.attempt == 0:
        # What never started says nothing of the deployment's activity.
        _NOTE_END.post(connection, **noted)
        return
    idle = Activity.ERROR if run.status == RunStatus.FAILED else Activity.IDLE
    _NOTE_END_OF_STARTED.post(connection, **noted, idle_activity=idle)
