"""All SQL for the run's own tables: the row, its guarded transitions, its events, inputs, metrics and details.

A state change is one guarded UPDATE; no row back means that the run was not in a status that allows it, or that
somebody else holds it. Events take their numbers from the run's row in the same statement: no gaps, no reordering.
Every function works in the caller's transaction.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Row

from ..lineage.models import Deployment
from ..storage.errors import NotFound
from ..storage.ids import show_run_id
from .details import TABLE_OF
from .events import Event
from .models import Metric, Run, RunDependency, RunEvent, RunInput, Store
from .status import ACTIVE, LEASED, RunStatus, sources_of

RUN = Run.__table__  # type: ignore[attr-defined]
_EVENT = RunEvent.__table__  # type: ignore[attr-defined]
_INPUT = RunInput.__table__  # type: ignore[attr-defined]
_METRIC = Metric.__table__  # type: ignore[attr-defined]
_STORE = Store.__table__  # type: ignore[attr-defined]
_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]
_DEPENDENCY = RunDependency.__table__  # type: ignore[attr-defined]


def insert_or_ignore(connection: Connection, table: sa.Table) -> Any:
    """Return `INSERT … ON CONFLICT DO NOTHING` for the connection's dialect."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(table).on_conflict_do_nothing()


def store_id(connection: Connection) -> UUID:
    """Return the identity of this store."""
    found: UUID = connection.execute(sa.select(_STORE.c.id)).scalar_one()
    return found


def insert_run(
    connection: Connection, values: Mapping[str, Any], events: Sequence[Event], *, actor: str, now: datetime
) -> bool:
    """Insert a run with its first events; return False when its key or flow run has one already."""
    row = {**values, "created_at": now, "last_seq": len(events)}
    insert = insert_or_ignore(connection, RUN).values(row).returning(RUN.c.id)
    if connection.execute(insert).first() is None:
        return False
    _insert_events(connection, values["id"], events, last_seq=len(events), actor=actor, now=now)
    return True


def get_run(connection: Connection, run_id: UUID, *, lock: bool = False) -> Row[Any]:
    """Return the run's row; with `lock`, nobody else changes it until this transaction ends.

    Raises:
        NotFound: there is no such run.
    """
    query = sa.select(RUN).where(RUN.c.id == run_id)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise NotFound("run", show_run_id(run_id))
    return row


def find_run(connection: Connection, run_id: UUID) -> Row[Any] | None:
    """Return the run's row, or None."""
    return connection.execute(sa.select(RUN).where(RUN.c.id == run_id)).one_or_none()


def run_by_key(connection: Connection, key: str, *, tenant_id: str) -> Row[Any] | None:
    """Return the run that was submitted with this idempotency key."""
    query = sa.select(RUN).where(RUN.c.tenant_id == tenant_id, RUN.c.idempotency_key == key)
    return connection.execute(query).one_or_none()


def newest_run_of_flow_run(connection: Connection, flow_run_id: UUID) -> Row[Any] | None:
    """Return the run of the highest generation that this flow run has."""
    query = sa.select(RUN).where(RUN.c.flow_run_id == flow_run_id).order_by(RUN.c.generation.desc()).limit(1)
    return connection.execute(query).one_or_none()


def known_flow_runs(connection: Connection, flow_run_ids: Iterable[UUID]) -> set[UUID]:
    """Return those of these flow runs that have a run."""
    query = sa.select(RUN.c.flow_run_id).where(RUN.c.flow_run_id.in_(list(flow_run_ids)))
    return set(connection.execute(query).scalars())


def active_runs(connection: Connection) -> list[Row[Any]]:
    """Return the runs that have not ended, oldest first."""
    return list(connection.execute(sa.select(RUN).where(RUN.c.ended_at.is_(None)).order_by(RUN.c.id)))


def active_runs_of(connection: Connection, deployment_ids: Iterable[UUID], *, keep: bool = False) -> list[Row[Any]]:
    """Return the runs of these deployments that have not ended, oldest first; with `keep`, none ends meanwhile."""
    query = (
        sa.select(RUN)
        .where(RUN.c.deployment_id.in_(list(deployment_ids)), RUN.c.status.in_(sorted(ACTIVE)))
        .order_by(RUN.c.id)
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
    allowed = [RUN.c.id == run_id, RUN.c.status.in_(sorted(sources_of(target)))]
    if held_fence is not None:
        allowed.append(RUN.c.fence == held_fence)
    if lease_before is not None:
        allowed.append(RUN.c.lease_until < lease_before)
    if target not in LEASED:
        values |= {"lease_until": None, "lease_owner": None}
    if target.is_terminal:
        values["ended_at"] = now
    update = (
        sa.update(RUN)
        .where(*allowed)
        .values(status=target, last_seq=RUN.c.last_seq + len(events), **values)
        .returning(RUN)
    )
    row = connection.execute(update).one_or_none()
    if row is not None:
        _insert_events(connection, run_id, events, last_seq=row.last_seq, actor=actor, now=now)
    return row


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
    allowed = [RUN.c.id == run_id, RUN.c.ended_at.is_(None)]
    if held_fence is not None:
        allowed += [RUN.c.fence == held_fence, RUN.c.status.in_(sorted(LEASED))]
    update = sa.update(RUN).where(*allowed).values(last_seq=RUN.c.last_seq + len(events), **values).returning(RUN)
    row = connection.execute(update).one_or_none()
    if row is not None:
        _insert_events(connection, run_id, events, last_seq=row.last_seq, actor=actor, now=now)
    return row


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
    connection.execute(sa.delete(_INPUT).where(_INPUT.c.run_id == run_id))
    if rows:
        connection.execute(sa.insert(_INPUT), [{"run_id": run_id, **row} for row in rows])


def mark_reads(connection: Connection, run_id: UUID, reads: Sequence[Mapping[str, Any]]) -> None:
    """Record what the body read: rows of role, upstream_id, version_id. One that was not pinned is added."""
    for read in reads:
        known = connection.execute(
            sa.update(_INPUT)
            .where(
                _INPUT.c.run_id == run_id,
                _INPUT.c.role == read["role"],
                _INPUT.c.version_id == read["version_id"],
            )
            .values(read=True)
        )
        if known.rowcount == 0:
            connection.execute(sa.insert(_INPUT).values(run_id=run_id, pinned=False, read=True, **read))


def inputs_of(connection: Connection, run_id: UUID) -> list[Row[Any]]:
    """Return the run's inputs, ordered by role."""
    return list(connection.execute(sa.select(_INPUT).where(_INPUT.c.run_id == run_id).order_by(_INPUT.c.role)))


def write_metrics(connection: Connection, run_id: UUID, rows: Sequence[Mapping[str, Any]], *, now: datetime) -> None:
    """Insert or replace latest values: rows of name, value (NaN is null) and convention."""
    if not rows:
        return
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    insert = dialect.insert(_METRIC)
    upsert = insert.on_conflict_do_update(
        index_elements=[_METRIC.c.run_id, _METRIC.c.name],
        set_={
            "value": insert.excluded.value,
            "convention": sa.func.coalesce(insert.excluded.convention, _METRIC.c.convention),
            "at": insert.excluded.at,
        },
    )
    connection.execute(upsert, [{"run_id": run_id, "at": now, "convention": None, **row} for row in rows])


def metrics_of(connection: Connection, run_ids: Iterable[UUID]) -> list[Row[Any]]:
    """Return the latest values of these runs, ordered by run and name."""
    query = sa.select(_METRIC).where(_METRIC.c.run_id.in_(list(run_ids))).order_by(_METRIC.c.run_id, _METRIC.c.name)
    return list(connection.execute(query))


def insert_detail(connection: Connection, kind: Any, run_id: UUID, facts: Mapping[str, Any]) -> None:
    """Insert the run's row in the table of its type."""
    connection.execute(sa.insert(TABLE_OF[kind].__table__).values(run_id=run_id, **facts))  # type: ignore[attr-defined]


def update_detail(connection: Connection, kind: Any, run_id: UUID, facts: Mapping[str, Any]) -> None:
    """Change the run's row in the table of its type."""
    table = TABLE_OF[kind].__table__  # type: ignore[attr-defined]
    if facts:
        connection.execute(sa.update(table).where(table.c.run_id == run_id).values(dict(facts)))


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
    condition = sa.and_(_DEPENDENCY.c.upstream_run_id.is_(None), _DEPENDENCY.c.upstream_id.in_(list(upstream_ids)))
    if run_id is not None:
        condition = sa.or_(condition, _DEPENDENCY.c.upstream_run_id == run_id)
    return list(connection.execute(sa.select(_DEPENDENCY).where(condition).order_by(_DEPENDENCY.c.run_id)))


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
    free = sa.select(RUN.c.id).where(RUN.c.status == "waiting", ~waits).order_by(RUN.c.id)
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


def _insert_events(
    connection: Connection, run_id: UUID, events: Sequence[Event], *, last_seq: int, actor: str, now: datetime
) -> None:
    if not events:
        return
    first = last_seq - len(events) + 1
    connection.execute(
        sa.insert(_EVENT),
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
