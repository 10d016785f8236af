"""What belongs to a run besides its row and its log: all SQL for its inputs, latest metric values,
messages and typed details.

Every function works in the caller's transaction.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from ..storage.errors import Conflict
from ..storage.statement import Sql, Statement, insert_all
from ..storage.words import DeploymentKind
from .author_models import RunMessage
from .details import TABLE_OF
from .models import Metric, RunInput

_INPUT = RunInput.__table__  # type: ignore[attr-defined]
_METRIC = Metric.__table__  # type: ignore[attr-defined]
_MESSAGE = RunMessage.__table__  # type: ignore[attr-defined]

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
_IN_ROLE = Statement(
    lambda _: sa.select(_INPUT.c.version_id).where(
        _INPUT.c.run_id == sa.bindparam("of_run"), _INPUT.c.role == sa.bindparam("in_role")
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


def write_inputs(connection: Connection, run_id: UUID, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace what the run has pinned: rows of role, upstream_id, version_id, pinned, read."""
    _DELETE_INPUTS.post(connection, run_id=run_id)
    add_inputs(connection, run_id, rows)


def add_inputs(connection: Connection, run_id: UUID, rows: Sequence[Mapping[str, Any]]) -> None:
    """Record what a run has pinned or read: rows of role, upstream_id, version_id, pinned, read."""
    _INSERT_INPUT.post_many(connection, [{"run_id": run_id, **row} for row in rows])


def mark_reads(connection: Connection, run_id: UUID, reads: Sequence[Mapping[str, Any]]) -> None:
    """Record what the body read: rows of role, upstream_id, version_id. One that was not pinned is added.

    Raises:
        Conflict: another version is pinned in the role.
    """
    for read in reads:
        found = _MARK_READ.run(connection, of_run=run_id, in_role=read["role"], of_version=read["version_id"])
        if found == 0:
            if _IN_ROLE.first(connection, of_run=run_id, in_role=read["role"]) is not None:
                raise Conflict(f"the run pinned another version in the role {read['role']!r} than its body has read")
            add_inputs(connection, run_id, [{**read, "pinned": False, "read": True}])


def inputs_of(connection: Connection, run_id: UUID) -> list[Row[Any]]:
    """Return the run's inputs, ordered by role."""
    return list(connection.execute(sa.select(_INPUT).where(_INPUT.c.run_id == run_id).order_by(_INPUT.c.role)))


def write_metrics(connection: Connection, run_id: UUID, rows: Sequence[Mapping[str, Any]], *, now: datetime) -> None:
    """Insert or replace latest values: rows of name, value (NaN is null) and convention."""
    _UPSERT_METRIC.post_many(connection, [{"run_id": run_id, "at": now, "convention": None, **row} for row in rows])


def metrics_of(connection: Connection, run_ids: Iterable[UUID]) -> list[Row[Any]]:
    """Return the latest values of these runs, ordered by run and name."""
    query = sa.select(_METRIC).where(_METRIC.c.run_id.in_(list(run_ids))).order_by(_METRIC.c.run_id, _METRIC.c.name)
    return list(connection.execute(query))


def metric_value(row: Row[Any]) -> float:
    """Return the value of a row of `metric`: null is NaN."""
    return math.nan if row.value is None else float(row.value)


def messages_of(connection: Connection, run_id: UUID, *, after: int = 0, limit: int) -> list[Row[Any]]:
    """Return the run's messages with a number above `after`, in order; not more than `limit`."""
    query = sa.select(_MESSAGE).where(_MESSAGE.c.run_id == run_id, _MESSAGE.c.number > after)
    return list(connection.execute(query.order_by(_MESSAGE.c.number).limit(limit)))


def insert_detail(connection: Connection, kind: Any, run_id: UUID, facts: Mapping[str, Any]) -> None:
    """Insert the run's row in the table of its type."""
    _detail_insert(DeploymentKind(kind), tuple(facts)).post(connection, run_id=run_id, **facts)


def update_detail(connection: Connection, kind: Any, run_id: UUID, facts: Mapping[str, Any]) -> None:
    """Change the run's row in the table of its type."""
    if facts:
        _detail_update(DeploymentKind(kind), tuple(facts)).post(connection, of_run=run_id, **facts)


def detail_of(connection: Connection, kind: Any, run_id: UUID) -> Row[Any]:
    """Return the run's row in the table of its type."""
    table = TABLE_OF[kind].__table__  # type: ignore[attr-defined]
    return connection.execute(sa.select(table).where(table.c.run_id == run_id)).one()


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
