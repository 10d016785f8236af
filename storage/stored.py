"""What a record says of a stored table, file or folder: enough to find its objects, check them and read them.

Plain values that travel as JSON; nothing here touches the object store. Objects are shared between tables: never
change or delete one because a single record names it.
"""

import base64
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from .errors import InvalidInput, nearest_names
from .filesystem import OBJECTS

if TYPE_CHECKING:
    import pyarrow as pa
    from pydantic import TypeAdapter

T = TypeVar("T")

_FORMAT = 1
REFERENCED_FORMAT = 2
"""Of records of what lies elsewhere: a program that would look for it in the store refuses to read them."""
_NEWEST_FORMAT = FOLDER_FORMAT = 3
"""Of records of folders: a program that does not know them says so."""
FOLDER_MEDIA_TYPE = "inode/directory"


@dataclass(frozen=True, kw_only=True)
class Fragment:
    """One Parquet object: consecutive rows of a table."""

    name: str
    """Name of the object, relative to the store's root, or to the table's; empty: the root is the object."""
    sha256: str
    """sha256 of its bytes, hexadecimal."""
    size_bytes: int
    rows: int
    footer_bytes: int
    """Length of the Parquet footer at its end, which says where everything lies."""
    footer_sha256: str
    """sha256 of these bytes: what a reader of some columns checks before it trusts the footer."""


@dataclass(frozen=True, kw_only=True)
class StoredTable:
    """An immutable table: its rows are those of its fragments, in order."""

    digest: str
    """The logical digest of all rows (`storage.digest`)."""
    rows: int
    size_bytes: int
    """Bytes of all fragments, those shared with other tables included."""
    schema: tuple[tuple[str, str], ...]
    """Name and canonical type of each column, in order."""
    arrow_schema: str
    """The Arrow schema that reading restores, serialised, base64; with pandas' own notes when it came from there."""
    fragments: tuple[Fragment, ...] = ()
    blocks: tuple[str, ...] = ()
    """The digest of each block of 65,536 rows: what an append goes on from."""
    categories: dict[str, str] = field(default_factory=dict)
    """Per dictionary column its values in order, as an Arrow stream, base64."""
    data_date: str | None = None
    """The column that says which day a row speaks of."""
    first_data_date: date | None = None
    """Smallest data date; none when there is no such column, or no row."""
    last_data_date: date | None = None
    """Largest data date, or a later one that its publisher stated."""
    key: tuple[str, ...] = ()
    """The columns that tell its rows apart, in order, once rows were put in by key."""
    root: str | None = None
    """URL of the file or folder that is referenced where it is; null: the fragments lie in the store."""
    format: int = _FORMAT
    """Version of this record's own form."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(name for name, _ in self.schema)

    def to_arrow_schema(self) -> "pa.Schema":
        """Return the Arrow schema that reading restores."""
        import pyarrow as pa

        return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(self.arrow_schema)))

    def to_json(self) -> str:
        """Return the record as JSON."""
        return _dump(self)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a record.

        Raises:
            InvalidInput: the text is no such record, or a newer program wrote it.
        """
        return _load(cls, text)


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """An immutable file, kept as one object."""

    name: str
    """Name of the object, relative to the store's root; the name that the user gave is elsewhere."""
    sha256: str
    """sha256 of its bytes, hexadecimal; empty when nobody has read them."""
    size_bytes: int
    media_type: str
    """As in HTTP, such as `text/html`."""
    last_data_date: date | None = None
    """The day that it speaks of, when its publisher stated one."""
    root: str | None = None
    """URL of the file that is referenced where it is; null: the object lies in the store."""
    format: int = _FORMAT
    """Version of this record's own form."""

    def to_json(self) -> str:
        """Return the record as JSON."""
        return _dump(self)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a record; errors as `StoredTable.from_json`."""
        return _load(cls, text)


@dataclass(frozen=True, kw_only=True)
class FolderFile:
    """One file of a folder."""

    path: str
    """Relative to the folder, with `/` between its steps."""
    name: str
    """Name of the object, relative to the store's root, or to the folder's."""
    sha256: str
    """sha256 of its bytes, hexadecimal."""
    size_bytes: int
    is_executable: bool = False
    """All that is kept of the file's mode."""


@dataclass(frozen=True, kw_only=True)
class StoredFolder:
    """An immutable folder: one object per file, shared with every record that has the same bytes."""

    name: str = ""
    """A folder is no object of its own."""
    sha256: str
    """The folder's digest: sha256 over (path, sha256) of its files and empty folders, sorted (`storage.folders`)."""
    size_bytes: int
    """Bytes of all files."""
    files: tuple[FolderFile, ...]
    """By path."""
    empty_folders: tuple[str, ...] = ()
    """Paths of the folders in it that hold nothing, in order."""
    media_type: str = FOLDER_MEDIA_TYPE
    """As desktops name a folder."""
    last_data_date: date | None = None
    """The day that it speaks of, when its publisher stated one."""
    root: str | None = None
    """URL of the folder that is referenced where it is; null: the objects lie in the store."""
    format: int = FOLDER_FORMAT
    """Version of this record's own form."""

    def to_json(self) -> str:
        """Return the record as JSON."""
        return _dump(self)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a record; errors as `StoredTable.from_json`."""
        return _load(cls, text)


def object_name(sha256: str, suffix: str = "") -> str:
    """Return the name of the object with these bytes: spread over 256 folders, for stores that list slowly."""
    return f"{OBJECTS}{sha256[:2]}/{sha256}{suffix}"


def schema_difference(expected: tuple[tuple[str, str], ...], got: tuple[tuple[str, str], ...]) -> str | None:
    """Say in words how the columns of `got` differ from those expected, or return none when they do not."""
    if expected == got:
        return None
    known, given = dict(expected), dict(got)
    parts = []
    missing = [name for name in known if name not in given]
    if missing:
        parts.append(f"missing {', '.join(map(repr, missing))}")
    for name, kind in given.items():
        if name not in known:
            nearest = nearest_names(name, missing)
            parts.append(f"unknown {name!r}" + (f" (did you mean {nearest[0]!r}?)" if nearest else ""))
        elif kind != known[name]:
            parts.append(f"{name!r} is {kind} instead of {known[name]}")
    return "; ".join(parts) or f"their order is {', '.join(map(repr, given))} instead of {', '.join(map(repr, known))}"


@cache
def _adapters() -> "dict[type, TypeAdapter[Any]]":
    from pydantic import TypeAdapter

    return {record: TypeAdapter(record) for record in (StoredTable, StoredFile, StoredFolder)}


def _dump(record: StoredTable | StoredFile | StoredFolder) -> str:
    return _adapters()[type(record)].dump_json(record).decode()


def _load(record: type[T], text: str | bytes) -> T:
    from pydantic import ValidationError

    try:
        loaded = _adapters()[record].validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the text"
        raise InvalidInput(f"not the record of a {record.__name__}: {place}: {first['msg']}") from None
    if loaded.format > _NEWEST_FORMAT:
        raise InvalidInput(
            f"the record has format {loaded.format}; this program reads {_NEWEST_FORMAT}: upgrade Freshline"
        )
    return cast(T, loaded)
