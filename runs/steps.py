"""The steps of a run, a mirror of Prefect's task runs, and what they and the counters add up to.

All SQL for the tables `step` and `run_usage`. Neither is part of what no longer changes when a run has ended: Prefect
hears of task runs late. The mirror writes what Prefect says and leaves the counters alone; the body's counters are
added by `count`, which leaves alone what Prefect says. Both hold the run's row of `run_usage` meanwhile.

Every function works in the caller's transaction.
"""

import logging
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from ..deployments.gateway import FlowRunState, TaskRunFacts
from ..storage.statement import one_of
from .models import RunUsage, Step
from .status import StepStatus
from .store import RUN, insert_or_ignore

_LOGGER = logging.getLogger(__name__)
_STEP = Step.__table__  # type: ignore[attr-defined]
_USAGE = RunUsage.__table__  # type: ignore[attr-defined]
_MAX_TEXT = 2000
_KEY_DIGEST_LENGTH = 8
_DEPLOYMENT_CALL = ".run_deployment."
_LONG_AGO = datetime.min.replace(tzinfo=UTC)

_STATUS_OF: Mapping[FlowRunState | None, StepStatus] = {
    None: StepStatus.PENDING,
    FlowRunState.SCHEDULED: StepStatus.PENDING,
    FlowRunState.PENDING: StepStatus.PENDING,
    FlowRunState.RUNNING: StepStatus.RUNNING,
    # It has begun and not ended: the flow run that it stands for is suspended, or somebody is asked.
    FlowRunState.PAUSED: StepStatus.RUNNING,
    FlowRunState.CANCELLING: StepStatus.RUNNING,
    FlowRunState.COMPLETED: StepStatus.COMPLETED,
    FlowRunState.FAILED: StepStatus.FAILED,
    FlowRunState.CRASHED: StepStatus.CRASHED,
    FlowRunState.CANCELLED: StepStatus.CANCELLED,
}
_STATUS_OF_NAME = {"AwaitingRetry": StepStatus.RETRYING, "Cached": StepStatus.CACHED}

_STAGE = {StepStatus.PENDING: 0, StepStatus.RUNNING: 1, StepStatus.RETRYING: 2}
"""The order within one attempt; whatever has ended comes last."""
_ENDED_STAGE = 3

OPEN = frozenset(_STAGE)
"""A step with such a status has not ended."""
FAILED = frozenset({StepStatus.FAILED, StepStatus.CRASHED})
"""A step with such a status counts as failed."""

# Written out, as an index on open steps is: a database does not look inside a parameter to see whether it applies.
_IS_OPEN = one_of(_STEP.c.status, OPEN)


@dataclass(frozen=True)
class StepCount:
    """What the body counted in one step."""

    task_run_id: UUID
    name: str
    """The task run's name."""
    counters: Mapping[str, float]


def steps_of(connection: Connection, run_ids: Iterable[UUID]) -> list[Row[Any]]:
    """Return the steps of these runs, in the order in which they started; those that have not started come last."""
    query = sa.select(_STEP).where(_STEP.c.run_id.in_(list(run_ids)))
    return list(
        connection.execute(query.order_by(_STEP.c.started_at.is_(None), _STEP.c.started_at, _STEP.c.task_run_id))
    )


def usage_of(connection: Connection, run_id: UUID) -> Row[Any] | None:
    """Return what the run's steps and counters add up to; None when there are none."""
    return connection.execute(sa.select(_USAGE).where(_USAGE.c.run_id == run_id)).one_or_none()


def task_name(task_key: str) -> str:
    """Return the task of a task key: its function's name, or the deployment that was called."""
    if _DEPLOYMENT_CALL in task_key:
        return task_key.rpartition(_DEPLOYMENT_CALL)[2]
    name, dash, digest = task_key.rpartition("-")
    return name if dash and (len(digest) == _KEY_DIGEST_LENGTH or digest == "unknown") else task_key


def news(stored: Iterable[Row[Any]], facts: Iterable[TaskRunFacts]) -> list[TaskRunFacts]:
    """Return those of the facts that say something new of these steps; what is older than a step says nothing."""
    known = {row.task_run_id: row for row in stored}
    return [
        one
        for one in facts
        if (row := known.get(one.id)) is None
        or (_age(_columns(one)) >= _age(row._asdict()) and _differs(row, _columns(one)))
    ]


def record(connection: Connection, run_id: UUID, facts: Collection[TaskRunFacts]) -> bool:
    """Write what is new in Prefect's task runs of a run and sum them up; return whether anything was.

    Repeated, shuffled and late facts leave the steps as they are. Counters stay.
    """
    usage = _hold(connection, run_id)
    stored = {row.task_run_id: row for row in steps_of(connection, [run_id])}
    fresh = news(stored.values(), facts)
    for one in fresh:
        _write(connection, run_id, one.id, _columns(one), is_known=one.id in stored)
    names = sorted({*usage.step_names, *(_storable(task_name(one.task_key)) for one in facts)})
    if fresh or names != usage.step_names:
        _sum_up(connection, run_id, step_names=names)
        return True
    return False


def count(
    connection: Connection, run_id: UUID, counters: Mapping[str, float], step_counters: Sequence[StepCount] = ()
) -> None:
    """Add what the body counted to the run, and to its steps; the run's counters hold those of its steps too.

    A step that the mirror has not seen yet is recorded as running. Not idempotent: call it in the transaction that
    settles the attempt.
    """
    if not counters and not step_counters:
        return
    usage = _hold(connection, run_id)
    total = _added(usage.counters, counters)
    stored = {row.task_run_id: row.counters for row in steps_of(connection, [run_id])}
    for one in step_counters:
        known = stored.get(one.task_run_id)
        values: dict[str, Any] = {"counters": _added(known or {}, one.counters)}
        if known is None:
            values |= {"name": _storable(one.name), "status": StepStatus.RUNNING, "attempt": 0}
        _write(connection, run_id, one.task_run_id, values, is_known=known is not None)
        stored[one.task_run_id] = values["counters"]
        total = _added(total, one.counters)
    _sum_up(connection, run_id, counters=total)


def give_up(connection: Connection, run_id: UUID) -> int:
    """Set the steps of an ended run that Prefect never ended to cancelled; return how many there were."""
    _hold(connection, run_id)
    update = sa.update(_STEP).where(_STEP.c.run_id == run_id, _IS_OPEN).values(status=StepStatus.CANCELLED)
    given_up = connection.execute(update).rowcount
    if given_up:
        _sum_up(connection, run_id)
    return given_up


def flow_runs_to_mirror(connection: Connection, *, since: datetime) -> list[UUID]:
    """Return the flow runs whose task runs may have news: of runs that have started and go on, that ended `since`
    then, or that have steps which have not ended; oldest run first."""
    begun = sa.select(RUN.c.id, RUN.c.flow_run_id).where(RUN.c.started_at.is_not(None))
    # Three short reads, each with an index of its own; as one condition they would read the whole table, and so would
    # SQLite if it were asked here which of them have a flow run.
    found = sa.union(
        begun.where(RUN.c.ended_at.is_(None)),
        begun.where(RUN.c.ended_at >= since),
        begun.where(RUN.c.id.in_(sa.select(_STEP.c.run_id).where(_IS_OPEN))),
    )
    rows = sorted(connection.execute(found), key=lambda row: row.id)
    return list(dict.fromkeys(row.flow_run_id for row in rows if row.flow_run_id is not None))


def runs_of_flow_runs(connection: Connection, flow_run_ids: Collection[UUID]) -> list[Row[Any]]:
    """Return id, flow_run_id and the times of every run of these flow runs, oldest generation first."""
    query = sa.select(RUN.c.id, RUN.c.flow_run_id, RUN.c.created_at, RUN.c.ended_at, RUN.c.erased_at)
    return list(
        connection.execute(query.where(RUN.c.flow_run_id.in_(list(flow_run_ids))).order_by(RUN.c.generation, RUN.c.id))
    )


def _hold(connection: Connection, run_id: UUID) -> Row[Any]:
    """Return the run's usage, made if it was missing, and let nobody else change it or the steps meanwhile."""
    # The run first, as everyone who ends it does: in the other order two transactions could wait for each other.
    connection.execute(sa.select(RUN.c.id).where(RUN.c.id == run_id).with_for_update(read=True, key_share=True)).one()
    connection.execute(
        insert_or_ignore(connection, _USAGE).values(
            run_id=run_id, num_steps=0, num_failed_steps=0, step_ns=0, step_names=[], counters={}
        )
    )
    return connection.execute(sa.select(_USAGE).where(_USAGE.c.run_id == run_id).with_for_update()).one()


def _write(
    connection: Connection, run_id: UUID, task_run_id: UUID, values: Mapping[str, Any], *, is_known: bool
) -> None:
    if is_known:
        is_this = sa.and_(_STEP.c.run_id == run_id, _STEP.c.task_run_id == task_run_id)
        connection.execute(sa.update(_STEP).where(is_this).values(**values))
    else:
        row = {"counters": {}, **values, "run_id": run_id, "task_run_id": task_run_id}
        connection.execute(sa.insert(_STEP).values(**row))


def _sum_up(connection: Connection, run_id: UUID, **values: Any) -> None:
    sums = connection.execute(
        sa.select(
            sa.func.count().label("num_steps"),
            sa.func.count().filter(_STEP.c.status.in_(sorted(FAILED))).label("num_failed_steps"),
            sa.func.coalesce(sa.func.sum(_STEP.c.duration_ns), 0).label("step_ns"),
        ).where(_STEP.c.run_id == run_id)
    ).one()
    totals = {name: int(value) for name, value in sums._mapping.items()}
    connection.execute(sa.update(_USAGE).where(_USAGE.c.run_id == run_id).values(**totals, **values))


def _columns(facts: TaskRunFacts) -> dict[str, Any]:
    """Return the columns of a step that Prefect decides."""
    return {
        "name": _storable(facts.name),
        "status": _STATUS_OF_NAME.get(facts.state_name or "", _STATUS_OF[facts.state_type]),
        "attempt": facts.run_count,
        "started_at": facts.started_at,
        "ended_at": facts.ended_at,
        "duration_ns": _duration_ns(facts),
        "message": _storable(facts.state_message) if facts.state_message is not None else None,
    }


def _duration_ns(facts: TaskRunFacts) -> int | None:
    if facts.started_at is None:
        return None
    ran = facts.total_run_time
    if not ran and facts.ended_at is not None:
        # One that stands for a flow run was never Running itself.
        ran = max(facts.ended_at - facts.started_at, timedelta())
    return ran // timedelta(microseconds=1) * 1000


def _age(step: Mapping[str, Any]) -> tuple[int, int, datetime]:
    """Return what grows while Prefect executes a task run: of two facts, the one that is behind is the older one."""
    stage = _STAGE.get(StepStatus(step["status"]), _ENDED_STAGE)
    return step["attempt"], stage, step["ended_at"] or _LONG_AGO


def _differs(row: Row[Any], columns: Mapping[str, Any]) -> bool:
    return any(getattr(row, name) != value for name, value in columns.items())


def _added(before: Mapping[str, float], counted: Mapping[str, float]) -> dict[str, float]:
    """Return the sums, by name; what no JSON can hold is left out: counting must not cost a run its result."""
    total = dict(before)
    for name, value in counted.items():
        try:
            added = total.get(name, 0) + value
            is_finite = math.isfinite(added)
        except OverflowError:  # an integer beyond all floats
            is_finite = False
        if is_finite:
            total[name] = added
        else:
            _LOGGER.warning("the counter %r was not increased: its sum would be no finite number", name)
    return total


def _storable(text: str) -> str:
    """Return text that both databases take: no NUL, no lone surrogate, not endless."""
    return text.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")[:_MAX_TEXT]
