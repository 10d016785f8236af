"""What a body writes: tables, files and folders, uploaded at once, and recorded when its run completes."""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

from ..storage import files, folders, parquet
from ..storage.artifacts import ArtifactRecord
from ..storage.declared import DeclaredTable, check_all_written
from ..storage.deleting import delete_rows
from ..storage.errors import InvalidInput
from ..storage.files import FileLike
from ..storage.filesystem import ObjectStore
from ..storage.models import ArtifactKind
from ..storage.stored import StoredFile, StoredFolder, StoredTable
from ..storage.upserting import upsert_table

WriteMode = Literal["overwrite", "append", "upsert"]

SERIES = "metrics"
"""Name of the table with everything that was logged."""
TRACEBACK = "traceback"
"""Name of the file with the traceback of the last attempt that failed."""

_DATA_DATE = "date"


class Writing:
    """The artifacts of one run, by name; `current` gives the table that an append or upsert continues."""

    def __init__(
        self,
        objects: ObjectStore,
        current: Callable[[str], StoredTable | None],
        schema: Mapping[str, DeclaredTable] = MappingProxyType({}),
    ) -> None:
        self.continued = False
        """Whether a table was made from what was current, which may have been nothing."""
        self._objects = objects
        self._current = current
        self._schema = schema
        self._written: dict[str, ArtifactRecord] = {}

    @property
    def artifacts(self) -> tuple[ArtifactRecord, ...]:
        """What was written, in order."""
        return tuple(self._written.values())

    def table(
        self,
        name: str,
        data: Any,
        *,
        data_date: str | None,
        mode: WriteMode,
        key: Iterable[str] | None,
        publish: bool,
    ) -> None:
        """See `RunContext.write`."""
        self._check_name(name)
        if mode not in get_args(WriteMode):
            raise InvalidInput(f"mode={mode!r}: a table is written with {', '.join(get_args(WriteMode))}")
        if key is not None and mode != "upsert":
            raise InvalidInput(f"key= is for mode='upsert', which replaces rows by it; mode={mode!r} compares no rows")
        base = self._current(name) if mode != "overwrite" else None
        if data_date is None and base is None and _DATA_DATE in column_names(data):
            data_date = _DATA_DATE
        options: dict[str, Any] = {"base": base, "data_date": data_date, "evolve": base is not None}
        options["declared"] = self._schema.get(name)
        if mode == "upsert":
            columns = key if key is None or isinstance(key, str) else tuple(key)
            stored = upsert_table(self._objects, data, key=columns, **options)
        else:
            stored = parquet.write_table(self._objects, data, **options)
        self.continued |= mode != "overwrite"
        self._written[name] = ArtifactRecord.of_table(name, stored, publish=publish)

    def without(self, name: str, where: Any, *, publish: bool) -> None:
        """See `RunContext.delete`."""
        self._check_name(name)
        base = self._current(name)
        if base is None:
            raise InvalidInput(f"the current version has no table {name!r}: there is nothing to delete from")
        declared = self._schema.get(name)
        if declared is not None:
            declared.check(base.schema)
        self.continued = True
        self._written[name] = ArtifactRecord.of_table(name, delete_rows(self._objects, base, where), publish=publish)

    def check_all_declared(self) -> None:
        """Refuse a result whose tables are not those that the deployment declares; nothing published is fine.

        Raises:
            InvalidInput: it names what was not written.
        """
        published = [one.name for one in self._written.values() if one.publish and one.kind == ArtifactKind.TABLE]
        check_all_written(self._schema, published)

    def file(self, name: str, content: FileLike, *, media_type: str | None, digest: str | None, publish: bool) -> None:
        """See `RunContext.save`."""
        self._check_name(name)
        stored = save(self._objects, content, media_type=media_type)
        self._written[name] = ArtifactRecord.of_file(name, stored, publish=publish, digest=digest)

    def _check_name(self, name: str) -> None:
        if not 1 <= len(name) <= 250 or not name.isprintable():
            raise InvalidInput(f"the artifact name {name[:50]!r}… must have 1 to 250 printable characters")
        if name in (SERIES, TRACEBACK):
            raise InvalidInput(f"{name!r} is the name of what Freshline writes itself; choose another one")
        if name in self._written:
            raise InvalidInput(f"this run has written {name!r} already; give the second one another name")


def save(objects: ObjectStore, content: FileLike, *, media_type: str | None = None) -> StoredFile | StoredFolder:
    """Store a file, or a folder when that is what is at the path; errors as `files.save_file` and `save_folder`."""
    if not isinstance(content, str | os.PathLike) or not os.path.isdir(content):
        return files.save_file(objects, content, media_type=media_type)
    if media_type is not None:
        raise InvalidInput(f"{os.fspath(content)} is a folder, which has no media type: leave media_type out")
    return folders.save_folder(objects, Path(content))


def column_names(data: Any) -> list[Any]:
    """Return the columns of a table, the index levels of pandas among them; none for a stream."""
    if hasattr(data, "index") and hasattr(data, "columns"):
        return [*data.index.names, *data.columns]
    schema = getattr(data, "schema", None)
    return list(getattr(schema, "names", None) or (schema if isinstance(schema, dict) else []))
