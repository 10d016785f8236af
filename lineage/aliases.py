"""Aliases: names that move from version to version of a deployment, such as `champion`, and the record of each move.

Works in the caller's transaction. A move is a compare-and-set under the lock of the deployment's state, so that two
people who move the same alias at once follow one another, and who says what he expects to find loses nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from ..storage.errors import Conflict
from . import staleness
from .models import Alias, AliasMove, Version
from .references import Reference, check_alias, unknown_alias

_ALIAS = Alias.__table__  # type: ignore[attr-defined]
_MOVE = AliasMove.__table__  # type: ignore[attr-defined]
_VERSION = Version.__table__  # type: ignore[attr-defined]

NO_VERSION = 0
"""What `expected` says of an alias that is to be new: versions are numbered from 1."""


@dataclass(frozen=True)
class AliasRecord:
    """An alias and the version that it names, as the last move left it."""

    name: str
    number: int
    """Number of the version."""
    version_id: UUID
    is_withdrawn: bool
    """The version was withdrawn since: no run reads it by this alias."""
    moved_at: datetime
    moved_by: str
    reason: str


@dataclass(frozen=True)
class AliasStep:
    """One move of an alias."""

    step: int
    """1, 2, 3… per alias."""
    from_number: int | None
    """Number of the version that it named before; null when it was new."""
    to_number: int | None
    """Number of the version that it names since; null when it was removed."""
    actor: str
    reason: str
    at: datetime


def set_alias(
    connection: Connection,
    version: Row[Any],
    name: str,
    *,
    key: str,
    expected: int | None,
    actor: str,
    reason: str,
    now: datetime,
) -> bool:
    """Let the alias name this version; return False when it did already.

    `expected` is the number of the version that it is thought to name now, NO_VERSION for none; null: whatever it is.

    Raises:
        InvalidInput: the name cannot be an alias.
        Conflict: the alias does not name what was expected, or the version was withdrawn.
    """
    check_alias(name)
    staleness.lock_states(connection, [version.deployment_id])
    # Read under the lock: what the caller holds may be from before a withdrawal.
    target = connection.execute(sa.select(_VERSION).where(_VERSION.c.id == version.id)).one()
    if target.withdrawn_at is not None:
        raise Conflict(f"{key}@v{target.number} was withdrawn ({target.withdrawn_reason}): an alias cannot name it")
    if target.removed_at is not None:
        raise Conflict(f"{key}@v{target.number} has no data any more ({target.removed_reason}): no alias can name it")
    before = _named(connection, version.deployment_id, name)
    if before is not None and before.id == target.id:
        return False
    _check_expected(connection, version.deployment_id, name, before, key=key, expected=expected)
    here = {"deployment_id": version.deployment_id, "partition": "", "name": name}
    if before is None:
        connection.execute(sa.insert(_ALIAS).values(**here, version_id=target.id))
    else:
        _guarded(connection, sa.update(_ALIAS).values(version_id=target.id), here, before.id)
    moved = {"from_version_id": before.id if before is not None else None, "to_version_id": target.id}
    _record(connection, here, moved, actor=actor, reason=reason, now=now)
    return True


def remove_alias(
    connection: Connection,
    deployment_id: UUID,
    reference: Reference,
    *,
    expected: int | None,
    actor: str,
    reason: str,
    now: datetime,
) -> int:
    """Remove an alias; return the number of the version that it named. What was recorded of it stays.

    Raises:
        NotFound: the deployment has no such alias; the message names those that it has.
        Conflict: the alias does not name what was expected.
    """
    name = str(reference.alias)
    staleness.lock_states(connection, [deployment_id])
    before = _named(connection, deployment_id, name)
    if before is None:
        raise unknown_alias(connection, deployment_id, reference)
    _check_expected(connection, deployment_id, name, before, key=reference.key, expected=expected)
    here = {"deployment_id": deployment_id, "partition": "", "name": name}
    _guarded(connection, sa.delete(_ALIAS), here, before.id)
    moved = {"from_version_id": before.id, "to_version_id": None}
    _record(connection, here, moved, actor=actor, reason=reason, now=now)
    number: int = before.number
    return number


def aliases_of(connection: Connection, deployment_id: UUID) -> list[AliasRecord]:
    """Return the aliases of a deployment with who moved them last, by name."""
    newest = (
        sa.select(_MOVE.c.name, sa.func.max(_MOVE.c.number).label("number"))
        .where(_MOVE.c.deployment_id == deployment_id, _MOVE.c.partition == "")
        .group_by(_MOVE.c.name)
        .subquery()
    )
    query = (
        sa.select(_ALIAS.c.name, _VERSION.c.number, _VERSION.c.id, _VERSION.c.withdrawn_at, _MOVE.c.at)
        .add_columns(_MOVE.c.actor, _MOVE.c.reason)
        .join(_VERSION, _VERSION.c.id == _ALIAS.c.version_id)
        .join(newest, newest.c.name == _ALIAS.c.name)
        .join(
            _MOVE,
            sa.and_(
                _MOVE.c.deployment_id == _ALIAS.c.deployment_id,
                _MOVE.c.partition == _ALIAS.c.partition,
                _MOVE.c.name == newest.c.name,
                _MOVE.c.number == newest.c.number,
            ),
        )
        .where(_ALIAS.c.deployment_id == deployment_id, _ALIAS.c.partition == "")
        .order_by(_ALIAS.c.name)
    )
    return [
        AliasRecord(
            name=row.name,
            number=row.number,
            version_id=row.id,
            is_withdrawn=row.withdrawn_at is not None,
            moved_at=row.at,
            moved_by=row.actor,
            reason=row.reason,
        )
        for row in connection.execute(query)
    ]


def names_of(connection: Connection, version_ids: Iterable[UUID]) -> dict[UUID, list[str]]:
    """Return the aliases of each of these versions that has any, in order."""
    query = sa.select(_ALIAS.c.version_id, _ALIAS.c.name).where(_ALIAS.c.version_id.in_(list(version_ids)))
    found: dict[UUID, list[str]] = {}
    for row in connection.execute(query.order_by(_ALIAS.c.name)):
        found.setdefault(row.version_id, []).append(row.name)
    return found


def moves_of(connection: Connection, deployment_id: UUID, reference: Reference) -> list[AliasStep]:
    """Return every move of an alias, the first one first; of one that was removed as well.

    Raises:
        NotFound: the deployment never had such an alias; the message names those that it has.
    """
    before, after = _VERSION.alias("before"), _VERSION.alias("after")
    query = (
        sa.select(_MOVE, before.c.number.label("from_number"), after.c.number.label("to_number"))
        .outerjoin(before, before.c.id == _MOVE.c.from_version_id)
        .outerjoin(after, after.c.id == _MOVE.c.to_version_id)
        .where(
            _MOVE.c.deployment_id == deployment_id,
            _MOVE.c.partition == "",
            _MOVE.c.name == reference.alias,
        )
        .order_by(_MOVE.c.number)
    )
    rows = connection.execute(query).all()
    if not rows:
        raise unknown_alias(connection, deployment_id, reference)
    return [AliasStep(row.number, row.from_number, row.to_number, row.actor, row.reason, row.at) for row in rows]


def _named(connection: Connection, deployment_id: UUID, name: str) -> Row[Any] | None:
    query = (
        sa.select(_VERSION.c.id, _VERSION.c.number)
        .join(_ALIAS, _ALIAS.c.version_id == _VERSION.c.id)
        .where(_ALIAS.c.deployment_id == deployment_id, _ALIAS.c.partition == "", _ALIAS.c.name == name)
    )
    return connection.execute(query).one_or_none()


def _check_expected(
    connection: Connection, deployment_id: UUID, name: str, before: Row[Any] | None, *, key: str, expected: int | None
) -> None:
    found = before.number if before is not None else NO_VERSION
    if expected is None or expected == found:
        return
    last = connection.execute(
        sa.select(_MOVE.c.actor, _MOVE.c.at)
        .where(_MOVE.c.deployment_id == deployment_id, _MOVE.c.partition == "", _MOVE.c.name == name)
        .order_by(_MOVE.c.number.desc())
        .limit(1)
    ).one_or_none()
    by = f" since {last.actor} moved it at {last.at:%Y-%m-%d %H:%M} UTC" if last is not None else ""
    names = f"v{found}" if before is not None else "no version"
    wanted = f"v{expected}" if expected != NO_VERSION else "no version"
    raise Conflict(f"{key}@{name} names {names}{by}, not {wanted} as expected: nothing was moved")


def _guarded(connection: Connection, change: Any, here: dict[str, Any], version_id: UUID) -> None:
    found = connection.execute(
        change.where(*(_ALIAS.c[name] == value for name, value in here.items()), _ALIAS.c.version_id == version_id)
    )
    assert found.rowcount == 1, "the alias was read under the lock of its deployment"


def _record(
    connection: Connection,
    here: dict[str, Any],
    moved: dict[str, UUID | None],
    *,
    actor: str,
    reason: str,
    now: datetime,
) -> None:
    number = sa.select(sa.func.coalesce(sa.func.max(_MOVE.c.number), 0) + 1).where(
        *(_MOVE.c[name] == value for name, value in here.items())
    )
    connection.execute(
        sa.insert(_MOVE).values(**here, **moved, number=number.scalar_subquery(), actor=actor, reason=reason, at=now)
    )
