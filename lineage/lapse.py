"""The lapse of policies: what has lapsed becomes a cause, once; and what will lapse by a moment.

Both are look-ups in the index of the moments that are computed when a version is published. A lapse that has been
turned into the cause `expired` is known by that cause: whoever comes second finds it and does nothing. A completion, a
registration or the gate may be the first to find one; it writes the same cause.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..storage.errors import InvalidInput
from ..storage.statement import Statement
from . import staleness
from .freshness import stored_policy
from .listing import Listing
from .models import Cause, CauseKind, Deployment, DeploymentState, Freshness, Version
from .occurrences import instant_of
from .policy_fields import check_zone

_STATE = DeploymentState.__table__  # type: ignore[attr-defined]
_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]
_VERSION = Version.__table__  # type: ignore[attr-defined]
_CAUSE = Cause.__table__  # type: ignore[attr-defined]

AT_ONCE = 500
"""Lapses that one transaction turns into causes: its locks must not keep completions waiting for long."""

_IS_TURNED = sa.exists(sa.literal_column("1")).where(
    _CAUSE.c.deployment_id == _STATE.c.deployment_id,
    _CAUSE.c.partition == _STATE.c.partition,
    _CAUSE.c.kind == sa.literal_column(f"'{CauseKind.EXPIRED}'"),
)
_IS_DUE = sa.and_(
    _STATE.c.lapses_at <= sa.bindparam("now", type_=_STATE.c.lapses_at.type),
    _STATE.c.version_id.is_not(None),
    ~_IS_TURNED,
)
_DUE = Statement(
    lambda _: (
        sa.select(_STATE.c.deployment_id)
        .where(_IS_DUE)
        .order_by(_STATE.c.lapses_at, _STATE.c.deployment_id)
        .limit(sa.bindparam("at_once", type_=sa.Integer()))
    )
)
_STILL_DUE = Statement(
    lambda sql: (
        sa.select(_STATE.c.deployment_id, _STATE.c.lapses_at, _STATE.c.freshness, _DEPLOYMENT.c.key, _VERSION.c.number)
        .join(_DEPLOYMENT, _DEPLOYMENT.c.id == _STATE.c.deployment_id)
        .join(_VERSION, _VERSION.c.id == _STATE.c.version_id)
        .where(sql.among(_STATE.c.deployment_id, "ids"), _IS_DUE)
        .order_by(_STATE.c.lapses_at, _DEPLOYMENT.c.key)
    )
)


@dataclass(frozen=True)
class Lapsed:
    """A deployment whose policy has lapsed, now that it has its cause."""

    deployment_id: UUID
    key: str
    number: int
    """The version that does not hold any more."""
    lapsed_at: datetime
    """When it ceased to hold."""
    was: Freshness
    """Its freshness before; `stale` when something else was wrong with it already."""


@dataclass(frozen=True)
class Expiring:
    """A deployment whose current version lapses at a known moment."""

    deployment: str
    """Its key."""
    version: int
    freshness: Freshness
    data_end: date | None
    published_at: datetime
    warns_at: datetime | None
    """From then on the gate lets runs read it with a warning."""
    lapses_at: datetime
    """From then on it is stale."""
    policy: Mapping[str, Any]
    """As written."""


def due(connection: Connection, *, now: datetime) -> list[UUID]:
    """Return up to `AT_ONCE` deployments whose policy has lapsed and that do not have the cause yet, oldest first."""
    return [row.deployment_id for row in _DUE.rows(connection, now=now, at_once=AT_ONCE)]


def turn_due(connection: Connection, *, now: datetime) -> list[Lapsed]:
    """Give up to `AT_ONCE` deployments whose policy has lapsed their cause, and what is downstream what follows.

    In the caller's transaction. Of two that do so at once, one returns a lapse and the other one does not.
    """
    found = due(connection, now=now)
    if not found:
        return []
    affected = staleness.lock_affected(connection, found)
    # Who came first has published a version, or turned it: read under the lock.
    turned = [
        Lapsed(row.deployment_id, row.key, row.number, row.lapses_at, Freshness(row.freshness))
        for row in _STILL_DUE.rows(connection, ids=found, now=now)
    ]
    staleness.recompute(connection, affected, now=now)
    return turned


def expiring(
    connection: Connection, before: datetime, *, tenant_id: str, now: datetime, include_lapsed: bool = False
) -> Listing[Expiring]:
    """Return the deployments whose current version lapses after now and not later than `before`, the first one first.

    With `include_lapsed`, also those that have lapsed. Retired deployments are left out.

    Raises:
        InvalidInput: `before` has passed.
    """
    if before <= now and not include_lapsed:
        raise InvalidInput(
            f"{before:%Y-%m-%d %H:%M %Z} has passed (it is {now.astimezone(before.tzinfo):%Y-%m-%d %H:%M %Z}); name a "
            "later moment, or ask for what has lapsed as well"
        )
    after = datetime.min.replace(tzinfo=UTC) if include_lapsed else now
    rows = connection.execute(expiring_query(), {"after": after, "before": before, "tenant_id": tenant_id})
    return Listing((_expiring(row) for row in rows), Expiring)


def expiring_query() -> sa.Select[Any]:
    """Return the question of `expiring` with the parameters after, before and tenant_id."""
    return (
        sa.select(
            _DEPLOYMENT.c.key,
            _STATE.c.freshness,
            _STATE.c.lapses_at,
            _DEPLOYMENT.c.policy,
            _VERSION.c.number,
            _VERSION.c.data_end,
            _VERSION.c.created_at,
        )
        .join(_DEPLOYMENT, _DEPLOYMENT.c.id == _STATE.c.deployment_id)
        .join(_VERSION, _VERSION.c.id == _STATE.c.version_id)
        .where(
            _STATE.c.lapses_at > sa.bindparam("after", type_=_STATE.c.lapses_at.type),
            _STATE.c.lapses_at <= sa.bindparam("before", type_=_STATE.c.lapses_at.type),
            # An expression has no index: SQLite would begin with all deployments of the tenant.
            sa.func.coalesce(_DEPLOYMENT.c.tenant_id, "") == sa.bindparam("tenant_id"),
            _DEPLOYMENT.c.retired_at.is_(None),
        )
        .order_by(_STATE.c.lapses_at, _DEPLOYMENT.c.key)
    )


def moment_named(written: datetime | str, *, timezone: str | None = None) -> datetime:
    """Return the moment that `2026-11-23T08:00` means in a time zone: the machine's unless one is given or written.

    Raises:
        InvalidInput: the text is no date or time, or the zone does not exist.
    """
    if timezone is not None:
        try:
            check_zone(timezone)
        except ValueError as error:
            raise InvalidInput(f"timezone: {error}") from None
    found = _read(written) if isinstance(written, str) else written
    zone = None if timezone is None else ZoneInfo(timezone)
    try:
        if found.tzinfo is not None:
            return found if zone is None else found.astimezone(zone)
        return found.astimezone() if zone is None else instant_of(found, zone).astimezone(zone)
    except (OverflowError, ValueError):
        raise InvalidInput(
            f"{written} lies outside of the years 1 to 9999 in some time zone; name a nearer one"
        ) from None


def _read(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text.strip())
    except ValueError:
        raise InvalidInput(f"{text!r} is no moment; write it like 2026-11-23T08:00 or 2026-11-23T08:00+01:00") from None


def _expiring(row: Any) -> Expiring:
    return Expiring(
        deployment=row.key,
        version=row.number,
        freshness=Freshness(row.freshness),
        data_end=row.data_end,
        published_at=row.created_at,
        warns_at=stored_policy(row.policy).warns_at(lapses_at=row.lapses_at),
        lapses_at=row.lapses_at,
        policy=row.policy,
    )
