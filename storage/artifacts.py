"""The records of artifacts: what was written under which name, and which objects it is made of.

All SQL for writing and reading them; garbage collection has its own (`gc`). Works in the caller's transaction and
touches no object: they are uploaded and verified before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Self
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from . import faults
from .errors import Conflict, DataRemoved, InvalidInput
from .faults import Guard
from .ids import new_id
from .models import Artifact, ArtifactKind, ArtifactObject, StoredObject
from .statement import Sql, Statement, insert_all
from .stored import FolderFile, Fragment, StoredFile, StoredFolder, StoredTable

TABLE_MEDIA_TYPE = "application/vnd.apache.parquet"

_ARTIFACT = Artifact.__table__  # type: ignore[attr-defined]
_ARTIFACT_OBJECT = ArtifactObject.__table__  # type: ignore[attr-defined]
_OBJECT = StoredObject.__table__  # type: ignore[attr-defined]
_READ = (
    *(_ARTIFACT.c.name, _ARTIFACT.c.kind, _ARTIFACT.c.digest, _ARTIFACT.c.publish, _ARTIFACT.c.stored_json),
    *(_ARTIFACT.c.removed_at, _ARTIFACT.c.removed_reason),
)
_MAX_NAME = 250
_RECORDS: dict[str, type[StoredTable] | type[StoredFile] | type[StoredFolder]] = {
    ArtifactKind.TABLE: StoredTable,
    ArtifactKind.FILE: StoredFile,
    ArtifactKind.FOLDER: StoredFolder,
}
_NEVER = datetime.min.replace(tzinfo=UTC)


def stored_from_json(kind: str, text: str | bytes) -> StoredTable | StoredFile | StoredFolder:
    """Read what a record of an artifact of this kind says of its objects.

    Raises:
        InvalidInput: the text is no such record, or a newer program wrote it.
    """
    return _RECORDS[kind].from_json(text)


def _take_up_statement(sql: Sql) -> sa.Executable:
    columns = (_OBJECT.c.name, _OBJECT.c.sha256, _OBJECT.c.size_bytes, _OBJECT.c.created_at)
    usable = _OBJECT.c.swept_at.is_(None) | (_OBJECT.c.deleted_at < sa.bindparam("swept_before"))
    statement: sa.Executable = (
        sql.insert(_OBJECT)
        .values(sql.values(columns))
        .on_conflict_do_update(
            index_elements=[_OBJECT.c.name],
            set_={"condemned_at": None, "swept_at": None, "deleted_at": None},
            where=usable,
        )
        .returning(_OBJECT.c.name)
    )
    return statement


_TAKE_UP = Statement(_take_up_statement)
_INSERT_ARTIFACT = insert_all(_ARTIFACT, without=("removed_at", "removal", "removed_reason"))
_INSERT_LINK = insert_all(_ARTIFACT_OBJECT)


@dataclass(frozen=True, kw_only=True)
class ArtifactRecord:
    """A named table, file or folder, with all that is recorded of it."""

    name: str
    """The name that the user gave: 1 to 250 printable characters."""
    stored: StoredTable | StoredFile | StoredFolder
    """Where its objects are."""
    digest: str
    """What counts for the version: the logical digest, the sha256, or what the author of a file or folder gave."""
    publish: bool = True
    """It belongs to the published version, not to the run alone."""
    removed_reason: str | None = None
    """Why its data cannot be read any more; none: they can."""

    @classmethod
    def of_table(cls, name: str, stored: StoredTable, *, publish: bool = True) -> Self:
        """Return the record of a table."""
        return cls(name=name, stored=stored, digest=stored.digest, publish=publish)

    @classmethod
    def of_file(
        cls, name: str, stored: StoredFile | StoredFolder, *, publish: bool = True, digest: str | None = None
    ) -> Self:
        """Return the record of a file or folder; `digest` is the author's, for what differs from run to run."""
        return cls(name=name, stored=stored, digest=stored.sha256 if digest is None else digest, publish=publish)

    @property
    def kind(self) -> ArtifactKind:
        """Whether it is a table, a file or a folder."""
        if isinstance(self.stored, StoredTable):
            return ArtifactKind.TABLE
        return ArtifactKind.FOLDER if isinstance(self.stored, StoredFolder) else ArtifactKind.FILE

    @property
    def objects(self) -> Sequence[Fragment | StoredFile | FolderFile]:
        """The objects that it is made of, in order: fragments, the file, or the files of the folder."""
        if isinstance(self.stored, StoredTable):
            return self.stored.fragments
        return self.stored.files if isinstance(self.stored, StoredFolder) else (self.stored,)

    @property
    def rows(self) -> int | None:
        """Rows of the table; none for anything else."""
        return self.stored.rows if isinstance(self.stored, StoredTable) else None

    @property
    def size_bytes(self) -> int:
        """Bytes of its objects, shared ones included."""
        return self.stored.size_bytes

    @property
    def media_type(self) -> str:
        """As in HTTP."""
        return TABLE_MEDIA_TYPE if isinstance(self.stored, StoredTable) else self.stored.media_type

    @property
    def first_data_date(self) -> date | None:
        """Smallest data date of the table; none when it has none."""
        return self.stored.first_data_date if isinstance(self.stored, StoredTable) else None

    @property
    def last_data_date(self) -> date | None:
        """Largest data date of the table, or the one that was stated; none when there is none."""
        return self.stored.last_data_date

    def stored_table(self) -> StoredTable:
        """Return where the table is.

        Raises:
            InvalidInput: it is a file or a folder.
            DataRemoved: its data are gone.
        """
        self._check_there()
        if not isinstance(self.stored, StoredTable):
            raise InvalidInput(f"the artifact {self.name!r} is a {self.kind}, no table: open it instead of reading it")
        return self.stored

    def stored_file(self) -> StoredFile:
        """Return where the file is.

        Raises:
            InvalidInput: it is a table or a folder.
            DataRemoved: its data are gone.
        """
        self._check_there()
        if isinstance(self.stored, StoredFile):
            return self.stored
        instead = "read it instead of opening it" if self.rows is not None else "it has several files"
        raise InvalidInput(f"the artifact {self.name!r} is a {self.kind}, no file: {instead}")

    def stored_content(self) -> StoredFile | StoredFolder:
        """Return where the file or folder is.

        Raises:
            InvalidInput: it is a table.
            DataRemoved: its data are gone.
        """
        if isinstance(self.stored, StoredTable):
            raise InvalidInput(f"the artifact {self.name!r} is a table, no file: read it instead of opening it")
        self._check_there()
        return self.stored

    def _check_there(self) -> None:
        if self.removed_reason is not None:
            raise DataRemoved(f"the data of {self.name!r} cannot be read: {self.removed_reason}")


def insert_artifacts(
    connection: Connection,
    owner_id: UUID,
    artifacts: Sequence[ArtifactRecord],
    *,
    now: datetime,
    since: datetime | None = None,
) -> None:
    """Record the artifacts of an owner and take up their objects, condemned ones too; not what is only referenced.

    `since` is when the owner began to write, by the database's clock: an object that garbage collection had deleted
    before that is known to have been uploaded anew. Without it, any object deleted lately is refused.

    Raises:
        InvalidInput: a name is given twice or is not 1 to 250 printable characters.
        Conflict: garbage collection deleted an object meanwhile; write the artifacts again.
    """
    if not artifacts:
        return
    _check_names([artifact.name for artifact in artifacts])
    rows, links, objects = [], [], {}
    for artifact in artifacts:
        artifact_id = new_id()
        rows.append(_row_of(artifact_id, owner_id, artifact, now))
        if artifact.stored.root is not None:
            continue  # not ours: nothing here may condemn and delete it
        for position, part in enumerate(artifact.objects):
            objects[part.name] = {"name": part.name, "sha256": part.sha256, "size_bytes": part.size_bytes}
            links.append({"artifact_id": artifact_id, "position": position, "object_name": part.name})
    # One order for everybody: two writers that share objects must not wait for each other in a circle.
    in_order = [objects[name] for name in sorted(objects)]
    _take_up(connection, in_order, now=now, since=since)
    _INSERT_ARTIFACT.post_many(connection, rows)
    _INSERT_LINK.post_many(connection, links)


def replace_artifacts(
    connection: Connection,
    owner_id: UUID,
    artifacts: Sequence[ArtifactRecord],
    *,
    now: datetime,
    since: datetime | None = None,
) -> None:
    """Record artifacts in the place of those of the same names that the owner had: see `insert_artifacts`."""
    named = sa.and_(_ARTIFACT.c.owner_id == owner_id, _ARTIFACT.c.name.in_([one.name for one in artifacts]))
    if artifacts:
        replaced = sa.select(_ARTIFACT.c.id).where(named)
        connection.execute(sa.delete(_ARTIFACT_OBJECT).where(_ARTIFACT_OBJECT.c.artifact_id.in_(replaced)))
        connection.execute(sa.delete(_ARTIFACT).where(named))
    insert_artifacts(connection, owner_id, artifacts, now=now, since=since)


def artifacts_of(connection: Connection, owner_id: UUID) -> list[ArtifactRecord]:
    """Return the artifacts of an owner, by name."""
    query = sa.select(*_READ).where(_ARTIFACT.c.owner_id == owner_id).order_by(_ARTIFACT.c.name)
    return [_record_of(row) for row in connection.execute(query)]


def artifacts_by_id(connection: Connection, owner_id: UUID) -> dict[UUID, ArtifactRecord]:
    """Return the artifacts of an owner under their own ids, by name."""
    query = sa.select(_ARTIFACT.c.id, *_READ).where(_ARTIFACT.c.owner_id == owner_id).order_by(_ARTIFACT.c.name)
    return {row.id: _record_of(row) for row in connection.execute(query)}


def artifact_of(connection: Connection, owner_id: UUID, name: str) -> ArtifactRecord | None:
    """Return the artifact of that name, if the owner has one."""
    query = sa.select(*_READ).where(_ARTIFACT.c.owner_id == owner_id, _ARTIFACT.c.name == name)
    row = connection.execute(query).one_or_none()
    return None if row is None else _record_of(row)


def _record_of(row: sa.Row[Any]) -> ArtifactRecord:
    return ArtifactRecord(
        name=row.name,
        stored=stored_from_json(row.kind, row.stored_json),
        digest=row.digest,
        publish=row.publish,
        removed_reason=row.removed_reason if row.removed_at is not None else None,
    )


def _take_up(connection: Connection, objects: list[dict[str, Any]], *, now: datetime, since: datetime | None) -> None:
    rows = [{**item, "created_at": now} for item in objects]
    taken = {row.name for row in _TAKE_UP.rows_of_many(connection, rows, swept_before=since or _NEVER)}
    lost = [item["name"] for item in objects if item["name"] not in taken]
    if lost and faults.is_on(Guard.TAKE_UP):
        raise Conflict(
            f"garbage collection deleted {lost[0]} while it was being written again"
            f"{f' ({len(lost) - 1} more)' if len(lost) > 1 else ''}: nothing was recorded; run again"
        )


def _row_of(artifact_id: UUID, owner_id: UUID, artifact: ArtifactRecord, now: datetime) -> dict[str, Any]:
    stored = artifact.stored
    return {
        "id": artifact_id,
        "owner_id": owner_id,
        "name": artifact.name,
        "kind": artifact.kind,
        "publish": artifact.publish,
        "digest": artifact.digest,
        "rows": artifact.rows,
        "size_bytes": artifact.size_bytes,
        "media_type": artifact.media_type,
        "table_schema": [list(column) for column in stored.schema] if isinstance(stored, StoredTable) else None,
        "stored_json": stored.to_json(),
        "created_at": now,
    }


def _check_names(names: list[str]) -> None:
    for name in names:
        if not 1 <= len(name) <= _MAX_NAME or not name.isprintable():
            raise InvalidInput(f"the artifact name {name[:50]!r} must have 1 to {_MAX_NAME} printable characters")
        if names.count(name) > 1:
            raise InvalidInput(f"two artifacts are named {name!r}: rename one")
