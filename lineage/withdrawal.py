"""Withdrawal: a version is declared wrong, or good again, and the pointer to the current one goes where it belongs.

Works in the caller's transaction. The pointer stands where it would stand had the withdrawn versions never been
published (`pointer`). So a result that was built on a withdrawn base is not current either, and a restored version
takes its place again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from . import aliases, pointer, staleness, versions
from .acts import record
from .models import ActKind, Deployment, DeploymentState, Version, VersionInput

_VERSION = Version.__table__  # type: ignore[attr-defined]
_STATE = DeploymentState.__table__  # type: ignore[attr-defined]
_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]
_INPUT = VersionInput.__table__  # type: ignore[attr-defined]

_NO_FENCE = 0


@dataclass(frozen=True)
class Judged:
    """A version that was withdrawn or restored, and what followed."""

    version_id: UUID
    number: int
    verdict: ActKind
    """Withdrawn or restored."""
    is_new: bool
    """False when it was so already: nothing was recorded."""
    current: int | None
    """Number of the version that is current now; null when there is none."""
    moved: bool
    """The pointer to the current version has moved."""
    aliases: tuple[str, ...]
    """The aliases that name it."""
    read_by: tuple[str, ...]
    """Keys of the deployments whose current version was built from it, by whatever role."""
    changes: tuple[staleness.Change, ...]
    """The deployments whose freshness changed."""


def withdraw(connection: Connection, version: Row[Any], *, reason: str, actor: str, now: datetime) -> Judged:
    """Declare a version wrong; the pointer falls back, and whoever read it is stale. Again it changes nothing.

    Locks the deployment's state, those that it read, and all downstream of it, in id order.
    """
    mark = {"withdrawn_at": now, "withdrawn_reason": reason}
    is_open = _VERSION.c.withdrawn_at.is_(None)
    return _judge(connection, version, ActKind.WITHDRAWN, mark, is_open, reason=reason, actor=actor, now=now)


def restore(connection: Connection, version: Row[Any], *, reason: str, actor: str, now: datetime) -> Judged:
    """Take a withdrawal back; what it had brought about is undone. Of a version that was not withdrawn: nothing."""
    mark = {"withdrawn_at": None, "withdrawn_reason": None}
    is_open = _VERSION.c.withdrawn_at.is_not(None)
    return _judge(connection, version, ActKind.RESTORED, mark, is_open, reason=reason, actor=actor, now=now)


def settle(connection: Connection, version: Row[Any], *, now: datetime) -> list[staleness.Change]:
    """Let the pointer of a version's deployment stand where it belongs now; return what became of the freshness.

    For a version whose data can be read again. Locks as a withdrawal does.
    """
    affected = _lock(connection, version.deployment_id, version.id)
    _move_pointer(connection, version.deployment_id)
    return staleness.recompute(connection, affected, now=now)


def _judge(
    connection: Connection,
    version: Row[Any],
    kind: ActKind,
    mark: dict[str, Any],
    is_open: sa.ColumnElement[bool],
    *,
    reason: str,
    actor: str,
    now: datetime,
) -> Judged:
    node: UUID = version.deployment_id
    affected = _lock(connection, node, version.id)
    before = versions.current_version(connection, node)
    changes: list[staleness.Change] = []
    is_done = connection.execute(sa.update(_VERSION).where(_VERSION.c.id == version.id, is_open).values(mark)).rowcount
    if is_done:
        record(connection, version.id, kind, actor=actor, reason=reason, now=now)
        _move_pointer(connection, node)
        changes = staleness.recompute(connection, affected, now=now)
    after = versions.current_version(connection, node)
    return Judged(
        version_id=version.id,
        number=version.number,
        verdict=kind,
        is_new=is_done > 0,
        current=after.number if after is not None else None,
        moved=(before.id if before is not None else None) != (after.id if after is not None else None),
        aliases=tuple(aliases.names_of(connection, [version.id]).get(version.id, ())),
        read_by=tuple(sorted(row.key for row in _readers(connection, version.id))),
        changes=tuple(changes),
    )


def _move_pointer(connection: Connection, deployment_id: UUID) -> None:
    # What cannot be read is not current; what continues it, and holds its rows, may be.
    were = [row for row in pointer.held(connection, deployment_id) if row.removed_at is None]
    last = were[-1] if were else None
    stands = {
        "version_id": last.id if last is not None else None,
        "fence": last.fence if last is not None else _NO_FENCE,
        "source_delayed": last is not None and bool(last.source_delayed),
        "lapses_at": None,
    }
    is_this = sa.and_(_STATE.c.deployment_id == deployment_id, _STATE.c.partition == "")
    connection.execute(sa.update(_STATE).where(is_this).values(stands))
    versions.renew_lapse(connection, deployment_id)


def _lock(connection: Connection, deployment_id: UUID, version_id: UUID) -> staleness.Affected:
    """Lock all that a judgement reaches: whoever reads the deployment, and whoever read the version in other ways."""
    # The pointer may fall back to a version that read what somebody else withdraws at this moment.
    read_from = connection.execute(
        sa.select(_INPUT.c.upstream_id)
        .distinct()
        .join(_VERSION, _VERSION.c.id == _INPUT.c.version_id)
        .where(_VERSION.c.deployment_id == deployment_id)
    ).scalars()
    upstreams, readers = set(read_from), {row.id for row in _readers(connection, version_id)}
    while True:
        affected = staleness.lock_affected(connection, {deployment_id, *readers}, upstreams=upstreams)
        # One that read it by its number or alias may have completed while we waited for the locks.
        found = {row.id for row in _readers(connection, version_id)}
        if found <= readers:
            return affected
        readers |= found


def _readers(connection: Connection, version_id: UUID) -> Sequence[Row[Any]]:
    """Return the deployments whose current version was built from this one, by whatever role."""
    query = (
        sa.select(_DEPLOYMENT.c.id, _DEPLOYMENT.c.key)
        .distinct()
        .join(_STATE, _STATE.c.deployment_id == _DEPLOYMENT.c.id)
        .join(_INPUT, _INPUT.c.version_id == _STATE.c.version_id)
        .where(_INPUT.c.input_version_id == version_id)
    )
    return connection.execute(query).all()
