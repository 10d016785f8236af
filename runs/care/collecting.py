"""Garbage collection of a store: runs that were deleted are erased, and objects that nobody needs are deleted.

Three steps, each of which may be interrupted, repeated, and done by several at once: erase what was deleted longer than
the grace period ago, mark the objects that no artifact needs, delete those that were marked longer than the grace
period ago. Owns also when that is done without being asked for: once in an interval, by whoever comes first.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ...storage import faults, gc, owners
from ...storage.database import Database
from ...storage.errors import InvalidInput
from ...storage.filesystem import ObjectStore
from ..store import insert_or_ignore, store_id
from . import erasure
from .models import Chore

_LOGGER = logging.getLogger(__name__)
_CHORE = Chore.__table__  # type: ignore[attr-defined]
_NAME = "gc"
_ACTOR = "gc"
_REASON = "the grace period of its deletion has passed"

Watch = Callable[[str, int, int], None]
"""Told what is done (erase, list, delete), how much of it, and of how much; 0: nobody knows."""


@dataclass(frozen=True)
class Collected:
    """What a collection did."""

    erased: int
    """Deleted runs of which nothing is left now."""
    adopted: int
    """Objects that no record knew: they are marked now."""
    condemned: int
    """Objects that no artifact needed any more: they are marked now."""
    objects: int
    """Objects that were deleted."""
    size_bytes: int
    """Their bytes."""


@dataclass(frozen=True)
class CollectionPreview:
    """What a collection would do now."""

    erasable: int
    """Deleted runs whose grace period has passed."""
    objects: gc.Preview


@dataclass(frozen=True)
class Collector:
    """Collects the garbage of one store, whoever's it is."""

    database: Database
    objects: ObjectStore

    def collect(self, grace: timedelta, *, watch: Watch = lambda *_: None) -> Collected:
        """Erase, mark and delete once. The grace period should be longer than the longest run.

        Raises:
            InvalidInput: the grace period is negative.
            Conflict: another store keeps its objects under the same root, or this one does not keep them there.
            ArtifactError: the object store cannot be listed, or an object cannot be deleted.
        """
        _check(grace)
        self._check_root()
        erased = 0
        due = erasure.due(self.database, grace=grace)
        for done, run_id in enumerate(due, start=1):
            gone = erasure.erase_one(self.database, run_id, actor=_ACTOR, reason=_REASON, grace=grace)
            erased += gone is not None
            watch("erase", done, len(due))
        watch("list", 0, 0)
        adopted = gc.adopt(self.database, self.objects)
        faults.reach("gc.adopted")
        condemned = self.database.write(lambda connection: gc.condemn(connection, self.database.now(connection)))
        faults.reach("gc.condemned")
        with self.database.read() as connection:
            to_delete = gc.due(connection, self.database.now(connection), grace=grace).objects
        swept = gc.sweep(
            self.database, self.objects, grace=grace, watch=lambda so_far: watch("delete", so_far.objects, to_delete)
        )
        if erased or swept.objects:
            told = "erased %d deleted runs, deleted %d objects of %d bytes"
            _LOGGER.info(told, erased, swept.objects, swept.size_bytes)
        return Collected(erased, adopted, condemned, swept.objects, swept.size_bytes)

    def preview(self, grace: timedelta) -> CollectionPreview:
        """Return what `collect` would do; nothing is changed.

        Raises:
            InvalidInput: the grace period is negative.
            Conflict: `collect` would refuse this root.
            ArtifactError: the object store cannot be listed.
        """
        _check(grace)
        self._check_root(leaves_mark=False)
        erasable = len(erasure.due(self.database, grace=grace))
        return CollectionPreview(erasable, gc.preview(self.database, self.objects, grace=grace))

    def collect_when_due(self, grace: timedelta, *, every: timedelta) -> Collected | None:
        """Collect if nobody has begun to for `every`; None: it is not time, or somebody else does it.

        In a store where it was never done the first time comes an interval later.
        """
        turn = self.database.write(lambda connection: _begin(connection, every, now=self.database.now(connection)))
        if turn is _Turn.FIRST:
            # Long before it is this store's turn: another one under this root must know by then.
            with self.database.read() as connection:
                own = store_id(connection)
            owners.leave_mark(self.objects, own)
        if turn is not _Turn.OURS:
            return None
        collected = self.collect(grace)
        self.database.write(lambda connection: _end(connection, now=self.database.now(connection)))
        return collected

    def _check_root(self, *, leaves_mark: bool = True) -> None:
        with self.database.read() as connection:
            known, own = owners.newest_needed(connection), store_id(connection)
        owners.check_is_root(self.objects, known)
        if leaves_mark:
            owners.leave_mark(self.objects, own)
        owners.check_sole_owner(self.objects, own)


class _Turn(Enum):
    FIRST = auto()
    """Nobody has ever asked: the first collection comes an interval later."""
    OURS = auto()
    NOT_YET = auto()


def _begin(connection: Connection, every: timedelta, *, now: datetime) -> _Turn:
    """Take the turn of this interval: of several that come at once, one gets it."""
    first = insert_or_ignore(connection, _CHORE).values(name=_NAME, began_at=now).returning(_CHORE.c.name)
    if connection.execute(first).first() is not None:
        return _Turn.FIRST
    is_due = sa.and_(_CHORE.c.name == _NAME, _CHORE.c.began_at <= now - every)
    taken = connection.execute(sa.update(_CHORE).where(is_due).values(began_at=now, ended_at=None)).rowcount == 1
    return _Turn.OURS if taken else _Turn.NOT_YET


def _end(connection: Connection, *, now: datetime) -> None:
    connection.execute(sa.update(_CHORE).where(_CHORE.c.name == _NAME).values(ended_at=now))


def _check(grace: timedelta) -> None:
    if grace < timedelta(0):
        raise InvalidInput(f"the grace period {grace} is negative; write 0s or more, such as 7d")
