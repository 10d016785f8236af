"""Deleting runs: softly first, which can be taken back, then for good.

A deleted run is left out of every list and its data cannot be read; nothing has gone yet. What others rest on is not
deleted: a version that is current, has an alias or a label, or was read. With `cascade`, whoever read it is deleted
too. When the grace period has passed, garbage collection erases what is still deleted (`erasure`).
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from functools import partial
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from ...lineage import references, withdrawal
from ...lineage import removal as versions_removed
from ...lineage.models import Deployment
from ...storage import faults, removal
from ...storage.database import Database
from ...storage.errors import Conflict, InvalidInput, NotFound
from ...storage.ids import parse_run_id, show_run_id
from ...storage.parts import in_parts
from ...storage.words import Removal
from ..curation import said
from ..ending import release_waiting
from ..models import Run
from ..record import as_run
from ..store import RUN
from . import acts, erasure, ties
from .acts import RunActKind
from .deletion_reports import DeletedRun, Deletion, Doomed, Refused, Selection

_LOGGER = logging.getLogger(__name__)
_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]
_BATCH = 100


@dataclass(frozen=True)
class Deletions:
    """Deletes the runs of one tenant, and takes that back."""

    database: Database
    tenant_id: str = "default"

    def delete(
        self,
        *runs: UUID | str,
        reason: str = "",
        actor: str = "anonymous",
        cascade: bool = False,
        dry_run: bool = False,
    ) -> Deletion:
        """Delete these runs, all or none; what is deleted already stays as it is.

        With `cascade`, the runs that read their versions or replay them are deleted too; with `dry_run` nothing is.

        Raises:
            NotFound: there is no such run.
            Conflict: one of them has not ended, or somebody rests on what it published; the message says who.
        """
        actor, reason = said(actor, "actor", required=True), said(reason, "reason")
        wanted = sorted({parse_run_id(run) for run in runs})
        if not wanted:
            raise InvalidInput("say which runs to delete")

        def work(connection: Connection) -> Deletion:
            deletion = self._delete(connection, wanted, reason=reason, actor=actor, cascade=cascade, dry_run=dry_run)
            if deletion.refused and not dry_run:
                told = "\n".join(one.sentence() for one in deletion.refused[:10])
                raise Conflict(f"{told}\nNothing was deleted")
            return deletion

        deletion = self.database.write(work)
        self._log(deletion, actor)
        return deletion

    def delete_all(
        self,
        selection: Selection,
        *,
        reason: str = "",
        actor: str = "anonymous",
        dry_run: bool = False,
        watch: Callable[[int, int], None] = lambda _done, _all: None,
    ) -> Deletion:
        """Delete every run that is selected and has ended, but for those that others rest on.

        In batches, newest first, so that who read a version goes before it: killed in between, it is simply called
        again. `watch` is told how many of how many runs have been looked at.

        Raises:
            InvalidInput: the selection means everything, or no status that a run ends with.
            NotFound: there is no such deployment.
        """
        actor, reason = said(actor, "actor", required=True), said(reason, "reason")
        wanted = self._selected(selection.check())
        gone: list[Doomed] = []
        refused: list[Refused] = []
        for part in in_parts(wanted, _BATCH):
            faults.reach("delete.batch")

            work = partial(self._delete, wanted=part, reason=reason, actor=actor, dry_run=dry_run, before=gone)
            done = self.database.write(work)
            self._log(done, actor)
            gone += done.runs
            refused += done.refused
            watch(len(gone) + len(refused), len(wanted))
        return Deletion(tuple(gone), tuple(refused), is_done=not dry_run)

    def restore(self, *runs: UUID | str, reason: str = "", actor: str = "anonymous") -> list[Run]:
        """Take the deletion of these runs back, all or none; return the runs. One that is not deleted stays as it is.

        Raises:
            NotFound: there is no such run.
            Conflict: a run was deleted for good, or what it read is deleted too: restore that with it.
        """
        actor, reason = said(actor, "actor", required=True), said(reason, "reason")
        wanted = sorted({parse_run_id(run) for run in runs})

        def work(connection: Connection) -> list[Run]:
            now = self.database.now(connection)
            rows = self._lock(connection, wanted)
            versions = versions_removed.of_runs(connection, wanted)
            _refuse_restoring(connection, rows.values(), versions)
            for run in rows.values():
                if run.deleted_at is not None:
                    self._restore(connection, run, versions.get(run.id), reason=reason, actor=actor, now=now)
            return [as_run(row) for row in self._lock(connection, wanted).values()]

        restored = self.database.write(work)
        _LOGGER.info("%d runs were restored by %s", len(restored), actor)
        return restored

    def erase(self, *runs: UUID | str, reason: str = "", actor: str = "anonymous") -> list[erasure.Erased]:
        """Remove for good what these deleted runs left, without waiting for the grace period.

        Raises:
            NotFound: there is no such run.
            Conflict: a run is not deleted, or something about it is still to be sent to Prefect.
        """
        actor, reason = said(actor, "actor", required=True), said(reason, "reason")
        wanted = sorted({parse_run_id(run) for run in runs})
        with self.database.read() as connection:
            rows = self._lock(connection, wanted, lock=False)
            for run in rows.values():
                if run.deleted_at is None:
                    raise Conflict(f"{show_run_id(run.id)} is not deleted: delete it first")
                if run.erased_at is None and erasure.is_sending(connection, run.id):
                    raise Conflict(
                        f"{show_run_id(run.id)}: Prefect has not heard of its end yet; try again in a moment"
                    )
        erased = [erasure.erase_one(self.database, one, actor=actor, reason=reason) for one in wanted]
        return [one for one in erased if one is not None]

    def deleted(self, *, limit: int = 50) -> list[DeletedRun]:
        """Return the runs that are deleted and can be restored, the last one first."""
        query = (
            sa.select(RUN, _DEPLOYMENT.c.key)
            .join(_DEPLOYMENT, _DEPLOYMENT.c.id == RUN.c.deployment_id)
            .where(RUN.c.tenant_id == self.tenant_id, RUN.c.deleted_at.is_not(None), RUN.c.erased_at.is_(None))
            .order_by(RUN.c.deleted_at.desc(), RUN.c.id.desc())
            .limit(limit)
        )
        with self.database.read() as connection:
            found = []
            for row in connection.execute(query):
                last = acts.acts_of(connection, row.id)[-1]
                found.append(DeletedRun(row.id, row.key, row.status, row.deleted_at, last.actor, last.reason))
        return found

    def _selected(self, selection: Selection) -> list[UUID]:
        conditions = [RUN.c.tenant_id == self.tenant_id, RUN.c.ended_at.is_not(None), RUN.c.deleted_at.is_(None)]
        with self.database.read() as connection:
            if selection.deployment is not None:
                found = references.deployment_of(connection, selection.deployment, tenant_id=self.tenant_id)
                conditions.append(RUN.c.deployment_id == found)
            if selection.status is not None:
                conditions.append(RUN.c.status == selection.status)
            if selection.before is not None:
                begin = sa.bindparam("begin", _midnight(selection.before), type_=RUN.c.created_at.type)
                conditions.append(RUN.c.created_at < begin)
            # By their ends: whoever read a version ended after the run that published it.
            newest = (RUN.c.ended_at.desc(), RUN.c.id.desc())
            return list(connection.execute(sa.select(RUN.c.id).where(*conditions).order_by(*newest)).scalars())

    def _delete(
        self,
        connection: Connection,
        wanted: Sequence[UUID],
        *,
        reason: str,
        actor: str,
        cascade: bool = False,
        dry_run: bool = False,
        before: Iterable[Doomed] = (),
    ) -> Deletion:
        """Delete those of these runs on which nobody rests; what went `before` rests on nothing."""
        gone = {one.run_id for one in before}
        now = self.database.now(connection)
        doomed = {run.id: run for run in self._lock(connection, wanted).values() if run.deleted_at is None}
        versions: dict[UUID, Row[Any]] = {}
        while True:
            published = versions_removed.of_runs(connection, sorted(doomed))
            locked = versions_removed.lock(connection, published.values())
            versions = {row.run_id: row for row in locked.values()}
            tied = ties.ties_of(connection, {run_id: versions.get(run_id) for run_id in doomed}, without=gone)
            more = {tie.run_id for several in tied.values() for tie in several if not tie.is_under_way} - doomed.keys()
            if not cascade or not more:
                break
            doomed |= self._lock(connection, sorted(more))
        refused = _refusals(connection, doomed, versions, tied)
        # All or none of what belongs together: who rests on a run that stays, stays.
        going = [run for run in doomed.values() if run.id not in refused]
        keys = self._keys(connection, doomed.values())
        weights = removal.with_data(connection, [run.id for run in going])
        if not dry_run:
            for run in going:
                version = versions.get(run.id)
                self._mark(connection, run, version, keys[run.deployment_id], reason=reason, actor=actor, now=now)
        return Deletion(
            tuple(
                Doomed(
                    run.id,
                    keys[run.deployment_id],
                    versions[run.id].number if run.id in versions else None,
                    run.status,
                    run.ended_at,
                    weights.get(run.id, 0),
                )
                for run in going
            ),
            tuple(Refused(one, keys[doomed[one].deployment_id], tuple(why)) for one, why in refused.items()),
            is_done=not dry_run,
        )

    def _mark(
        self,
        connection: Connection,
        run: Row[Any],
        version: Row[Any] | None,
        key: str,
        *,
        reason: str,
        actor: str,
        now: datetime,
    ) -> None:
        is_open = sa.and_(RUN.c.id == run.id, RUN.c.ended_at.is_not(None), RUN.c.deleted_at.is_(None))
        if connection.execute(sa.update(RUN).where(is_open).values(deleted_at=now)).rowcount == 0:
            return
        shown = show_run_id(run.id)
        because = f": {reason}" if reason else ""
        told = f"{shown}, which wrote it, was deleted on {now:%Y-%m-%d} by {actor}{because}; " + (
            f"`freshline delete --restore {shown}` takes that back"
        )
        facts: dict[str, Any] = {"artifacts": removal.mark(connection, run.id, Removal.DELETION, told, now=now)}
        if version is not None:
            versions_removed.mark(connection, version.id, Removal.DELETION, told, now=now)
            facts["version"] = f"{key}@v{version.number}"
        acts.record(connection, run.id, RunActKind.DELETED, actor=actor, reason=reason, facts=facts, now=now)

    def _restore(
        self, connection: Connection, run: Row[Any], version: Row[Any] | None, *, reason: str, actor: str, now: datetime
    ) -> None:
        is_open = sa.and_(RUN.c.id == run.id, RUN.c.deleted_at.is_not(None), RUN.c.erased_at.is_(None))
        if connection.execute(sa.update(RUN).where(is_open).values(deleted_at=None)).rowcount == 0:
            return
        facts = {"artifacts": removal.take_back(connection, run.id)}
        acts.record(connection, run.id, RunActKind.RESTORED, actor=actor, reason=reason, facts=facts, now=now)
        if version is not None and versions_removed.take_back(connection, version.id):
            # It may be what is current, had it been there when a later one was withdrawn.
            changes = withdrawal.settle(connection, version, now=now)
            release_waiting(connection, changed=[change.deployment_id for change in changes], now=now)

    def _lock(self, connection: Connection, wanted: Sequence[UUID], *, lock: bool = True) -> dict[UUID, Row[Any]]:
        """Return these runs of the tenant by id; nobody else changes them until the transaction ends."""
        query = sa.select(RUN).where(RUN.c.id.in_(wanted), RUN.c.tenant_id == self.tenant_id).order_by(RUN.c.id)
        rows = {row.id: row for row in connection.execute(query.with_for_update() if lock else query)}
        for one in wanted:
            if one not in rows:
                raise NotFound("run", show_run_id(one))
        return rows

    def _keys(self, connection: Connection, runs: Iterable[Row[Any]]) -> dict[UUID, str]:
        ids = sorted({run.deployment_id for run in runs})
        query = sa.select(_DEPLOYMENT.c.id, _DEPLOYMENT.c.key).where(_DEPLOYMENT.c.id.in_(ids))
        return {row.id: row.key for row in connection.execute(query)}

    def _log(self, deletion: Deletion, actor: str) -> None:
        if deletion.is_done and deletion.runs:
            _LOGGER.info("%d runs were deleted by %s", len(deletion.runs), actor)


def _refusals(
    connection: Connection,
    doomed: dict[UUID, Row[Any]],
    versions: dict[UUID, Row[Any]],
    tied: dict[UUID, list[ties.Tie]],
) -> dict[UUID, list[str]]:
    """Return which runs stay, and why: somebody rests on them, or on one that rests on them."""
    kept = versions_removed.keeps(connection, versions.values())
    found: dict[UUID, list[str]] = {}
    for run_id, run in doomed.items():
        reasons = [] if run.ended_at is not None else [f"it is {run.status}; cancel it first"]
        if run_id in versions:
            reasons += kept.get(versions[run_id].id, [])
        reasons += [tie.sentence for tie in tied.get(run_id, ()) if tie.run_id not in doomed]
        if reasons:
            found[run_id] = reasons
    while True:
        resting = {
            run_id: [f"{tie.sentence}, and stays" for tie in several if tie.run_id in found]
            for run_id, several in tied.items()
            if run_id not in found
        }
        more = {run_id: reasons for run_id, reasons in resting.items() if reasons}
        if not more:
            return found
        found |= more


def _refuse_restoring(connection: Connection, runs: Iterable[Row[Any]], versions: dict[UUID, Row[Any]]) -> None:
    rows = list(runs)
    together = {run.id for run in rows}
    for run in rows:
        if run.erased_at is not None:
            gone = f"{show_run_id(run.id)} was deleted for good on {run.erased_at:%Y-%m-%d}"
            raise Conflict(f"{gone}: what it left cannot come back")
        version = versions.get(run.id)
        missing = set() if version is None else ties.deleted_inputs(connection, version.id) - together
        if missing:
            shown = " ".join(show_run_id(one) for one in sorted(missing))
            raise Conflict(f"{show_run_id(run.id)} read what {shown} wrote, which is deleted too: restore it with them")


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)
