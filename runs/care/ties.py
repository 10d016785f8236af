"""Who needs a run: the runs that read its version, that go on from it, or that repeat it.

All SQL for that question, alike for a deletion and for retention. Every function works in the caller's transaction.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from ...lineage.models import Deployment, Version, VersionInput
from ...storage.ids import show_run_id
from ...storage.models import Artifact
from ...storage.parts import in_parts
from ...storage.words import Removal
from ..models import RunInput
from ..store import RUN

_VERSION = Version.__table__  # type: ignore[attr-defined]
_READ = VersionInput.__table__  # type: ignore[attr-defined]
_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]
_ARTIFACT = Artifact.__table__  # type: ignore[attr-defined]
_INPUT = RunInput.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Tie:
    """A run that needs another one."""

    run_id: UUID
    """The run that needs it."""
    sentence: str
    """What it needs it for."""
    is_under_way: bool = False
    """It has not ended."""
    has_data: bool = True
    """Its own data can be read."""

    @property
    def needs_it(self) -> bool:
        """True when it cannot do without the other one's data: what has no data itself can."""
        return self.is_under_way or self.has_data


def ties_of(
    connection: Connection,
    runs: Mapping[UUID, Row[Any] | None],
    *,
    without: Collection[UUID] = (),
    for_retention: bool = False,
) -> dict[UUID, list[Tie]]:
    """Return who needs these runs, given with the versions that they published: run -> ties.

    Those that are left out (`without`) need nothing. Two kinds of run need what they read only `for_retention`, which
    takes for good: those that ended without a version, such as failed ones, while they have data; and deleted ones that
    can be restored.
    """
    by_version = {version.id: run_id for run_id, version in runs.items() if version is not None}
    found: dict[UUID, list[Tie]] = {}
    for part in in_parts(sorted(by_version)):
        for row in connection.execute(_readers(part, with_deleted=for_retention)):
            is_deleted = row.removal == Removal.DELETION
            reader = f"{row.key}@v{row.number}" + (", which is deleted and can be restored," if is_deleted else "")
            tie = Tie(row.run_id, f"{reader} read it", has_data=row.removed_at is None or is_deleted)
            found.setdefault(by_version[row.input_version_id], []).append(tie)
        for row in connection.execute(_under_way(part)):
            tie = Tie(row.id, f"{show_run_id(row.id)} of {row.key} is under way and reads it", is_under_way=True)
            found.setdefault(by_version[row.version_id], []).append(tie)
        for row in connection.execute(_going_on(part)):
            tie = Tie(row.id, f"{show_run_id(row.id)} of {row.key} is under way and goes on from it", is_under_way=True)
            found.setdefault(by_version[row.base_version_id], []).append(tie)
        for row in connection.execute(_without_version(part)) if for_retention else ():
            tie = Tie(row.id, f"{show_run_id(row.id)} of {row.key}, which is {row.status}, had it before it")
            found.setdefault(by_version[row.version_id], []).append(tie)
    for part in in_parts(sorted(runs)):
        for row in connection.execute(_replays(part)):
            tie = Tie(
                row.id,
                f"{show_run_id(row.id)} replays it",
                is_under_way=row.ended_at is None,
                has_data=row.ended_at is None or (row.version_id is not None and row.removed_at is None),
            )
            found.setdefault(row.replay_of, []).append(tie)
    return {
        run_id: needed
        for run_id, several in found.items()
        if (needed := [tie for tie in several if tie.run_id not in without])
    }


def deleted_inputs(connection: Connection, version_id: UUID) -> set[UUID]:
    """Return the deleted runs whose versions went into this version."""
    query = (
        sa.select(RUN.c.id)
        .join(_VERSION, _VERSION.c.run_id == RUN.c.id)
        .join(_READ, _READ.c.input_version_id == _VERSION.c.id)
        .where(_READ.c.version_id == version_id, RUN.c.deleted_at.is_not(None))
    )
    return set(connection.execute(query).scalars())


def _readers(version_ids: Sequence[UUID], *, with_deleted: bool) -> sa.Select[Any]:
    return (
        sa.select(_READ.c.input_version_id, _VERSION.c.run_id, _VERSION.c.number, _VERSION.c.removed_at)
        .add_columns(_VERSION.c.removal, _DEPLOYMENT.c.key)
        .distinct()
        .join(_VERSION, _VERSION.c.id == _READ.c.version_id)
        .join(_DEPLOYMENT, _DEPLOYMENT.c.id == _VERSION.c.deployment_id)
        .outerjoin(RUN, RUN.c.id == _VERSION.c.run_id)
        .where(_READ.c.input_version_id.in_(version_ids), RUN.c.erased_at.is_(None))
        .where(sa.true() if with_deleted else RUN.c.deleted_at.is_(None))
        .order_by(_DEPLOYMENT.c.key, _VERSION.c.number)
    )


def _under_way(version_ids: Sequence[UUID]) -> sa.Select[Any]:
    return (
        sa.select(RUN.c.id, _INPUT.c.version_id, _DEPLOYMENT.c.key)
        .distinct()
        .join(_INPUT, _INPUT.c.run_id == RUN.c.id)
        .join(_DEPLOYMENT, _DEPLOYMENT.c.id == RUN.c.deployment_id)
        .where(_INPUT.c.version_id.in_(version_ids), RUN.c.ended_at.is_(None))
        .order_by(RUN.c.id)
    )


def _without_version(version_ids: Sequence[UUID]) -> sa.Select[Any]:
    has_data = sa.exists().where(_ARTIFACT.c.owner_id == RUN.c.id, _ARTIFACT.c.removed_at.is_(None))
    return (
        sa.select(RUN.c.id, RUN.c.status, _INPUT.c.version_id, _DEPLOYMENT.c.key)
        .distinct()
        .join(_INPUT, _INPUT.c.run_id == RUN.c.id)
        .join(_DEPLOYMENT, _DEPLOYMENT.c.id == RUN.c.deployment_id)
        .where(_INPUT.c.version_id.in_(version_ids), RUN.c.ended_at.is_not(None), RUN.c.version_id.is_(None))
        .where(RUN.c.deleted_at.is_(None), has_data)
        .order_by(RUN.c.id)
    )


def _going_on(version_ids: Sequence[UUID]) -> sa.Select[Any]:
    return (
        sa.select(RUN.c.id, RUN.c.base_version_id, _DEPLOYMENT.c.key)
        .join(_DEPLOYMENT, _DEPLOYMENT.c.id == RUN.c.deployment_id)
        .where(RUN.c.ended_at.is_(None), RUN.c.base_version_id.in_(version_ids))
        .order_by(RUN.c.id)
    )


def _replays(run_ids: Sequence[UUID]) -> sa.Select[Any]:
    return (
        sa.select(RUN.c.id, RUN.c.replay_of, RUN.c.ended_at, RUN.c.version_id, _VERSION.c.removed_at)
        .outerjoin(_VERSION, _VERSION.c.id == RUN.c.version_id)
        .where(RUN.c.replay_of.in_(run_ids), RUN.c.deleted_at.is_(None))
        .order_by(RUN.c.id)
    )


def shown(sentences: Iterable[str], *, most: int = 5) -> str:
    """Return reasons as one text; of many, the first ones and how many more there are."""
    listed = list(sentences)
    more = f"; and {len(listed) - most:,} more" if len(listed) > most else ""
    return "; ".join(listed[:most]) + more
