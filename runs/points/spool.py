"""The spool: where points wait on this machine's disk until the store has them, one file for each attempt of a run.

Owns the folder and the form of a file, and who may have it: its writer holds a lock on it for as long as it lives, and
whoever gets that lock knows that the writer is gone. Knows no database.

A file is a sequence of frames: the length of what follows, a CRC-32 of the length and one of what follows, then that.
The first frame says whose points they are, each other one is a chunk. A process that dies while it writes leaves half a
frame at the end, which is recognised. What is written survives the process, however it ends; a loss of power may take
the last seconds.
"""

import json
import logging
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from ...storage.ids import new_id
from .chunks import Chunk

try:
    import fcntl
except ImportError:  # Windows: without such locks nobody can tell a dead writer from a living one
    fcntl = None  # type: ignore[assignment]

_LOGGER = logging.getLogger(__name__)
_SUFFIX, _CORRUPT, _REFUSED = ".spool", ".corrupt", ".refused"
_LENGTH, _FRAME = struct.Struct(">I"), struct.Struct(">III")
_CHUNK = struct.Struct(">QI")
_FORMAT = 1


class Place(NamedTuple):
    """Where in a file a chunk is."""

    offset: int
    length: int


class Spool:
    """The file of one attempt, to which its process alone writes. For one thread at a time."""

    def __init__(self, path: Path, descriptor: int, *, begin: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._begin = self._end = begin

    @property
    def size_bytes(self) -> int:
        """What it takes on the disk."""
        return self._end

    def append(self, chunk: Chunk) -> Place:
        """Write a chunk behind the others; return where it is.

        Raises:
            OSError: it cannot be written, such as on a disk that is full. The file is as it was.
        """
        frame = _frame(_CHUNK.pack(chunk.first, chunk.rows) + chunk.payload)
        try:
            _write_all(self._descriptor, frame, self._end)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._end)
            raise
        place = Place(self._end, len(frame))
        self._end += len(frame)
        return place

    def read(self, place: Place) -> Chunk:
        """Return the chunk that `append` wrote there.

        Raises:
            OSError: it cannot be read, or is not what was written.
        """
        frame = os.pread(self._descriptor, place.length, place.offset)
        body, whole = _body(frame, 0)
        if body is None or not whole:
            raise OSError(f"{self.path} is damaged at byte {place.offset:,}")
        return _chunk(body)

    def clear(self) -> None:
        """Forget all chunks: the store has them."""
        if self._end > self._begin:
            with suppress(OSError):  # what is sent again is known by its number
                os.ftruncate(self._descriptor, self._begin)
                self._end = self._begin

    def close(self, *, remove: bool) -> None:
        """Give the file up: remove it, or leave it to whoever comes next.

        Raises:
            OSError: the disk did not do it; whoever comes next may have the file all the same.
        """
        try:
            if remove:
                self.path.unlink(missing_ok=True)
        finally:
            os.close(self._descriptor)


@dataclass(frozen=True)
class Leftover:
    """A file whose writer is gone, held by a lock until it is closed."""

    path: Path
    run_id: UUID
    fence: int
    chunks: list[Chunk]
    """What can be read of it."""
    damage: str | None
    """What is wrong with the file; None: nothing, or no more than the half frame that a killed writer leaves."""
    descriptor: int

    def close(self, *, refused: bool = False) -> None:
        """Remove the file: its points are in the store. One that is damaged, or was refused, is set aside instead."""
        if refused:
            self.path.replace(self.path.with_suffix(_REFUSED))
        elif self.damage is not None:
            self.path.replace(self.path.with_suffix(_CORRUPT))
        else:
            self.path.unlink(missing_ok=True)
        os.close(self.descriptor)

    def leave(self) -> None:
        """Leave the file as it is."""
        os.close(self.descriptor)


class Spools:
    """The folder of one user's spools for one store."""

    def __init__(self, home: Path, store_id: UUID) -> None:
        self.directory = home / "spool" / _user() / store_id.hex

    def create(self, run_id: UUID, fence: int) -> Spool:
        """Make the file of an attempt, locked before anybody can see it.

        Raises:
            OSError: the folder cannot be made or written, or belongs to somebody else.
        """
        if fcntl is None:
            raise OSError("there are no locks on files here that end with their process")
        self._make_directory()
        hidden = self.directory / f".{new_id().hex}"
        descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            head = _frame(json.dumps({"format": _FORMAT, "run_id": run_id.hex, "fence": fence}).encode())
            _write_all(descriptor, head, 0)
            # Never over another file: the points of a second start under the same fence are other ones.
            path = self.directory / f"{run_id.hex}-{fence}-{new_id().hex[-8:]}{_SUFFIX}"
            hidden.rename(path)
        except OSError:
            hidden.unlink(missing_ok=True)
            os.close(descriptor)
            raise
        return Spool(path, descriptor, begin=len(head))

    def has_files(self) -> bool:
        """Return whether there is any file, whoever has it: quick to ask."""
        return bool(self._paths())

    def left_behind(self) -> Iterator[Leftover]:
        """Yield the files whose writers are gone, oldest first; close or leave each before the next.

        What is no spool of ours (another user's, a link, one without a readable beginning) is set aside or left.
        """
        for path in self._paths():
            descriptor = _locked(path)
            if descriptor is None:
                continue
            leftover = _read(path, descriptor)
            if leftover is None:
                _LOGGER.warning("%s is no spool of metric values that can be read; it is set aside", path)
                path.replace(path.with_suffix(_CORRUPT))
                os.close(descriptor)
            else:
                yield leftover

    def _paths(self) -> list[Path]:
        try:
            return sorted(path for path in self.directory.iterdir() if path.suffix == _SUFFIX)
        except OSError:  # there is none yet, or it is not ours
            return []

    def _make_directory(self) -> None:
        private = self.directory.parent
        private.parent.mkdir(parents=True, exist_ok=True)
        for folder in (private, self.directory):
            folder.mkdir(mode=0o700, exist_ok=True)
            about = folder.lstat()
            if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid():
                raise OSError(f"{folder} belongs to somebody else")
            if about.st_mode & 0o077:
                folder.chmod(0o700)


def _user() -> str:
    return str(os.geteuid()) if hasattr(os, "geteuid") else "user"


def _locked(path: Path) -> int | None:
    """Open a file and lock it; None when its writer lives, somebody else was quicker, or it is not ours."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        about = os.fstat(descriptor)
        is_ours = stat.S_ISREG(about.st_mode) and about.st_uid == os.geteuid()
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever held it before may have removed it meanwhile.
        if is_ours and path.lstat().st_ino == about.st_ino:
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def _read(path: Path, descriptor: int) -> Leftover | None:
    """Return what a file holds; None when it does not even say whose points they are."""
    with os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(0)
        content = file.read()
    head, is_whole = _body(content, 0)
    known = _header(head) if is_whole and head is not None else None
    if known is None or head is None:
        return None
    chunks, damage = [], None
    offset = _FRAME.size + len(head)
    while offset < len(content):
        body, is_whole = _body(content, offset)
        if body is None:
            _LOGGER.info("%s ends in the middle of a frame: its writer was killed there", path)
            break
        if not is_whole or len(body) < _CHUNK.size:
            damage = f"damaged at byte {offset:,}"
            _LOGGER.warning("%s is %s; what stands before it is sent, and the file set aside", path, damage)
            break
        chunks.append(_chunk(body))
        offset += _FRAME.size + len(body)
    return Leftover(path, known[0], known[1], chunks, damage, descriptor)


def _header(head: bytes) -> tuple[UUID, int] | None:
    try:
        said: Any = json.loads(head)
        if said["format"] != _FORMAT:
            return None
        return UUID(said["run_id"]), int(said["fence"])
    except (ValueError, KeyError, TypeError):
        return None


def _frame(body: bytes) -> bytes:
    return _FRAME.pack(len(body), zlib.crc32(_LENGTH.pack(len(body))), zlib.crc32(body)) + body


def _body(content: bytes, offset: int) -> tuple[bytes | None, bool]:
    """Return what a frame holds, and whether its checksum says so; None when the frame is not all there."""
    begin = offset + _FRAME.size
    if begin > len(content):
        return None, False
    length, checksum_of_length, checksum = _FRAME.unpack_from(content, offset)
    if zlib.crc32(_LENGTH.pack(length)) != checksum_of_length:
        return b"", False
    body = content[begin : begin + length]
    if len(body) < length:
        return None, False
    return body, zlib.crc32(body) == checksum


def _chunk(body: bytes) -> Chunk:
    first, rows = _CHUNK.unpack_from(body)
    return Chunk(first, rows, body[_CHUNK.size :])


def _write_all(descriptor: int, content: bytes, offset: int) -> None:
    view = memoryview(content)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
