"""What others keep, as the record of a table or file: digested in a stream, referenced where it is, or copied.

A Parquet file, or a folder of them, is a table: its digest is the logical one, the same as that of a table that
Freshline wrote with these rows. Any other file is its bytes, any other folder its files. Knows no run and no database.
"""

import mimetypes
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from . import files, folders, parquet
from .batches import check_schema
from .data_dates import holds_dates
from .digest import BLOCK_ROWS, file_sha256
from .errors import ArtifactError, InvalidInput, NotStorable
from .filesystem import ObjectStore
from .found import Found, Part, check_uri
from .fragments import describe_fragment
from .referenced import ReferencedStore
from .stored import REFERENCED_FORMAT, FolderFile, Fragment, StoredFile, StoredFolder, StoredTable

DATE_COLUMN = "date"
"""The column of data dates, where nothing else is said."""

_UNKNOWN_MEDIA_TYPE = "application/octet-stream"

Watch = Callable[[int, int], None]
"""Told how many bytes of how many have been read."""


def refer_to(
    found: Found, *, date_column: str | None = DATE_COLUMN, watch: Watch | None = None
) -> StoredTable | StoredFile | StoredFolder:
    """Read and digest it, and return a record that refers to it where it is.

    Memory holds a few row groups; what is not on a local disk passes through a temporary file, one part at a time.
    `date_column` says which day a row speaks of; a table need not have the default one.

    Raises:
        InvalidInput: a Parquet file is damaged, or has other columns than the one before, or no such date column; or
            a folder holds a name that cannot be kept.
        NotStorable: a column is of a type that Freshline cannot read back, or a row has no data date.
        ArtifactError: it cannot be read.
    """
    if found.is_table:
        fragments: list[Fragment] = []
        with _named(found):
            batches = _batches(found, fragments, watch)
            column = _date_column(found, date_column)
            return parquet.refer_to_table(batches, fragments, root=found.url, data_date=column)
    if found.is_folder:
        return replace(folders.folder_of(_folder_files(found, watch)), root=found.url)
    (part,) = found.parts
    with _on_disk(found.store, part) as path:
        sha256, size_bytes = file_sha256(path)
    if watch is not None:
        watch(size_bytes, found.size_bytes)
    return StoredFile(
        name="",
        sha256=sha256,
        size_bytes=size_bytes,
        media_type=_media_type(found.url),
        root=found.url,
        format=REFERENCED_FORMAT,
    )


def copy(
    objects: ObjectStore, found: Found, *, date_column: str | None = DATE_COLUMN, watch: Watch | None = None
) -> StoredTable | StoredFile | StoredFolder:
    """Copy it into the store and return the record of the copy; a table is written anew, with the same digest.

    Raises:
        InvalidInput, NotStorable, ArtifactError: as `refer_to`; the store may be at fault too.
    """
    if found.is_table:
        with _named(found):
            column = _date_column(found, date_column)
            return parquet.write_table(objects, _batches(found, [], watch), data_date=column)
    if found.is_folder:
        return folders.folder_of(_folder_files(found, watch, objects))
    (part,) = found.parts
    with _on_disk(found.store, part) as path:
        stored = files.save_file(objects, path, media_type=_media_type(found.url))
    if watch is not None:
        watch(stored.size_bytes, found.size_bytes)
    return stored


def stated(uri: str) -> StoredFile:
    """Return the record of what nobody here has read: its publisher states its digest.

    Raises:
        InvalidInput: the URI may not be recorded.
    """
    return StoredFile(
        name="",
        sha256="",
        size_bytes=0,
        media_type=_media_type(uri),
        root=check_uri(uri),
        format=REFERENCED_FORMAT,
    )


def _folder_files(found: Found, watch: Watch | None, objects: ObjectStore | None = None) -> Iterator[FolderFile]:
    """Yield the files of a folder, digested where they are, or copied into a store."""
    folders.check_paths([part.name for part in found.parts], of=found.url)
    read_bytes = 0
    for part in found.parts:
        with _on_disk(found.store, part) as path:
            if objects is None:
                sha256, size_bytes = file_sha256(path)
                name = part.name
            else:
                stored = files.save_file(objects, path)
                name, sha256, size_bytes = stored.name, stored.sha256, stored.size_bytes
            is_executable = found.store.local_root is not None and bool(path.stat().st_mode & stat.S_IXUSR)
        yield FolderFile(path=part.name, name=name, sha256=sha256, size_bytes=size_bytes, is_executable=is_executable)
        read_bytes += part.size_bytes
        if watch is not None:
            watch(read_bytes, found.size_bytes)


def _batches(found: Found, fragments: list[Fragment], watch: Watch | None) -> Iterator[pa.RecordBatch]:
    """Yield all rows, and add a fragment for each file that has been read."""
    first: pa.Schema | None = None
    read_bytes, is_empty = 0, True
    for part in found.parts:
        url = found.store.url_of(part.name)
        with (
            _on_disk(found.store, part) as path,
            _reading(url),
            pq.ParquetFile(path, page_checksum_verification=True) as file,
        ):
            if first is None:
                first = file.schema_arrow
                _check_columns(found, first)
            try:
                check_schema(first, file.schema_arrow)
            except InvalidInput as error:
                raise InvalidInput(f"{url}: {error}") from None
            fragments.append(describe_fragment(path, rows=file.metadata.num_rows, name=part.name))
            rows = 0
            for batch in file.iter_batches(batch_size=BLOCK_ROWS):
                is_empty = False
                yield batch
                rows += batch.num_rows
                if watch is not None:
                    watch(read_bytes + part.size_bytes * rows // file.metadata.num_rows, found.size_bytes)
        read_bytes += part.size_bytes
    if is_empty and first is not None:
        # Whoever reads it needs its columns all the same.
        yield pa.RecordBatch.from_arrays([pa.array([], field.type) for field in first], schema=first)


def _check_columns(found: Found, schema: pa.Schema) -> None:
    if not len(schema):
        raise InvalidInput(f"{found.url} is a table without a column")
    for part in found.parts:
        for step in PurePosixPath(part.name).parts[:-1]:
            column, equals, _ = step.partition("=")
            # It would be left out of the table silently.
            if equals and column not in schema.names:
                raise InvalidInput(
                    f"{found.store.url_of(part.name)} has the column {column!r} in its path and not in its rows: "
                    "write it into the files too, or publish them one by one"
                )


def _date_column(found: Found, wanted: str | None) -> str | None:
    """Return the column of data dates; none when nothing else than the default was asked for, and it is not there."""
    if wanted != DATE_COLUMN:
        return wanted
    first = found.parts[0].name
    with _reading(found.store.url_of(first)), found.store.open(first) as source:
        schema = pq.read_schema(source)
    return wanted if wanted in schema.names and holds_dates(schema.field(wanted).type) else None


@contextmanager
def _on_disk(store: ReferencedStore, part: Part) -> Iterator[Path]:
    """Give a local file with the part's bytes: itself, or a copy that is gone when the block ends."""
    if store.local_root is not None:
        yield Path(store.path_of(part.name))
        return
    with tempfile.TemporaryDirectory(prefix="freshline-") as directory:
        path = Path(directory, "part")
        with path.open("wb") as target:
            for chunk in store.read_chunks(part.name):
                target.write(chunk)
        yield path


@contextmanager
def _reading(url: str) -> Iterator[None]:
    """Name the Parquet file that an error is about."""
    try:
        yield
    except pa.ArrowException as error:
        raise InvalidInput(f"{url} is damaged: {error}") from None
    except OSError as error:
        if error.errno is None:  # the reader's own, such as a checksum that is wrong
            raise InvalidInput(f"{url} is damaged: {error}") from None
        raise ArtifactError(f"{url} cannot be read: {error}") from None


@contextmanager
def _named(found: Found) -> Iterator[None]:
    """Name the place that a column of it is about."""
    try:
        yield
    except NotStorable as error:
        raise NotStorable(f"{found.url}: {error}") from None


def _media_type(url: str) -> str:
    return mimetypes.guess_type(urlsplit(url).path)[0] or _UNKNOWN_MEDIA_TYPE
