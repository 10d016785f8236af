"""The statements that `store` runs on the run's row and its log, and the columns that they give.

A change of the row and the events that it brings are one statement on Postgres, as they are one fact.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from ..lineage.models import Activity
from ..storage.compiled import row_type
from ..storage.statement import ONE_OR_AN_ERROR, Sql, Statement, insert_all, one_of, unindexed
from .models import Run, RunEvent, Store
from .status import LEASED, RunStatus

RUN = Run.__table__  # type: ignore[attr-defined]
STORE = Store.__table__  # type: ignore[attr-defined]
_EVENT = RunEvent.__table__  # type: ignore[attr-defined]

ROW = row_type(column.name for column in RUN.c)
BRIEF = tuple(column.name for column in RUN.c if not isinstance(column.type, sa.JSON))
"""The columns of a run's row that are quick to read."""
WHOLE: tuple[str, ...] = tuple(ROW._fields)
HELD = (
    *("id", "deployment_id", "type", "kind", "trigger", "retry_of", "replay_of", "status", "stop_reason"),
    *("data_as_of", "attempt", "fence", "declaration_digest", "cancel_requested_at", "pause_requested_at"),
    *("lease_until", "started_at", "ended_at", "last_seq"),
)
"""What whoever holds a run needs of its row: each column more costs the server about as much as it costs the reader."""
LOGGED_AT_ONCE = 4
"""More events than these are inserted by a statement of their own: each number of them is a statement to prepare."""

STORE_ID = Statement(lambda _: sa.select(STORE.c.id))
RUN_BY_ID = Statement(lambda _: sa.select(RUN).where(RUN.c.id == sa.bindparam("run_id")))
LOCK_RUN = Statement(lambda _: sa.select(RUN).where(RUN.c.id == sa.bindparam("run_id")).with_for_update())
LOCK_BRIEFLY = Statement(
    lambda _: (
        sa.select(*(RUN.c[name] for name in HELD))
        .where(RUN.c.id == sa.bindparam("run_id"))
        .with_for_update(key_share=True)
    )
)
RUN_BY_KEY = Statement(
    lambda _: sa.select(RUN).where(
        RUN.c.tenant_id == sa.bindparam("tenant_id"), RUN.c.idempotency_key == sa.bindparam("key")
    )
)
NEWEST_OF_FLOW_RUN = Statement(
    lambda _: (
        sa.select(RUN)
        .where(RUN.c.flow_run_id == sa.bindparam("flow_run_id"))
        .order_by(RUN.c.generation.desc())
        .limit(sa.literal_column("1"))
    )
)
_IS_OF_FLOW_RUN = RUN.c.flow_run_id == sa.bindparam("flow_run_id")
LOCK_OF_FLOW_RUN = Statement(
    lambda _: sa.select(RUN).where(_IS_OF_FLOW_RUN).order_by(RUN.c.generation).with_for_update()
)
LOCK_OF_START = Statement(
    lambda _: (
        sa.select(RUN)
        .where(sa.or_(RUN.c.id == sa.bindparam("run_id"), _IS_OF_FLOW_RUN))
        .order_by(RUN.c.generation)
        .with_for_update()
    )
)
LAST_SEQ = Statement(lambda _: sa.select(RUN.c.last_seq).where(RUN.c.id == sa.bindparam("run_id")))
INSERT_EVENT = insert_all(_EVENT)


class Changed:
    """A run's row with the values that some of its columns have got."""

    __slots__ = ("_run", "_values")

    def __init__(self, run: Any, values: Mapping[str, Any]) -> None:
        self._run, self._values = run, values

    def __getattr__(self, name: str) -> Any:
        values = self._values
        return values[name] if name in values else getattr(self._run, name)

    def _asdict(self) -> dict[str, Any]:
        return {**self._run._asdict(), **self._values}


def activity_after(deployment_id: sa.ColumnElement[UUID], otherwise: str) -> sa.ColumnElement[str]:
    """Return the activity of a deployment: running while a worker executes a run of it, else the parameter's."""
    leased = sa.exists().where(
        RUN.c.deployment_id == deployment_id, RUN.c.ended_at.is_(None), one_of(RUN.c.status, LEASED)
    )
    running = sa.literal_column(f"'{Activity.RUNNING}'", sa.String())
    return sa.case((leased, running), else_=sa.bindparam(otherwise, type_=sa.String()))


@lru_cache(maxsize=64)
def insert_statement(columns: tuple[str, ...], *, may_exist: bool) -> Statement:
    """Return the insertion of a run with these columns; the others are null, and most are when a run begins."""

    def build(sql: Sql) -> sa.Executable:
        insert = sql.insert(RUN).values({name: sa.bindparam(name) for name in columns})
        return insert.on_conflict_do_nothing() if may_exist else insert  # type: ignore[no-any-return]

    return Statement(build)


@lru_cache(maxsize=256)
def update_statement(
    sources: frozenset[RunStatus],
    columns: tuple[str, ...],
    guards: tuple[str, ...],
    counted: tuple[str, ...],
    returned: tuple[str, ...],
    *,
    num_events: int,
) -> Statement:
    """Return the change of these columns that gives the `returned` ones, and writes so many events along with it.

    With events and nothing to return, it fails when it changes nothing: no answer has to be looked at.
    """

    def build(sql: Sql) -> sa.Executable:
        before: Any = sa.bindparam("seen", type_=sa.Integer) if "seen" in counted else RUN.c.last_seq
        values: dict[str, Any] = {name: sa.bindparam(f"new_{name}", type_=RUN.c[name].type) for name in columns}
        values["last_seq"] = before + sa.bindparam("count", type_=sa.Integer)
        update = sa.update(RUN).where(*_allowed(sources, guards)).values(values)
        if not num_events:
            return update.returning(*(RUN.c[name] for name in returned))
        changed = update.returning(*(RUN.c[name] for name in returned or ("id", "last_seq"))).cte("changed")
        what: Any = [changed.c[name] for name in returned] or [ONE_OR_AN_ERROR]
        return sa.select(*what).select_from(changed).add_cte(_log_of(sql, changed, num_events))

    return Statement(build)


def _log_of(sql: Sql, changed: sa.CTE, num_events: int) -> sa.CTE:
    """Return the insertion of events whose numbers end with the one that the change of the run's row gave."""
    entries = [
        sa.select(
            changed.c.id,
            changed.c.last_seq - sa.literal_column(str(num_events - 1 - at), sa.Integer()),
            sa.bindparam(f"kind_{at}", type_=_EVENT.c.kind.type),
            sa.bindparam(f"payload_{at}", type_=_EVENT.c.payload.type),
            sa.bindparam("event_actor", type_=_EVENT.c.actor.type),
            sql.moment("event_at", _EVENT.c.at),
        )
        for at in range(num_events)
    ]
    rows = entries[0] if num_events == 1 else sa.union_all(*entries)
    return sa.insert(_EVENT).from_select(["run_id", "seq", "kind", "payload", "actor", "at"], rows).cte("logged")


@lru_cache(maxsize=64)
def held_statement(sources: frozenset[RunStatus], guards: tuple[str, ...], returned: tuple[str, ...]) -> Statement:
    """Return the query that locks a run as the change does that it stands for."""
    columns = [RUN.c[name] for name in returned]
    return Statement(lambda _: sa.select(*columns).where(*_allowed(sources, guards)).with_for_update(key_share=True))


def _allowed(sources: frozenset[RunStatus], guards: tuple[str, ...]) -> list[sa.ColumnElement[bool]]:
    # The id alone finds the row, whatever partial indexes there are. None of the sources is terminal.
    allowed = [RUN.c.id == sa.bindparam("run_id"), one_of(unindexed(RUN.c.status), sources)]
    if "held_fence" in guards:
        allowed.append(RUN.c.fence == sa.bindparam("held_fence"))
    if "lease_before" in guards:
        allowed.append(RUN.c.lease_until < sa.bindparam("lease_before"))
    return allowed
