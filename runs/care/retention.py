"""Retention carried out: the data of what no rule keeps are let go, and the records stay.

Removed is what reading needs: the artifacts say since when and why they cannot be read, and garbage collection deletes
the objects that nobody else needs. In small transactions, each of which looks again, under the locks of the versions,
whether somebody needs the data by now. Killed in between, it is simply called again.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ...lineage import removal as versions_removed
from ...storage import faults, removal
from ...storage.database import Database
from ...storage.faults import Guard
from ...storage.parts import in_parts
from ...storage.words import Removal
from ..store import RUN
from . import ties
from .keeping import Holding, RetentionPlan, plan

_LOGGER = logging.getLogger(__name__)
_BATCH = 20


@dataclass(frozen=True)
class Removed:
    """What retention let go."""

    holdings: tuple[Holding, ...]
    """Whose data cannot be read any more."""
    spared: tuple[Holding, ...]
    """What was planned to go and was needed by then."""
    freed_bytes: int
    """Bytes of objects that nobody needs any more, as planned: garbage collection deletes them."""


@dataclass(frozen=True)
class Retention:
    """The retention rules of one tenant's deployments."""

    database: Database
    tenant_id: str = "default"

    def plan(self, deployment: str | None = None) -> RetentionPlan:
        """Return what the rules keep and what not, of all deployments or of one; nothing is changed.

        Raises:
            NotFound: there is no such deployment.
        """
        with self.database.read() as connection:
            now = self.database.now(connection)
            return plan(connection, tenant_id=self.tenant_id, deployment=deployment, now=now)

    def apply(
        self,
        planned: RetentionPlan | None = None,
        *,
        watch: Callable[[int, int], None] = lambda _done, _all: None,
    ) -> Removed:
        """Let go what the rules do not keep: what was planned, or what they say now.

        `watch` is told how many of how many runs are done.
        """
        planned = planned or self.plan()
        removed: list[Holding] = []
        spared: list[Holding] = []
        for part in in_parts(planned.removed, _BATCH):
            faults.reach("retention.batch")
            done = self.database.write(partial(self._remove, part))
            faults.reach("retention.committed")
            removed += [one for one in part if one.run_id in done]
            spared += [one for one in part if one.run_id not in done]
            watch(len(removed) + len(spared), len(planned.removed))
        if removed:
            _LOGGER.info("retention removed the data of %d runs", len(removed))
        return Removed(tuple(removed), tuple(spared), planned.freed_bytes)

    def _remove(self, part: Sequence[Holding], connection: Connection) -> set[UUID]:
        """Let go the data of these runs, unless somebody needs them by now; return of which."""
        now = self.database.now(connection)
        ids = sorted(one.run_id for one in part)
        query = sa.select(RUN).where(RUN.c.id.in_(ids)).order_by(RUN.c.id).with_for_update(key_share=True)
        runs = {row.id: row for row in connection.execute(query)}
        locked = versions_removed.lock(connection, versions_removed.of_runs(connection, ids).values())
        versions = {row.run_id: row for row in locked.values()}
        kept = versions_removed.keeps(connection, versions.values())
        tied = ties.ties_of(connection, {run_id: versions.get(run_id) for run_id in runs}, for_retention=True)
        gone: set[UUID] = set()
        for one in part:
            version = versions.get(one.run_id)
            is_needed = version is not None and version.id in kept
            is_needed |= any(tie.needs_it and tie.run_id not in gone for tie in tied.get(one.run_id, ()))
            if (is_needed and faults.is_on(Guard.REMOVAL_NEED)) or runs[one.run_id].deleted_at is not None:
                continue
            reason = f"retention removed it on {now:%Y-%m-%d}, which keeps {one.rule} of {one.deployment}"
            if version is not None:
                versions_removed.mark(connection, version.id, Removal.RETENTION, reason, now=now)
            removal.mark(connection, one.run_id, Removal.RETENTION, reason, now=now)
            removal.release(connection, one.run_id)
            gone.add(one.run_id)
            faults.reach("retention.removed")
        return gone
