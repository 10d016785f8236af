"""Where objects lie: one root URL, reached through fsspec, and the few verbs that Freshline needs on it.

Owns the translation of names into places and of drivers' errors into ours. Knows nothing of what an object holds.

Object names are made by Freshline, relative to the root, never taken from a user. A put is all or nothing: on a
local disk the bytes are written beside the target and moved over it; an object store such as S3 shows an object
when its upload has ended. On file systems that promise neither, the object is uploaded under a temporary name and
renamed. Names under `objects/` carry the sha256 of their bytes: what is there already is not uploaded again.

Safe against crashes of the process. Against loss of power, a local file is as safe as the operating system makes
it: nothing is flushed to the disk by force, but every reader checks the checksum.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit
from urllib.request import url2pathname

from . import local_disk
from .errors import ArtifactError, FreshlineError, InvalidInput, ObjectCorrupt, ObjectMissing
from .ids import new_id

OBJECTS = "objects/"
"""Prefix of the names that carry the sha256 of their bytes."""

_STAGING = "staging"
# A put is atomic there: a reader sees the whole object or none.
_ATOMIC_PROTOCOLS = {"s3", "s3a", "gs", "gcs", "abfs", "az"}
_S3_PROTOCOLS = {"s3", "s3a"}
_S3_PART_BYTES = 16 * 1024 * 1024
_S3_PARTS_AT_ONCE = 4
_CHUNK_BYTES = 1024 * 1024
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
_SECRET_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID")


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

    Credentials, region and endpoint of S3 come from the standard AWS variables and files (`AWS_ENDPOINT_URL` names
    another server than Amazon's), never from the URL. No connection is made before the first use; an instance may be
    shared by threads and pickled.

    Raises:
        InvalidInput: the URL cannot be used, or contains a password.
    """

    def __init__(self, url: str) -> None:
        self.url, self.protocol, self._root = _parse_root(url)
        self._filesystem: Any = None

    @property
    def filesystem(self) -> Any:
        """The fsspec file system, made at the first use.

        Raises:
            ArtifactError: its driver is not installed or refuses its configuration.
        """
        if self._filesystem is None:
            self._filesystem = self._connect()
        return self._filesystem

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
        if not _NAME.fullmatch(name):
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
            parent = self.local_root / _STAGING
            with self.translated("write to"):
                parent.mkdir(parents=True, exist_ok=True)
        with self.translated("write to"):
            directory = tempfile.mkdtemp(prefix="freshline-", dir=parent)
        try:
            yield Path(directory)
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def clear_staging(self, before: datetime) -> int:
        """Remove what writers that died left in the local staging folder before a moment; return how many.

        Raises:
            ArtifactError: the folder cannot be read.
        """
        if self.local_root is None or not (staged := self.local_root / _STAGING).is_dir():
            return 0
        with self.translated("clear"):
            return local_disk.clear(staged, before)

    def put_file(self, local_path: Path, name: str, *, consume: bool = False) -> None:
        """Store a local file, all or nothing; with `consume` the file may be moved instead of copied.

        Raises:
            ArtifactError: the store cannot be written, or holds another number of bytes afterwards.
        """
        path = self.path_of(name)
        expected = os.stat(local_path).st_size
        if self._holds(name, expected):
            return
        with self.translated("write", name):
            if self.protocol == "file":
                local_disk.put(local_path, Path(path), beside=Path(self._root, _STAGING), consume=consume)
            elif self.protocol == "memory":
                self.filesystem.pipe_file(path, local_path.read_bytes())  # its put_file shows an object as it grows
            elif self.protocol in _ATOMIC_PROTOCOLS:
                self.filesystem.put_file(str(local_path), path, **self._upload_options())
            else:
                self._put_renamed(local_path, path)
        stored = self.size_bytes(name)
        if stored != expected:
            raise ArtifactError(f"{self.url_of(name)} has {stored:,} bytes after {expected:,} were written: try again")

    def put_bytes(self, content: bytes, name: str) -> None:
        """Store bytes, all or nothing; errors as `put_file`."""
        with self.staging() as directory:
            local_path = directory / "content"
            with self.translated("write", name):
                local_path.write_bytes(content)
            self.put_file(local_path, name, consume=True)

    def open(self, name: str) -> BinaryIO:
        """Open an object for reading, seekable. Checks no checksum; later reads may raise the driver's own errors.

        Raises:
            ObjectMissing: it is not there.
            ArtifactError: it cannot be read.
        """
        path = self.path_of(name)
        with self.translated("read", name):
            return cast(BinaryIO, self.filesystem.open(path, "rb"))

    def read_chunks(self, name: str) -> Iterator[bytes]:
        """Yield the bytes of an object, a megabyte at a time; errors as `open`, at every step."""
        with self.translated("read", name), self.open(name) as source:
            while chunk := source.read(_CHUNK_BYTES):
                yield chunk

    def read_bytes(self, name: str, *, start: int | None = None, end: int | None = None) -> bytes:
        """Return the bytes of an object, or those from `start` up to `end`; errors as `open`. Checks no checksum."""
        path = self.path_of(name)
        with self.translated("read", name):
            return bytes(self.filesystem.cat_file(path, start=start, end=end))

    def download(self, name: str, path: Path) -> None:
        """Copy an object into a local file; errors as `open`. Checks no checksum."""
        source = self.path_of(name)
        with self.translated("read", name):
            self.filesystem.get_file(source, str(path))

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
            facts = self.filesystem.info(path)
            if facts["type"] != "file":
                raise FileNotFoundError(path)
        return int(facts["size"])

    def delete(self, name: str) -> None:
        """Delete an object. One that is not there is no error.

        Raises:
            ArtifactError: it cannot be deleted.
        """
        path = self.path_of(name)
        try:
            with self.translated("delete", name):
                self.filesystem.rm_file(path)
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
                found = self.filesystem.find(path, detail=True)
            except FileNotFoundError:
                found = {}
        for place in sorted(found):
            facts = found[place]
            name = place.removeprefix(self._root).lstrip("/")
            if _NAME.fullmatch(name):  # else it is not ours
                yield ListedObject(name, int(facts["size"]), _modified_at(facts))

    @contextmanager
    def translated(self, verb: str, name: str | None = None) -> Iterator[None]:
        """Turn any driver's error into ours, saying what could not be done ("read", "write to") with which object.

        Raises:
            ObjectMissing: the object that was read is not there.
            ArtifactError: anything else went wrong.
        """
        target = self.url if name is None else self.url_of(name)
        try:
            yield
        except FreshlineError:
            raise
        except FileNotFoundError as error:
            if verb == "write" or name is None:
                raise ArtifactError(f"cannot {verb} {target}: {self._without_secrets(error)}") from None
            raise self._missing(target) from None
        except Exception as error:  # each driver has errors of its own
            raise ArtifactError(f"cannot {verb} {target}: {self._without_secrets(error)}. {self._advice()}") from None

    def corrupt(self, name: str, fact: str) -> ObjectCorrupt:
        """Return the error that an object is not what was written; the fact shows it."""
        return ObjectCorrupt(
            f"{self.url_of(name)} is damaged: {fact}. Restore the object from a copy, or run again what wrote it"
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_filesystem": None}

    def _holds(self, name: str, size_bytes: int) -> bool:
        if not name.startswith(OBJECTS):
            return False
        try:
            return self.size_bytes(name) == size_bytes
        except ObjectMissing:
            return False

    def _put_renamed(self, local_path: Path, path: str) -> None:
        temporary = f"{self._root}/{_STAGING}/{new_id()}"
        self.filesystem.makedirs(os.path.dirname(temporary), exist_ok=True)
        self.filesystem.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            self.filesystem.put_file(str(local_path), temporary)
            self.filesystem.mv(temporary, path)
        finally:
            if self.filesystem.exists(temporary):
                self.filesystem.rm_file(temporary)

    def _upload_options(self) -> dict[str, Any]:
        if self.protocol not in _S3_PROTOCOLS:
            return {}
        # The driver's own choice holds ten parts of 50 MB in memory.
        return {"chunksize": _S3_PART_BYTES, "max_concurrency": _S3_PARTS_AT_ONCE}

    def _connect(self) -> Any:
        import fsspec

        options: dict[str, Any] = {"skip_instance_cache": True}
        if self.protocol in _S3_PROTOCOLS:
            # Attempts and their pace are AWS_MAX_ATTEMPTS and AWS_RETRY_MODE.
            options |= {"use_listings_cache": False, "config_kwargs": {"connect_timeout": 10, "read_timeout": 60}}
        try:
            return fsspec.filesystem(self.protocol, **options)
        except (ImportError, ValueError) as error:
            raise ArtifactError(f"cannot open {self.url}: {self._without_secrets(error)}") from None

    def _missing(self, target: str) -> ObjectMissing:
        return ObjectMissing(f"{target} is not there, though a record names it: restore it, or run again what wrote it")

    def _advice(self) -> str:
        if self.protocol == "file":
            return "Make it a directory that this user can write, or set FRESHLINE_ARTIFACTS_URL"
        if self.protocol in _S3_PROTOCOLS:
            return "Check the bucket, the AWS_* variables (credentials may have expired) and AWS_ENDPOINT_URL"
        return "Check FRESHLINE_ARTIFACTS_URL and its credentials"

    def _without_secrets(self, error: Exception) -> str:
        text = str(error) or type(error).__name__
        for variable in _SECRET_VARIABLES:
            secret = os.environ.get(variable)
            if secret:
                text = text.replace(secret, "***")
        return text.rstrip(".")


def _parse_root(url: str) -> tuple[str, str, str]:
    """Return the URL without a slash at its end, its protocol, and the root as the file system wants it."""
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise InvalidInput(
            "the URL of the object store contains credentials: take them out and set the AWS_* variables instead"
        )
    if not url or (parts.scheme == "file" and parts.netloc not in ("", "localhost")):
        raise InvalidInput(f"{url!r} is no object store: write a local one as file:///absolute/path")
    if parts.scheme in ("", "file"):
        path = Path(url2pathname(parts.path) if parts.scheme else url).expanduser().absolute()
        return path.as_uri(), "file", str(path)
    import fsspec

    if parts.scheme not in fsspec.available_protocols():
        raise InvalidInput(f"{url!r} is no object store: it starts with none of file://, s3://, memory://")
    if not parts.netloc:
        raise InvalidInput(f"{url!r} names no bucket: write it as {parts.scheme}://bucket/prefix")
    root = fsspec.get_filesystem_class(parts.scheme)._strip_protocol(url)
    return url.rstrip("/"), parts.scheme, str(root).rstrip("/")


def _modified_at(facts: dict[str, Any]) -> datetime | None:
    moment = facts.get("LastModified", facts.get("mtime", facts.get("created")))
    if isinstance(moment, (int, float)):
        return datetime.fromtimestamp(moment, UTC)
    if isinstance(moment, datetime):
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return None
