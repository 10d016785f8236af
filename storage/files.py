"""Files that are not tables (a model, a report, an image): bytes in, the same bytes out, or an error.

Owns the copying with a checksum on the way. Never looks inside a file, and above all unpickles nothing.
"""

import hashlib
import mimetypes
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, cast

from .errors import InvalidInput, NotFound
from .filesystem import ObjectStore
from .ids import new_id
from .referenced import store_of
from .stored import StoredFile, object_name

_CHUNK_BYTES = 1024 * 1024
_IN_MEMORY_BYTES = 16 * 1024 * 1024
_UNKNOWN_MEDIA_TYPE = "application/octet-stream"


def save_file(store: ObjectStore, content: Path | str | bytes, *, media_type: str | None = None) -> StoredFile:
    """Store a file (a path, or its bytes) and return what a record needs; the same bytes are stored once.

    Without `media_type` the name of the file tells it, as far as its suffix is known.

    Raises:
        NotFound: there is no such file.
        InvalidInput: it is a folder, or cannot be read.
        ArtifactError: the object store cannot be written.
    """
    with store.staging() as directory:
        staged = directory / "content"
        if isinstance(content, bytes):
            with store.translated("write to"):
                staged.write_bytes(content)
            sha256, size_bytes = hashlib.sha256(content).hexdigest(), len(content)
        else:
            path = Path(content)
            # Copied first: a file that changes meanwhile must not be stored under another content's name.
            with store.translated("write to"), _open_local(path) as source, staged.open("wb") as target:
                sha256, size_bytes = _copy(iter(lambda: source.read(_CHUNK_BYTES), b""), target)
            media_type = media_type or mimetypes.guess_type(path.name)[0]
        name = object_name(sha256)
        store.put_file(staged, name, consume=True)
    return StoredFile(name=name, sha256=sha256, size_bytes=size_bytes, media_type=media_type or _UNKNOWN_MEDIA_TYPE)


def open_file(store: ObjectStore, stored: StoredFile) -> BinaryIO:
    """Return the file's bytes as a stream, all of them checked before the first can be read.

    Large files wait in a temporary file that goes when the stream is closed.

    Raises:
        ObjectMissing: the object is not there.
        ObjectCorrupt: its bytes are not those that were written.
        ArtifactError: it cannot be read.
    """
    checked = cast(BinaryIO, tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES))  # noqa: SIM115 - the caller's
    try:
        _copy_checked(store, stored, checked)
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
    temporary = path.with_name(f".{path.name[:100]}.{new_id()}")
    try:
        with temporary.open("wb") as target:
            _copy_checked(store, stored, target)
        os.replace(temporary, path)
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror}; choose a path that you can write") from None
    finally:
        temporary.unlink(missing_ok=True)


def _open_local(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise NotFound("file", str(path)) from None
    except IsADirectoryError:
        raise InvalidInput(f"{path} is a folder: save its files one by one, or an archive of it") from None
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}") from None


def _copy_checked(store: ObjectStore, stored: StoredFile, target: BinaryIO) -> None:
    if stored.root is not None and not stored.sha256:
        raise InvalidInput(
            f"{stored.root} cannot be read through Freshline: its digest was stated by whoever published it, so there "
            "is nothing to check its bytes against. Read it by its URI"
        )
    store = store_of(store, stored)
    size_bytes = store.size_bytes(stored.name)
    if size_bytes == stored.size_bytes:
        sha256, size_bytes = _copy(store.read_chunks(stored.name), target)
        if sha256 == stored.sha256:
            return
        fact = f"its sha256 is {sha256}"
    else:
        fact = f"it has {size_bytes:,} bytes, {stored.size_bytes:,} were written"
    raise store.corrupt(stored.name, fact)


def _copy(chunks: Iterable[bytes], target: BinaryIO) -> tuple[str, int]:
    sha256 = hashlib.sha256()
    size_bytes = 0
    for chunk in chunks:
        sha256.update(chunk)
        size_bytes += len(chunk)
        target.write(chunk)
    return sha256.hexdigest(), size_bytes
