"""Versions whose data are taken: what keeps one, and the mark that says that it cannot be read.

The record of a version stays for ever: its number, its digest, what it read and who read it. So nothing downstream
changes when its data go, and no freshness does. Works in the caller's transaction; knows no run.
"""

from collections.abc import Iterable, Sequence, Sized
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from ..storage.errors import DataRemoved
from ..storage.words import Removal
from . import aliases, staleness
from .models import DeploymentState, Version

_VERSION = Version.__table__  # type: ignore[attr-defined]
_STATE = DeploymentState.__table__  # type: ignore[attr-defined]


def lock(connection: Connection, versions: Iterable[Row[Any]]) -> dict[UUID, Row[Any]]:
    """Lock these versions and the states of their deployments; return the versions as they are now.

    Until the transaction ends nobody moves a pointer or an alias of theirs, nor records that one of them was read: a
    foreign key to a row that is locked so has to wait.
    """
    wanted = list(versions)
    staleness.lock_states(connection, {row.deployment_id for row in wanted})
    # Postgres knows also a weaker lock for updates, which would let foreign keys through.
    query = sa.select(_VERSION).where(_VERSION.c.id.in_([row.id for row in wanted])).order_by(_VERSION.c.id)
    return {row.id: row for row in connection.execute(query.with_for_update())}


def of_runs(connection: Connection, run_ids: Sequence[UUID]) -> dict[UUID, Row[Any]]:
    """Return the versions that these runs published, by run."""
    query = sa.select(_VERSION).where(_VERSION.c.run_id.in_(run_ids))
    return {row.run_id: row for row in connection.execute(query)}


def keeps(connection: Connection, versions: Iterable[Row[Any]]) -> dict[UUID, list[str]]:
    """Return what the graph itself keeps these versions for: current, alias, label; only those that it keeps."""
    rows = list(versions)
    ids = [row.id for row in rows]
    found: dict[UUID, list[str]] = {}
    current = sa.select(_STATE.c.version_id).where(_STATE.c.version_id.in_(ids))
    for version_id in connection.execute(current).scalars():
        found.setdefault(version_id, []).append("it is the current version")
    for version_id, names in aliases.names_of(connection, ids).items():
        found.setdefault(version_id, []).append(f"the alias {names[0]} names it")
    for row in rows:
        if row.label is not None:
            found.setdefault(row.id, []).append(f"it has the label {row.label}")
    return found


def mark(connection: Connection, version_id: UUID, removal: Removal, reason: str, *, now: datetime) -> bool:
    """Say that the data of a version cannot be read; return False when they could not be before."""
    is_open = sa.and_(_VERSION.c.id == version_id, _VERSION.c.removed_at.is_(None))
    values = {"removed_at": now, "removal": removal, "removed_reason": reason}
    return connection.execute(sa.update(_VERSION).where(is_open).values(values)).rowcount == 1


def take_back(connection: Connection, version_id: UUID) -> bool:
    """Say that the data of a version whose run was deleted can be read again; False: that was not why."""
    is_marked = sa.and_(_VERSION.c.id == version_id, _VERSION.c.removal == Removal.DELETION)
    values = {"removed_at": None, "removal": None, "removed_reason": None}
    return connection.execute(sa.update(_VERSION).where(is_marked).values(values)).rowcount == 1


def refuse_erased(version: Row[Any], name: str, artifacts: Sized) -> None:
    """Refuse a version of whose artifacts not even the records are left: its run was deleted for good.

    Raises:
        DataRemoved: it says by whom and when.
    """
    if version.removed_at is not None and not artifacts:
        raise DataRemoved(f"the data of {name} cannot be read: {version.removed_reason}")


def explain(connection: Connection, version_id: UUID, removal: Removal, reason: str) -> None:
    """Say something else of why the data of a version are gone: the deletion of its run has become final."""
    is_marked = sa.and_(_VERSION.c.id == version_id, _VERSION.c.removed_at.is_not(None))
    connection.execute(sa.update(_VERSION).where(is_marked).values(removal=removal, removed_reason=reason))
