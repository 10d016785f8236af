"""Which databases keep their objects under one root: each leaves its mark there, and a second one is refused.

What a database does not know is garbage to it. If two of them shared a root, each would collect what the other's
records name.
"""

from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from . import gc
from .errors import Conflict
from .filesystem import ObjectStore
from .models import StoredObject

MARKS = "stores/"
"""Prefix of the marks, each named by the id of a store."""

_OBJECT = StoredObject.__table__  # type: ignore[attr-defined]
_LOOKED_FOR = 5


def leave_mark(objects: ObjectStore, store_id: UUID) -> None:
    """Say under the root that this store keeps its objects there.

    Raises:
        ArtifactError: the object store cannot be read or written.
    """
    mark = f"{MARKS}{store_id}"
    if not objects.exists(mark):
        objects.put_bytes(b"The objects beside this belong to the Freshline store of this name.\n", mark)


def check_sole_owner(objects: ObjectStore, store_id: UUID) -> None:
    """Refuse a root that has the mark of another store.

    Two stores that come at once both find the other one, as long as each leaves its mark before it looks.

    Raises:
        Conflict: another store keeps its objects there.
        ArtifactError: the object store cannot be listed.
    """
    others = [item.name for item in objects.list(MARKS) if item.name != f"{MARKS}{store_id}"]
    if others:
        raise Conflict(
            f"{objects.url} holds the objects of another store too ({others[0].removeprefix(MARKS)}): what one does "
            "not know the other may need. Give each store a root of its own with FRESHLINE_ARTIFACTS_URL, or remove "
            f"{objects.url_of(others[0])} if that store is gone"
        )


def newest_needed(connection: Connection) -> list[str]:
    """Return the names of a few objects that artifacts have needed last."""
    query = sa.select(_OBJECT.c.name).where(gc.is_needed(_OBJECT), _OBJECT.c.swept_at.is_(None))
    return list(connection.execute(query.order_by(_OBJECT.c.created_at.desc()).limit(_LOOKED_FOR)).scalars())


def check_is_root(objects: ObjectStore, names: list[str]) -> None:
    """Refuse a root under which none of these objects is, if any are named.

    Raises:
        Conflict: it is not the root that they were written to.
        ArtifactError: the object store cannot be read.
    """
    if names and not any(objects.exists(name) for name in names):
        raise Conflict(
            f"{objects.url} has none of the {len(names)} objects that were recorded last: it is not where this store "
            "keeps its objects. Set FRESHLINE_ARTIFACTS_URL to the root that its workers use"
        )
