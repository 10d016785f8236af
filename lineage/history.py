"""The versions of a deployment as people look at them: what each holds, what it is called, what was said of it.

Reads in the caller's transaction; one that is to be used by a run is resolved by `references`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from . import aliases
from .listing import Listing
from .models import DeploymentState, Version

_VERSION = Version.__table__  # type: ignore[attr-defined]
_STATE = DeploymentState.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True)
class VersionRecord:
    """One version of a deployment."""

    key: str
    """Its deployment."""
    number: int
    label: str | None
    """Given once, and for good."""
    aliases: tuple[str, ...]
    """The names that point to it now."""
    is_current: bool
    rows: int | None
    """Rows of its published tables."""
    size_bytes: int | None
    """Bytes of its published objects."""
    data_start: date | None
    data_end: date | None
    """First and last data date of its tables."""
    created_at: datetime
    withdrawn_at: datetime | None
    withdrawn_reason: str | None
    base: int | None
    """Number of the version that it was appended to."""
    digest: str
    table_schema: dict[str, Any] | None
    """Published table -> [[column, type], …]; null when it was not recorded."""
    schema_diff: dict[str, Any] | None
    """Published table -> {"added", "removed": [[column, type], …], "widened", "changed": [[column, before, now], …],
    "reordered": true}, against the version that was current before; null when no column differs."""
    version_id: UUID
    run_id: UUID
    """The run that published it."""
    removed_at: datetime | None = None
    """Since when its data cannot be read."""
    removed_reason: str | None = None
    """Who took them, and why."""

    @property
    def reference(self) -> str:
        """How it is written: `refresh/prices@v12`."""
        return f"{self.key}@v{self.number}"


def versions_of(
    connection: Connection,
    deployment_id: UUID,
    *,
    key: str,
    limit: int,
    only: Sequence[UUID] | None = None,
    before: int | None = None,
) -> Listing[VersionRecord]:
    """Return the versions of a deployment, newest first: `only` these, those with a number below `before`, if given."""
    base = _VERSION.alias("base")
    query = (
        sa.select(_VERSION, base.c.number.label("base"), _STATE.c.version_id.label("current_id"))
        .outerjoin(base, base.c.id == _VERSION.c.base_version_id)
        .join(
            _STATE,
            sa.and_(_STATE.c.deployment_id == _VERSION.c.deployment_id, _STATE.c.partition == _VERSION.c.partition),
        )
        .where(_VERSION.c.deployment_id == deployment_id, _VERSION.c.partition == "")
        .order_by(_VERSION.c.number.desc())
        .limit(limit)
    )
    if only is not None:
        query = query.where(_VERSION.c.id.in_(only))
    if before is not None:
        query = query.where(_VERSION.c.number < before)
    rows = connection.execute(query).all()
    names = aliases.names_of(connection, [row.id for row in rows])
    return Listing(
        (
            VersionRecord(
                key=key,
                number=row.number,
                label=row.label,
                aliases=tuple(names.get(row.id, ())),
                is_current=row.id == row.current_id,
                rows=row.rows,
                size_bytes=row.size_bytes,
                data_start=row.data_start,
                data_end=row.data_end,
                created_at=row.created_at,
                withdrawn_at=row.withdrawn_at,
                withdrawn_reason=row.withdrawn_reason,
                base=row.base,
                digest=row.digest,
                table_schema=row.table_schema,
                schema_diff=row.schema_diff,
                version_id=row.id,
                run_id=row.run_id,
                removed_at=row.removed_at,
                removed_reason=row.removed_reason,
            )
            for row in rows
        ),
        VersionRecord,
    )
