"""Where a store is and what its parts are called: the root URL taken apart, names that are ours, times in listings.

Knows no driver but by the name of its protocol.
"""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from .errors import InvalidInput

S3_PROTOCOLS = frozenset({"s3", "s3a"})
ATOMIC_PROTOCOLS = S3_PROTOCOLS | {"gs", "gcs", "abfs", "az"}
"""A put is atomic there: a reader sees the whole object or none. They also serve any range of an object."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")


def is_name(text: str) -> bool:
    """Return whether this can be the name of an object of ours."""
    return _NAME.fullmatch(text) is not None


def parse_root(url: str) -> tuple[str, str, str]:
    """Return the URL without a slash at its end, its protocol, and the root as the file system wants it.

    Raises:
        InvalidInput: the URL cannot be used, or contains a password.
    """
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise InvalidInput(
            "the URL of the object store contains credentials: take them out and set FRESHLINE_S3_ACCESS_KEY_ID and "
            "FRESHLINE_S3_SECRET_ACCESS_KEY, or the AWS_* variables, instead"
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


def modified_at(facts: dict[str, Any]) -> datetime | None:
    """Return when an object was written, by what its file system tells of it; none when it does not tell."""
    moment = facts.get("LastModified", facts.get("mtime", facts.get("created")))
    if isinstance(moment, (int, float)):
        return datetime.fromtimestamp(moment, UTC)
    if isinstance(moment, datetime):
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return None
