"""What follows from the gate's decision: the run goes on, ends, or waits while its upstreams are refreshed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, assert_never
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from ..lineage import foundation, graph, staleness
from ..lineage.models import Cause, CauseKind, Deployment, DeploymentState
from ..storage.compiled import Answer
from ..storage.ids import show_run_id
from ..storage.statement import Statement, one_of
from ..storage.words import IfReady, OnStale, Trigger, UpdateMode
from . import gate, outbox, store, waits
from . import run_events as events
from .creation import Origin, create_run
from .ending import end_run, freshness_now
from .gate import Decision, Verdict
from .redo import replays
from .request import RunRequest, on_stale_for
from .status import RunStatus, StopReason

_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]
_STATE = DeploymentState.__table__  # type: ignore[attr-defined]
_CAUSE = Cause.__table__  # type: ignore[attr-defined]

_OF_STATE = sa.and_(_STATE.c.deployment_id == _DEPLOYMENT.c.id, _STATE.c.partition == "")
_IS_READY = one_of(_STATE.c.freshness, gate.READY)
_STALE_AMONG = Statement(
    lambda sql: (
        sa.select(_DEPLOYMENT)
        .join(_STATE, _OF_STATE)
        .where(
            sql.among(_DEPLOYMENT.c.id, "ids"),
            sa.not_(_IS_READY),
            _DEPLOYMENT.c.external.is_(False),
            _DEPLOYMENT.c.retired_at.is_(None),
        )
    )
)
_NOT_REFRESHABLE_AMONG = Statement(
    lambda sql: (
        sa.select(_DEPLOYMENT.c.key, _DEPLOYMENT.c.retired_at, _DEPLOYMENT.c.external, _CAUSE.c.kind.label("lapsed"))
        .join(_STATE, _OF_STATE)
        .outerjoin(
            _CAUSE,
            sa.and_(
                _CAUSE.c.deployment_id == _DEPLOYMENT.c.id,
                _CAUSE.c.kind == sa.literal_column(f"'{CauseKind.EXPIRED}'"),
                _STATE.c.last_stop_reason == sa.literal_column(f"'{StopReason.COMPLETED}'"),
                _STATE.c.last_run_at > sa.bindparam("since"),
            ),
        )
        .where(
            sql.among(_DEPLOYMENT.c.id, "ids"),
            sa.or_(
                _DEPLOYMENT.c.retired_at.is_not(None),
                sa.and_(_DEPLOYMENT.c.external, sa.not_(_IS_READY)),
                _CAUSE.c.kind.is_not(None),
            ),
        )
        .order_by(_DEPLOYMENT.c.key)
    )
)


@dataclass(frozen=True)
class Admission:
    """The decision, and the run as it is after it."""

    decision: Decision
    run: Row[Any]
    deployment: Row[Any]
    state: Any | None = None
    """The deployment's state, next_fence and version_id, where it was read as it was locked."""


def judge(
    connection: Connection,
    deployment: Row[Any],
    request: RunRequest,
    trigger: Trigger,
    *,
    actor: str,
    now: datetime,
) -> Decision:
    """Ask the gate in the caller's transaction, whose writes are only what has lapsed since anybody looked."""
    return _judge(connection, deployment, request, trigger, actor=actor, can_wait=True, is_claim=False, now=now)[0]


def _judge(
    connection: Connection,
    deployment: Row[Any],
    request: RunRequest,
    trigger: Trigger,
    *,
    actor: str,
    can_wait: bool,
    is_claim: bool,
    now: datetime,
) -> tuple[Decision, Any | None]:
    """Return the decision and, for a claim, the deployment's state, where it was read as it was locked."""
    wants_skip = (request.if_ready or IfReady.RUN) == IfReady.SKIP
    on_stale = on_stale_for(request, trigger, deployment.declaration.get("on_stale", {}))
    # What the gate sees must hold when the fence is drawn: who publishes upstream locks this state too. After the
    # lapses, and with what a refresh locks, because states are locked in the order of their ids.
    is_refresh = on_stale == OnStale.REFRESH
    built_on = foundation.ask_foundation(
        connection, deployment.id, with_itself=wants_skip, lock=is_claim and not is_refresh, now=now
    )
    asked: Answer | None = gate.ask(connection, deployment.id)  # on the same way: mostly, nothing has to be done first
    found = built_on()
    if found.due:
        # The gate must not call ready what has lapsed since the reconciler last looked.
        staleness.propagate(connection, found.due, now=now)
        asked = None
    if is_claim and (found.due or is_refresh):
        staleness.lock_states(connection, {deployment.id, *(found.ids if is_refresh else ())})
        asked = None
    upstreams = gate.look(connection, deployment.id, now=now, asked=asked)
    decision = gate.decide(
        upstreams,
        freshness=freshness_now(connection, deployment.id) if wants_skip else None,
        on_stale=on_stale,
        if_ready=request.if_ready or IfReady.RUN,
        # Where nobody asked for it, no user, nor Prefect, has overridden anything.
        actor=actor if request.on_stale is not None else f"the catalogue (on_stale for {trigger})",
        can_wait=can_wait,
        now=now,
    )
    return decision, found.state


def admit(
    connection: Connection, run: Row[Any], deployment: Row[Any], *, can_wait: bool = True, now: datetime
) -> Admission:
    """Ask the gate and carry out its verdict in the caller's transaction. A run that may start stays pending.

    A run whose body had started before goes on whatever the gate sees, and has its decision renewed: its next attempt
    reads what is current now. A replay reads what the run read that it repeats, at each attempt.
    """
    if run.replay_of is not None or run.attempt > 0:
        staleness.lock_states(connection, [deployment.id])  # as in `judge`
    if run.replay_of is not None:
        decision = replays.decision_of(connection, run.replay_of, now=now)
        run = _noted(connection, run, decision, now=now)
        if run.attempt == 0 and decision.verdict == Verdict.REFUSE:
            run = _refuse(connection, run, decision.reason, now=now)
        return Admission(decision, run, deployment)
    if run.attempt > 0:
        forced_by = (run.decision or {}).get("forced_by")
        upstreams = gate.look(connection, deployment.id, now=now)
        decision = gate.go_on(upstreams, attempt=run.attempt + 1, forced_by=forced_by, now=now)
        return Admission(decision, _noted(connection, run, decision, now=now), deployment)
    request = RunRequest.model_validate(run.request)
    trigger = Trigger(run.trigger)
    decision, state = _judge(
        connection, deployment, request, trigger, actor=run.actor, can_wait=can_wait, is_claim=True, now=now
    )
    run = _noted(connection, run, decision, now=now)
    return Admission(decision, carry_out(connection, run, deployment, decision, request, now=now), deployment, state)


def _noted(connection: Connection, run: Row[Any], decision: Decision, *, now: datetime) -> Row[Any]:
    """Store the decision on the run, unless it is the one that is there."""
    if not decision.differs_from(run.decision):
        return run
    decided = events.GateDecided(verdict=decision.verdict, reason=decision.reason)
    evidence = decision.evidence()
    return store.change(connection, run.id, [decided], actor="gate", now=now, decision=evidence) or run


def carry_out(
    connection: Connection,
    run: Row[Any],
    deployment: Row[Any],
    decision: Decision,
    request: RunRequest,
    *,
    now: datetime,
) -> Row[Any]:
    """Do what the gate decided on a pending run; return the run, which stays pending when it may start."""
    not_ready = {upstream.deployment_id: upstream.key for upstream in decision.upstreams if not upstream.is_ready}
    match decision.verdict:
        case Verdict.RUN:
            return run
        case Verdict.SKIP:
            reason = StopReason.ALREADY_READY
            skipped = events.RunSkipped(stop_reason=reason)
            ended = end_run(connection, run.id, RunStatus.SKIPPED, reason, skipped, actor="gate", now=now)
            return ended or run
        case Verdict.REFUSE:
            return _refuse(connection, run, decision.reason, now=now)
        case Verdict.WAIT:
            return _hold(connection, run, dict.fromkeys(not_ready), not_ready.values(), now=now)
        case Verdict.REFRESH:
            hopeless = _not_refreshable(connection, not_ready, since=run.created_at)
            if hopeless:
                return _refuse(connection, run, f"{decision.reason}; {'; '.join(hopeless)}", now=now)
            refreshing = plan_refresh(connection, run, deployment, request, now=now)
            # One that became ready meanwhile has no run: it is awaited, and found ready at once.
            waits_for = {upstream: refreshing.get(upstream) for upstream in not_ready}
            return _hold(connection, run, waits_for, not_ready.values(), now=now)
        case never:
            assert_never(never)


def plan_refresh(
    connection: Connection, run: Row[Any], deployment: Row[Any], request: RunRequest, *, now: datetime
) -> dict[UUID, UUID]:
    """Record a run for every upstream that is not ready, down to the sources; return deployment -> run.

    Those that depend on one another wait for one another, the others run in parallel. Each upstream is refreshed
    once: a run of it that has not pinned its inputs yet is joined instead of doubled.
    """
    above = graph.upstream_of(connection, [deployment.id])
    # Of two callers at once, the second one sees and joins the runs of the first; and what ended meanwhile.
    staleness.lock_states(connection, above)
    stale = {row.id: row for row in _STALE_AMONG.rows(connection, ids=above)}
    reads: dict[UUID, set[UUID]] = {node: set() for node in stale}
    for edge in graph.edges_into(connection, list(stale)):
        if edge.upstream_id in stale:
            reads[edge.deployment_id].add(edge.upstream_id)
    under_way: dict[UUID, Row[Any]] = {}
    for row in store.active_runs_of(connection, list(stale), keep=True):
        if _joins(row, reads[row.deployment_id], request):
            under_way[row.deployment_id] = row
    planned: dict[UUID, UUID] = {}
    for batch in graph.batches(reads):
        for node in batch:
            current = under_way.get(node)
            if current is not None:
                planned[node] = current.id
                continue
            origin = Origin(Trigger.CASCADE, actor=show_run_id(run.id), parent_id=run.id)
            child = create_run(
                connection,
                stale[node],
                origin,
                parameters={},
                request=RunRequest(
                    update_mode=UpdateMode.INCREMENTAL,
                    if_ready=IfReady.SKIP,
                    on_stale=OnStale.REFRESH,
                    data_as_of=request.data_as_of,
                ),
                now=now,
            )
            assert child is not None, "a run without a key is always inserted"
            planned[node] = child.id
            if reads[node]:
                waits_for = {upstream: planned[upstream] for upstream in reads[node]}
                _hold(connection, child, waits_for, (stale[upstream].key for upstream in waits_for), now=now)
            else:
                outbox.dispatch(connection, child, now=now)
    return planned


def _joins(current: Row[Any], stale_upstreams: set[UUID], request: RunRequest) -> bool:
    """A run under way is joined unless it reads to another day, or has pinned inputs that are about to be replaced.

    A replay is never joined: it makes nothing ready.
    """
    if (
        current.replay_of is not None
        or current.data_as_of != request.data_as_of
        or current.status == RunStatus.CANCELLING
    ):
        return False
    return current.status in (RunStatus.PENDING, RunStatus.WAITING) or not stale_upstreams


def _refuse(connection: Connection, run: Row[Any], reason: str, *, now: datetime) -> Row[Any]:
    refused = events.RunRefused(stop_reason=StopReason.UPSTREAM_NOT_READY, message=reason)
    ended = end_run(
        connection,
        run.id,
        RunStatus.REFUSED,
        StopReason.UPSTREAM_NOT_READY,
        refused,
        actor="gate",
        now=now,
        error_message=reason,
    )
    return ended or run


def _hold(
    connection: Connection,
    run: Row[Any],
    waits_for: Mapping[UUID, UUID | None],
    keys: Iterable[str],
    *,
    now: datetime,
) -> Row[Any]:
    waiting = events.RunWaiting(upstreams=sorted(set(keys)))
    held = store.transition(connection, run.id, RunStatus.WAITING, [waiting], actor="gate", now=now)
    waits.write_dependencies(connection, run.id, waits_for)
    return held or run


def _not_refreshable(connection: Connection, not_ready: Iterable[UUID], *, since: datetime) -> list[str]:
    """Return why no run can make the upstreams ready, direct or not; nothing when it is worth trying.

    What was refreshed `since` and has lapsed again, because its data are too old, would be refreshed for ever.
    """
    start = set(not_ready)
    rows = _NOT_REFRESHABLE_AMONG.rows(connection, ids=start | graph.upstream_of(connection, start), since=since)
    return [
        f"nothing can refresh {row.key}: it is {'retired' if row.retired_at else 'external'}"
        if row.retired_at or row.external
        else f"{row.key} was refreshed for this run, and its policy has lapsed all the same: its data are too old"
        for row in rows
    ]
