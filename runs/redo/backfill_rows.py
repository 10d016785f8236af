"""All SQL for backfills: their rows, their dates, and the runs that those got.

Every function works in the caller's transaction.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from ...lineage.models import Deployment, Version
from ...storage.errors import NotFound
from ...storage.ids import parse_shown_id
from ...storage.statement import insert_all
from ..status import ACTIVE, RunStatus
from ..store import RUN
from .backfill_models import Backfill, BackfillDate, BackfillStatus

_BACKFILL = Backfill.__table__  # type: ignore[attr-defined]
_DATE = BackfillDate.__table__  # type: ignore[attr-defined]
_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]
_VERSION = Version.__table__  # type: ignore[attr-defined]

_INSERT_DATE = insert_all(_DATE)
_PREFIX = "backfill-"
_IS_UNDER_WAY = sa.and_(_DATE.c.run_id.is_not(None), _DATE.c.outcome.is_(None))

GOOD = frozenset({RunStatus.COMPLETED, RunStatus.SKIPPED})
"""A date whose run ended so is done."""


def show_id(backfill_id: UUID) -> str:
    """Return the id as people see it: `backfill-0199…`."""
    return f"{_PREFIX}{backfill_id}"


def parse_id(text: str | UUID) -> UUID:
    """Return the UUID of a backfill's id given with or without its prefix.

    Raises:
        InvalidInput: the text is not such an id.
    """
    return parse_shown_id(text, _PREFIX, what="the id of a backfill")


def insert(connection: Connection, values: Mapping[str, Any], dates: Sequence[date]) -> None:
    """Insert a backfill with its dates, none of which has a run yet."""
    connection.execute(sa.insert(_BACKFILL).values(**values))
    planned = {"backfill_id": values["id"], "tries": 0, "run_id": None, "outcome": None}
    _INSERT_DATE.run_many(connection, [{**planned, "data_date": one} for one in dates])


def get(connection: Connection, backfill_id: UUID, *, tenant_id: str, lock: bool = False) -> Row[Any]:
    """Return a backfill's row with its deployment's key; with `lock`, nobody else changes it meanwhile.

    Raises:
        NotFound: there is no such backfill.
    """
    query = _with_key().where(_BACKFILL.c.id == backfill_id, _BACKFILL.c.tenant_id == tenant_id)
    row = connection.execute(query.with_for_update(of=_BACKFILL) if lock else query).one_or_none()
    if row is None:
        raise NotFound("backfill", show_id(backfill_id))
    return row


def newest(connection: Connection, *, tenant_id: str, deployment_id: UUID | None, limit: int) -> list[Row[Any]]:
    """Return backfills with their deployments' keys, newest first."""
    query = _with_key().where(_BACKFILL.c.tenant_id == tenant_id).order_by(_BACKFILL.c.id.desc()).limit(limit)
    if deployment_id is not None:
        query = query.where(_BACKFILL.c.deployment_id == deployment_id)
    return list(connection.execute(query))


def open_ids(connection: Connection) -> list[tuple[UUID, str]]:
    """Return (id, tenant) of the backfills that have something to do or runs under way, oldest first."""
    query = sa.select(_BACKFILL.c.id, _BACKFILL.c.tenant_id).where(_BACKFILL.c.ended_at.is_(None))
    return sorted((row.id, row.tenant_id) for row in connection.execute(query))


def open_of(connection: Connection, deployment_id: UUID) -> Row[Any] | None:
    """Return the backfill of a deployment that has not ended."""
    query = _with_key().where(_BACKFILL.c.deployment_id == deployment_id, _BACKFILL.c.ended_at.is_(None))
    return connection.execute(query).one_or_none()


def change(connection: Connection, backfill_id: UUID, *, sources: Collection[BackfillStatus], **values: Any) -> bool:
    """Change a backfill if it is in one of these statuses; return whether it was."""
    guarded = sa.and_(_BACKFILL.c.id == backfill_id, _BACKFILL.c.status.in_(sorted(sources)))
    return connection.execute(sa.update(_BACKFILL).where(guarded).values(**values)).rowcount == 1


def counts(connection: Connection, backfill_ids: Iterable[UUID]) -> dict[UUID, dict[str, int]]:
    """Return, per backfill, how many dates ended in which status; `under_way` and `planned` are those that did not."""
    state = sa.case(
        (_DATE.c.outcome.is_not(None), _DATE.c.outcome),
        (_DATE.c.run_id.is_not(None), sa.literal_column("'under_way'")),
        else_=sa.literal_column("'planned'"),
    ).label("state")
    query = (
        sa.select(_DATE.c.backfill_id, state, sa.func.count().label("number"))
        .where(_DATE.c.backfill_id.in_(list(backfill_ids)))
        .group_by(_DATE.c.backfill_id, state)
    )
    found: dict[UUID, dict[str, int]] = {}
    for row in connection.execute(query):
        found.setdefault(row.backfill_id, {})[row.state] = row.number
    return found


def dates_of(connection: Connection, backfill_id: UUID) -> list[Row[Any]]:
    """Return every date of a backfill in order, with the status and the reason of its run."""
    query = (
        sa.select(_DATE, RUN.c.status, RUN.c.stop_reason, RUN.c.error_message)
        .outerjoin(RUN, RUN.c.id == _DATE.c.run_id)
        .where(_DATE.c.backfill_id == backfill_id)
        .order_by(_DATE.c.data_date)
    )
    return list(connection.execute(query))


def planned(connection: Connection, backfill_id: UUID, *, limit: int) -> list[Row[Any]]:
    """Return the earliest dates that have no run."""
    query = (
        sa.select(_DATE)
        .where(_DATE.c.backfill_id == backfill_id, _DATE.c.run_id.is_(None))
        .order_by(_DATE.c.data_date)
        .limit(limit)
    )
    return list(connection.execute(query))


def under_way(connection: Connection, backfill_id: UUID) -> list[Row[Any]]:
    """Return the dates whose run has not been seen to end, in order, with what is known of that run."""
    query = (
        sa.select(_DATE, RUN.c.status, RUN.c.ended_at, RUN.c.error_message, RUN.c.stop_reason)
        .add_columns(RUN.c.cancel_requested_at)
        .join(RUN, RUN.c.id == _DATE.c.run_id)
        .where(_DATE.c.backfill_id == backfill_id, _IS_UNDER_WAY)
        .order_by(_DATE.c.data_date)
    )
    return list(connection.execute(query))


def give_run(connection: Connection, backfill_id: UUID, data_date: date, run_id: UUID) -> None:
    """Record the run of a date."""
    _change_date(connection, backfill_id, data_date, run_id=run_id, tries=_DATE.c.tries + 1)


def settle(connection: Connection, backfill_id: UUID, data_date: date, outcome: str) -> None:
    """Record how the run of a date ended."""
    _change_date(connection, backfill_id, data_date, outcome=outcome)


def plan_again(connection: Connection, backfill_id: UUID) -> int:
    """Plan the dates anew whose run did not end well; return how many."""
    bad = sa.and_(_DATE.c.backfill_id == backfill_id, _DATE.c.outcome.not_in(sorted(GOOD)))
    return connection.execute(sa.update(_DATE).where(bad).values(run_id=None, outcome=None)).rowcount


def runs_by_date(
    connection: Connection, deployment_id: UUID, first: date, last: date, *, parameters: Mapping[str, Any]
) -> dict[date, tuple[UUID, str]]:
    """Return, by data date, the run with these parameters that completed or is under way: its id and its status.

    Of several the newest; one that was deleted, or whose version was withdrawn, does not count, nor does a replay.
    """
    wanted = sorted({*ACTIVE, RunStatus.COMPLETED})
    query = (
        sa.select(RUN.c.id, RUN.c.status, RUN.c.data_as_of, RUN.c.parameters)
        .outerjoin(_VERSION, _VERSION.c.id == RUN.c.version_id)
        .where(
            RUN.c.deployment_id == deployment_id,
            RUN.c.data_as_of.between(first, last),
            RUN.c.status.in_(wanted),
            RUN.c.replay_of.is_(None),
            RUN.c.deleted_at.is_(None),
            _VERSION.c.withdrawn_at.is_(None),
        )
        .order_by(RUN.c.id)
    )
    return {
        row.data_as_of: (row.id, row.status) for row in connection.execute(query) if row.parameters == dict(parameters)
    }


def _change_date(connection: Connection, backfill_id: UUID, data_date: date, **values: Any) -> None:
    this = sa.and_(_DATE.c.backfill_id == backfill_id, _DATE.c.data_date == data_date)
    connection.execute(sa.update(_DATE).where(this).values(**values))


def _with_key() -> sa.Select[Any]:
    return sa.select(_BACKFILL, _DEPLOYMENT.c.key, _DEPLOYMENT.c.kind).join(
        _DEPLOYMENT, _DEPLOYMENT.c.id == _BACKFILL.c.deployment_id
    )
