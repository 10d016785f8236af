"""What becomes of artifacts whose owner is deleted, or whose data are not kept any longer.

A mark makes an artifact unreadable and can be taken away again as long as its objects are linked. Without the links,
garbage collection finds that nothing needs the objects. Works in the caller's transaction, and touches no object.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from .models import Artifact, ArtifactObject, StoredObject
from .parts import in_parts
from .words import Removal

_ARTIFACT = Artifact.__table__  # type: ignore[attr-defined]
_LINK = ArtifactObject.__table__  # type: ignore[attr-defined]
_OBJECT = StoredObject.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Weight:
    """What some owners have stored."""

    artifacts: int
    """Tables and files whose data are there."""
    size_bytes: int
    """Bytes of their objects, each counted once."""
    freed_bytes: int
    """Bytes of those objects that nobody else's artifact needs."""


def mark(connection: Connection, owner_id: UUID, removal: Removal, reason: str, *, now: datetime) -> int:
    """Make the artifacts of an owner unreadable; return how many were not so before."""
    is_open = sa.and_(_ARTIFACT.c.owner_id == owner_id, _ARTIFACT.c.removed_at.is_(None))
    values = {"removed_at": now, "removal": removal, "removed_reason": reason}
    return connection.execute(sa.update(_ARTIFACT).where(is_open).values(values)).rowcount


def take_back(connection: Connection, owner_id: UUID) -> int:
    """Make readable again what a deletion had marked; return how many."""
    is_marked = sa.and_(_ARTIFACT.c.owner_id == owner_id, _ARTIFACT.c.removal == Removal.DELETION)
    values = {"removed_at": None, "removal": None, "removed_reason": None}
    return connection.execute(sa.update(_ARTIFACT).where(is_marked).values(values)).rowcount


def release(connection: Connection, owner_id: UUID) -> None:
    """Let go the objects of an owner's artifacts, whose records stay: they cannot be read again."""
    owned = sa.select(_ARTIFACT.c.id).where(_ARTIFACT.c.owner_id == owner_id)
    connection.execute(sa.delete(_LINK).where(_LINK.c.artifact_id.in_(owned)))


def forget(connection: Connection, owner_id: UUID) -> int:
    """Let go the objects of an owner's artifacts, and remove their records; return how many there were."""
    release(connection, owner_id)
    return connection.execute(sa.delete(_ARTIFACT).where(_ARTIFACT.c.owner_id == owner_id)).rowcount


def with_data(connection: Connection, owner_ids: Iterable[UUID]) -> dict[UUID, int]:
    """Return, of these owners, those that have artifacts with objects of ours: owner -> bytes, shared ones included."""
    found: dict[UUID, int] = {}
    for part in in_parts(sorted(owner_ids)):
        linked = sa.exists().where(_LINK.c.artifact_id == _ARTIFACT.c.id)
        query = (
            sa.select(_ARTIFACT.c.owner_id, sa.func.sum(_ARTIFACT.c.size_bytes).label("size_bytes"))
            .where(_ARTIFACT.c.owner_id.in_(part), _ARTIFACT.c.removed_at.is_(None), linked)
            .group_by(_ARTIFACT.c.owner_id)
        )
        found |= {row.owner_id: int(row.size_bytes) for row in connection.execute(query)}
    return found


def weigh(connection: Connection, owner_ids: Iterable[UUID]) -> Weight:
    """Return what these owners have stored, and what would be free without them."""
    links: dict[str, int] = {}
    sizes: dict[str, int] = {}
    artifacts = set()
    for part in in_parts(sorted(owner_ids)):
        query = (
            sa.select(_ARTIFACT.c.id, _LINK.c.object_name, _OBJECT.c.size_bytes)
            .join(_LINK, _LINK.c.artifact_id == _ARTIFACT.c.id)
            .join(_OBJECT, _OBJECT.c.name == _LINK.c.object_name)
            .where(_ARTIFACT.c.owner_id.in_(part))
        )
        for row in connection.execute(query):
            artifacts.add(row.id)
            links[row.object_name] = links.get(row.object_name, 0) + 1
            sizes[row.object_name] = row.size_bytes
    needed: dict[str, int] = {}
    for names in in_parts(sorted(links)):
        query = sa.select(_LINK.c.object_name, sa.func.count().label("links")).where(_LINK.c.object_name.in_(names))
        needed |= {row.object_name: row.links for row in connection.execute(query.group_by(_LINK.c.object_name))}
    freed = sum(size for name, size in sizes.items() if needed[name] == links[name])
    return Weight(len(artifacts), sum(sizes.values()), freed)
