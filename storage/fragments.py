"""One Parquet object: writing it, and reading it so that damage is an error and never other data.

Owns how Parquet is written (zstd, row groups sized for scanning, a checksum on each page) and how bytes are checked.
Knows no table: what fragments mean together is in `parquet`.

Two ways to read, two guarantees. A whole fragment is checked against its sha256 before a byte of it is decoded: that
reads every byte of the object. Reading some columns or rows of it checks the size of the object, the sha256 of its
footer, which says where everything lies, and the CRC-32 of each page that is decoded: that reads only what is needed.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.dataset
import pyarrow.fs
import pyarrow.parquet as pq

from .digest import file_sha256
from .errors import ArtifactError, FreshlineError, NotStorable
from .filesystem import ObjectStore
from .stored import Fragment, object_name

ROW_GROUP_ROWS = 131_072
_ROW_GROUP_BYTES = 64 * 1024 * 1024
_FRAGMENT_BYTES = 256 * 1024 * 1024
_FOOTER_END_BYTES = 8  # the length of the footer and the letters PAR1
_SMALL_BYTES = 1024 * 1024  # read as a whole: that takes fewer requests than choosing
_READS_AT_ONCE = 8

T = TypeVar("T")


def write_fragments(
    store: ObjectStore, tables: Iterable[pa.Table], schema: pa.Schema, directory: Path
) -> Iterator[Fragment]:
    """Write each table as a row group, and yield a fragment whenever 256 MiB of Parquet are full, and at the end.

    Raises:
        NotStorable: Parquet refuses a value.
        ArtifactError: the object store cannot be written.
    """
    path = directory / "fragment.parquet"
    writer: pq.ParquetWriter | None = None
    rows = 0
    try:
        for table in tables:
            with _writing(store):
                writer = writer or _open_writer(path, schema)
                writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
            rows += table.num_rows
            if path.stat().st_size >= _FRAGMENT_BYTES:
                yield _close_and_put(store, writer, path, rows)
                writer, rows = None, 0
        if writer is not None:
            yield _close_and_put(store, writer, path, rows)
            writer = None
    finally:
        if writer is not None:
            with suppress(OSError, pa.ArrowException):  # the file goes with its directory
                writer.close()


def describe_fragment(path: Path, *, rows: int, name: str | None = None) -> Fragment:
    """Return the record of a local Parquet file, under the name of its sha256 unless another one is given."""
    sha256, size_bytes = file_sha256(path)
    with path.open("rb") as file:
        file.seek(-_FOOTER_END_BYTES, os.SEEK_END)
        footer_bytes = int.from_bytes(file.read(4), "little") + _FOOTER_END_BYTES
        file.seek(-footer_bytes, os.SEEK_END)
        footer_sha256 = hashlib.sha256(file.read()).hexdigest()
    return Fragment(
        name=object_name(sha256, ".parquet") if name is None else name,
        sha256=sha256,
        size_bytes=size_bytes,
        rows=rows,
        footer_bytes=footer_bytes,
        footer_sha256=footer_sha256,
    )


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


def read_whole(store: ObjectStore, fragments: Sequence[Fragment]) -> list[pa.Table]:
    """Return all rows of each fragment, every byte checked; several are read at once.

    Raises:
        ObjectMissing: one is not there.
        ObjectCorrupt: its bytes are not those that were written.
    """
    return _at_once(partial(_read_whole, store), fragments)


def read_tail(store: ObjectStore, fragments: Sequence[Fragment], rows: int) -> list[pa.Table]:
    """Return the last rows of a table that ends with these fragments, decoding little more; errors as `read_whole`."""
    needed: list[Fragment] = []
    for fragment in reversed(fragments):
        if rows <= 0:
            break
        needed.insert(0, fragment)
        rows -= fragment.rows
    if not needed:
        return []
    return [_read_after(store, needed[0], skip=-rows), *read_whole(store, needed[1:])]


def open_dataset(store: ObjectStore, fragments: Sequence[Fragment], schema: pa.Schema) -> pyarrow.dataset.Dataset:
    """Return the fragments as one dataset in their order, after checking the size and the footer of each.

    Raises:
        ObjectMissing: a fragment is not there.
        ObjectCorrupt: a fragment's size or footer is not what was written.
    """
    _at_once(partial(_check_footer, store), fragments)
    filesystem = _arrow_filesystem(store, fragments)
    parquet = pyarrow.dataset.ParquetFileFormat(
        default_fragment_scan_options=pyarrow.dataset.ParquetFragmentScanOptions(
            pre_buffer=True, page_checksum_verification=True
        )
    )
    parts = [parquet.make_fragment(store.path_of(fragment.name), filesystem) for fragment in fragments]
    return pyarrow.dataset.FileSystemDataset(parts, schema, parquet, filesystem)


def check_whole(store: ObjectStore, fragment: Fragment) -> None:
    """Read every byte of an object and compare its sha256; errors as `read_whole`."""
    _whole_bytes(store, fragment)


@contextmanager
def reading(store: ObjectStore, fragments: Sequence[Fragment]) -> Iterator[None]:
    """Turn an error of the Parquet reader into the name of the object that is damaged, found by reading them all.

    Raises:
        ObjectCorrupt, ObjectMissing: one of the objects is damaged or gone.
        ArtifactError: none is; the store could not be read, or the reader is at fault.
    """
    try:
        yield
    except FreshlineError:
        raise
    except Exception as error:  # Arrow's errors, and those of each driver below it
        for fragment in fragments:
            check_whole(store, fragment)
        names = ", ".join(fragment.name for fragment in fragments[:3])
        raise ArtifactError(f"{names} in {store.url} could not be read, though the bytes are whole: {error}") from None


def _read_whole(store: ObjectStore, fragment: Fragment) -> pa.Table:
    content = _whole_bytes(store, fragment)
    with reading(store, [fragment]):
        return pq.ParquetFile(pa.BufferReader(content)).read()


def _read_after(store: ObjectStore, fragment: Fragment, *, skip: int) -> pa.Table:
    if fragment.size_bytes <= _SMALL_BYTES:
        return _read_whole(store, fragment).slice(skip)
    _check_footer(store, fragment)
    with store.open(fragment.name, size_bytes=fragment.size_bytes) as source, reading(store, [fragment]):
        file = pq.ParquetFile(source, page_checksum_verification=True)
        first = 0
        while skip >= (group_rows := file.metadata.row_group(first).num_rows):
            skip -= group_rows
            first += 1
        return file.read_row_groups(list(range(first, file.num_row_groups))).slice(skip)


def _at_once(read: Callable[[Fragment], T], fragments: Sequence[Fragment]) -> list[T]:
    # Waiting for an object store is what takes time, above all with many small fragments.
    with ThreadPoolExecutor(_READS_AT_ONCE) as executor:
        return list(executor.map(read, fragments))


def _whole_bytes(store: ObjectStore, fragment: Fragment) -> pa.Buffer:
    _check_size(store, fragment)
    if store.is_mappable:
        content = pa.memory_map(store.path_of(fragment.name)).read_buffer()
    else:
        content = pa.py_buffer(store.read_bytes(fragment.name, size_bytes=fragment.size_bytes))
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != fragment.sha256:
        raise store.corrupt(fragment.name, f"its sha256 is {sha256}")
    return content


def _check_size(store: ObjectStore, fragment: Fragment) -> None:
    size_bytes = store.size_bytes(fragment.name)
    if size_bytes != fragment.size_bytes:
        raise store.corrupt(fragment.name, f"it has {size_bytes:,} bytes, {fragment.size_bytes:,} were written")


def _check_footer(store: ObjectStore, fragment: Fragment) -> None:
    _check_size(store, fragment)
    start = fragment.size_bytes - fragment.footer_bytes
    footer = store.read_bytes(fragment.name, start=start, end=fragment.size_bytes)
    sha256 = hashlib.sha256(footer).hexdigest()
    if sha256 != fragment.footer_sha256:
        raise store.corrupt(fragment.name, f"the sha256 of its footer is {sha256}")


@contextmanager
def _writing(store: ObjectStore) -> Iterator[None]:
    with store.translated("write to"):  # above all a full disk
        try:
            yield
        except pa.ArrowMemoryError:
            raise
        except pa.ArrowException as error:
            raise NotStorable(f"Parquet cannot hold the table: {error}") from None


def _open_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    # A dictionary of floating point values is built in vain: they hardly repeat.
    repeating = [field.name for field in schema if not pa.types.is_floating(field.type)]
    return pq.ParquetWriter(
        path, schema, compression="zstd", use_dictionary=repeating, write_page_checksum=True, store_schema=True
    )


def _close_and_put(store: ObjectStore, writer: pq.ParquetWriter, path: Path, rows: int) -> Fragment:
    with _writing(store):
        writer.close()
    fragment = describe_fragment(path, rows=rows)
    store.put_file(path, fragment.name, consume=True)
    return fragment


def _arrow_filesystem(store: ObjectStore, fragments: Sequence[Fragment]) -> pyarrow.fs.FileSystem:
    if store.local_root is not None:
        return pyarrow.fs.LocalFileSystem(use_mmap=store.is_mappable)
    return pyarrow.fs.PyFileSystem(_Opener(store, fragments))


class _Opener(pyarrow.fs.FSSpecHandler):  # type: ignore[misc]  # pyarrow ships no types
    """Lets Arrow read objects as the store reads them: tried again, and with errors that name the object.

    A pickle holds the store, and none of its credentials.
    """

    def __init__(self, store: ObjectStore, fragments: Sequence[Fragment]) -> None:
        super().__init__(store.filesystem)
        self._store, self._fragments = store, fragments
        self._by_path = {store.path_of(fragment.name): fragment for fragment in fragments}

    def open_input_file(self, path: str) -> pa.PythonFile:
        """Open an object of known size: nobody asks the store for it."""
        fragment = self._by_path[path]
        return pa.PythonFile(self._store.open(fragment.name, size_bytes=fragment.size_bytes), mode="r")

    def __reduce__(self) -> tuple[Any, ...]:
        return _Opener, (self._store, self._fragments)
