"""Chunks: stretches of what an attempt has logged, in the one form that they have on disk, on the way and in the store.

The points of an attempt are numbered from 0 in the order in which they were logged. A chunk says which of them it
holds. Knows no database and no file.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from ...storage.errors import ObjectCorrupt

if TYPE_CHECKING:
    import pyarrow as pa

MOST_POINTS = 65_536
"""No chunk is longer."""

SERIES = "metrics"
"""Name of the run's table with everything that was logged."""

SYSTEM = "system/"
"""What names begin with that say how the machine was used: they are no result, and so no latest metrics."""

Point = tuple[str, int, float, int]
"""Name, step, value, and when it was logged, in nanoseconds since 1970."""

_VERSION = b"\x01"


@dataclass(frozen=True)
class Chunk:
    """Consecutive points of one attempt."""

    first: int
    """The number of its first point."""
    rows: int
    payload: bytes = field(repr=False)
    """See `encode`."""

    @property
    def end(self) -> int:
        """The number behind its last point."""
        return self.first + self.rows


@dataclass(frozen=True)
class SentChunk(Chunk):
    """A chunk that the store has."""

    fence: int
    """The fence of the attempt that logged it."""


@dataclass(frozen=True)
class SeriesTaken:
    """Which points a run's table `metrics` holds: their chunks are not needed any more."""

    ends: Mapping[int, int]
    """Fence of the attempt -> the number behind its last point in the table."""


@cache
def schema() -> "pa.Schema":
    """Return the columns of a series: name, step, value, and `at`, the worker's time, to the microsecond."""
    import pyarrow as pa

    return pa.schema(
        [
            ("name", pa.string()),
            ("step", pa.int64()),
            ("value", pa.float64()),
            ("at", pa.timestamp("us", tz="UTC")),
        ]
    )


def table_of(points: Sequence[Point]) -> "pa.Table":
    """Return points as a table, in their order."""
    import pyarrow as pa

    names, steps, values, times = zip(*points, strict=True) if points else ((), (), (), ())
    at = pa.array(times, pa.timestamp("ns", tz="UTC")).cast(schema().field("at").type, safe=False)
    columns = [pa.array(names, pa.string()), pa.array(steps, pa.int64()), pa.array(values, pa.float64()), at]
    return pa.Table.from_arrays(columns, schema=schema())


def encode(table: "pa.Table") -> bytes:
    """Return a table of points as bytes: a version, then an Arrow stream whose buffers are compressed with zstd."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema(), options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table.combine_chunks())
    stream: bytes = sink.getvalue().to_pybytes()
    return _VERSION + stream


def decode(payload: bytes) -> "pa.Table":
    """Return what `encode` was given.

    Raises:
        ObjectCorrupt: these bytes are not what it returned.
    """
    import pyarrow as pa

    try:
        return pa.ipc.open_stream(stream_of(payload)).read_all()
    except (pa.ArrowException, OSError) as error:
        raise ObjectCorrupt(f"a chunk of metric values cannot be read: {error}") from None


def stream_of(payload: bytes) -> "pa.Buffer":
    """Return the Arrow stream in what `encode` returned.

    Raises:
        ObjectCorrupt: these bytes are not what it returned.
    """
    import pyarrow as pa

    if payload[:1] != _VERSION:
        raise ObjectCorrupt(f"a chunk of metric values has the unknown form {payload[:1]!r}")
    return pa.py_buffer(payload)[1:]


def chunks_of(points: Sequence[Point], *, first: int) -> Iterator[Chunk]:
    """Yield points as chunks, the first of which begins with the number `first`."""
    for start in range(0, len(points), MOST_POINTS):
        part = points[start : start + MOST_POINTS]
        yield Chunk(first + start, len(part), encode(table_of(part)))


def merged(chunks: Sequence[Chunk]) -> Chunk:
    """Return chunks that follow one another as one."""
    import pyarrow as pa

    if len(chunks) == 1:
        return chunks[0]
    table = pa.concat_tables([decode(chunk.payload) for chunk in chunks])
    return Chunk(chunks[0].first, table.num_rows, encode(table))


def behind(chunk: Chunk, first: int) -> Chunk:
    """Return the points of a chunk from this number on."""
    table = decode(chunk.payload).slice(first - chunk.first)
    return Chunk(first, table.num_rows, encode(table))


def in_groups(chunks: Iterable[Chunk]) -> Iterator[list[Chunk]]:
    """Yield chunks in groups that `merged` makes one of: without a gap, and not too long."""
    group: list[Chunk] = []
    for chunk in chunks:
        if group and (chunk.first != group[-1].end or chunk.end - group[0].first > MOST_POINTS):
            yield group
            group = []
        group.append(chunk)
    if group:
        yield group


def latest_in(table: "pa.Table") -> dict[str, float]:
    """Return the last value of each name; of the system's use there is none."""
    points = zip(table["name"].to_pylist(), table["value"].to_pylist(), strict=True)
    return {name: value for name, value in points if not name.startswith(SYSTEM)}
