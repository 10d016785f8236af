"""All SQL for the run's row and its log: found, inserted, moved from status to status, its events numbered.

A state change is one guarded UPDATE; no row back means that the run was not in a status that allows it, or that
somebody else holds it. Events take their numbers from the run's row in the same statement: no gaps, no reordering.
Every function works in the caller's transaction.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Row

from ..lineage.models import Deployment
from ..storage import faults
from ..storage.compiled import Answer
from ..storage.errors import NotFound
from ..storage.faults import Guard
from ..storage.ids import parse_run_id, show_run_id
from . import run_statements as statements
from .models import RunEvent
from .run_events import Event
from .status import ACTIVE, LEASED, RunStatus, sources_of

_EVENT = RunEvent.__table__  # type: ignore[attr-defined]
RUN, STORE = statements.RUN, statements.STORE
_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]

_COULD_EXIST = frozenset({"idempotency_key", "flow_run_id"})
"""What only one run may have."""
_UNSET: Mapping[str, Any] = dict.fromkeys(statements.WHOLE) | {
    "partition": "",
    "workflow": {},
    "metadata": {},
    "background": True,
    "attempt": 0,
}
_NEAREST = 100
"""How many of the newest runs a wrong id is compared with."""


def insert_or_ignore(connection: Connection, table: sa.Table) -> Any:
    """Return `INSERT … ON CONFLICT DO NOTHING` for the connection's dialect."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(table).on_conflict_do_nothing()


def store_id(connection: Connection) -> UUID:
    """Return the identity of this store."""
    found: UUID | None = statements.STORE_ID.scalar(connection)
    assert found is not None, "a store has its identity from the moment that it is made"
    return found


def ask_store_id(connection: Connection) -> Answer:
    """Ask for the identity of this store, as a scalar."""
    return statements.STORE_ID.ask(connection)


def insert_run(
    connection: Connection, values: Mapping[str, Any], events: Sequence[Event], *, actor: str, now: datetime
) -> Any | None:
    """Insert a run with its first events; return its row, or None when its key or flow run has one already.

    `values` holds a value for every column but those that follow from here.
    """
    whole = {**_UNSET, **values, "created_at": now, "last_seq": len(events)}
    row = statements.ROW(tuple(whole.values()))
    given = {name: value for name, value in whole.items() if value is not None}
    may_exist = not _COULD_EXIST.isdisjoint(given)
    insert = statements.insert_statement(tuple(given), may_exist=may_exist)
    if not may_exist:
        insert.post(connection, **given)
    elif insert.run(connection, **given) == 0:
        return None
    _insert_events(connection, row.id, events, last_seq=len(events), actor=actor, now=now)
    return row


def get_run(connection: Connection, run_id: UUID, *, lock: bool = False) -> Row[Any]:
    """Return the run's row; with `lock`, nobody else changes it until this transaction ends.

    Raises:
        NotFound: there is no such run.
    """
    row: Row[Any] | None = (statements.LOCK_RUN if lock else statements.RUN_BY_ID).first(connection, run_id=run_id)
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
    return statements.RUN_BY_KEY.first(connection, tenant_id=tenant_id, key=key)


def newest_run_of_flow_run(connection: Connection, flow_run_id: UUID) -> Row[Any] | None:
    """Return the run of the highest generation that this flow run has."""
    return statements.NEWEST_OF_FLOW_RUN.first(connection, flow_run_id=flow_run_id)


def ask_runs_of_start(
    connection: Connection, flow_run_id: UUID, *, labelled: UUID | None = None
) -> Callable[[], list[Any]]:
    """Ask for the runs of a flow run, and the one that its label names; nobody else changes them meanwhile.

    The answer is waited for when the function is called that this returns.
    """
    # The one of the label came first; those after it are of later generations.
    if labelled is None:
        return statements.LOCK_OF_FLOW_RUN.ask(connection, flow_run_id=flow_run_id).rows
    return statements.LOCK_OF_START.ask(connection, flow_run_id=flow_run_id, run_id=labelled).rows


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
    returned = statements.BRIEF if brief else statements.WHOLE
    guarded: dict[str, Any] = {"held_fence": held_fence, "lease_before": lease_before}
    moved = _moved_to(target, values, now)
    return _update(
        connection, run_id, events, moved, sources_of(target), returned=returned, actor=actor, now=now, **guarded
    ).first()


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
    returned = statements.BRIEF if brief else statements.WHOLE
    return _update(
        connection, run_id, events, values, sources, returned=returned, actor=actor, now=now, held_fence=held_fence
    ).first()


def move(
    connection: Connection,
    run: Any,
    target: RunStatus,
    events: Sequence[Event],
    *,
    actor: str,
    now: datetime,
    **values: Any,
) -> Any:
    """Move a run that this transaction has locked to `target`, with its events; return its row as it is then.

    `run` is its row as it was locked, in a status from which it may be moved. Nobody waits for the answer: if the
    database does not allow it all the same, the transaction fails.
    """
    return _change_locked(connection, run, events, _moved_to(target, values, now), target, actor=actor, now=now)


def amend(
    connection: Connection, run: Any, events: Sequence[Event], *, actor: str, now: datetime, **values: Any
) -> Any:
    """Change columns of a run that this transaction has locked, and that has not ended, as `move` does."""
    return _change_locked(connection, run, events, values, None, actor=actor, now=now)


def ask_held(connection: Connection, run_id: UUID, fence: int) -> Answer:
    """Lock a run that this fence holds, and ask for its row, the columns `HELD`; no row: it is not held."""
    return ask_change(connection, run_id, fence)


def ask_change(
    connection: Connection,
    run_id: UUID,
    fence: int,
    events: Sequence[Event] = (),
    *,
    now: datetime | None = None,
    **values: Any,
) -> Answer:
    """Change columns of a run that this fence holds, append events, and ask for its row, as `ask_held` does.

    Of not more than `run_statements.LOGGED_AT_ONCE` events, `now` is as `Database.known_now` gives it.
    """
    return _update(
        connection, run_id, events, values, LEASED, returned=statements.HELD, actor="worker", now=now, held_fence=fence
    )


def ask_locked(connection: Connection, run_id: UUID) -> Answer:
    """Lock a run, and ask for its row, the columns `HELD`."""
    return statements.LOCK_BRIEFLY.ask(connection, run_id=run_id)


def deployment_key(connection: Connection, deployment_id: UUID) -> str:
    """Return the key of a deployment."""
    key: str = connection.execute(sa.select(_DEPLOYMENT.c.key).where(_DEPLOYMENT.c.id == deployment_id)).scalar_one()
    return key


def events_of(connection: Connection, run_id: UUID, *, after: int = 0, limit: int | None = None) -> list[Row[Any]]:
    """Return the run's log entries with a number above `after`, in order; not more than `limit`."""
    query = sa.select(_EVENT).where(_EVENT.c.run_id == run_id, _EVENT.c.seq > after).order_by(_EVENT.c.seq)
    return list(connection.execute(query.limit(limit)))


def _moved_to(target: RunStatus, values: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Return what a run gets that moves to `target`, besides these values."""
    moved = {"status": target, **values}
    if target not in LEASED:
        moved |= {"lease_until": None, "lease_owner": None}
    if target.is_terminal:
        moved["ended_at"] = now
    return moved


def _update(
    connection: Connection,
    run_id: UUID,
    events: Sequence[Event],
    values: Mapping[str, Any],
    sources: frozenset[RunStatus],
    *,
    returned: tuple[str, ...],
    actor: str,
    now: datetime | None,
    held_fence: int | None = None,
    lease_before: datetime | None = None,
) -> Answer:
    """Change the run's row if it is in one of these statuses, and write the events with the numbers that it gave.

    Return the answer: the row, or none. Events that are not in the same statement are written when it is there.
    """
    guards: dict[str, Any] = {}
    if held_fence is not None and faults.is_on(Guard.FENCE):
        guards["held_fence"] = held_fence
    if lease_before is not None:
        guards["lease_before"] = lease_before
    if not values and not events:
        # Nothing changes: the lock is what is wanted.
        return statements.held_statement(sources, tuple(guards), returned).ask(connection, run_id=run_id, **guards)
    counted = _counted(connection, run_id, events)
    logged = _logged(connection, events, actor=actor, now=now)
    update = statements.update_statement(
        sources, tuple(values), tuple(guards), tuple(counted), returned, num_events=len(events) if logged else 0
    )
    asked = update.ask(
        connection, run_id=run_id, **guards, **counted, **logged, **{f"new_{k}": v for k, v in values.items()}
    )
    if events and not logged and (row := asked.first()) is not None:
        assert now is not None, "it is known on SQLite, and for many events"
        _insert_events(connection, run_id, events, last_seq=row.last_seq, actor=actor, now=now)
    return asked


def _change_locked(
    connection: Connection,
    run: Any,
    events: Sequence[Event],
    values: Mapping[str, Any],
    target: RunStatus | None,
    *,
    actor: str,
    now: datetime,
) -> Any:
    sources = ACTIVE if target is None else sources_of(target)
    logged = _logged(connection, events, actor=actor, now=now)
    if not logged:
        row = _update(connection, run.id, events, values, sources, returned=("last_seq",), actor=actor, now=now).first()
        assert row is not None, "the run is locked, in a status that allows it"
        return statements.Changed(run, {**values, "last_seq": row.last_seq})
    counted = _counted(connection, run.id, events)
    update = statements.update_statement(sources, tuple(values), (), tuple(counted), (), num_events=len(events))
    update.post(connection, run_id=run.id, **counted, **logged, **{f"new_{k}": v for k, v in values.items()})
    return statements.Changed(run, {**values, "last_seq": run.last_seq + len(events)})


def _counted(connection: Connection, run_id: UUID, events: Sequence[Event]) -> dict[str, Any]:
    """Return what a change needs to count these events on the run's row."""
    counted: dict[str, Any] = {"count": len(events)}
    if not faults.is_on(Guard.EVENT_COUNTER):
        counted = {"seen": statements.LAST_SEQ.scalar(connection, run_id=run_id), **counted}
    return counted


def _logged(connection: Connection, events: Sequence[Event], *, actor: str, now: datetime | None) -> dict[str, Any]:
    """Return what a change needs to write these events in the same statement; nothing where that is not done."""
    if not 0 < len(events) <= statements.LOGGED_AT_ONCE or connection.dialect.name == "sqlite":
        return {}
    logged: dict[str, Any] = {"event_actor": actor, "event_at": now}
    for at, event in enumerate(events):
        logged[f"kind_{at}"], logged[f"payload_{at}"] = event.kind, event.payload()
    return logged


def _insert_events(
    connection: Connection, run_id: UUID, events: Sequence[Event], *, last_seq: int, actor: str, now: datetime
) -> None:
    first = last_seq - len(events) + 1
    statements.INSERT_EVENT.post_many(
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
