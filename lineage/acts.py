"""What people do to a version that was published, with who and why: the record of it, and the label.

Works in the caller's transaction. Entries are numbered under the lock of the deployment's state.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from ..storage.errors import Conflict
from . import staleness
from .models import ActKind, Version, VersionAct
from .references import check_label

_VERSION = Version.__table__  # type: ignore[attr-defined]
_ACT = VersionAct.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Act:
    """What somebody did to a version after it was published."""

    kind: ActKind
    actor: str
    reason: str
    at: datetime


def label(
    connection: Connection, version: Row[Any], name: str, *, key: str, reason: str, actor: str, now: datetime
) -> bool:
    """Give a version its label, once and for good; return False when it has this one already.

    Raises:
        InvalidInput: the text cannot be a label.
        Conflict: the version has another label, another version of the deployment has this one, or its data are gone.
    """
    check_label(name)
    staleness.lock_states(connection, [version.deployment_id])
    of_deployment = sa.and_(_VERSION.c.deployment_id == version.deployment_id, _VERSION.c.partition == "")
    holder = connection.execute(
        sa.select(_VERSION.c.id, _VERSION.c.number).where(of_deployment, _VERSION.c.label == name)
    ).one_or_none()
    if holder is not None and holder.id == version.id:
        return False
    if holder is not None:
        raise Conflict(f"{key}@v{holder.number} has the label {name} already; a label stays where it is")
    # Read under the lock: what the caller holds may be from before a deletion.
    gone = sa.select(_VERSION.c.removed_reason).where(_VERSION.c.id == version.id, _VERSION.c.removed_at.is_not(None))
    reason_gone = connection.execute(gone).scalar_one_or_none()
    if reason_gone is not None:
        raise Conflict(f"{key}@v{version.number} has no data any more ({reason_gone}): it gets no label")
    is_free = sa.and_(_VERSION.c.id == version.id, _VERSION.c.label.is_(None))
    if connection.execute(sa.update(_VERSION).where(is_free).values(label=name)).rowcount == 0:
        own = connection.execute(sa.select(_VERSION.c.label).where(_VERSION.c.id == version.id)).scalar_one()
        raise Conflict(f"{key}@v{version.number} has the label {own} already; a label stays as it is")
    record(connection, version.id, ActKind.LABELLED, actor=actor, reason=reason, now=now)
    return True


def acts_of(connection: Connection, version_id: UUID) -> list[Act]:
    """Return what was done to a version after it was published, the first act first."""
    query = sa.select(_ACT).where(_ACT.c.version_id == version_id).order_by(_ACT.c.number)
    return [Act(ActKind(row.kind), row.actor, row.reason, row.at) for row in connection.execute(query)]


def record(connection: Connection, version_id: UUID, kind: ActKind, *, actor: str, reason: str, now: datetime) -> None:
    """Record what was done to a version whose deployment's state is locked."""
    number = sa.select(sa.func.coalesce(sa.func.max(_ACT.c.number), 0) + 1).where(_ACT.c.version_id == version_id)
    connection.execute(
        sa.insert(_ACT).values(
            version_id=version_id, number=number.scalar_subquery(), kind=kind, actor=actor, reason=reason, at=now
        )
    )
