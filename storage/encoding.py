"""Rows into Parquet objects: how they are cut, encoded and put into the store.

Owns how Parquet is written: row groups sized for scanning, a checksum on each page, and encoding and compression of
each column by what its values are like. Knows no table and no digest.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .errors import NotStorable
from .filesystem import ObjectStore
from .fragments import describe_fragment, fragment_of
from .stored import Fragment

ROW_GROUP_ROWS = 131_072
_ROW_GROUP_BYTES = 64 * 1024 * 1024
_FRAGMENT_BYTES = 256 * 1024 * 1024
_LOT_GROUPS = 4
_LOT_BYTES = 64 * 1024 * 1024
_LOTS = 16
_LANES = 2
_SMALL_BYTES = 1024 * 1024
_SAMPLE_ROWS = 16_384
_REPEATING = 0.6
"""A column repeats when at most this share of the sampled values is distinct."""


def is_small(*groups: pa.Table) -> bool:
    """Return whether handing row groups to another thread, or a file, takes longer than encoding or digesting them."""
    return sum(int(group.nbytes) for group in groups) < _SMALL_BYTES


def write_fragments(store: ObjectStore, groups: Iterable[pa.Table], schema: pa.Schema) -> list[Fragment]:
    """Write each table as a row group; return the fragments in the order of their rows.

    What is less than 1 MiB is encoded in memory. Otherwise the first 16 fragments have up to 4 row groups or 64 MiB in
    memory, and two of them are encoded and uploaded at once. A longer table goes on in fragments of 256 MiB of Parquet,
    one after the other.

    Raises:
        NotStorable: Parquet refuses a value.
        ArtifactError: the object store cannot be written.
    """
    source = iter(groups)
    lots = _lots(source)
    written: list[Fragment] = []
    first = next(lots, None)
    if first is not None and is_small(*first):
        written.append(_write_in_memory(store, first, schema))
        first = next(lots, None)
    if first is None:
        return written
    under_way: deque[Future[list[Fragment]]] = deque()
    with store.staging() as directory, ThreadPoolExecutor(_LANES) as lanes:
        for number, lot in enumerate(chain([first], lots)):
            if len(under_way) == _LANES:
                written += under_way.popleft().result()
            if number < _LOTS:
                under_way.append(lanes.submit(_write, store, lot, schema, directory / f"{number}.parquet"))
                continue
            for earlier in under_way:
                written += earlier.result()
            # In this thread: what the caller gave may belong to it, such as the cursor of a database.
            return written + _write(store, chain(lot, source), schema, directory / "rest.parquet")
        for last in under_way:
            written += last.result()
    return written


def row_groups(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """Cut a stream into tables of one row group each: 131,072 rows, or 64 MiB in memory."""
    held: list[pa.RecordBatch] = []
    rows = size_bytes = 0
    for batch in batches:
        rest = batch
        while rest.num_rows:
            row_bytes = max(1, rest.nbytes // rest.num_rows)
            fitting = max(1, (_ROW_GROUP_BYTES - size_bytes) // row_bytes)
            part = rest.slice(0, min(ROW_GROUP_ROWS - rows, fitting))
            rest = rest.slice(part.num_rows)
            held.append(part)
            rows += part.num_rows
            size_bytes += part.nbytes
            if rows == ROW_GROUP_ROWS or size_bytes >= _ROW_GROUP_BYTES:
                yield pa.Table.from_batches(held, schema=schema)
                held, rows, size_bytes = [], 0, 0
    if held:
        yield pa.Table.from_batches(held, schema=schema)


def _lots(groups: Iterator[pa.Table]) -> Iterator[list[pa.Table]]:
    lot: list[pa.Table] = []
    size_bytes = 0
    for group in groups:
        lot.append(group)
        size_bytes += group.nbytes
        if len(lot) == _LOT_GROUPS or size_bytes >= _LOT_BYTES:
            yield lot
            lot, size_bytes = [], 0
    if lot:
        yield lot


def _write_in_memory(store: ObjectStore, groups: Sequence[pa.Table], schema: pa.Schema) -> Fragment:
    sink = pa.BufferOutputStream()
    with _writing(store), _open_writer(sink, schema, groups[0]) as writer:
        for table in groups:
            writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
    content: bytes = sink.getvalue().to_pybytes()
    fragment = fragment_of(content, rows=sum(table.num_rows for table in groups))
    store.put_bytes(content, fragment.name)
    return fragment


def _write(store: ObjectStore, groups: Iterable[pa.Table], schema: pa.Schema, path: Path) -> list[Fragment]:
    written: list[Fragment] = []
    writer: pq.ParquetWriter | None = None
    rows = 0
    try:
        for table in groups:
            with _writing(store):
                writer = writer or _open_writer(path, schema, table)
                writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
            rows += table.num_rows
            if path.stat().st_size >= _FRAGMENT_BYTES:
                written.append(_close_and_put(store, writer, path, rows))
                writer, rows = None, 0
        if writer is not None:
            written.append(_close_and_put(store, writer, path, rows))
            writer = None
    finally:
        if writer is not None:
            with suppress(OSError, pa.ArrowException):  # the file goes with its directory
                writer.close()
    return written


@contextmanager
def _writing(store: ObjectStore) -> Iterator[None]:
    with store.translated("write to"):  # above all a full disk
        try:
            yield
        except pa.ArrowMemoryError:
            raise
        except pa.ArrowException as error:
            raise NotStorable(f"Parquet cannot hold the table: {error}") from None


def _open_writer(target: Path | pa.NativeFile, schema: pa.Schema, first: pa.Table) -> pq.ParquetWriter:
    sample = first.slice(0, _SAMPLE_ROWS)
    repeating = [name for name in schema.names if _repeats(sample.column(name))]
    # Parquet calls the field b of a struct a as it calls a column a.b: what fits one may not fit the other.
    alone = [field for field in schema if "." not in field.name and field.name not in repeating]
    encodings = {field.name: _encoding(field.type) for field in alone}
    return pq.ParquetWriter(
        target,
        schema,
        # What is encoded well gains little by zstd, which takes most of the time.
        compression={field.name: "snappy" if _is_number(field.type) else "zstd" for field in schema} or "zstd",
        use_dictionary=repeating,
        column_encoding={name: encoding for name, encoding in encodings.items() if encoding is not None} or None,
        write_page_checksum=True,
        store_schema=True,
    )


def _encoding(kind: pa.DataType) -> str | None:
    """Return how values that hardly repeat are encoded; a dictionary of them would be built in vain."""
    if kind in (pa.float32(), pa.float64()):
        return "BYTE_STREAM_SPLIT"  # bytes of each place together: those of the exponents are nearly the same
    return "DELTA_BINARY_PACKED" if _is_number(kind) else None


def _is_number(kind: pa.DataType) -> bool:
    types = pa.types
    is_whole = types.is_integer(kind) or types.is_temporal(kind)  # calendar intervals are refused before
    return bool(is_whole or kind in (pa.float32(), pa.float64()))


def _repeats(column: pa.ChunkedArray) -> bool:
    if isinstance(column.type, pa.BaseExtensionType):
        return True
    try:
        distinct = pc.count_distinct(column).as_py()
    except pa.ArrowNotImplementedError:  # nested and rare types
        return True
    return bool(distinct <= _REPEATING * len(column))


def _close_and_put(store: ObjectStore, writer: pq.ParquetWriter, path: Path, rows: int) -> Fragment:
    with _writing(store):
        writer.close()
    fragment = describe_fragment(path, rows=rows)
    store.put_file(path, fragment.name, consume=True)
    return fragment
