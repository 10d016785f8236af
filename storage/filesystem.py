"""Where objects lie: one root URL, reached through fsspec, and the few verbs that Freshline needs on it.

Owns the translation of names into places and of drivers' errors into ours. Knows nothing of what an object holds, and
leaves to `driver` what differs between kinds of store.

Object names are made by Freshline, relative to the root, never taken from a user. A put is all or nothing: on a
local disk the bytes are written beside the target and moved over it; an object store such as S3 shows an object
when its upload has ended. On file systems that promise neither, the object is uploaded under a temporary name and
renamed. Names under `objects/` carry the sha256 of their bytes: what is there already is not uploaded again.

What fails for a moment (a store that is busy or out of reach, an answer that is cut off) is tried again, for a minute.

Safe against crashes of the process. Against loss of power, a local file is as safe as the operating system makes
it: nothing is flushed to the disk by force, but every reader checks the checksum.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from . import faults
from .driver import Driver, Options, no_options
from .errors import ArtifactError, FreshlineError, InvalidInput, ObjectCorrupt, ObjectMissing
from .object_file import ObjectFile
from .patience import Patience
from .places import is_name, modified_at
from .refusals import code_of

OBJECTS = "objects/"
"""Prefix of the names that carry the sha256 of their bytes."""

_CHUNK_BYTES = 1024 * 1024
_RANGE_BYTES = 16 * 1024 * 1024
"""A chunk where each one is a request."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ListedObject:
    """An object as a listing shows it."""

    name: str
    """Relative to the root."""
    size_bytes: int
    modified_at: datetime | None
    """When it was written, by the clock of the object store; none when the store does not tell."""


class ObjectStore:
    """The objects under one root: `file:///…`, `memory://…`, `s3://bucket/prefix` or any other fsspec URL.

    Credentials are never in the URL. No connection is made before the first use; an instance may be shared by threads
    and pickled.

    Args:
        url: the root.
        options: called with the protocol at the first use, for what the driver is opened with (fsspec's storage
            options). Without it, the driver looks in its own variables and files. A pickle holds this function, not
            what it returned.
        patience: how long what fails for a moment is tried again.

    Raises:
        InvalidInput: the URL cannot be used, or contains a password.
    """

    def __init__(self, url: str, *, options: Options = no_options, patience: Patience | None = None) -> None:
        self.driver = Driver(url, options, patience or Patience())
        self.url, self.protocol, self._root = self.driver.url, self.driver.protocol, self.driver.root

    @property
    def filesystem(self) -> Any:
        """The fsspec file system, made at the first use.

        Raises:
            ArtifactError: its driver is not installed or refuses its configuration.
        """
        return self.driver.filesystem

    @property
    def local_root(self) -> Path | None:
        """The root as a local directory, or none when the store is not on a local disk."""
        return Path(self._root) if self.protocol == "file" else None

    @property
    def is_mappable(self) -> bool:
        """True when objects may be mapped into memory: they are on a local disk, and never change in place."""
        return self.protocol == "file"

    def path_of(self, name: str) -> str:
        """Return the path of an object as the fsspec file system wants it."""
        if not is_name(name):
            raise InvalidInput(f"{name!r} cannot be the name of an object")
        return f"{self._root}/{name}"

    def url_of(self, name: str) -> str:
        """Return the URL of an object, for readers such as DuckDB or polars."""
        self.path_of(name)
        return f"{self.url}/{name}"

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """Give a private local directory, on the store's own disk if it has one, gone when the block ends.

        Raises:
            ArtifactError: the directory cannot be made.
        """
        parent = None
        if self.local_root is not None:
            parent = self.driver.staging
            with self.translated("write to"):
                parent.mkdir(parents=True, exist_ok=True)
        with self.translated("write to"):
            directory = tempfile.mkdtemp(prefix="freshline-", dir=parent)
        try:
            yield Path(directory)
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def clear_staging(self, before: datetime) -> int:
        """Remove what writers that died left unfinished before a moment; return how many.

        On a local disk that is in the staging folder; on S3 it is uploads in parts, elsewhere temporary files.

        Raises:
            ArtifactError: the store cannot be asked for them, or does not remove one.
        """
        with self.translated("clear"):
            return self.driver.clear(before)

    def put_file(self, local_path: Path, name: str, *, consume: bool = False) -> None:
        """Store a local file, all or nothing; with `consume` the file may be moved instead of copied.

        Raises:
            AccessRefused: the store does not take the credentials.
            ArtifactError: the store cannot be written, or holds another number of bytes afterwards.
        """
        path, sha256 = self.path_of(name), _sha256_in(name)
        self._put(
            name, os.stat(local_path).st_size, lambda: self.driver.put(local_path, path, sha256=sha256, consume=consume)
        )

    def put_bytes(self, content: bytes, name: str) -> None:
        """Store bytes, all or nothing; errors as `put_file`."""
        path, sha256 = self.path_of(name), _sha256_in(name)
        self._put(name, len(content), lambda: self.driver.put_bytes(content, path, sha256=sha256))

    def open(self, name: str, *, size_bytes: int | None = None) -> BinaryIO:
        """Open an object for reading, seekable; with `size_bytes` nobody asks for its size. Checks no checksum.

        On object stores each read is one request of exactly that range, and raises as `read_bytes`. Elsewhere later
        reads may raise the driver's own errors.

        Raises:
            ObjectMissing: it is not there.
            AccessRefused: the store does not take the credentials.
            ArtifactError: it cannot be read.
        """
        path = self.path_of(name)
        if self.driver.serves_ranges:
            size = self.size_bytes(name) if size_bytes is None else size_bytes
            return cast(BinaryIO, ObjectFile(lambda start, end: self.read_bytes(name, start=start, end=end), size))
        with self.translated("read", name):
            return cast(BinaryIO, self.driver.attempt(lambda: self.filesystem.open(path, "rb")))

    def read_chunks(self, name: str) -> Iterator[bytes]:
        """Yield the bytes of an object, some megabytes at a time; errors as `open`, at every step.

        On object stores a read that breaks off goes on where it was.
        """
        step = _RANGE_BYTES if self.driver.serves_ranges else _CHUNK_BYTES
        with self.translated("read", name), self.open(name) as source:
            while chunk := source.read(step):
                yield chunk

    def read_bytes(
        self, name: str, *, start: int | None = None, end: int | None = None, size_bytes: int | None = None
    ) -> bytes:
        """Return the bytes of an object, or those from `start` up to `end`; errors as `open`. Checks no checksum.

        With `size_bytes` nobody asks for the size of the whole.
        """
        path = self.path_of(name)
        with self.translated("read", name):
            return self.driver.read(path, start, end, size_bytes=size_bytes)

    def download(self, name: str, path: Path) -> None:
        """Copy an object into a local file; errors as `open`. Checks no checksum."""
        self.size_bytes(name)  # an object that is missing leaves no file
        with self.translated("read", name), path.open("wb") as target:
            for chunk in self.read_chunks(name):
                target.write(chunk)

    def exists(self, name: str) -> bool:
        """Return whether the object is there."""
        try:
            self.size_bytes(name)
        except ObjectMissing:
            return False
        return True

    def size_bytes(self, name: str) -> int:
        """Return the size of an object; errors as `open`."""
        path = self.path_of(name)
        with self.translated("read", name):
            return self.driver.size_bytes(path)

    def delete(self, name: str) -> None:
        """Delete an object. One that is not there is no error.

        Raises:
            ArtifactError: it cannot be deleted.
        """
        path = self.path_of(name)
        try:
            with self.translated("delete", name):
                self.driver.attempt(lambda: self.filesystem.rm_file(path))
        except ObjectMissing:
            return

    def list(self, prefix: str = OBJECTS) -> Iterator[ListedObject]:
        """Yield the objects below a prefix that ends at a slash, in the order of their names.

        Raises:
            ArtifactError: the store cannot be listed.
        """
        path = self.path_of(prefix.rstrip("/"))
        with self.translated("list"):
            try:
                found = self.driver.attempt(lambda: self.filesystem.find(path, detail=True))
            except FileNotFoundError:
                found = {}
        for place in sorted(found):
            facts = found[place]
            name = place.removeprefix(self._root).lstrip("/")
            if is_name(name):  # else it is not ours
                yield ListedObject(name, int(facts["size"]), modified_at(facts))

    @contextmanager
    def translated(self, verb: str, name: str | None = None) -> Iterator[None]:
        """Turn any driver's error into ours, saying what could not be done ("read", "write to") with which object.

        Raises:
            ObjectMissing: the object that was read is not there.
            AccessRefused: the store does not take the credentials, or there are none.
            ArtifactError: anything else went wrong.
        """
        target = self.url if name is None else self.url_of(name)
        try:
            yield
        except FreshlineError:
            raise
        except Exception as error:  # each driver has errors of its own
            is_missing = isinstance(error, FileNotFoundError) and code_of(error) != "NoSuchBucket"
            if is_missing and name is not None and verb != "write":
                raise self._missing(target) from None
            raise self.driver.failure(error, f"cannot {verb} {target}", self._advice()) from None

    def corrupt(self, name: str, fact: str) -> ObjectCorrupt:
        """Return the error that an object is not what was written; the fact shows it."""
        return ObjectCorrupt(
            f"{self.url_of(name)} is damaged: {fact}. Restore the object from a copy, or run again what wrote it"
        )

    def _put(self, name: str, expected: int, put: Callable[[], None]) -> None:
        """Have an object put in its place unless it is there, and look how many bytes are there then."""
        faults.reach("put.begin")
        with self.translated("write", name):
            if name.startswith(OBJECTS) and self.driver.holds(self.path_of(name), expected):
                return
            put()
        faults.reach("put.uploaded")
        stored = self.size_bytes(name)
        if stored != expected:
            raise ArtifactError(f"{self.url_of(name)} has {stored:,} bytes after {expected:,} were written: try again")
        faults.reach("put.verified")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def _missing(self, target: str) -> ObjectMissing:
        return ObjectMissing(
            f"{target} is not there, though a record names it: restore it, or run again what wrote it (what retention "
            "removes while somebody reads it goes too, when the grace period of `freshline gc` has passed)"
        )

    def _advice(self) -> str:
        if self.protocol == "file":
            return "Make it a directory that this user can write, or set FRESHLINE_ARTIFACTS_URL"
        if self.driver.is_s3:
            return "Check the bucket, and the endpoint: FRESHLINE_S3_ENDPOINT_URL or AWS_ENDPOINT_URL"
        return "Check FRESHLINE_ARTIFACTS_URL and its credentials"


def _sha256_in(name: str) -> str | None:
    """Return the sha256 that an object's name carries, if it does."""
    stem = PurePosixPath(name).name.partition(".")[0]
    return stem if name.startswith(OBJECTS) and _SHA256.fullmatch(stem) else None
