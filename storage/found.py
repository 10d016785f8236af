"""What is at a URI: a file, or the files of a folder, as their file system shows them.

Owns which files count, how Parquet is told from other bytes, and whether something has changed since it was looked
at. Reads no content but the first and the last bytes. The files of a folder are in the order of their paths. A folder
is a table when its files are Parquet, and then those whose names begin with `_` or `.` do not count.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from .errors import Conflict, InvalidInput, NotFound
from .filesystem import ObjectStore
from .referenced import ReferencedStore, referenced_at

_MAGIC = b"PAR1"
_PARQUET_SUFFIXES = (".parquet", ".parq", ".pq")
_READS_AT_ONCE = 8
_MAX_URI = 2000
_SECRET_NAMES = {"passwd", "pwd", "sig"}
_SECRET_ENDS = ("key", "password", "secret", "signature", "token")
"""Of the names in a query: `api_key` and `apikey`, `X-Amz-Signature`."""


@dataclass(frozen=True)
class Part:
    """One file as its file system showed it."""

    name: str
    """Relative to the folder; empty for a file alone."""
    size_bytes: int
    stamp: str
    """What changes when the file does: its ETag, or the moment of its last change."""


@dataclass(frozen=True)
class Found:
    """What is at a URI."""

    store: ReferencedStore
    parts: tuple[Part, ...]
    """In the order in which they are read."""
    is_table: bool
    """They are Parquet."""

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder: of one file, perhaps."""
        return bool(self.parts[0].name)

    @property
    def url(self) -> str:
        """The URI in full: a relative path has become an absolute one."""
        return self.store.url

    @property
    def size_bytes(self) -> int:
        """The bytes of all files."""
        return sum(part.size_bytes for part in self.parts)


def find(uri: str, *, store: ObjectStore | None = None) -> Found:
    """Look at what is at a URI: any fsspec URL, or a local path. A URI of the store's kind has its credentials.

    Raises:
        InvalidInput: it is no URI that can be used, an empty folder, or one that holds Parquet and other files.
        NotFound: nothing is there.
        ArtifactError: it cannot be read.
    """
    found = _store_at(uri, store)
    parts = _parts(found)
    shown = tuple(part for part in parts if _is_shown(part))
    if not shown:
        raise InvalidInput(f"{found.url} is an empty folder: there is nothing to publish")
    with ThreadPoolExecutor(_READS_AT_ONCE) as executor:
        parquets = list(executor.map(partial(_is_parquet, found), shown))
    if all(parquets):
        return Found(found, shown, is_table=True)
    if any(parquets):
        other = shown[parquets.index(False)]
        raise InvalidInput(
            f"{found.url_of(other.name)} is no Parquet, and other files beside it are: a folder is published as a "
            "table, of Parquet files alone, or as it is, when none of its files are Parquet; give a folder of one "
            "kind, one file, or an archive of the folder"
        )
    return Found(found, parts, is_table=False)


def full_uri(uri: str) -> str:
    """Return the URI in full, without a look at what is there: a relative path becomes an absolute one.

    Raises:
        InvalidInput: it is no URI that can be used.
    """
    return _store_at(uri).url


def check_uri(uri: str) -> str:
    """Return the URI when it may be recorded.

    Raises:
        InvalidInput: it is empty, too long, or holds a secret.
    """
    if not uri or len(uri) > _MAX_URI or not uri.isprintable():
        raise InvalidInput(f"the URI {uri[:80]!r} must have 1 to {_MAX_URI:,} printable characters")
    parts = urlsplit(uri)
    names = [name.lower() for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    has_secret = any(name in _SECRET_NAMES or name.endswith(_SECRET_ENDS) for name in names)
    # A user alone is part of an address (abfs://container@account), but in front of a web host it is a token.
    is_token = parts.username is not None and parts.scheme in ("http", "https")
    if parts.password is not None or is_token or has_secret:
        raise InvalidInput(
            f"the URI {parts.scheme}://…{parts.path} holds a secret, and a secret is not recorded: "
            "take it out, and set the credentials in the environment"
        )
    return uri


def check_unchanged(found: Found) -> None:
    """Look again: what was read is what is there.

    Raises:
        Conflict: it has changed meanwhile.
    """
    try:
        parts = _parts(found.store)
    except (NotFound, InvalidInput):
        parts = ()
    if parts != found.parts:
        raise Conflict(
            f"{found.url} changed while it was read: nothing was published. Publish it when its writer has finished"
        )


def _store_at(uri: str, store: ObjectStore | None = None) -> ReferencedStore:
    check_uri(uri)
    try:
        return referenced_at(uri, store)
    except InvalidInput as error:
        raise InvalidInput(f"{error}. For what cannot be read from here, state its digest") from None


def _parts(store: ReferencedStore) -> tuple[Part, ...]:
    root = store.path_of("")
    with store.translated("look at"):
        filesystem = store.filesystem
        # A listing that the driver remembers would hide a change.
        filesystem.invalidate_cache()
        try:
            facts = filesystem.info(root)
        except FileNotFoundError:
            raise NotFound("file or folder at", store.url) from None
        if facts["type"] == "file":
            return (_part(store, "", facts),)
        listed = filesystem.find(root, detail=True)
    names = {place.removeprefix(root).lstrip("/"): facts for place, facts in listed.items() if facts["type"] == "file"}
    # Without a name it is the mark by which some object stores show an empty folder.
    return tuple(_part(store, name, names[name]) for name in sorted(names) if name)


def _is_shown(part: Part) -> bool:
    return not any(step.startswith(("_", ".")) for step in part.name.split("/"))


def _part(store: ReferencedStore, name: str, facts: dict[str, Any]) -> Part:
    if facts.get("size") is None:
        raise InvalidInput(f"{store.url_of(name)}: its server does not say how long it is; publish a copy of it")
    return Part(name, int(facts["size"]), _stamp(facts))


def _stamp(facts: dict[str, Any]) -> str:
    known = (facts.get(name) for name in ("ETag", "etag", "LastModified", "mtime", "modified", "created"))
    return str(next((value for value in known if value is not None), ""))


def _is_parquet(store: ReferencedStore, part: Part) -> bool:
    size = part.size_bytes
    ends = size >= 2 * len(_MAGIC) and (
        store.read_bytes(part.name, start=0, end=len(_MAGIC)),
        store.read_bytes(part.name, start=size - len(_MAGIC), end=size),
    )
    if ends == (_MAGIC, _MAGIC):
        return True
    url = store.url_of(part.name)
    if url.lower().endswith(_PARQUET_SUFFIXES):
        raise InvalidInput(f"{url} is named as Parquet and is none: it is damaged, cut off or encrypted")
    return False
