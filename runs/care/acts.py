"""What people do to runs that have ended: deleted, restored, erased, with who and why. Rows are only added."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from ...storage.errors import RunDeleted
from ...storage.ids import show_run_id
from .. import store
from .models import RunAct

_ACT = RunAct.__table__  # type: ignore[attr-defined]


class RunActKind(StrEnum):
    """What was done to a run."""

    DELETED = "deleted"
    """It is left out of every list, and its data cannot be read."""
    RESTORED = "restored"
    """Its deletion was taken back."""
    ERASED = "erased"
    """What it left is gone for good; who it was, and when it ran, stays."""


@dataclass(frozen=True)
class Act:
    """One act, with whoever did it."""

    number: int
    kind: RunActKind
    actor: str
    reason: str
    facts: dict[str, Any]
    at: datetime


def record(
    connection: Connection,
    run_id: UUID,
    kind: RunActKind,
    *,
    actor: str,
    reason: str,
    facts: Mapping[str, Any],
    now: datetime,
) -> None:
    """Write an act. The caller holds the run's lock, so that the numbers have no gap."""
    highest = sa.select(sa.func.coalesce(sa.func.max(_ACT.c.number), 0)).where(_ACT.c.run_id == run_id)
    number = connection.execute(highest).scalar_one() + 1
    entry = {"kind": kind, "actor": actor, "reason": reason, "facts": dict(facts), "at": now}
    connection.execute(sa.insert(_ACT).values(run_id=run_id, number=number, **entry))


def acts_of(connection: Connection, run_id: UUID) -> list[Act]:
    """Return what was done to a run, the first act first."""
    rows = connection.execute(sa.select(_ACT).where(_ACT.c.run_id == run_id).order_by(_ACT.c.number))
    return [Act(row.number, RunActKind(row.kind), row.actor, row.reason, row.facts, row.at) for row in rows]


def readable_run(connection: Connection, run_id: UUID | str, *, tenant_id: str) -> Row[Any]:
    """Return the run that somebody asks for by its id.

    Raises:
        NotFound: the tenant has none; the message has the ids of others that look like it.
        RunDeleted: it was deleted; the message says by whom and why.
    """
    row = store.named_run(connection, run_id, tenant_id=tenant_id)
    refuse_deleted(connection, row)
    return row


def refuse_deleted(connection: Connection, run: Row[Any]) -> None:
    """Let pass a run that nobody deleted.

    Raises:
        RunDeleted: saying who deleted it, why, and how that is taken back, if it still can be.
    """
    if run.deleted_at is None:
        return
    shown = show_run_id(run.id)
    last = acts_of(connection, run.id)[-1]
    why = f": {last.reason}" if last.reason else ""
    if run.erased_at is not None:
        raise RunDeleted(shown, f"{shown} was deleted for good on {run.erased_at:%Y-%m-%d} by {last.actor}{why}")
    raise RunDeleted(
        shown,
        f"{shown} was deleted on {run.deleted_at:%Y-%m-%d} by {last.actor}{why}; "
        f"`freshline delete --restore {shown}` takes that back",
    )
