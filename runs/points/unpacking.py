"""Whether a chunk that somebody sends holds what it says, and how large it becomes, asked before it is unpacked.

A few kilobytes of zstd become gigabytes. Arrow writes before each compressed buffer how long it is without; where the
buffers are stands in the metadata of the message, a flatbuffer, of which this reads the little that is needed. Arrow
itself unpacks no buffer to more than was said of it.
"""

import struct
from collections.abc import Iterator

from ...storage.errors import InvalidInput, ObjectCorrupt
from .chunks import Chunk, decode, schema, stream_of

MOST_UNPACKED_BYTES = 96 * 1024 * 1024
"""More than a chunk has of as many points as it may hold, each with the longest of names."""

_HEADER = 2
"""Field of a message: its record batch."""
_BUFFERS, _COMPRESSION = 2, 3
"""Fields of a record batch: where its buffers are, and how they are compressed, if they are."""
_AS_IT_IS = -1
"""Instead of a length: this buffer did not become smaller, and was left."""


def check(chunk: Chunk) -> None:
    """Let pass a chunk that holds what it says, and not more than a chunk may: whoever reads it later trusts it.

    Raises:
        InvalidInput: it does not.
    """
    import pyarrow as pa

    try:
        size_bytes = _unpacked_bytes(chunk.payload)
        if size_bytes > MOST_UNPACKED_BYTES:
            raise InvalidInput(
                f"a chunk of metric values has {size_bytes:,} bytes when it is unpacked; at most "
                f"{MOST_UNPACKED_BYTES:,}: send fewer values at once"
            )
        table = decode(chunk.payload)
        if table.num_rows != chunk.rows:
            raise InvalidInput(f"a chunk says that it has {chunk.rows:,} metric values, and has {table.num_rows:,}")
        if table.schema != schema():
            raise InvalidInput(f"a chunk of metric values has other columns: {', '.join(table.column_names)[:200]}")
        table.validate(full=True)
    except (ObjectCorrupt, pa.ArrowException) as error:
        raise InvalidInput(str(error)) from None
    if any(column.null_count for column in table.columns):
        raise InvalidInput("a chunk of metric values has an empty place")


def _unpacked_bytes(payload: bytes) -> int:
    """Return how many bytes the compressed buffers of a chunk have when they are unpacked.

    Raises:
        ObjectCorrupt: it is no chunk.
    """
    import pyarrow as pa

    size_bytes = 0
    try:
        for message in pa.ipc.MessageReader.open_stream(stream_of(payload)):
            if message.type == "record batch":
                size_bytes += sum(_lengths(memoryview(message.metadata), memoryview(message.body)))
            elif message.type != "schema":
                raise ObjectCorrupt(f"a chunk of metric values has a message of another type: {message.type}")
    except (pa.ArrowException, OSError, struct.error) as error:
        raise ObjectCorrupt(f"a chunk of metric values cannot be read: {error}") from None
    return size_bytes


def _lengths(metadata: memoryview, body: memoryview) -> Iterator[int]:
    """Yield how long each compressed buffer of a record batch says that it is."""
    message = _referred(metadata, 0)
    header = _field(metadata, message, _HEADER)
    batch = None if header is None else _referred(metadata, header)
    if batch is None or _field(metadata, batch, _COMPRESSION) is None:
        return
    place = _field(metadata, batch, _BUFFERS)
    if place is None:
        return
    buffers = _referred(metadata, place)
    (count,) = struct.unpack_from("<I", metadata, buffers)
    for number in range(count):
        start, size_bytes = struct.unpack_from("<qq", metadata, buffers + 4 + 16 * number)
        if size_bytes:
            (length,) = struct.unpack_from("<q", body, start)
            if length != _AS_IT_IS:
                yield max(length, 0)


def _referred(metadata: memoryview, place: int) -> int:
    """Return where what is referred to at a place begins."""
    return int(place + struct.unpack_from("<I", metadata, place)[0])


def _field(metadata: memoryview, table: int, number: int) -> int | None:
    """Return the place of a field of a table; none when the table does not have it."""
    fields = table - struct.unpack_from("<i", metadata, table)[0]
    (fields_bytes,) = struct.unpack_from("<H", metadata, fields)
    entry = 4 + 2 * number
    offset = struct.unpack_from("<H", metadata, fields + entry)[0] if entry < fields_bytes else 0
    return table + offset if offset else None
