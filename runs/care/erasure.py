"""The second half of a deletion: what a deleted run left is removed for good.

The row of the run stays, with what the records of others refer to: who it was, when it ran, how it ended, what it
published. So no lineage dangles, no flow run in Prefect gets a second record, and its acts say who erased it. All that
it was given and all that it wrote goes. One transaction per run: killed in between, the next one goes on.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ...lineage import removal as versions_removed
from ...storage import faults, removal
from ...storage.database import Database
from ...storage.ids import show_run_id
from ...storage.words import Removal
from .. import store
from ..models import Outbox
from ..store import RUN
from . import acts
from .acts import RunActKind

_OUTBOX = Outbox.__table__  # type: ignore[attr-defined]
_STAYS = frozenset(
    {"id", "tenant_id", "project", "deployment_id", "partition", "type", "kind", "trigger", "actor"}
    | {"parent_id", "retry_of", "replay_of", "generation", "flow_run_id", "base_version_id", "version_id"}
    | {"status", "stop_reason", "attempt", "fence", "data_as_of", "last_seq"}
    | {"created_at", "started_at", "ended_at", "deleted_at", "erased_at"}
)
"""What is left of a run; the database lets nothing of it change."""
_EMPTY = {"parameters": {}, "request": {}, "workflow": {}, "metadata": {}, "background": True, "tags": []}
"""What stands in a column that must hold something."""
_KEPT = frozenset({"run_act", "backfill_date"})
"""Tables beside a run whose rows stay: what was done to it, and that a backfill had it."""
_BESIDE: WeakKeyDictionary[sa.Engine, tuple[sa.TableClause, ...]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Erased:
    """What became of a run that was erased."""

    run_id: UUID
    artifacts: int
    freed_bytes: int
    """Bytes of the objects that nobody needs any more: garbage collection deletes them."""


def erase(
    connection: Connection, run_id: UUID, *, actor: str, reason: str, now: datetime, grace: timedelta | None = None
) -> Erased | None:
    """Remove for good what a deleted run left; None when it is not deleted, is erased already, or is still sending.

    With `grace`, None also when it was deleted later than that ago: restored and deleted again since somebody looked.
    What is to leave for Prefect leaves first: else its flow run would never hear of the end.
    """
    run = store.get_run(connection, run_id, lock=True)
    if run.deleted_at is None or run.erased_at is not None or is_sending(connection, run_id):
        return None
    if grace is not None and run.deleted_at > now - grace:
        return None
    weight = removal.weigh(connection, [run_id])
    artifacts = removal.forget(connection, run_id)
    for table in beside(connection):
        connection.execute(sa.delete(table).where(table.c.run_id == run_id))
    is_open = sa.and_(RUN.c.id == run_id, RUN.c.deleted_at.is_not(None), RUN.c.erased_at.is_(None))
    connection.execute(sa.update(RUN).where(is_open).values(**_blank(), erased_at=now))
    if run.version_id is not None:
        gone = f"{show_run_id(run_id)}, which wrote it, was deleted for good on {now:%Y-%m-%d} by {actor}"
        versions_removed.explain(connection, run.version_id, Removal.DELETION, gone)
    facts = {"artifacts": artifacts, "freed_bytes": weight.freed_bytes}
    acts.record(connection, run_id, RunActKind.ERASED, actor=actor, reason=reason, facts=facts, now=now)
    return Erased(run_id, artifacts, weight.freed_bytes)


def erase_one(
    database: Database, run_id: UUID, *, actor: str, reason: str, grace: timedelta | None = None
) -> Erased | None:
    """Erase a run in a transaction of its own; see `erase`."""
    faults.reach("erase.begin")

    def work(connection: Connection) -> Erased | None:
        now = database.now(connection)
        erased = erase(connection, run_id, actor=actor, reason=reason, now=now, grace=grace)
        faults.reach("erase.before_commit")
        return erased

    erased = database.write(work)
    faults.reach("erase.committed")
    return erased


def due(database: Database, *, grace: timedelta) -> list[UUID]:
    """Return the runs that were deleted longer than the grace period ago and are not erased, oldest first."""
    with database.read() as connection:
        before = database.now(connection) - grace
        is_due = sa.and_(RUN.c.deleted_at <= before, RUN.c.erased_at.is_(None), RUN.c.deleted_at.is_not(None))
        return list(connection.execute(sa.select(RUN.c.id).where(is_due).order_by(RUN.c.id)).scalars())


def is_sending(connection: Connection, run_id: UUID) -> bool:
    """Return whether something about a run is still to leave."""
    waits = sa.select(_OUTBOX.c.id).where(_OUTBOX.c.run_id == run_id, _OUTBOX.c.state == "due").limit(1)
    return connection.execute(waits).first() is not None


def beside(connection: Connection) -> tuple[sa.TableClause, ...]:
    """Return every table of the database with rows that belong to one run, those first that refer to others.

    Asked of the database: what a process has imported is not always all there is.
    """
    found = _BESIDE.get(connection.engine)
    if found is None:
        inspector = sa.inspect(connection)
        names = {"run"}
        ordered: list[sa.TableClause] = []
        for name, _ in inspector.get_sorted_table_and_fkc_names():
            if name is None or name in _KEPT:
                continue
            keys = inspector.get_foreign_keys(name)
            # Directly, or by what belongs to the run itself.
            if any(key["referred_table"] in names and key["constrained_columns"][0] == "run_id" for key in keys):
                names.add(name)
                ordered.append(sa.table(name, sa.column("run_id", sa.Uuid())))
        found = _BESIDE[connection.engine] = tuple(reversed(ordered))
    return found


@cache
def _blank() -> dict[str, Any]:
    return {
        column.name: None if column.nullable else _EMPTY[column.name] for column in RUN.c if column.name not in _STAYS
    }
