"""The tables of the object side: which objects exist, and which artifact is made of which.

    artifact ──< artifact_object >── stored_object

An artifact's owner is an id that means nothing here: the room `runs` knows that it is a run.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from .database import UtcDateTime, json_type


class ArtifactKind(StrEnum):
    """What an artifact is."""

    TABLE = "table"
    """Rows, as Parquet fragments."""
    FILE = "file"
    """Bytes with a media type, as one object."""
    FOLDER = "folder"
    """Files under their paths, an object each."""


class StoredObject(SQLModel, table=True):
    """An object in the object store, shared by all artifacts that have these bytes."""

    __tablename__ = "stored_object"
    __table_args__ = (sa.Index("ix_stored_object_condemned_at", "condemned_at"),)

    name: str = Field(primary_key=True)
    """Relative to the store's root; contains the sha256."""
    sha256: str
    """sha256 of its bytes, hexadecimal."""
    size_bytes: int = Field(sa_type=sa.BigInteger)
    """Number of its bytes."""
    created_at: datetime = Field(sa_type=UtcDateTime)
    """When a record first named it, or a listing found it."""
    condemned_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """Since when no artifact needs it; null while one does."""
    swept_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When its deletion was decided: from then on no artifact can take it up."""
    deleted_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When it was gone from the object store. The row stays for a grace period, to warn late writers."""
    verified_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When its bytes were last compared with what was written."""
    damage: str | None = None
    """What was wrong then; null: nothing."""


class Artifact(SQLModel, table=True):
    """A named table, file or folder that somebody wrote; immutable."""

    __table_args__ = (sa.UniqueConstraint("owner_id", "name"),)

    id: UUID = Field(primary_key=True)
    owner_id: UUID
    """Id of what wrote it (a run)."""
    name: str
    """The name that the user gave: data, never a path."""
    kind: str
    """An `ArtifactKind`."""
    publish: bool
    """It belongs to the published version, not to the run alone."""
    digest: str
    """Logical digest of the table; sha256 of the file, digest of the folder, or what its author gave instead."""
    rows: int | None = Field(default=None, sa_type=sa.BigInteger)
    """Rows of the table; null for anything else."""
    size_bytes: int = Field(sa_type=sa.BigInteger)
    """Bytes of its objects, shared ones included."""
    media_type: str
    """As in HTTP, such as `text/html`."""
    table_schema: list[Any] | None = Field(default=None, sa_type=json_type())
    """Name and type of each column, in order; null for anything but a table."""
    stored_json: str = Field(sa_type=sa.Text)
    """What reading needs: a `StoredTable`, `StoredFile` or `StoredFolder` as JSON. Text: no query looks inside."""
    created_at: datetime = Field(sa_type=UtcDateTime)
    """When it was recorded."""
    removed_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """Since when its data cannot be read; null while they can."""
    removal: str | None = None
    """A `Removal`: what took them."""
    removed_reason: str | None = None
    """One sentence on who took them, and why."""


class ArtifactObject(SQLModel, table=True):
    """An artifact is made of an object."""

    __tablename__ = "artifact_object"
    __table_args__ = (sa.Index("ix_artifact_object_object_name", "object_name"),)

    artifact_id: UUID = Field(primary_key=True, foreign_key="artifact.id")
    """The artifact."""
    position: int = Field(primary_key=True)
    """0, 1, 2…: the order of a table's fragments, or of a folder's files."""
    object_name: str = Field(foreign_key="stored_object.name")
    """The object."""
