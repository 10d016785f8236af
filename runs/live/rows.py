"""What the poller asks of the database: all SQL for what is followed live.

Every function works in the caller's transaction.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ...lineage.models import Deployment, DeploymentState, Version
from ...storage.statement import Sql, Statement
from .. import run_statements
from ..models import RunEvent

_RUN = run_statements.RUN
_EVENT = RunEvent.__table__  # type: ignore[attr-defined]
_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]
_STATE = DeploymentState.__table__  # type: ignore[attr-defined]
_VERSION = Version.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """One entry of a run's log, written once for all who get it."""

    seq: int
    kind: str
    text: str
    """The entry as JSON: seq, kind, at, actor, payload."""


_EVENTS = Statement(
    lambda _: (
        sa.select(_EVENT.c.seq, _EVENT.c.kind, _EVENT.c.at, _EVENT.c.actor, _EVENT.c.payload)
        .where(_EVENT.c.run_id == sa.bindparam("of_run"), _EVENT.c.seq > sa.bindparam("after"))
        .order_by(_EVENT.c.seq)
        .limit(sa.bindparam("most", type_=sa.Integer))
    )
)
_HEAD_OF = (_RUN.c.id, _RUN.c.last_seq, _RUN.c.ended_at)
_HEADS = Statement(lambda sql: sa.select(*_HEAD_OF).where(sql.among(_RUN.c.id, "ids")))


def _changed(_: Sql) -> sa.Executable:
    """The runs that may have changed: those under way, and those that ended or were deleted since a moment.

    Three questions, each with a partial index of its own: in one with OR, SQLite reads every run there is.
    """
    columns = (_RUN.c.id, _RUN.c.last_seq, _RUN.c.ended_at, _RUN.c.deleted_at)
    # An expression has no index: SQLite would begin with all runs of the tenant.
    is_tenants = sa.func.coalesce(_RUN.c.tenant_id, "") == sa.bindparam("tenant_id")
    since = sa.bindparam("since", type_=_RUN.c.ended_at.type)
    return sa.union_all(
        sa.select(*columns).where(is_tenants, _RUN.c.ended_at.is_(None)),
        sa.select(*columns).where(is_tenants, _RUN.c.ended_at > since),
        sa.select(*columns).where(is_tenants, _RUN.c.deleted_at > since, _RUN.c.erased_at.is_(None)),
    )


_CHANGED = Statement(_changed)
_SUMMARY = (
    *("id", "type", "kind", "status", "stop_reason", "trigger", "trigger_name", "actor", "parent_id", "background"),
    *("attempt", "progress", "error_type", "error_message", "created_at", "started_at", "ended_at", "duration_ns"),
    *("last_seq", "deleted_at", "project", "retry_of", "replay_of", "data_as_of"),
)
_SUMMARIES = Statement(
    lambda sql: (
        sa.select(
            *(_RUN.c[name] for name in _SUMMARY),
            _DEPLOYMENT.c.key.label("deployment"),
            _VERSION.c.number.label("version"),
        )
        .join(_DEPLOYMENT, _DEPLOYMENT.c.id == _RUN.c.deployment_id)
        .outerjoin(_VERSION, _VERSION.c.id == _RUN.c.version_id)
        .where(sql.among(_RUN.c.id, "ids"))
        .order_by(_RUN.c.id)
    )
)
_STATES = Statement(
    lambda _: (
        sa.select(
            _STATE.c.deployment_id,
            _STATE.c.freshness,
            _STATE.c.activity,
            _STATE.c.version_id,
            _STATE.c.lapses_at,
            _STATE.c.last_run_id,
        )
        .join(_DEPLOYMENT, _DEPLOYMENT.c.id == _STATE.c.deployment_id)
        .where(_DEPLOYMENT.c.tenant_id == sa.bindparam("tenant_id"), _DEPLOYMENT.c.retired_at.is_(None))
    )
)
_DEPLOYMENTS = Statement(
    lambda sql: (
        sa.select(
            _DEPLOYMENT.c.id,
            _DEPLOYMENT.c.key,
            _DEPLOYMENT.c.kind,
            _STATE.c.freshness,
            _STATE.c.activity,
            _VERSION.c.number.label("version"),
            _VERSION.c.data_end,
            _STATE.c.lapses_at,
            _STATE.c.last_run_id,
            _STATE.c.last_run_at,
            _STATE.c.last_stop_reason,
        )
        .join(_STATE, _STATE.c.deployment_id == _DEPLOYMENT.c.id)
        .outerjoin(_VERSION, _VERSION.c.id == _STATE.c.version_id)
        .where(sql.among(_DEPLOYMENT.c.id, "ids"))
        .order_by(_DEPLOYMENT.c.key)
    )
)


def as_text(data: Mapping[str, Any]) -> str:
    """Return what is told as JSON on one line; times in UTC with `Z`."""
    try:
        return orjson.dumps(data, option=orjson.OPT_UTC_Z).decode()
    except TypeError:  # an integer of more than 64 bits
        return json.dumps(data, default=_plain, ensure_ascii=False, separators=(",", ":"))


def events_after(connection: Connection, run_id: UUID, after: int, *, most: int) -> list[LoggedEvent]:
    """Return the first entries of a run's log with a number above `after`, in order, at most so many."""
    rows = _EVENTS.rows(connection, of_run=run_id, after=after, most=most)
    return [LoggedEvent(row.seq, row.kind, as_text(row._asdict())) for row in rows]


def heads_of(connection: Connection, run_ids: Iterable[UUID]) -> Sequence[Any]:
    """Return (id, last_seq, ended_at) of these runs."""
    return _HEADS.rows(connection, ids=list(run_ids))


def runs_changed(connection: Connection, *, tenant_id: str, since: datetime) -> Sequence[Any]:
    """Return (id, last_seq, ended_at, deleted_at) of the runs under way, and of those that ended or were deleted
    after `since`; some of them twice.
    """
    return _CHANGED.rows(connection, tenant_id=tenant_id, since=since)


def summaries_of(connection: Connection, run_ids: Iterable[UUID]) -> Sequence[Any]:
    """Return what a list shows of these runs, oldest first, with the key of the deployment as `deployment`, and
    the number of the version that it published as `version`.
    """
    return _SUMMARIES.rows(connection, ids=list(run_ids))


def states(connection: Connection, *, tenant_id: str) -> dict[UUID, tuple[Any, ...]]:
    """Return what may change about each deployment that is not retired, by its id."""
    return {row[0]: tuple(row) for row in _STATES.rows(connection, tenant_id=tenant_id)}


def deployments_of(connection: Connection, deployment_ids: Iterable[UUID]) -> Sequence[Any]:
    """Return what a graph shows of these deployments, by key."""
    return _DEPLOYMENTS.rows(connection, ids=list(deployment_ids))


def _plain(value: Any) -> Any:
    return orjson.loads(orjson.dumps(value, option=orjson.OPT_UTC_Z))
