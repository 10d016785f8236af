"""One Parquet object: reading it so that damage is an error and never other data.

Owns how bytes are checked; how they are written is in `encoding`. Knows no table: what fragments mean together is in
`parquet`.

Two ways to read, two guarantees. A whole fragment is checked against its sha256 before a byte of it is decoded: that
reads every byte of the object. Reading some columns or rows of it checks the size of the object, the sha256 of its
footer, which says where everything lies, and the CRC-32 of each page that is decoded: that reads only what is needed.
"""

import hashlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq

from .errors import ArtifactError, FreshlineError
from .filesystem import ObjectStore
from .stored import Fragment, object_name

if TYPE_CHECKING:
    import pyarrow.dataset

_FOOTER_END_BYTES = 8  # the length of the footer and the letters PAR1
_SMALL_BYTES = 1024 * 1024  # read as a whole: that takes fewer requests than choosing
_READS_AT_ONCE = 8

T = TypeVar("T")


def describe_fragment(path: Path, *, rows: int, name: str | None = None) -> Fragment:
    """Return the record of a local Parquet file, under the name of its sha256 unless another one is given."""
    with path.open("rb") as file:
        return _described(file, rows=rows, name=name)


def fragment_of(content: bytes, *, rows: int) -> Fragment:
    """Return the record of a Parquet file in memory, under the name of its sha256."""
    return _described(io.BytesIO(content), rows=rows)


def _described(file: io.BufferedIOBase, *, rows: int, name: str | None = None) -> Fragment:
    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    size_bytes = file.seek(0, os.SEEK_END)
    file.seek(-_FOOTER_END_BYTES, os.SEEK_END)
    footer_bytes = int.from_bytes(file.read(4), "little") + _FOOTER_END_BYTES
    file.seek(-footer_bytes, os.SEEK_END)
    return Fragment(
        name=object_name(sha256, ".parquet") if name is None else name,
        sha256=sha256,
        size_bytes=size_bytes,
        rows=rows,
        footer_bytes=footer_bytes,
        footer_sha256=hashlib.sha256(file.read()).hexdigest(),
    )


def read_whole(store: ObjectStore, fragments: Sequence[Fragment]) -> list[pa.Table]:
    """Return all rows of each fragment, every byte checked; several are read at once.

    Raises:
        ObjectMissing: one is not there.
        ObjectCorrupt: its bytes are not those that were written.
    """
    return _at_once(partial(_read_whole, store), fragments)


def stream_rows(store: ObjectStore, fragments: Sequence[Fragment], start: int, stop: int) -> Iterator[pa.Table]:
    """Yield the rows from `start` up to `stop` of a table with these fragments, a row group at a time, and few others.

    Raises:
        ObjectMissing: a fragment is not there.
        ObjectCorrupt: its bytes are not those that were written.
    """
    first = 0
    small: list[tuple[Fragment, int, int]] = []
    for fragment in fragments:
        lower, upper = max(start - first, 0), min(stop - first, fragment.rows)
        first += fragment.rows
        if lower >= upper:
            continue
        if fragment.size_bytes <= _SMALL_BYTES and len(small) < _READS_AT_ONCE:
            small.append((fragment, lower, upper))
            continue
        yield from _slices(store, small)
        small = []
        if fragment.size_bytes <= _SMALL_BYTES:
            small.append((fragment, lower, upper))
        else:
            yield from _stream(store, fragment, lower, upper)
    yield from _slices(store, small)


@contextmanager
def opened(store: ObjectStore, fragment: Fragment) -> Iterator[pq.ParquetFile]:
    """Open a fragment whose footer has been checked; each page is checked when it is read. Errors as `stream_rows`."""
    _check_footer(store, fragment)
    with store.open(fragment.name, size_bytes=fragment.size_bytes) as source, reading(store, [fragment]):
        yield pq.ParquetFile(source, page_checksum_verification=True, pre_buffer=True)


def open_dataset(store: ObjectStore, fragments: Sequence[Fragment], schema: pa.Schema) -> "pyarrow.dataset.Dataset":
    """Return the fragments as one dataset in their order, after checking the size and the footer of each.

    Raises:
        ObjectMissing: a fragment is not there.
        ObjectCorrupt: a fragment's size or footer is not what was written.
    """
    import pyarrow.dataset  # which imports pandas: a flow that reads no table needs none

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


def _slices(store: ObjectStore, parts: Sequence[tuple[Fragment, int, int]]) -> Iterator[pa.Table]:
    for (_, lower, upper), table in zip(parts, read_whole(store, [part[0] for part in parts]), strict=True):
        yield table.slice(lower, upper - lower)


def _stream(store: ObjectStore, fragment: Fragment, lower: int, upper: int) -> Iterator[pa.Table]:
    with opened(store, fragment) as file:
        first = 0
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            start, stop = max(lower - first, 0), min(upper - first, rows)
            first += rows
            if start < stop:
                yield file.read_row_group(group).slice(start, stop - start)


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
