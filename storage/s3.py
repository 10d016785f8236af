"""S3 by its own requests, where a general file system says too little: uploads in parts, and what is left of them.

Owns how a file becomes an object there, all or nothing, and that nothing is left of an upload that failed. An upload
that is not completed is no object: no reader and no listing shows it, but its parts are kept, and paid for, until
somebody aborts it. Knows no names of ours; takes any s3fs file system.
"""

import base64
import math
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from . import faults
from .patience import Patience
from .refusals import code_of

PART_BYTES = 16 * 1024 * 1024
_PARTS_AT_ONCE = 4  # so that an upload holds 64 MiB, however large the file
_MOST_PARTS = 10_000
_ATTEMPTS = 5
_ABORT_S = 10.0
_UNKNOWN = frozenset({"NotImplemented", "MethodNotAllowed", "501", "405"})
"""A server's answers to a request that it does not know."""


@dataclass(frozen=True)
class Upload:
    """An upload in parts that is not completed."""

    key: str
    id: str
    began_at: datetime | None
    """By the store's clock."""


def connection_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what s3fs is opened with: our defaults, and whatever was given instead of them.

    Single requests are tried again by botocore, five times in all unless AWS_MAX_ATTEMPTS says otherwise, with growing
    pauses and jitter: so one part of an upload is sent again, not the whole.
    """
    retries: dict[str, Any] = {}
    if "AWS_RETRY_MODE" not in os.environ:
        retries["mode"] = "standard"
    if "AWS_MAX_ATTEMPTS" not in os.environ:
        retries["total_max_attempts"] = _ATTEMPTS
    config = {"connect_timeout": 10, "read_timeout": 60, "retries": retries, **given.get("config_kwargs", {})}
    return {"use_listings_cache": False, **given, "config_kwargs": config}


def put(filesystem: Any, local_path: Path, path: str, *, sha256: str | None, patience: Patience) -> None:
    """Make an object of a local file, all or nothing; a large one in parts, of which nothing is left on failure.

    With `sha256` (hexadecimal) the store itself compares it, if it and the client use checksums at all.
    """
    size_bytes = local_path.stat().st_size
    if size_bytes <= PART_BYTES:
        put_bytes(filesystem, local_path.read_bytes(), path, sha256=sha256, patience=patience)
        return
    bucket, key, _ = filesystem.split_path(path)
    at = {"Bucket": bucket, "Key": key}
    created = patience.call(lambda: filesystem.call_s3("create_multipart_upload", **at))
    upload = {**at, "UploadId": created["UploadId"]}
    try:
        faults.reach("put.created")
        parts = _put_parts(filesystem, local_path, size_bytes, upload, patience)
        faults.reach("put.parts")
        _complete(filesystem, upload, parts, size_bytes, patience)
    except BaseException:  # an interruption too
        with suppress(Exception):  # what failed first says more; garbage collection aborts what is left
            abort(filesystem, bucket, Upload(key, created["UploadId"], None), Patience(_ABORT_S))
        raise


def put_bytes(filesystem: Any, content: bytes, path: str, *, sha256: str | None, patience: Patience) -> None:
    """Make an object of some bytes, in one request; `sha256` as in `put`."""
    bucket, key, _ = filesystem.split_path(path)
    checksum = {}
    # Not every server knows this header: whoever told the client to leave checksums out meant this one too.
    if sha256 is not None and _uses_checksums(filesystem):
        checksum["ChecksumSHA256"] = base64.b64encode(bytes.fromhex(sha256)).decode()
    patience.call(lambda: filesystem.call_s3("put_object", Bucket=bucket, Key=key, Body=content, **checksum))


def unfinished(filesystem: Any, root: str, patience: Patience) -> Iterator[Upload]:
    """Yield the uploads below a root that are not completed, those that others are writing right now among them.

    A server may leave them out of its lists, list only those of a whole key, or not know how to list them: then none.
    """
    bucket, prefix, _ = filesystem.split_path(root)
    prefix = f"{prefix.rstrip('/')}/" if prefix else ""
    marker: dict[str, str] = {}
    while True:
        request = {"Bucket": bucket, "Prefix": prefix, **marker}
        try:
            page = patience.call(partial(filesystem.call_s3, "list_multipart_uploads", **request))
        except Exception as error:
            if code_of(error) in _UNKNOWN:
                return
            raise
        for item in page.get("Uploads") or []:
            if item["Key"].startswith(prefix):
                yield Upload(item["Key"], item["UploadId"], _aware(item.get("Initiated")))
        following = {"KeyMarker": page.get("NextKeyMarker"), "UploadIdMarker": page.get("NextUploadIdMarker")}
        if not page.get("IsTruncated") or not following["KeyMarker"]:
            return
        marker = {name: value for name, value in following.items() if value}


def abort(filesystem: Any, bucket: str, upload: Upload, patience: Patience) -> None:
    """Remove an upload and its parts; one that is gone is no error."""
    request = {"Bucket": bucket, "Key": upload.key, "UploadId": upload.id}
    with suppress(FileNotFoundError):
        patience.call(lambda: filesystem.call_s3("abort_multipart_upload", **request))


def holds(filesystem: Any, path: str, size_bytes: int, patience: Patience) -> bool:
    """Return whether an object of this size is there: one request, where the file system would send two."""
    bucket, key, _ = filesystem.split_path(path)
    try:
        head = patience.call(lambda: filesystem.call_s3("head_object", Bucket=bucket, Key=key))
    except FileNotFoundError:
        return False
    return int(head["ContentLength"]) == size_bytes


def ask_why(filesystem: Any, root: str) -> None:
    """Send a request whose answer says why it was refused, as those without a body do not; raises what it says."""
    bucket, prefix, _ = filesystem.split_path(root)
    filesystem.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1)


def _put_parts(
    filesystem: Any, local_path: Path, size_bytes: int, upload: Mapping[str, str], patience: Patience
) -> list[dict[str, Any]]:
    part_bytes = max(PART_BYTES, math.ceil(size_bytes / _MOST_PARTS))  # all alike: some servers want that

    def put_part(number: int) -> dict[str, Any]:
        with local_path.open("rb") as source:
            source.seek((number - 1) * part_bytes)
            content = source.read(part_bytes)
        request = {**upload, "PartNumber": number, "Body": content}
        done = patience.call(lambda: filesystem.call_s3("upload_part", **request))
        faults.reach("put.part")
        return {"PartNumber": number, "ETag": done["ETag"]}

    executor = ThreadPoolExecutor(_PARTS_AT_ONCE)
    try:
        return list(executor.map(put_part, range(1, math.ceil(size_bytes / part_bytes) + 1)))
    finally:
        # None may arrive after the upload was aborted: its bytes would stay.
        executor.shutdown(cancel_futures=True)


def _complete(
    filesystem: Any, upload: Mapping[str, str], parts: list[dict[str, Any]], size_bytes: int, patience: Patience
) -> None:
    request = {**upload, "MultipartUpload": {"Parts": parts}}
    try:
        patience.call(lambda: filesystem.call_s3("complete_multipart_upload", **request))
    except FileNotFoundError:
        # It is gone: completed, if an earlier attempt's answer was lost.
        if not holds(filesystem, f"{upload['Bucket']}/{upload['Key']}", size_bytes, patience):
            raise


def _uses_checksums(filesystem: Any) -> bool:
    return getattr(filesystem.s3.meta.config, "request_checksum_calculation", None) == "when_supported"


def _aware(moment: datetime | None) -> datetime | None:
    return moment if moment is None or moment.tzinfo is not None else moment.replace(tzinfo=UTC)
