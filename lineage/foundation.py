"""What a deployment is built on, and what of it has lapsed since anybody looked.

Asked before a run may start, in the caller's transaction, which turns into causes what is due (`staleness.propagate`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..storage.statement import Sql, Statement
from . import graph
from .models import DeploymentState, Edge, Freshness

_STATE = DeploymentState.__table__  # type: ignore[attr-defined]
_EDGE = Edge.__table__  # type: ignore[attr-defined]


def _foundation(sql: Sql, *, with_itself: bool, locks: bool) -> sa.Executable:
    reached: Any = graph.reached_from(sql, near=_EDGE.c.deployment_id, far=_EDGE.c.upstream_id)
    if with_itself:
        reached = reached.union(sa.select(_STATE.c.deployment_id).where(sql.among(_STATE.c.deployment_id, "start")))
    above = reached.cte("above")
    is_due = sa.and_(
        _STATE.c.lapses_at <= sa.bindparam("now", type_=_STATE.c.lapses_at.type),
        _STATE.c.freshness != sa.literal_column(f"'{Freshness.STALE}'"),
    )
    asked = sa.select(_STATE.c.deployment_id.label("id"), sa.func.coalesce(is_due, sa.false()).label("is_due")).join(
        above, above.c.id == _STATE.c.deployment_id
    )
    if not locks:
        return asked
    found = asked.cte("found")
    own = (
        sa.select(_STATE.c.deployment_id, _STATE.c.next_fence, _STATE.c.version_id)
        .where(
            sql.among(_STATE.c.deployment_id, "start"),
            _STATE.c.partition == sa.literal_column("''"),
            ~sa.exists().where(found.c.is_due),
        )
        .with_for_update(key_share=True)
        .cte("own")
    )
    nothing = (sa.null().label("next_fence"), sa.null().label("version_id"))
    return sa.select(found.c.id, found.c.is_due, *nothing).union_all(
        sa.select(own.c.deployment_id, sa.null(), own.c.next_fence, own.c.version_id)
    )


_FOUNDATION = {
    (with_itself, locks): Statement(partial(_foundation, with_itself=with_itself, locks=locks))
    for with_itself in (False, True)
    for locks in (False, True)
}


@dataclass(frozen=True)
class Foundation:
    """What a deployment is built on, and what of it has lapsed since anybody looked."""

    ids: frozenset[UUID]
    """All upstream of it, direct or not, and itself when that was asked for."""
    due: tuple[UUID, ...]
    """Those of them whose policies have lapsed, and which are not stale yet."""
    state: Any | None = None
    """Its own state, locked: next_fence and version_id. None when something is due, or it was not to be locked."""


def ask_foundation(
    connection: Connection, deployment_id: UUID, *, with_itself: bool, lock: bool, now: datetime
) -> Callable[[], Foundation]:
    """Ask what a deployment is built on; the answer is waited for when the function is called that this returns.

    With `lock`, its own state is locked unless something is due, before anything that is asked after this: what is due
    is to be turned first, which locks states in the order of their ids. Not on SQLite, which has one lock only.
    """
    lock = lock and connection.dialect.name != "sqlite"
    answer = _FOUNDATION[with_itself, lock].ask(connection, start=[deployment_id], now=now)

    def foundation() -> Foundation:
        ids, due, state = [], [], None
        for row in answer.rows():
            if lock and row.next_fence is not None:
                state = row
                continue
            ids.append(row.id)
            if row.is_due:
                due.append(row.id)
        return Foundation(frozenset(ids), tuple(due), state)

    return foundation
