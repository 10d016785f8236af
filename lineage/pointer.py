"""Which version is the current one: the rule, gone through from the first publication on.

The pointer stands where it would stand had the withdrawn versions never been published (decision 0025). Owns that
rule for the past as well as for now; the pointer itself is moved by `versions` and `withdrawal`.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from .models import ActKind, AliasMove, Version, VersionAct

_VERSION = Version.__table__  # type: ignore[attr-defined]
_ACT = VersionAct.__table__  # type: ignore[attr-defined]
_MOVE = AliasMove.__table__  # type: ignore[attr-defined]

_BRIEF = [column for column in _VERSION.c if column.name != "table_schema"]
"""What is quick to read of a version: all of them are gone through."""


def held(connection: Connection, deployment_id: UUID) -> list[Row[Any]]:
    """Return the versions that are current or were, had the withdrawn ones never been published; the last one is."""
    rows = connection.execute(_published(deployment_id).where(_VERSION.c.withdrawn_at.is_(None)))
    return _in_turn(rows)


def current_at(connection: Connection, deployment_id: UUID, moment: datetime) -> Row[Any] | None:
    """Return the version that was current at a moment, whatever was said of it since; null when there was none."""
    withdrawn = _withdrawn_at(connection, deployment_id, moment)
    rows = connection.execute(_published(deployment_id).where(_VERSION.c.created_at <= moment))
    were = _in_turn(row for row in rows if row.id not in withdrawn)
    return were[-1] if were else None


def named_at(connection: Connection, deployment_id: UUID, alias: str, moment: datetime) -> Row[Any] | None:
    """Return the version that an alias named at a moment; null when it named none."""
    last = (
        sa.select(_MOVE.c.to_version_id)
        .where(
            _MOVE.c.deployment_id == deployment_id,
            _MOVE.c.partition == "",
            _MOVE.c.name == alias,
            _MOVE.c.at <= moment,
        )
        .order_by(_MOVE.c.number.desc())
        .limit(1)
    )
    version_id = connection.execute(last).scalar_one_or_none()
    if version_id is None:
        return None
    return connection.execute(sa.select(_VERSION).where(_VERSION.c.id == version_id)).one()


def _published(deployment_id: UUID) -> sa.Select[Any]:
    return (
        sa.select(*_BRIEF)
        .where(
            _VERSION.c.deployment_id == deployment_id,
            _VERSION.c.partition == "",
            _VERSION.c.may_become_current.is_not(sa.false()),
        )
        .order_by(_VERSION.c.number)
    )


def _in_turn(rows: Iterable[Row[Any]]) -> list[Row[Any]]:
    """Return those of the publications that became current, each with the conditions of `versions.publish`."""
    current_id, fence, became = None, 0, []
    for row in rows:
        if row.fence > fence and row.base_version_id in (None, current_id):
            current_id, fence = row.id, row.fence
            became.append(row)
    return became


def _withdrawn_at(connection: Connection, deployment_id: UUID, moment: datetime) -> set[UUID]:
    acts = connection.execute(
        sa.select(_ACT.c.version_id, _ACT.c.kind)
        .join(_VERSION, _VERSION.c.id == _ACT.c.version_id)
        .where(
            _VERSION.c.deployment_id == deployment_id,
            _ACT.c.kind.in_([ActKind.WITHDRAWN.value, ActKind.RESTORED.value]),
            _ACT.c.at <= moment,
        )
        .order_by(_ACT.c.version_id, _ACT.c.number)
    )
    last = {row.version_id: row.kind for row in acts}
    return {version_id for version_id, kind in last.items() if kind == ActKind.WITHDRAWN}
