"""What the records say of deployments that are refreshed by themselves: all SQL of it, in the caller's transaction.

Begins with the causes that are not inherited, which an index holds apart: of a change that reaches 100,000 deployments
only its direct readers have one.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ...lineage.models import (
    ActKind,
    Cause,
    CauseKind,
    Deployment,
    DeploymentState,
    Edge,
    Freshness,
    Version,
    VersionAct,
)
from ...lineage.reasons import Reason
from ...storage.auto_refresh import read_auto_refresh
from ...storage.statement import Sql, Statement, one_of
from .. import store
from ..gate import READY
from ..redo.backfill_models import Backfill
from ..status import RunStatus
from .auto_refresh_due import EndedRun, OwnCause, Stale
from .auto_refresh_models import AutoRefreshMemory

_CAUSE = Cause.__table__  # type: ignore[attr-defined]
_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]
_STATE = DeploymentState.__table__  # type: ignore[attr-defined]
_EDGE = Edge.__table__  # type: ignore[attr-defined]
_VERSION = Version.__table__  # type: ignore[attr-defined]
_ACT = VersionAct.__table__  # type: ignore[attr-defined]
_MEMORY = AutoRefreshMemory.__table__  # type: ignore[attr-defined]
_BACKFILL = Backfill.__table__  # type: ignore[attr-defined]
_RUN = store.RUN
_KEPT = ("num_runs", "last_run_at", "tried_for", "num_tries", "waiting_since")

_IS_OWN = _CAUSE.c.kind != sa.literal_column(f"'{CauseKind.UPSTREAM_STALE}'")
_IS_AUTO = sa.and_(_DEPLOYMENT.c.auto_refresh.is_not(None), _DEPLOYMENT.c.retired_at.is_(None))


def _under_way(deployment_id: sa.ColumnElement[UUID]) -> sa.ColumnElement[bool]:
    """A run that has not ended, and whose result may become current; or a backfill, which is between two runs."""
    run, backfill = _RUN.alias(), _BACKFILL.alias()
    one: sa.ColumnElement[int] = sa.literal_column("1")
    return sa.or_(
        sa.exists(one).where(run.c.deployment_id == deployment_id, run.c.ended_at.is_(None), run.c.replay_of.is_(None)),
        sa.exists(one).where(backfill.c.deployment_id == deployment_id, backfill.c.ended_at.is_(None)),
    )


def _upstream(condition: Any) -> sa.ColumnElement[bool]:
    """A direct upstream for which this holds."""
    upstream, state = _DEPLOYMENT.alias(), _STATE.alias()
    return (
        sa.exists(sa.literal_column("1"))
        .where(
            _EDGE.c.deployment_id == _DEPLOYMENT.c.id,
            upstream.c.id == _EDGE.c.upstream_id,
            state.c.deployment_id == _EDGE.c.upstream_id,
            state.c.partition == "",
            condition(upstream, state),
        )
        .correlate(_DEPLOYMENT)
    )


_IS_HELD_BACK = _upstream(
    lambda upstream, state: sa.or_(sa.not_(one_of(state.c.freshness, READY)), upstream.c.retired_at.is_not(None))
)
_IS_UPSTREAM_BUSY = _upstream(lambda upstream, _: _under_way(upstream.c.id))
_IS_UNDER_WAY = _under_way(_DEPLOYMENT.c.id)
_NO = sa.literal_column("0", sa.Boolean())


def _stale(*, of_these: bool, only_runnable: bool) -> Any:
    """One row per cause; of a stale deployment without own causes one row without a cause."""
    upstream, of_auto, last = _DEPLOYMENT.alias("upstream"), _RUN.alias("of_auto"), _RUN.alias("last")

    def build(sql: Sql) -> sa.Executable:
        causes = sa.and_(_CAUSE.c.deployment_id == _DEPLOYMENT.c.id, _CAUSE.c.partition == "", _IS_OWN)
        source: Any = _DEPLOYMENT.join(_STATE, _STATE.c.deployment_id == _DEPLOYMENT.c.id)
        source = source.join(_CAUSE, causes, isouter=not only_runnable)
        source = (
            source.outerjoin(upstream, upstream.c.id == _CAUSE.c.upstream_id)
            .outerjoin(_VERSION, _VERSION.c.id == _CAUSE.c.origin_version_id)
            .outerjoin(_MEMORY, _MEMORY.c.deployment_id == _DEPLOYMENT.c.id)
            .outerjoin(of_auto, of_auto.c.id == _MEMORY.c.last_run_id)
            .outerjoin(last, last.c.id == _STATE.c.last_run_id)
        )
        query = (
            sa.select(
                _DEPLOYMENT.c.id,
                _DEPLOYMENT.c.key,
                _DEPLOYMENT.c.tenant_id,
                _DEPLOYMENT.c.auto_refresh,
                _DEPLOYMENT.c.declaration_digest,
                _CAUSE.c.kind,
                _CAUSE.c.role,
                _CAUSE.c.upstream_id,
                _CAUSE.c.origin_run_id,
                _CAUSE.c.origin_version_id,
                _CAUSE.c.since,
                upstream.c.key.label("upstream"),
                _VERSION.c.number,
                *(_MEMORY.c[name] for name in _KEPT),
                *_end_of(of_auto, "of_auto"),
                *_end_of(last, "last"),
                (_NO if only_runnable else _IS_HELD_BACK).label("is_held_back"),
                (_NO if only_runnable else _IS_UNDER_WAY).label("is_under_way"),
                _IS_UPSTREAM_BUSY.label("is_upstream_busy"),
            )
            .select_from(source)
            .where(_IS_AUTO, _STATE.c.partition == "", _STATE.c.freshness == sa.literal_column(f"'{Freshness.STALE}'"))
        )
        if only_runnable:
            query = query.where(sa.not_(_IS_HELD_BACK), sa.not_(_IS_UNDER_WAY))
        return query.where(sql.among(_DEPLOYMENT.c.id, "ids")) if of_these else query

    return Statement(build)


def _end_of(run: Any, name: str) -> list[Any]:
    return [run.c[column].label(f"{name}_{column}") for column in ("status", "started_at", "ended_at")]


_ANY = Statement(lambda _: sa.select(_DEPLOYMENT.c.id).where(_IS_AUTO).limit(sa.literal_column("1")))
_RUNNABLE = _stale(of_these=False, only_runnable=True)
_RUNNABLE_AMONG = _stale(of_these=True, only_runnable=True)
_ALL_AMONG = _stale(of_these=True, only_runnable=False)
_SETTLED = Statement(
    lambda _: sa.select(_MEMORY.c.deployment_id).where(
        _MEMORY.c.waiting_since.is_not(None),
        sa.or_(
            sa.not_(
                sa.exists(sa.literal_column("1")).where(_CAUSE.c.deployment_id == _MEMORY.c.deployment_id, _IS_OWN)
            ),
            sa.not_(sa.exists(sa.literal_column("1")).where(_DEPLOYMENT.c.id == _MEMORY.c.deployment_id, _IS_AUTO)),
        ),
    )
)
_WAIT = Statement(
    lambda _: (
        sa.update(_MEMORY)
        .where(_MEMORY.c.deployment_id == sa.bindparam("of_deployment"), _MEMORY.c.waiting_since.is_(None))
        .values(waiting_since=sa.bindparam("since", type_=_MEMORY.c.waiting_since.type))
    )
)
_STOP_WAITING = Statement(
    lambda sql: sa.update(_MEMORY).where(sql.among(_MEMORY.c.deployment_id, "ids")).values(waiting_since=sa.null())
)
_REMEMBER = Statement(
    lambda _: (
        sa.update(_MEMORY)
        .where(_MEMORY.c.deployment_id == sa.bindparam("of_deployment"), _MEMORY.c.num_runs == sa.bindparam("seen"))
        .values(
            num_runs=_MEMORY.c.num_runs + 1,
            last_run_id=sa.bindparam("run_id", type_=sa.Uuid()),
            last_run_at=sa.bindparam("now", type_=_MEMORY.c.last_run_at.type),
            tried_for=sa.bindparam("digest", type_=sa.String()),
            num_tries=sa.bindparam("tries", type_=sa.Integer()),
            waiting_since=sa.null(),
        )
    )
)
_WITHDRAWN_BY = Statement(
    lambda _: (
        sa.select(_ACT.c.actor)
        .where(
            _ACT.c.version_id == sa.bindparam("version_id", type_=sa.Uuid()),
            _ACT.c.kind == sa.literal_column(f"'{ActKind.WITHDRAWN}'"),
        )
        .order_by(_ACT.c.number.desc())
        .limit(sa.literal_column("1"))
    )
)


def is_wanted(connection: Connection) -> bool:
    """Return whether any deployment is refreshed by itself."""
    return _ANY.first(connection) is not None


def runnable(connection: Connection, deployment_ids: Iterable[UUID] | None = None) -> list[Stale]:
    """Return the stale ones, or those among these, that could run now: upstreams ready, no run of theirs under way."""
    if deployment_ids is None:
        return _made(_RUNNABLE.rows(connection))
    return _made(_RUNNABLE_AMONG.rows(connection, ids=list(deployment_ids)))


def stale_among(connection: Connection, deployment_ids: Iterable[UUID]) -> dict[UUID, Stale]:
    """Return those of these that are refreshed by themselves and stale, whatever holds them back."""
    return {one.deployment_id: one for one in _made(_ALL_AMONG.rows(connection, ids=list(deployment_ids)))}


def settled(connection: Connection) -> list[UUID]:
    """Return those that were to wait for quiet, and are ready without a run or not theirs to refresh any more."""
    return [row.deployment_id for row in _SETTLED.rows(connection)]


def note_waits(connection: Connection, since: Mapping[UUID, datetime], settled: Sequence[UUID]) -> None:
    """Remember since when these wait, where nobody has, and that the settled ones do not."""
    for deployment_id in sorted(since):
        _ensure(connection, deployment_id)
        _WAIT.run(connection, of_deployment=deployment_id, since=since[deployment_id])
    if settled:
        _STOP_WAITING.run(connection, ids=list(settled))


def remember_run(connection: Connection, stale: Stale, run_id: UUID, *, now: datetime) -> bool:
    """Remember a run that was submitted for this; return whether nobody else has been first."""
    _ensure(connection, stale.deployment_id)
    changed = _REMEMBER.run(
        connection,
        of_deployment=stale.deployment_id,
        seen=stale.num_runs,
        run_id=run_id,
        now=now,
        digest=stale.digest,
        tries=stale.tries + 1,
    )
    return changed == 1


def withdrawn_by(connection: Connection, version_id: UUID) -> str | None:
    """Return who withdrew a version last."""
    actor: str | None = _WITHDRAWN_BY.scalar(connection, version_id=version_id)
    return actor


def _ensure(connection: Connection, deployment_id: UUID) -> None:
    values = AutoRefreshMemory(deployment_id=deployment_id).model_dump()
    connection.execute(store.insert_or_ignore(connection, _MEMORY).values(values))


def _made(rows: Iterable[Any]) -> list[Stale]:
    grouped: dict[UUID, list[Any]] = {}
    for row in rows:
        grouped.setdefault(row.id, []).append(row)
    return [_stale_of(of_one) for of_one in grouped.values()]


def _stale_of(rows: Sequence[Any]) -> Stale:
    first = rows[0]
    return Stale(
        deployment_id=first.id,
        key=first.key,
        tenant_id=first.tenant_id,
        terms=read_auto_refresh(first.auto_refresh),
        declaration_digest=first.declaration_digest,
        causes=sorted((_cause_of(row) for row in rows if row.kind is not None), key=_what_people_did_first),
        is_held_back=bool(first.is_held_back),
        is_under_way=bool(first.is_under_way),
        is_upstream_busy=bool(first.is_upstream_busy),
        num_runs=first.num_runs or 0,
        last_run_at=first.last_run_at,
        tried_for=first.tried_for,
        num_tries=first.num_tries or 0,
        waiting_since=first.waiting_since,
        last_of_these=_ended(first.of_auto_status, first.of_auto_started_at, first.of_auto_ended_at),
        last_ended=_ended(first.last_status, first.last_started_at, first.last_ended_at),
    )


def _cause_of(row: Any) -> OwnCause:
    reason = Reason(CauseKind(row.kind), row.role, row.upstream, row.origin_run_id, row.number, row.since)
    return OwnCause(reason, row.upstream_id, row.origin_version_id)


def _what_people_did_first(cause: OwnCause) -> tuple[Any, ...]:
    """Sort by time; of what arose at once, such as by a withdrawal, what somebody did before what follows from it."""
    reason = cause.reason
    return reason.since, reason.kind != CauseKind.WITHDRAWN, reason.kind, reason.role


def _ended(status: str | None, started_at: datetime | None, ended_at: datetime | None) -> EndedRun | None:
    return EndedRun(RunStatus(status), started_at, ended_at) if status is not None and ended_at is not None else None
