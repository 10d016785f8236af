"""Garbage collection of objects, in two phases with a grace period between them.

`adopt` finds objects that no record knows (their writer died before it could record them), `condemn` marks those that
no artifact needs, `sweep` deletes what was condemned longer than the grace period. Each may be interrupted at any
point and run again; several may run at once. Owns the deletion of objects: nothing else deletes one.

Why no object in use is lost. Recording an artifact clears the marks of its objects (`artifacts`); a sweep decides by
one guarded UPDATE, which looks for artifacts again under the row's lock, and only then deletes. From the decision on,
an artifact cannot take the object up: a writer that found it in the store and uploaded nothing gets a Conflict and
writes again. The row outlives its object by a grace period, and by a day at least, to say so to the last of them. So
choose a grace period longer than the longest run: a shorter one costs a run that has to be repeated, and of a run that
also took longer than a day its data.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import PurePosixPath

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from . import faults
from .database import Database
from .faults import Guard
from .filesystem import OBJECTS, ListedObject, ObjectStore
from .models import ArtifactObject, StoredObject

_OBJECT = StoredObject.__table__  # type: ignore[attr-defined]
_LINK = ArtifactObject.__table__  # type: ignore[attr-defined]
_BATCH = 500
_LEAST = timedelta(days=1)
"""How long a sweep is left in peace and its deletions are remembered, however short the grace period: others, who live
now, rely on both."""


@dataclass(frozen=True)
class Swept:
    """What a sweep deleted."""

    objects: int
    size_bytes: int


@dataclass(frozen=True)
class Preview:
    """What a collection would do now."""

    unknown: int
    """Objects in the store that no record knows."""
    unneeded: int
    """Objects that no artifact needs, and that are not marked yet."""
    marked: int
    """Objects that are marked, and wait for the end of the grace period."""
    due: Swept
    """What would be deleted now."""


def preview(database: Database, store: ObjectStore, *, grace: timedelta) -> Preview:
    """Return what `adopt`, `condemn` and `sweep` would find; nothing is changed.

    Raises:
        ArtifactError: the store cannot be listed.
    """
    listing = store.list(OBJECTS)
    unknown = 0
    while found := list(islice(listing, _BATCH)):
        names = [item.name for item in found]
        with database.read() as connection:
            known = sa.select(sa.func.count()).select_from(_OBJECT).where(_OBJECT.c.name.in_(names))
            unknown += len(names) - connection.execute(known).scalar_one()
    with database.read() as connection:
        before = database.now(connection) - grace
        is_open = _OBJECT.c.swept_at.is_(None)
        count = sa.select(sa.func.count()).select_from(_OBJECT)
        new = count.where(_OBJECT.c.condemned_at.is_(None), is_open, ~is_needed(_OBJECT))
        waiting = count.where(_OBJECT.c.condemned_at > before, is_open, ~is_needed(_OBJECT))
        return Preview(
            unknown,
            connection.execute(new).scalar_one(),
            connection.execute(waiting).scalar_one(),
            due(connection, database.now(connection), grace=grace),
        )


def due(connection: Connection, now: datetime, *, grace: timedelta) -> Swept:
    """Return what a sweep with this grace period would delete now."""
    size = sa.func.coalesce(sa.func.sum(_OBJECT.c.size_bytes), 0)
    found = connection.execute(sa.select(sa.func.count(), size).where(_is_due(_OBJECT, now, grace))).one()
    return Swept(found[0], int(found[1]))


def adopt(database: Database, store: ObjectStore) -> int:
    """Condemn the objects in the store that no record knows; return how many.

    Objects that a run is uploading right now are among them: its completion takes them up.

    Raises:
        ArtifactError: the store cannot be listed.
    """
    listing = store.list(OBJECTS)
    adopted = 0
    while found := list(islice(listing, _BATCH)):
        adopted += database.write(partial(_insert_unknown, database, found))
    return adopted


def condemn(connection: Connection, now: datetime) -> int:
    """Mark the objects that no artifact needs any more, and clear the mark of those that one does; return how many.

    Objects marked before keep their date.
    """
    connection.execute(
        sa.update(_OBJECT)
        .where(_OBJECT.c.condemned_at.is_not(None), _OBJECT.c.swept_at.is_(None), is_needed(_OBJECT))
        .values(condemned_at=None)
    )
    condemned = connection.execute(
        sa.update(_OBJECT)
        .where(_OBJECT.c.condemned_at.is_(None), _OBJECT.c.swept_at.is_(None), ~is_needed(_OBJECT))
        .values(condemned_at=now)
    )
    return condemned.rowcount


def sweep(
    database: Database,
    store: ObjectStore,
    *,
    grace: timedelta,
    watch: Callable[[Swept], None] = lambda _: None,
) -> Swept:
    """Delete the objects condemned for longer than `grace` that still no artifact needs; return what was deleted.

    What a sweep that died had decided is finished by a later one, a grace period and at least a day afterwards. Times
    are the database's. `watch` is told what has been deleted so far.

    Raises:
        ArtifactError: an object cannot be deleted; those before it are gone, the rest is tried again next time.
    """
    objects = size_bytes = 0
    while decided := database.write(partial(_decide, database, grace)):
        faults.reach("sweep.decided")
        for row in decided:
            store.delete(row.name)
            objects, size_bytes = objects + 1, size_bytes + row.size_bytes
            faults.reach("sweep.deleted")
            watch(Swept(objects, size_bytes))
        database.write(partial(_record_deleted, database, [row.name for row in decided]))
    before = database.write(partial(_forget, database, grace))
    store.clear_staging(before)
    return Swept(objects, size_bytes)


def _decide(database: Database, grace: timedelta, connection: Connection) -> Sequence[sa.Row[tuple[str, int]]]:
    """Choose the next objects to delete; from now on they are this sweep's, and no artifact can take them up."""
    now = database.now(connection)
    candidate = _OBJECT.alias("candidate")
    chosen = sa.select(candidate.c.name).where(_is_due(candidate, now, grace)).order_by(candidate.c.name).limit(_BATCH)
    # The condition again: Postgres judges it anew, under the row's lock, when a writer was quicker.
    decided = connection.execute(
        sa.update(_OBJECT)
        .where(_OBJECT.c.name.in_(chosen), _is_due(_OBJECT, now, grace))
        .values(swept_at=now)
        .returning(_OBJECT.c.name, _OBJECT.c.size_bytes)
    )
    return decided.all()


def _is_due(objects: sa.FromClause, now: datetime, grace: timedelta) -> sa.ColumnElement[bool]:
    is_free = ~is_needed(objects) if faults.is_on(Guard.SWEEP_NEED) else sa.true()
    undecided = sa.and_(objects.c.swept_at.is_(None), objects.c.condemned_at <= now - grace, is_free)
    # Decided by a sweep that has been silent for so long that it died: a living one would delete what is written anew.
    abandoned = sa.and_(objects.c.swept_at <= now - max(grace, _LEAST), objects.c.deleted_at.is_(None))
    return sa.or_(undecided, abandoned)


def _record_deleted(database: Database, names: Sequence[str], connection: Connection) -> None:
    # The time after the deletion: a writer that began before it may have seen the object, and uploaded nothing.
    now = database.now(connection)
    connection.execute(
        sa.update(_OBJECT)
        .where(_OBJECT.c.name.in_(names), _OBJECT.c.swept_at.is_not(None), _OBJECT.c.deleted_at.is_(None))
        .values(deleted_at=now)
    )


def _forget(database: Database, grace: timedelta, connection: Connection) -> datetime:
    now = database.now(connection)
    is_old = _OBJECT.c.deleted_at <= now - max(grace, _LEAST)
    connection.execute(sa.delete(_OBJECT).where(is_old, ~is_needed(_OBJECT)))
    return now - grace


def _insert_unknown(database: Database, found: Sequence[ListedObject], connection: Connection) -> int:
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    now = database.now(connection)
    rows = [
        {
            "name": item.name,
            "sha256": PurePosixPath(item.name).name.partition(".")[0],
            "size_bytes": item.size_bytes,
            "created_at": now,
            "condemned_at": now,
        }
        for item in found
    ]
    inserted = dialect.insert(_OBJECT).values(rows).on_conflict_do_nothing().returning(_OBJECT.c.name)
    return len(connection.execute(inserted).all())


def is_needed(objects: sa.FromClause) -> sa.ColumnElement[bool]:
    """Return the condition that an artifact needs the object."""
    return sa.exists().where(_LINK.c.object_name == objects.c.name)
