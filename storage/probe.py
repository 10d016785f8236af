"""Trying an object store out: what it can do, how long that takes, and what it cannot do.

Owns the round trip that `freshline doctor` makes. Everything is written below `doctor/` under a name of its own, and
removed again, whatever happens.
"""

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from . import s3
from .errors import ArtifactError, FreshlineError
from .filesystem import ObjectStore
from .ids import new_id
from .patience import Patience
from .refusals import code_of

_CONTENT = bytes(range(256)) * 4
_CONFLICTS = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "OperationAborted", "409", "412"})
_OLD = timedelta(days=1)
_MOST_SKEW_S = 300.0
_ONCE = Patience(0)


class Outcome(StrEnum):
    """What came of a check."""

    OK = "ok"
    NOTE = "note"
    """Freshline works, and there is something to know or to improve."""
    BROKEN = "broken"
    SKIPPED = "skipped"
    """It was not tried: what it needs is broken."""


@dataclass(frozen=True)
class Check:
    """One thing that was tried."""

    area: str
    """`settings`, `database`, `objects` or `prefect`."""
    name: str
    outcome: Outcome
    detail: str = ""
    """What was found; of what is broken, what to do as well."""
    took_s: float | None = None


class Cannot(Exception):
    """The store works, and does not do this; with what follows from it."""


def is_conflict(error: BaseException) -> bool:
    """Return whether a conditional write was refused because the object is there.

    Servers and drivers differ: FileExistsError, a 412 or 409, or EINVAL, into which s3fs translates a 412.
    """
    if isinstance(error, FileExistsError) or code_of(error) in _CONFLICTS:
        return True
    return isinstance(error, OSError) and error.errno == errno.EINVAL


def probe(store: ObjectStore) -> Iterator[Check]:
    """Try the store out, and yield what came of each step; leaves nothing behind.

    The first step that fails of those that all others need (open, write) ends it.
    """
    folder = f"doctor/{new_id()}"
    before = _folders(store)
    trial = _Trial(store, folder)
    try:
        for name, step, is_needed in trial.steps():
            check = _checked(name, step)
            yield check
            if is_needed and check.outcome == Outcome.BROKEN:
                return
    finally:
        trial.remove()
        _remove_folders(store, folder, before)


class _Trial:
    def __init__(self, store: ObjectStore, folder: str) -> None:
        self._store = store
        self._name, self._other, self._parts = (f"{folder}/{name}" for name in ("object", "conditional", "parts"))

    def steps(self) -> Iterator[tuple[str, Callable[[], str], bool]]:
        yield "open", self._open, True
        yield "write", self._write, True
        yield "read", self._read, False
        yield "read a range", self._read_range, False
        yield "conditional write", self._write_conditionally, False
        yield "list", self._list, False
        if self._store.driver.is_s3:
            yield "upload in parts", self._upload, False
            yield "unfinished uploads", self._count_unfinished, False
        yield "delete", self._delete, False

    def remove(self) -> None:
        # One that fails ends it: a store that does not answer would let each of them wait in vain.
        with suppress(FreshlineError):
            for name in (self._name, self._other, self._parts):
                self._store.delete(name)

    def _open(self) -> str:
        with self._store.translated("open"):
            filesystem = self._store.filesystem
        endpoint = getattr(filesystem, "endpoint_url", None)
        return self._store.url + (f" at {endpoint}" if endpoint else "")

    def _write(self) -> str:
        self._store.put_bytes(_CONTENT, self._name)
        return f"{len(_CONTENT):,} bytes"

    def _read(self) -> str:
        if self._store.read_bytes(self._name) != _CONTENT:
            raise ArtifactError("other bytes came back than were written: do not use this store")
        return "the same bytes"

    def _read_range(self) -> str:
        if self._store.read_bytes(self._name, start=100, end=164) != _CONTENT[100:164]:
            raise ArtifactError("another range came back than was asked for: tables cannot be read from this store")
        return "64 bytes"

    def _write_conditionally(self) -> str:
        with self._store.translated("write", self._other):
            try:
                self._create(b"first")
                self._create(b"second")
            except Exception as error:
                if not is_conflict(error):
                    raise Cannot("the store does not know them; Freshline does not need them") from None
                return "the second one was refused, as it must be"
        raise Cannot("the second one replaced the first; Freshline does not need them")

    def _create(self, content: bytes) -> None:
        path = self._store.path_of(self._other)
        if self._store.driver.is_s3:
            bucket, key, _ = self._store.filesystem.split_path(path)
            self._store.filesystem.call_s3("put_object", Bucket=bucket, Key=key, Body=content, IfNoneMatch="*")
        else:
            self._store.filesystem.pipe_file(path, content, mode="create")

    def _list(self) -> str:
        listed = {item.name: item for item in self._store.list(f"{self._name.rpartition('/')[0]}/")}
        if self._name not in listed:
            raise Cannot("the object is not listed yet: garbage collection finds what dead writers left only later")
        written_at = listed[self._name].modified_at
        if written_at is None:
            return "the object is there"
        skew_s = (written_at - datetime.now(UTC)).total_seconds()
        if abs(skew_s) > _MOST_SKEW_S:
            raise Cannot(f"the store's clock differs by {skew_s:+.0f} s: S3 refuses requests from 900 s on")
        return "the object is there"

    def _upload(self) -> str:
        filesystem, path = self._store.filesystem, self._store.path_of(self._parts)
        bucket, key, _ = filesystem.split_path(path)
        with self._store.translated("write", self._parts):
            completed = filesystem.call_s3("create_multipart_upload", Bucket=bucket, Key=key)["UploadId"]
            aborted = None
            try:
                at = {"Bucket": bucket, "Key": key, "UploadId": completed}
                etag = filesystem.call_s3("upload_part", **at, PartNumber=1, Body=_CONTENT)["ETag"]
                parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
                filesystem.call_s3("complete_multipart_upload", **at, MultipartUpload=parts)
                aborted = filesystem.call_s3("create_multipart_upload", Bucket=bucket, Key=key)["UploadId"]
                is_seen = any(one.id == aborted for one in s3.unfinished(filesystem, path.rpartition("/")[0], _ONCE))
            finally:
                for upload in filter(None, (completed, aborted)):
                    with suppress(Exception):  # the first one is completed, if all went well
                        s3.abort(filesystem, bucket, s3.Upload(key, upload, None), _ONCE)
            left = any(one.key == key for one in s3.unfinished(filesystem, path.rpartition("/")[0], _ONCE))
        if self._store.size_bytes(self._parts) != len(_CONTENT) or left:
            raise ArtifactError("an upload in parts was not completed or not aborted: large tables cannot be stored")
        if not is_seen:
            raise Cannot("unfinished ones are not listed: give the bucket a rule that aborts them after some days")
        return "completed, listed and aborted"

    def _count_unfinished(self) -> str:
        driver = self._store.driver
        with self._store.translated("list"):
            found = list(s3.unfinished(driver.filesystem, driver.root, _ONCE))
        before = datetime.now(UTC) - _OLD
        old = sum(1 for one in found if one.began_at is not None and one.began_at < before)
        if old:
            raise Cannot(f"{old:,} are older than a day: garbage collection aborts them, or a rule of the bucket does")
        return f"{len(found):,} under way" if found else "none"

    def _delete(self) -> str:
        self._store.delete(self._name)
        if self._store.exists(self._name):
            raise Cannot("the object is still there: a versioned or slow store keeps what Freshline deletes")
        return "gone"


def _checked(name: str, step: Callable[[], str]) -> Check:
    began = time.perf_counter()
    outcome = Outcome.OK
    try:
        detail = step()
    except Cannot as note:
        outcome, detail = Outcome.NOTE, str(note)
    except FreshlineError as error:
        outcome, detail = Outcome.BROKEN, str(error)
    return Check("objects", name, outcome, detail, time.perf_counter() - began)


def _folders(store: ObjectStore) -> frozenset[Any]:
    """Return which folders of a local store exist, so that only what was made here is removed."""
    root = store.local_root
    if root is None:
        return frozenset()
    return frozenset(one for one in (root, *root.parents, root / "doctor", store.driver.staging) if one.exists())


def _remove_folders(store: ObjectStore, folder: str, before: frozenset[Any]) -> None:
    root = store.local_root
    if root is None:
        return
    for one in (root / folder, root / "doctor", store.driver.staging, root, *root.parents):
        if one in before:
            continue
        with suppress(OSError):  # somebody else uses it now
            one.rmdir()
