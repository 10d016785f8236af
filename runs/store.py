"""All SQL for the run's own tables: the row, its guarded transitions, its events, inputs, metrics and details.

A state change is one guarded UPDATE; no row back means that the run was not in a status that allows it, or that
somebody else holds it. Events take their numbers from the run's row in the same statement: no gaps, no reordering.
Every function works in the caller's transaction.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Row

from ..lineage.models import Activity, Deployment
from ..storage import faults
from ..storage.errors import NotFound
from ..storage.faults import Guard
from ..storage.ids import show_run_id
from ..storage.statement import Sql, Statement, insert_all, one_of, row_type
from ..storage.words import DeploymentKind
from .details import TABLE_OF
from .events import Event
from .models import Metric, Run, RunDependency, RunEvent, RunInput, Store
from .status import ACTIVE, LEASED, RunStatus, sources_of

RUN = Run.__table__  # type: ignore[attr-defined]
_EVENT = RunEvent.__table__  # type: ignore[attr-defined]
_INPUT = RunInput.__table__  # type: ignore[attr-defined]
_METRIC = Metric.__table__  # type: ignore[attr-defined]
STORE = Store.__table__  # type: ignore[attr-defined]
_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]
_DEPENDENCY = RunDependency.__table__  # type: ignore[attr-defined]

_ROW = row_type(column.name for column in RUN.c)
_UNSET: Mapping[str, Any] = {
    **dict.fromkeys(_ROW._fields), "partition": "", "workflow": {}, "metadata": {}, "background": True, "attempt": 0,
}  # fmt: skip

_STORE_ID = Statement(lambda _: sa.select(STORE.c.id))
_INSERT_RUN = Statement(
    lambda sql: sql.insert(RUN).values({column: sa.bindparam(column.name) for column in RUN.c}).on_conflict_do_nothing()
)
_RUN_BY_ID = Statement(lambda _: sa.select(RUN).where(RUN.c.id == sa.bindparam("run_id")))
_LOCK_RUN = Statement(lambda _: sa.select(RUN).where(RUN.c.id == sa.bindparam("run_id")).with_for_update())
_RUN_BY_KEY = Statement(
    lambda _: sa.select(RUN).where(
        RUN.c.tenant_id == sa.bindparam("tenant_id"), RUN.c.idempotency_key == sa.bindparam("key")
    )
)
_NEWEST_OF_FLOW_RUN = Statement(
    lambda _: (
        sa.select(RUN)
        .where(RUN.c.flow_run_id == sa.bindparam("flow_run_id"))
        .order_by(RUN.c.generation.desc())
        .limit(sa.literal_column("1"))
    )
)
_RUNS_OF_START = Statement(
    lambda _: (
        sa.select(RUN)
        .where(sa.or_(RUN.c.flow_run_id == sa.bindparam("flow_run_id"), RUN.c.id == sa.bindparam("labelled")))
        .order_by(RUN.c.id)
        .with_for_update()
    )
)
_LAST_SEQ = Statement(lambda _: sa.select(RUN.c.last_seq).where(RUN.c.id == sa.bindparam("run_id")))
_INSERT_EVENT = insert_all(_EVENT)
_INSERT_INPUT = insert_all(_INPUT)
_DELETE_INPUTS = Statement(lambda _: sa.delete(_INPUT).where(_INPUT.c.run_id == sa.bindparam("run_id")))
_MARK_READ = Statement(
    lambda _: (
        sa.update(_INPUT)
        .where(
            _INPUT.c.run_id == sa.bindparam("of_run"),
            _INPUT.c.role == sa.bindparam("in_role"),
            _INPUT.c.version_id == sa.bindparam("of_version"),
        )
        .values(read=sa.true())
    )
)
_WAITS_FOR = Statement(
    lambda sql: (
        sa.select(_DEPENDENCY)
        .where(
            sa.or_(
                _DEPENDENCY.c.upstream_run_id == sa.bindparam("upstream_run_id"),
                sa.and_(_DEPENDENCY.c.upstream_run_id.is_(None), sql.among(_DEPENDENCY.c.upstream_id, "upstream_ids")),
            )
        )
        .order_by(_DEPENDENCY.c.run_id, _DEPENDENCY.c.upstream_id)
    )
)


def _upsert_metric(sql: Sql) -> sa.Executable:
    row = sql.insert(_METRIC).values(sql.values(_METRIC.c))
    upsert: sa.Executable = row.on_conflict_do_update(
        index_elements=[_METRIC.c.run_id, _METRIC.c.name],
        set_={
            "value": row.excluded.value,
            "convention": sa.func.coalesce(row.excluded.convention, _METRIC.c.convention),
            "at": row.excluded.at,
        },
    )
    return upsert


_UPSERT_METRIC = Statement(_upsert_metric)


def insert_or_ignore(connection: Connection, table: sa.Table) -> Any:
    """Return `INSERT … ON CONFLICT DO NOTHING` for the connection's dialect."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(table).on_conflict_do_nothing()


def store_id(connection: Connection) -> UUID:
    """Return the identity of this store."""
    found: UUID | None = _STORE_ID.scalar(connection)
    assert found is not None, "a store has its identity from the moment that it is made"
    return found


def insert_run(
    connection: Connection, values: Mapping[str, Any], events: Sequence[Event], *, actor: str, now: datetime
) -> Any | None:
    """Insert a run with its first events; return its row, or None when its key or flow run has one already.

    `values` holds a value for every column but those that follow from here.
    """
    row = _ROW(**{**_UNSET, **values, "created_at": now, "last_seq": len(events)})
    if row.idempotency_key is None and row.flow_run_id is None:
        _INSERT_RUN.run(connection, **row._asdict())  # nothing that it could meet
    elif _INSERT_RUN.run(connection, **row._asdict()) == 0:
        return None
    _insert_events(connection, row.id, events, last_seq=len(events), actor=actor, now=now)
    return row


def get_run(connection: Connection, run_id: UUID, *, lock: bool = False) -> Row[Any]:
    """Return the run's row; with `lock`, nobody else changes it until this transaction ends.

    Raises:
        NotFound: there is no such run.
    """
    row: Row[Any] | None = (_LOCK_RUN if lock else _RUN_BY_ID).first(connection, run_id=run_id)
    if row is None:
        raise NotFound("run", show_run_id(run_id))
    return row


def run_by_key(connection: Connection, key: str, *, tenant_id: str) -> Row[Any] | None:
    """Return the run that was submitted with this idempotency key."""
    return _RUN_BY_KEY.first(connection, tenant_id=tenant_id, key=key)


def newest_run_of_flow_run(connection: Connection, flow_run_id: UUID) -> Row[Any] | None:
    """Return the run of the highest generation that this flow run has."""
    return _NEWEST_OF_FLOW_RUN.first(connection, flow_run_id=flow_run_id)


def runs_of_start(connection: Connection, flow_run_id: UUID, *, labelled: UUID | None = None) -> list[Row[Any]]:
    """Return the runs of a flow run, and the one that its label names; nobody else changes them meanwhile."""
    return _RUNS_OF_START.rows(connection, flow_run_id=flow_run_id, labelled=labelled)


def known_flow_runs(connection: Connection, flow_run_ids: Iterable[UUID]) -> set[UUID]:
    """Return those of these flow runs that have a run."""
    query = sa.select(RUN.c.flow_run_id).where(RUN.c.flow_run_id.in_(list(flow_run_ids)))
    return set(connection.execute(query).scalars())


def active_runs(connection: Connection) -> list[Row[Any]]:
    """Return the runs that have not ended, oldest first."""
    # Sorted here: in the database's order by id, SQLite would read every run there ever was.
    rows = connection.execute(sa.select(RUN).where(RUN.c.ended_at.is_(None)))
    return sorted(rows, key=lambda row: row.id)


def active_runs_of(connection: Connection, deployment_ids: Iterable[UUID], *, keep: bool = False) -> list[Row[Any]]:
    """Return the runs of these deployments that have not ended, oldest first; with `keep`, none ends meanwhile."""
    query = (
        sa.select(RUN).where(RUN.c.deployment_id.in_(list(deployment_ids)), RUN.c.ended_at.is_(None)).order_by(RUN.c.id)
    )
    return list(connection.execute(query.with_for_update(read=True) if keep else query))


def transition(
    connection: Connection,
    run_id: UUID,
    target: RunStatus,
    events: Sequence[Event] = (),
    *,
    actor: str,
    now: datetime,
    held_fence: int | None = None,
    lease_before: datetime | None = None,
    **values: Any,
) -> Row[Any] | None:
    """Move a run to `target` with its events; return its row, or None when it was not allowed.

    With `held_fence`, only the holder of that fence may do it; with `lease_before`, only while the lease is older.
    A status without a lease clears the lease.
    """
    if target not in LEASED:
        values |= {"lease_until": None, "lease_owner": None}
    if target.is_terminal:
        values["ended_at"] = now
    return _update(
        connection,
        run_id,
        events,
        {"status": target, **values},
        sources=sources_of(target),
        actor=actor,
        now=now,
        held_fence=held_fence,
        lease_before=lease_before,
    )


def change(
    connection: Connection,
    run_id: UUID,
    events: Sequence[Event] = (),
    *,
    actor: str,
    now: datetime,
    held_fence: int | None = None,
    **values: Any,
) -> Row[Any] | None:
    """Change columns of a run that has not ended, and append events; return its row, or None when it has ended.

    With `held_fence`, only the holder of that fence may do it, and only while it holds the lease.
    """
    sources = LEASED if held_fence is not None else ACTIVE
    return _update(connection, run_id, events, values, sources=sources, actor=actor, now=now, held_fence=held_fence)


def activity_after(deployment_id: sa.ColumnElement[UUID], otherwise: str) -> sa.ColumnElement[str]:
    """Return the activity of a deployment: running while a worker executes a run of it, else the parameter's."""
    leased = sa.exists().where(
        RUN.c.deployment_id == deployment_id, RUN.c.ended_at.is_(None), one_of(RUN.c.status, LEASED)
    )
    running = sa.literal_column(f"'{Activity.RUNNING}'", sa.String())
    return sa.case((leased, running), else_=sa.bindparam(otherwise, type_=sa.String()))


def deployment_key(connection: Connection, deployment_id: UUID) -> str:
    """Return the key of a deployment."""
    key: str = connection.execute(sa.select(_DEPLOYMENT.c.key).where(_DEPLOYMENT.c.id == deployment_id)).scalar_one()
    return key


def events_of(connection: Connection, run_id: UUID, *, after: int = 0) -> list[Row[Any]]:
    """Return the run's log entries with a number above `after`, in order."""
    query = sa.select(_EVENT).where(_EVENT.c.run_id == run_id, _EVENT.c.seq > after).order_by(_EVENT.c.seq)
    return list(connection.execute(query))


def write_inputs(connection: Connection, run_id: UUID, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace what the run has pinned: rows of role, upstream_id, version_id, pinned, read."""
    _DELETE_INPUTS.run(connection, run_id=run_id)
    add_inputs(connection, run_id, rows)


def add_inputs(connection: Connection, run_id: UUID, rows: Sequence[Mapping[str, Any]]) -> None:
    """Record what a run has pinned or read: rows of role, upstream_id, version_id, pinned, read."""
    _INSERT_INPUT.run_many(connection, [{"run_id": run_id, **row} for row in rows])


def mark_reads(connection: Connection, run_id: UUID, reads: Sequence[Mapping[str, Any]]) -> None:
    """Record what the body read: rows of role, upstream_id, version_id. One that was not pinned is added."""
    for read in reads:
        found = _MARK_READ.run(connection, of_run=run_id, in_role=read["role"], of_version=read["version_id"])
        if found == 0:
            add_inputs(connection, run_id, [{**read, "pinned": False, "read": True}])


def inputs_of(connection: Connection, run_id: UUID) -> list[Row[Any]]:
    """Return the run's inputs, ordered by role."""
    return list(connection.execute(sa.select(_INPUT).where(_INPUT.c.run_id == run_id).order_by(_INPUT.c.role)))


def write_metrics(connection: Connection, run_id: UUID, rows: Sequence[Mapping[str, Any]], *, now: datetime) -> None:
    """Insert or replace latest values: rows of name, value (NaN is null) and convention."""
    _UPSERT_METRIC.run_many(connection, [{"run_id": run_id, "at": now, "convention": None, **row} for row in rows])


def metrics_of(connection: Connection, run_ids: Iterable[UUID]) -> list[Row[Any]]:
    """Return the latest values of these runs, ordered by run and name."""
    query = sa.select(_METRIC).where(_METRIC.c.run_id.in_(list(run_ids))).order_by(_METRIC.c.run_id, _METRIC.c.name)
    return list(connection.execute(query))


def insert_detail(connection: Connection, kind: Any, run_id: UUID, facts: Mapping[str, Any]) -> None:
    """Insert the run's row in the table of its type."""
    _detail_insert(DeploymentKind(kind), tuple(facts)).run(connection, run_id=run_id, **facts)


def update_detail(connection: Connection, kind: Any, run_id: UUID, facts: Mapping[str, Any]) -> None:
    """Change the run's row in the table of its type."""
    if facts:
        _detail_update(DeploymentKind(kind), tuple(facts)).run(connection, of_run=run_id, **facts)


def detail_of(connection: Connection, kind: Any, run_id: UUID) -> Row[Any]:
    """Return the run's row in the table of its type."""
    table = TABLE_OF[kind].__table__  # type: ignore[attr-defined]
    return connection.execute(sa.select(table).where(table.c.run_id == run_id)).one()


def write_dependencies(connection: Connection, run_id: UUID, waits_for: Mapping[UUID, UUID | None]) -> None:
    """Replace what a run waits for: upstream deployment -> the run that refreshes it, if one does."""
    connection.execute(sa.delete(_DEPENDENCY).where(_DEPENDENCY.c.run_id == run_id))
    if waits_for:
        connection.execute(
            sa.insert(_DEPENDENCY),
            [
                {"run_id": run_id, "upstream_id": upstream, "upstream_run_id": upstream_run}
                for upstream, upstream_run in waits_for.items()
            ],
        )


def dependencies_on(
    connection: Connection, *, run_id: UUID | None = None, upstream_ids: Iterable[UUID] = ()
) -> list[Row[Any]]:
    """Return what waits for this run, or waits for one of these deployments without a run that refreshes it."""
    return _WAITS_FOR.rows(connection, upstream_run_id=run_id, upstream_ids=list(upstream_ids))


def awaited_upstreams(connection: Connection) -> set[UUID]:
    """Return the deployments that runs wait for without a run that refreshes them."""
    query = sa.select(_DEPENDENCY.c.upstream_id).where(_DEPENDENCY.c.upstream_run_id.is_(None)).distinct()
    return set(connection.execute(query).scalars())


def orphaned_waits(connection: Connection) -> tuple[set[UUID], list[UUID]]:
    """Return the ended runs that others still wait for, and the waiting runs that wait for nothing."""
    upstream = RUN.alias("upstream")
    ended = (
        sa.select(upstream.c.id)
        .join(_DEPENDENCY, _DEPENDENCY.c.upstream_run_id == upstream.c.id)
        .where(upstream.c.ended_at.is_not(None))
    )
    waits = sa.exists().where(_DEPENDENCY.c.run_id == RUN.c.id)
    free = sa.select(RUN.c.id).where(RUN.c.ended_at.is_(None), RUN.c.status == "waiting", ~waits).order_by(RUN.c.id)
    return set(connection.execute(ended).scalars()), list(connection.execute(free).scalars())


def count_waiting(connection: Connection) -> int:
    """Return how many runs wait."""
    query = sa.select(sa.func.count()).select_from(RUN).where(RUN.c.ended_at.is_(None), RUN.c.status == "waiting")
    count: int = connection.execute(query).scalar_one()
    return count


def remove_dependency(connection: Connection, run_id: UUID, upstream_id: UUID) -> int:
    """Remove one thing that a run waits for; return how many are left."""
    connection.execute(
        sa.delete(_DEPENDENCY).where(_DEPENDENCY.c.run_id == run_id, _DEPENDENCY.c.upstream_id == upstream_id)
    )
    count = sa.select(sa.func.count()).select_from(_DEPENDENCY).where(_DEPENDENCY.c.run_id == run_id)
    left: int = connection.execute(count).scalar_one()
    return left


def _update(
    connection: Connection,
    run_id: UUID,
    events: Sequence[Event],
    values: Mapping[str, Any],
    *,
    sources: frozenset[RunStatus],
    actor: str,
    now: datetime,
    held_fence: int | None = None,
    lease_before: datetime | None = None,
) -> Row[Any] | None:
    """Change the run's row if it is in one of these statuses, and write the events with the numbers that it gave."""
    guards: dict[str, Any] = {}
    if held_fence is not None and faults.is_on(Guard.FENCE):
        guards["held_fence"] = held_fence
    if lease_before is not None:
        guards["lease_before"] = lease_before
    counted: dict[str, Any] = {"count": len(events)}
    if not faults.is_on(Guard.EVENT_COUNTER):
        counted = {"seen": _LAST_SEQ.scalar(connection, run_id=run_id), **counted}
    update = _update_statement(sources, tuple(values), tuple(guards), tuple(counted))
    row: Row[Any] | None = update.first(
        connection, run_id=run_id, **guards, **counted, **{f"new_{k}": v for k, v in values.items()}
    )
    if row is not None:
        _insert_events(connection, run_id, events, last_seq=row.last_seq, actor=actor, now=now)
    return row


@lru_cache(maxsize=256)
def _update_statement(
    sources: frozenset[RunStatus], columns: tuple[str, ...], guards: tuple[str, ...], counted: tuple[str, ...]
) -> Statement:
    def build(_: Sql) -> sa.Executable:
        allowed = [RUN.c.id == sa.bindparam("run_id"), RUN.c.ended_at.is_(None), one_of(RUN.c.status, sources)]
        if "held_fence" in guards:
            allowed.append(RUN.c.fence == sa.bindparam("held_fence"))
        if "lease_before" in guards:
            allowed.append(RUN.c.lease_until < sa.bindparam("lease_before"))
        before: Any = sa.bindparam("seen", type_=sa.Integer) if "seen" in counted else RUN.c.last_seq
        values: dict[str, Any] = {name: sa.bindparam(f"new_{name}", type_=RUN.c[name].type) for name in columns}
        values["last_seq"] = before + sa.bindparam("count", type_=sa.Integer)
        return sa.update(RUN).where(*allowed).values(values).returning(RUN)

    return Statement(build)


@lru_cache(maxsize=64)
def _detail_insert(kind: DeploymentKind, columns: tuple[str, ...]) -> Statement:
    table = TABLE_OF[kind].__table__  # type: ignore[attr-defined]
    return Statement(lambda _: sa.insert(table).values({name: sa.bindparam(name) for name in ("run_id", *columns)}))


@lru_cache(maxsize=64)
def _detail_update(kind: DeploymentKind, columns: tuple[str, ...]) -> Statement:
    table = TABLE_OF[kind].__table__  # type: ignore[attr-defined]
    return Statement(
        lambda _: (
            sa.update(table)
            .where(table.c.run_id == sa.bindparam("of_run"))
            .values({name: sa.bindparam(name) for name in columns})
        )
    )


def _insert_events(
    connection: Connection, run_id: UUID, events: Sequence[Event], *, last_seq: int, actor: str, now: datetime
) -> None:
    if not events:
        return
    first = last_seq - len(events) + 1
    _INSERT_EVENT.run_many(
        connection,
        [
            {
                "run_id": run_id,
                "seq": first + offset,
                "kind": event.kind,
                "payload": event.payload(),
                "actor": actor,
                "at": now,
            }
            for offset, event in enumerate(events)
        ],
    )
