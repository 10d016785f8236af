"""What a run was to read and what it did read, side by side.

The claim pins a version of each upstream; the body says at its end what it read. Owns the comparison; the rows are
written by `contents`.
"""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..lineage.models import Deployment, Version
from .models import RunInput

_INPUT = RunInput.__table__  # type: ignore[attr-defined]
_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]
_VERSION = Version.__table__  # type: ignore[attr-defined]


class Agreement(StrEnum):
    """How what was read compares with what was pinned."""

    AS_PINNED = "as_pinned"
    """The version that was pinned was read."""
    NOT_READ = "not_read"
    """It was pinned, and the body did not read it, or has not yet: the result does not depend on it."""
    NOT_PINNED = "not_pinned"
    """It was read without having been declared: by its deployment's key, or by number, label or alias."""
    OTHER_VERSION = "other_version"
    """It was read although another version of the same deployment was pinned."""


@dataclass(frozen=True)
class RunRead:
    """One role of a run: what was pinned in it, what was read in it."""

    role: str
    key: str
    """The deployment that was to be read, or was."""
    pinned: int | None
    """Number of the version that the claim pinned; of the same deployment, when in another role."""
    read: int | None
    """Number of the version that the body read."""
    agreement: Agreement
    version_id: UUID
    """The version that was read, or else was pinned."""
    is_withdrawn: bool
    """That version was withdrawn since."""

    @property
    def differs(self) -> bool:
        """True when something else was read than what was pinned."""
        return self.agreement in (Agreement.NOT_PINNED, Agreement.OTHER_VERSION)


def reads_of(connection: Connection, run_id: UUID) -> list[RunRead]:
    """Return every role of a run, by name; those of a run that has not ended say what was read so far: nothing."""
    query = (
        sa.select(_INPUT, _DEPLOYMENT.c.key, _VERSION.c.number, _VERSION.c.withdrawn_at)
        .join(_VERSION, _VERSION.c.id == _INPUT.c.version_id)
        .join(_DEPLOYMENT, _DEPLOYMENT.c.id == _INPUT.c.upstream_id)
        .where(_INPUT.c.run_id == run_id)
        .order_by(_INPUT.c.role)
    )
    rows = connection.execute(query).all()
    pins = {row.upstream_id: row.number for row in rows if row.pinned}
    return [
        RunRead(
            role=row.role,
            key=row.key,
            pinned=pins.get(row.upstream_id),
            read=row.number if row.read else None,
            agreement=_agreement(row.number, pins.get(row.upstream_id), is_pin=row.pinned, was_read=row.read),
            version_id=row.version_id,
            is_withdrawn=row.withdrawn_at is not None,
        )
        for row in rows
    ]


def _agreement(number: int, pinned: int | None, *, is_pin: bool, was_read: bool) -> Agreement:
    if is_pin:
        return Agreement.AS_PINNED if was_read else Agreement.NOT_READ
    return Agreement.NOT_PINNED if pinned in (None, number) else Agreement.OTHER_VERSION
