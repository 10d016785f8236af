"""One fsspec file system: opened at its first use, tried again when it fails for a moment, its errors explained.

Owns what differs from one kind of store to the next: how a file is put in its place all at once, how ranges are read,
what a writer that died leaves behind. Knows paths, as the file system wants them, and no names of ours.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from . import local_disk
from .errors import AccessRefused, ArtifactError
from .ids import new_id
from .patience import Patience, ShortAnswer, is_transient
from .places import ATOMIC_PROTOCOLS, S3_PROTOCOLS, modified_at, parse_root
from .refusals import code_of, refusal, says_no_reason, strike_out

T = TypeVar("T")

STAGING = "staging"
"""Folder below the root for what is not finished, on file systems that show it as it grows."""

_RANGE_BYTES = 64 * 1024 * 1024  # one request for most objects: a range costs the server as much as the whole
_RANGES_AT_ONCE = 4
_NO_WAIT = Patience(0)


Options: TypeAlias = Callable[[str], Mapping[str, Any]]
"""Returns what the driver of a protocol is opened with: fsspec's storage options, with secrets perhaps."""


def no_options(_protocol: str) -> Mapping[str, Any]:
    """Return no options: the driver finds its credentials by itself, in its own variables, files and roles."""
    return {}


class Driver:
    """The file system that a root URL names.

    Raises:
        InvalidInput: the URL cannot be used, or contains a password.
    """

    def __init__(self, url: str, options: Options, patience: Patience) -> None:
        self.url, self.protocol, self.root = parse_root(url)
        self.options = options
        self.patience = patience
        self._filesystem: Any = None
        self._given: Mapping[str, Any] = {}

    @property
    def is_s3(self) -> bool:
        """True for S3, whoever serves it."""
        return self.protocol in S3_PROTOCOLS

    @property
    def serves_ranges(self) -> bool:
        """True when any range of an object is one request."""
        return self.protocol in ATOMIC_PROTOCOLS

    @property
    def staging(self) -> Path:
        """The local folder for what is not finished."""
        return Path(self.root, STAGING)

    @property
    def filesystem(self) -> Any:
        """The fsspec file system.

        Raises:
            ArtifactError: its driver is not installed or refuses its configuration.
        """
        if self._filesystem is None:
            self._filesystem = self._connect()
        return self._filesystem

    def attempt(self, work: Callable[[], T]) -> T:
        """Do it, again while it fails for a moment; a local disk and memory do not."""
        patience = _NO_WAIT if self.protocol in ("file", "memory") else self.patience
        return patience.call(work)

    def put(self, local_path: Path, path: str, *, sha256: str | None, consume: bool) -> None:
        """Put a local file in its place, all or nothing."""
        if self.protocol == "file":
            local_disk.put(local_path, Path(path), beside=self.staging, consume=consume)
        elif self.protocol == "memory":
            self.filesystem.pipe_file(path, local_path.read_bytes())  # its put_file shows an object as it grows
        elif self.is_s3:
            from . import s3

            s3.put(self.filesystem, local_path, path, sha256=sha256, patience=self.patience)
        elif self.serves_ranges:
            self.attempt(lambda: self.filesystem.put_file(str(local_path), path))
        else:
            self.attempt(lambda: self._put_renamed(local_path, path))

    def put_bytes(self, content: bytes, path: str, *, sha256: str | None) -> None:
        """Put a file of these bytes in its place, all or nothing."""
        if self.protocol == "file":
            local_disk.put_bytes(content, Path(path), beside=self.staging)
            return
        if self.is_s3:
            from . import s3

            if len(content) <= s3.PART_BYTES:
                s3.put_bytes(self.filesystem, content, path, sha256=sha256, patience=self.patience)
                return
        elif self.serves_ranges:
            self.attempt(lambda: self.filesystem.pipe_file(path, content))
            return
        with tempfile.TemporaryDirectory(prefix="freshline-") as directory:
            local_path = Path(directory, "content")
            local_path.write_bytes(content)
            self.put(local_path, path, sha256=sha256, consume=True)

    def size_bytes(self, path: str) -> int:
        """Return the size of a file; a folder is a FileNotFoundError too."""
        facts = self.attempt(lambda: self.filesystem.info(path))
        if facts["type"] != "file":
            raise FileNotFoundError(path)
        return int(facts["size"])

    def holds(self, path: str, size_bytes: int) -> bool:
        """Return whether a file of this size is there."""
        if self.is_s3:
            from . import s3

            return s3.holds(self.filesystem, path, size_bytes, self.patience)
        try:
            return self.size_bytes(path) == size_bytes
        except FileNotFoundError:
            return False

    def read(self, path: str, start: int | None, end: int | None, *, size_bytes: int | None = None) -> bytes:
        """Return the bytes of a file, or a range of them; with its size, nobody asks for that."""
        if not self.serves_ranges or (start is None) != (end is None):
            return self.attempt(lambda: bytes(self.filesystem.cat_file(path, start=start, end=end)))
        if start is None or end is None:
            return self._read_whole(path, self.size_bytes(path) if size_bytes is None else size_bytes)
        return self.attempt(lambda: self._read_range(path, start, end))

    def clear(self, before: datetime) -> int:
        """Remove what writers that died left unfinished before a moment; return how many."""
        if self.protocol == "file":
            return local_disk.clear(self.staging, before) if self.staging.is_dir() else 0
        removed = 0
        if self.is_s3:
            from . import s3

            bucket, _, _ = self.filesystem.split_path(self.root)
            for upload in list(s3.unfinished(self.filesystem, self.root, self.patience)):
                if upload.began_at is not None and upload.began_at < before:
                    s3.abort(self.filesystem, bucket, upload, self.patience)
                    removed += 1
            return removed
        for path, facts in self._staged():
            moment = modified_at(facts)
            if moment is not None and moment < before:
                self.attempt(lambda path=path: self.filesystem.rm_file(path))  # type: ignore[misc]  # mypy cannot infer it
                removed += 1
        return removed

    def failure(self, error: Exception, failed: str, advice: str) -> ArtifactError:
        """Return our error for one of the driver's: what failed, why, and what to do."""
        code = code_of(error)
        if self.is_s3 and says_no_reason(code):
            error, code = self._with_reason(error, code)
        shown = strike_out(str(error) or type(error).__name__, self._given).rstrip(".")
        if code is not None and not code.isdigit() and code not in shown and code != "NoCredentials":
            shown = f"{code}, {shown}"
        refused = refusal(code)
        if refused is not None:
            return AccessRefused(f"{failed}: {refused[0]} ({shown}). {refused[1]}", code=str(code))
        if is_transient(error) and self.patience.limit_s:
            shown += f", for {self.patience.limit_s:g} s (FRESHLINE_ARTIFACTS_RETRY_S)"
        return ArtifactError(f"{failed}: {shown}. {advice}")

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_filesystem": None, "_given": {}}

    def _connect(self) -> Any:
        import fsspec

        options = self._given = self.options(self.protocol)
        if self.is_s3:
            from . import s3

            options = s3.connection_options(options)
        try:
            filesystem = fsspec.filesystem(self.protocol, **{"skip_instance_cache": True, **options})
        except (ImportError, ValueError, TypeError, KeyError) as error:
            raise ArtifactError(
                f"cannot open {self.url}: {strike_out(str(error), self._given).rstrip('.')}. Install the driver, or "
                "correct FRESHLINE_ARTIFACTS_OPTIONS"
            ) from None
        if self.is_s3:
            filesystem.retries = 1  # botocore tries a request again, patience the whole: a third would multiply them
        return filesystem

    def _with_reason(self, error: Exception, code: str | None) -> tuple[Exception, str | None]:
        from . import s3

        try:
            s3.ask_why(self.filesystem, self.root)
        except Exception as told:
            if refusal(code_of(told)) is not None:
                return told, code_of(told)
        return error, code

    def _read_range(self, path: str, start: int, end: int) -> bytes:
        if start >= end:
            return b""
        content = bytes(self.filesystem.cat_file(path, start=start, end=end))
        # Some drivers hand over what came before the connection broke.
        if len(content) < end - start and self.size_bytes(path) >= end:
            raise ShortAnswer(f"{len(content):,} of {end - start:,} bytes came")
        return content

    def _read_whole(self, path: str, size: int) -> bytes:
        """Return all bytes, in ranges: what breaks off costs one of them, and several come at once."""
        starts = range(0, size, _RANGE_BYTES)

        def read(start: int) -> bytes:
            return self.attempt(lambda: self._read_range(path, start, min(start + _RANGE_BYTES, size)))

        if len(starts) <= 1:
            return read(0)
        with ThreadPoolExecutor(_RANGES_AT_ONCE) as executor:
            return b"".join(executor.map(read, starts))

    def _put_renamed(self, local_path: Path, path: str) -> None:
        temporary = f"{self.root}/{STAGING}/{new_id()}"
        self.filesystem.makedirs(os.path.dirname(temporary), exist_ok=True)
        self.filesystem.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            self.filesystem.put_file(str(local_path), temporary)
            self.filesystem.mv(temporary, path)
        finally:
            if self.filesystem.exists(temporary):
                self.filesystem.rm_file(temporary)

    def _staged(self) -> Iterator[tuple[str, dict[str, Any]]]:
        try:
            found = self.attempt(lambda: self.filesystem.find(f"{self.root}/{STAGING}", detail=True))
        except FileNotFoundError:
            return
        yield from found.items()
