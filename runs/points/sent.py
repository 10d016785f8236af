"""All SQL for what runs log while they live. Every function works in the caller's transaction, and holds the run's row.

What arrives twice is known by its number: nothing is stored twice, and nothing is lost in between.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ...storage import faults
from ...storage.models import Artifact
from ..store import insert_or_ignore
from .chunks import SERIES, Chunk, SentChunk, behind
from .models import MetricChunk, MetricStream

_STREAM = MetricStream.__table__  # type: ignore[attr-defined]
_CHUNK = MetricChunk.__table__  # type: ignore[attr-defined]
_ARTIFACT = Artifact.__table__  # type: ignore[attr-defined]


def end_of(connection: Connection, run_id: UUID, fence: int) -> int:
    """Return the number behind the last point of an attempt that has arrived."""
    query = sa.select(_STREAM.c.end_point).where(_is_stream(run_id, fence))
    return connection.execute(query).scalar_one_or_none() or 0


def add(connection: Connection, run_id: UUID, fence: int, chunk: Chunk, *, now: datetime) -> int:
    """Store a chunk in the place of everything from its first point on; return the number behind the last that is here.

    A chunk of which nothing is new changes nothing. Neither does one that begins in the middle of a stored one: then
    what is returned says where to begin.
    """
    known = end_of(connection, run_id, fence)
    if faults.is_on(faults.Guard.POINT_NUMBERS):
        if chunk.end <= known:
            return known
        if chunk.first < known and not _begins_at(connection, run_id, fence, chunk.first):
            return known
    _move_to(connection, run_id, fence, chunk.end, now=now)
    if chunk.first < known:
        replaced = sa.and_(_is_chunk(run_id, fence), _CHUNK.c.first_point >= chunk.first)
        connection.execute(sa.delete(_CHUNK).where(replaced))
    _insert(connection, run_id, fence, chunk)
    return chunk.end


def begin_behind_table(connection: Connection, run_id: UUID, fence: int, *, now: datetime) -> None:
    """Let the numbers of a completed attempt that had sent nothing begin behind what its table `metrics` holds.

    Its completion has written none: most runs end before they send, and are spared the statement.
    """
    has_sent = connection.execute(sa.select(sa.literal(1)).where(_STREAM.c.run_id == run_id).limit(1)).first()
    if has_sent is None:
        query = sa.select(_ARTIFACT.c.rows).where(_ARTIFACT.c.owner_id == run_id, _ARTIFACT.c.name == SERIES)
        rows = connection.execute(query).scalar_one_or_none()
        if rows:
            _move_to(connection, run_id, fence, rows, now=now)


def take(connection: Connection, run_id: UUID, ends: Mapping[int, int], *, now: datetime) -> None:
    """Remove what the run's table `metrics` holds: of each attempt (fence) the points before a number."""
    for fence, end in ends.items():
        if end_of(connection, run_id, fence) < end:
            _move_to(connection, run_id, fence, end, now=now)
        gone = sa.and_(_is_chunk(run_id, fence), _CHUNK.c.first_point < end)
        rests = sa.select(_CHUNK).where(gone, _CHUNK.c.first_point + _CHUNK.c.num_points > end)
        # An attempt that is over, and has not noticed, has sent more behind what the table was made of, as one chunk.
        rest = connection.execute(rests).one_or_none()
        connection.execute(sa.delete(_CHUNK).where(gone))
        if rest is not None:
            _insert(
                connection, run_id, fence, behind(Chunk(rest.first_point, rest.num_points, bytes(rest.payload)), end)
            )


def chunks_of_run(
    connection: Connection, run_id: UUID, *, after: Mapping[int, int] | None = None
) -> Sequence[SentChunk]:
    """Return the chunks of a run, attempt by attempt, in the order in which they were logged.

    `after` leaves out those that end before a number, by fence.
    """
    query = sa.select(_CHUNK).where(_CHUNK.c.run_id == run_id).order_by(_CHUNK.c.fence, _CHUNK.c.first_point)
    for fence, end in (after or {}).items():
        ended = sa.and_(_CHUNK.c.fence == fence, _CHUNK.c.first_point + _CHUNK.c.num_points <= end)
        query = query.where(sa.not_(ended))
    return [
        SentChunk(row.first_point, row.num_points, bytes(row.payload), fence=row.fence)
        for row in connection.execute(query)
    ]


def count_points(connection: Connection, run_id: UUID) -> int:
    """Return how many points the chunks of a run hold."""
    query = sa.select(sa.func.coalesce(sa.func.sum(_CHUNK.c.num_points), 0)).where(_CHUNK.c.run_id == run_id)
    return int(connection.execute(query).scalar_one())


def _insert(connection: Connection, run_id: UUID, fence: int, chunk: Chunk) -> None:
    connection.execute(
        sa.insert(_CHUNK).values(
            run_id=run_id, fence=fence, first_point=chunk.first, num_points=chunk.rows, payload=chunk.payload
        )
    )


def _move_to(connection: Connection, run_id: UUID, fence: int, end: int, *, now: datetime) -> None:
    moved = sa.update(_STREAM).where(_is_stream(run_id, fence)).values(end_point=end, at=now)
    if connection.execute(moved).rowcount == 0:
        made = insert_or_ignore(connection, _STREAM).values(run_id=run_id, fence=fence, end_point=end, at=now)
        connection.execute(made)


def _begins_at(connection: Connection, run_id: UUID, fence: int, first: int) -> bool:
    query = sa.select(sa.literal(1)).where(_is_chunk(run_id, fence), _CHUNK.c.first_point == first)
    return connection.execute(query).first() is not None


def _is_stream(run_id: UUID, fence: int) -> sa.ColumnElement[bool]:
    return sa.and_(_STREAM.c.run_id == run_id, _STREAM.c.fence == fence)


def _is_chunk(run_id: UUID, fence: int) -> sa.ColumnElement[bool]:
    return sa.and_(_CHUNK.c.run_id == run_id, _CHUNK.c.fence == fence)
