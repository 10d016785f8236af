"""All SQL for the run's row and its log: found, inserted, moved from status to status, its events numbered.

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
from ..storage.compiled import row_type
from ..storage.errors import NotFound
from ..storage.faults import Guard
from ..storage.ids import parse_run_id, show_run_id
from ..storage.statement import Sql, Statement, insert_all, one_of
from .events import Event
from .models import Run, RunEvent, Store
from .status import ACTIVE, LEASED, RunStatus, sources_of

RUN = Run.__table__  # type: ignore[attr-defined]
_EVENT = RunEvent.__table__  # type: ignore[attr-defined]
STORE = Store.__table__  # type: ignore[attr-defined]
_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]

_ROW = row_type(column.name for column in RUN.c)
_BRIEF = tuple(column.name for column in RUN.c if not isinstance(column.type, sa.JSON))
"""The columns of a run's row that are quick to read."""
_UNSET: Mapping[str, Any] = {
    **dict.fromkeys(_ROW._fields), "partition": "", "workflow": {}, "metadata": {}, "background": True, "attempt": 0,
}  # fmt: skip

_NEAREST = 100
"""How many of the newest runs a wrong id is compared with."""

_STORE_ID = Statement(lambda _: sa.select(STORE.c.id))
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
    whole = {**_UNSET, **values, "created_at": now, "last_seq": len(events)}
    row = _ROW(tuple(whole.values()))
    given = {name: value for name, value in whole.items() if value is not None}
    if _insert_statement(tuple(given)).run(connection, **given) == 0:
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


def named_run(connection: Connection, run_id: UUID | str, *, tenant_id: str) -> Row[Any]:
    """Return the row of a run of this tenant, given by its id, with or without `run-`.

    Raises:
        InvalidInput: it is no id.
        NotFound: there is none; the message has the ids of others that look like it.
    """
    wanted = parse_run_id(run_id)
    is_tenants = RUN.c.tenant_id == tenant_id
    row = connection.execute(sa.select(RUN).where(RUN.c.id == wanted, is_tenants)).one_or_none()
    if row is None:
        newest = sa.select(RUN.c.id).where(is_tenants).order_by(RUN.c.id.desc()).limit(_NEAREST)
        known = [show_run_id(one) for one in connection.execute(newest).scalars()]
        raise NotFound("run", show_run_id(wanted), known=known)
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
    brief: bool = False,
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
        brief=brief,
    )


def change(
    connection: Connection,
    run_id: UUID,
    events: Sequence[Event] = (),
    *,
    actor: str,
    now: datetime,
    held_fence: int | None = None,
    brief: bool = False,
    **values: Any,
) -> Row[Any] | None:
    """Change columns of a run that has not ended, and append events; return its row, or None when it has ended.

    With `held_fence`, only the holder of that fence may do it, and only while it holds the lease. A `brief` row is
    without the columns of JSON, which take longer to read than the change does.
    """
    sources = LEASED if held_fence is not None else ACTIVE
    return _update(
        connection, run_id, events, values, sources=sources, actor=actor, now=now, held_fence=held_fence, brief=brief
    )


class _Joined:
    """A run's row as it is after a change whose row holds some of its columns."""

    __slots__ = ("_changed", "_run")

    def __init__(self, run: Any, changed: Any) -> None:
        self._run, self._changed = run, changed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._changed if name in _BRIEF else self._run, name)

    def _asdict(self) -> dict[str, Any]:
        return {**self._run._asdict(), **self._changed._asdict()}


def joined(run: Row[Any], changed: Row[Any]) -> Row[Any]:
    """Return a run's row as it is after a change that gave a brief one."""
    row: Any = _Joined(run, changed)
    return row  # type: ignore[no-any-return]


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
    brief: bool = False,
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
    returned = _BRIEF if brief else tuple(_ROW._fields)
    if not values and not events:
        # Nothing changes: the lock is what is wanted.
        held: Row[Any] | None = _held_statement(sources, tuple(guards), returned).first(
            connection, run_id=run_id, **guards
        )
        return held
    update = _update_statement(sources, tuple(values), tuple(guards), tuple(counted), returned)
    row: Row[Any] | None = update.first(
        connection, run_id=run_id, **guards, **counted, **{f"new_{k}": v for k, v in values.items()}
    )
    if row is not None:
        _insert_events(connection, run_id, events, last_seq=row.last_seq, actor=actor, now=now)
    return row


@lru_cache(maxsize=64)
def _insert_statement(columns: tuple[str, ...]) -> Statement:
    """Return the insertion of a run with these columns; the others are null, and most are when a run begins."""
    return Statement(
        lambda sql: sql.insert(RUN).values({name: sa.bindparam(name) for name in columns}).on_conflict_do_nothing()
    )


@lru_cache(maxsize=256)
def _update_statement(
    sources: frozenset[RunStatus],
    columns: tuple[str, ...],
    guards: tuple[str, ...],
    counted: tuple[str, ...],
    returned: tuple[str, ...],
) -> Statement:
    def build(_: Sql) -> sa.Executable:
        before: Any = sa.bindparam("seen", type_=sa.Integer) if "seen" in counted else RUN.c.last_seq
        values: dict[str, Any] = {name: sa.bindparam(f"new_{name}", type_=RUN.c[name].type) for name in columns}
        values["last_seq"] = before + sa.bindparam("count", type_=sa.Integer)
        update = sa.update(RUN).where(*_allowed(sources, guards)).values(values)
        return update.returning(*(RUN.c[name] for name in returned))

    return Statement(build)


@lru_cache(maxsize=64)
def _held_statement(sources: frozenset[RunStatus], guards: tuple[str, ...], returned: tuple[str, ...]) -> Statement:
    """Return the query that locks a run as the change does that it stands for."""
    columns = [RUN.c[name] for name in returned]
    return Statement(lambda _: sa.select(*columns).where(*_allowed(sources, guards)).with_for_update(key_share=True))


def _allowed(sources: frozenset[RunStatus], guards: tuple[str, ...]) -> list[sa.ColumnElement[bool]]:
    allowed = [RUN.c.id == sa.bindparam("run_id"), RUN.c.ended_at.is_(None), one_of(RUN.c.status, sources)]
    if "held_fence" in guards:
        allowed.append(RUN.c.fence == sa.bindparam("held_fence"))
    if "lease_before" in guards:
        allowed.append(RUN.c.lease_until < sa.bindparam("lease_before"))
    return allowed


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
