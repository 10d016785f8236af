"""Files that are not tables (a model, a report, an image): bytes in, the same bytes out, or an error.

Owns the copying with a checksum on the way; a folder is many of them (`folders`). Never looks inside a file, and above
all unpickles nothing. Memory holds a megabyte of a file, however long it is.
"""

import hashlib
import mimetypes
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

from .errors import InvalidInput, NotFound
from .filesystem import ObjectStore
from .ids import new_id
from .referenced import store_of
from .stored import FolderFile, StoredFile, object_name

FileLike: TypeAlias = "Path | str | bytes | bytearray | memoryview | BinaryIO | Iterable[bytes]"
"""A path, the bytes themselves, a file that was opened in binary mode, or an iterable of bytes."""

_CHUNK_BYTES = 1024 * 1024
_IN_MEMORY_BYTES = 16 * 1024 * 1024
_UNKNOWN_MEDIA_TYPE = "application/octet-stream"
_BUFFERS = (bytes, bytearray, memoryview)


def save_file(store: ObjectStore, content: FileLike, *, media_type: str | None = None) -> StoredFile:
    """Store a file and return what a record needs; the same bytes are stored once.

    An open file is read from where it stands to its end, and left open. Without `media_type` the name of the file
    tells it, as far as its suffix is known.

    Raises:
        NotFound: there is no such file.
        InvalidInput: it is a folder, no regular file or cannot be read, gives text instead of bytes, or is no content;
            or the media type is none.
        ArtifactError: the object store cannot be written.
    """
    if media_type is not None:
        _check_media_type(media_type)
    chunks, name = _chunks_of(content)
    with store.staging() as directory:
        staged = directory / "content"
        # Copied first: a file that changes meanwhile must not be stored under another content's name.
        with store.translated("write to"):
            target = staged.open("wb")
        with target:
            sha256, size_bytes = _copy(_written(store, chunks, target))
            with store.translated("write to"):  # what is buffered may meet a full disk
                target.flush()
        store.put_file(staged, object_name(sha256), consume=True)
    told = mimetypes.guess_type(name)[0] if name is not None else None
    return StoredFile(
        name=object_name(sha256),
        sha256=sha256,
        size_bytes=size_bytes,
        media_type=media_type or told or _UNKNOWN_MEDIA_TYPE,
    )


def open_file(store: ObjectStore, stored: StoredFile) -> BinaryIO:
    """Return the file's bytes as a stream, all of them checked before the first can be read.

    Large files wait in a temporary file that goes when the stream is closed.

    Raises:
        ObjectMissing: the object is not there.
        ObjectCorrupt: its bytes are not those that were written.
        ArtifactError: it cannot be read.
    """
    store = _reachable(store, stored)
    checked = cast(BinaryIO, tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES))  # noqa: SIM115 - the caller's
    try:
        copy_checked(store, stored, checked)
    except BaseException:
        checked.close()
        raise
    checked.seek(0)
    return checked


def download_file(store: ObjectStore, stored: StoredFile, path: Path) -> None:
    """Write the file to a local path, all or nothing, replacing what is there; errors as `open_file`.

    Raises:
        InvalidInput: the path cannot be written.
    """
    store = _reachable(store, stored)
    temporary = path.with_name(f".{path.name[:100]}.{new_id()}")
    try:
        with temporary.open("wb") as target:
            copy_checked(store, stored, target)
        os.replace(temporary, path)
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror}; choose a path that you can write") from None
    finally:
        temporary.unlink(missing_ok=True)


def copy_checked(store: ObjectStore, stored: StoredFile | FolderFile, target: BinaryIO) -> None:
    """Copy an object of the store into a local file, and compare its bytes with the record.

    Raises:
        ObjectMissing, ObjectCorrupt, ArtifactError: as `open_file`; what was written to the target does not count then.
    """
    size_bytes = store.size_bytes(stored.name)
    if size_bytes == stored.size_bytes:
        sha256, size_bytes = _copy(_put(store.read_chunks(stored.name), target))
        if sha256 == stored.sha256:
            return
        fact = f"its sha256 is {sha256}"
    else:
        fact = f"it has {size_bytes:,} bytes, {stored.size_bytes:,} were written"
    raise store.corrupt(stored.name, fact)


def open_local(path: Path) -> BinaryIO:
    """Open a local file for reading.

    Raises:
        NotFound: it is not there.
        InvalidInput: it is no regular file, or cannot be read.
    """
    try:
        # Asked first: to open a pipe waits for who writes into it.
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise InvalidInput(f"{path} is a folder")
        if not stat.S_ISREG(mode):
            raise InvalidInput(f"{path} is no regular file: save what it gives, as bytes or as an open file")
        return path.open("rb")
    except FileNotFoundError:
        raise NotFound("file", str(path)) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InvalidInput(f"cannot read {str(path)!r}: {reason}") from None


def _chunks_of(content: Any) -> tuple[Iterator[Any], str | None]:
    """Return the content in parts, and the name of the file where it has one."""
    if isinstance(content, _BUFFERS):
        return iter([content]), None
    if isinstance(content, str | os.PathLike):
        path = Path(content)
        return _read(path), path.name
    if callable(getattr(content, "read", None)):
        name = getattr(content, "name", None)
        return iter(lambda: content.read(_CHUNK_BYTES), b""), os.path.basename(name) if isinstance(name, str) else None
    if isinstance(content, Iterable) and not isinstance(content, dict):
        return iter(content), None
    raise InvalidInput(
        f"{type(content).__name__} is no content of a file: give a path, bytes, a file opened in binary mode, or an "
        "iterable of bytes"
    )


def _read(path: Path) -> Iterator[bytes]:
    with open_local(path) as source:
        while chunk := _next(path, source):
            yield chunk


def _next(path: Path, source: BinaryIO) -> bytes:
    try:
        return source.read(_CHUNK_BYTES)
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}") from None


def _written(store: ObjectStore, chunks: Iterator[Any], target: BinaryIO) -> Iterator[bytes]:
    """Write each part and pass it on; only the writing is the store's matter."""
    for chunk in chunks:
        if isinstance(chunk, str):
            raise InvalidInput("the content is text: open the file in binary mode ('rb'), or encode the text")
        if not isinstance(chunk, _BUFFERS):
            raise InvalidInput(f"a part of the content is {type(chunk).__name__}: give bytes")
        content = chunk if isinstance(chunk, bytes) else bytes(chunk)
        with store.translated("write to"):
            target.write(content)
        yield content


def _put(chunks: Iterable[bytes], target: BinaryIO) -> Iterator[bytes]:
    for chunk in chunks:
        target.write(chunk)
        yield chunk


def _copy(chunks: Iterable[bytes]) -> tuple[str, int]:
    """Return the sha256 and the number of the bytes that pass by."""
    sha256 = hashlib.sha256()
    size_bytes = 0
    for chunk in chunks:
        sha256.update(chunk)
        size_bytes += len(chunk)
    return sha256.hexdigest(), size_bytes


def _reachable(store: ObjectStore, stored: StoredFile) -> ObjectStore:
    if stored.root is not None and not stored.sha256:
        raise InvalidInput(
            f"{stored.root} cannot be read through Freshline: its digest was stated by whoever published it, so there "
            "is nothing to check its bytes against. Read it by its URI"
        )
    return store_of(store, stored)


def _check_media_type(media_type: str) -> None:
    kind, slash, name = media_type.partition("/")
    if not (kind and slash and name) or len(media_type) > 250 or not media_type.isprintable():
        raise InvalidInput(f"{media_type[:80]!r} is no media type: write it like text/html")
