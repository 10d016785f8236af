"""Backfills: a deployment is run for a range of data dates, in their order, so many at a time.

What was asked for is a row with its dates; each date gets its run when its turn comes, in one transaction that anybody
may carry out: whoever asked, any reconciler. So nothing is lost with whoever asked, and two of them start nothing
twice. The runs are ordinary runs with `data_as_of`; which of their versions may become current is decided in
`standing`.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.engine import Connection, Row

from ...lineage import registry, staleness
from ...storage.database import Database
from ...storage.errors import Conflict, FreshlineError, IllegalTransition, InvalidInput, NotFound, StoreError
from ...storage.ids import new_id, show_run_id
from ...storage.words import DeploymentKind, Trigger, UpdateMode
from ..service import RunExecutionService
from ..standing import covered_until
from ..submission import Submission, record
from . import backfill_rows
from .backfill_models import BackfillStatus
from .backfill_plan import BackfillPreview, BackfillRequest, as_date, on_stale_of, plan
from .backfill_reports import BackfillReport, date_report_of, report_of, why

_LOGGER = logging.getLogger(__name__)
_MOST_PER_TRANSACTION = 100
_MOST_STEPS = 50
_POLL_S = 1.0


@dataclass(frozen=True)
class Backfills:
    """Begins, advances and ends backfills."""

    database: Database
    tenant_id: str = "default"

    def preview(self, request: BackfillRequest) -> BackfillPreview:
        """Return what would run; nothing is recorded.

        Raises:
            NotFound: there is no such deployment or calendar; the message suggests the nearest names.
            InvalidInput: the range is reversed, ends in the future, holds no date or more than 100,000, or the
                deployment is external, or an option or parameter cannot be used.
        """
        with self.database.read() as connection:
            return self._plan(connection, request)[0]

    def start(self, request: BackfillRequest, *, actor: str = "anonymous") -> BackfillReport:
        """Record a backfill with all its dates, and start the first ones; return it as it is then.

        Raises:
            NotFound, InvalidInput: as `preview`; also, when every date has a run already.
            Conflict: another backfill of the deployment has not ended.
        """
        backfill_id = new_id()

        def work(connection: Connection) -> int:
            preview, target = self._plan(connection, request)
            if not preview.dates:
                raise InvalidInput(
                    f"each of the {len(preview.existing):,} dates has a run already, the first is "
                    f"{show_run_id(preview.existing[0].run_id)}: ask for them again (--again) to run them once more"
                )
            # Of two callers at once, the second one sees the backfill of the first.
            staleness.lock_states(connection, [target.id])
            _refuse_second(connection, target.id)
            values = {
                "id": backfill_id,
                "tenant_id": self.tenant_id,
                "deployment_id": target.id,
                "first_date": as_date(request.first, "first"),
                "last_date": as_date(request.last, "last"),
                "calendar": preview.calendar,
                "every": preview.every,
                "parameters": dict(request.parameters),
                "on_stale": on_stale_of(request, target),
                "update_mode": None if request.update_mode is None else UpdateMode(request.update_mode),
                "most_at_once": request.limit,
                "max_failures": request.max_failures,
                "actor": actor,
                "status": BackfillStatus.RUNNING,
                "num_failed": 0,
                "created_at": self.database.now(connection),
            }
            backfill_rows.insert(connection, values, preview.dates)
            return len(preview.dates)

        count = self.database.write(work)
        _LOGGER.info("%s of %s begins: %d dates", backfill_rows.show_id(backfill_id), request.deployment, count)
        self._advance_far(backfill_id)
        return self.get(backfill_id)

    def get(self, backfill_id: UUID | str) -> BackfillReport:
        """Return a backfill with its dates.

        Raises:
            NotFound: there is no such backfill.
            InvalidInput: the text is not the id of one.
        """
        with self.database.read() as connection:
            row = backfill_rows.get(connection, backfill_rows.parse_id(backfill_id), tenant_id=self.tenant_id)
            dates = tuple(date_report_of(one) for one in backfill_rows.dates_of(connection, row.id))
            return report_of(row, backfill_rows.counts(connection, [row.id]).get(row.id, {}), dates)

    def newest(self, *, deployment: str | None = None, limit: int = 20) -> list[BackfillReport]:
        """Return backfills without their dates, newest first; of one deployment, or of all.

        Raises:
            NotFound: there is no such deployment.
        """
        with self.database.read() as connection:
            found = registry.deployment(connection, deployment, tenant_id=self.tenant_id) if deployment else None
            rows = backfill_rows.newest(
                connection, tenant_id=self.tenant_id, deployment_id=found.id if found else None, limit=limit
            )
            counts = backfill_rows.counts(connection, [row.id for row in rows])
            return [report_of(row, counts.get(row.id, {})) for row in rows]

    def cancel(self, backfill_id: UUID | str, *, actor: str = "anonymous") -> BackfillReport:
        """Start no more dates, and ask for the end of the runs under way; what was done stays. Again changes nothing.

        Raises:
            NotFound: there is no such backfill.
            IllegalTransition: it has completed.
        """
        wanted = backfill_rows.parse_id(backfill_id)

        def work(connection: Connection) -> None:
            row = backfill_rows.get(connection, wanted, tenant_id=self.tenant_id, lock=True)
            if row.status == BackfillStatus.CANCELLED:
                return
            sources = {BackfillStatus.RUNNING, BackfillStatus.STOPPED}
            reason = f"cancelled by {actor}"
            if not backfill_rows.change(
                connection, wanted, sources=sources, status=BackfillStatus.CANCELLED, reason=reason
            ):
                raise IllegalTransition(f"{backfill_rows.show_id(wanted)} is {row.status}: there is nothing to cancel")

        self.database.write(work)
        self._advance_far(wanted)
        return self.get(wanted)

    def resume(self, backfill_id: UUID | str) -> BackfillReport:
        """Go on with a backfill: the dates that had no turn yet, and those whose run did not end well.

        Raises:
            NotFound: there is no such backfill.
            IllegalTransition: every date of it is done.
            Conflict: another backfill of the deployment has not ended, or runs of this one are still stopping.
        """
        wanted = backfill_rows.parse_id(backfill_id)

        def work(connection: Connection) -> None:
            row = backfill_rows.get(connection, wanted, tenant_id=self.tenant_id, lock=True)
            if row.status == BackfillStatus.RUNNING:
                return
            if any(
                one.ended_at is None and one.cancel_requested_at is not None
                for one in backfill_rows.under_way(connection, wanted)
            ):
                raise Conflict(
                    f"{backfill_rows.show_id(wanted)} is {row.status}, and runs of it have not stopped yet: "
                    "resume it when they have"
                )
            staleness.lock_states(connection, [row.deployment_id])
            _refuse_second(connection, row.deployment_id, but=wanted)
            again = backfill_rows.plan_again(connection, wanted)
            if not again and not backfill_rows.planned(connection, wanted, limit=1):
                raise IllegalTransition(f"{backfill_rows.show_id(wanted)} is {row.status}: each of its dates is done")
            backfill_rows.change(
                connection,
                wanted,
                sources=set(BackfillStatus),
                status=BackfillStatus.RUNNING,
                reason=None,
                num_failed=0,
                ended_at=None,
            )

        self.database.write(work)
        self._advance_far(wanted)
        return self.get(wanted)

    def wait(
        self,
        backfill_id: UUID | str,
        *,
        timeout_s: float = 86_400.0,
        on_change: Callable[[BackfillReport], None] | None = None,
        poll_s: float = _POLL_S,
    ) -> BackfillReport:
        """Return the backfill when it has ended; meanwhile, start what has its turn, and tell `on_change` how it is.

        Raises:
            NotFound: there is no such backfill.
            FreshlineError: it had not ended after `timeout_s` seconds.
        """
        wanted = backfill_rows.parse_id(backfill_id)
        deadline = time.monotonic() + timeout_s
        while True:
            self._advance_far(wanted)
            with self.database.read() as connection:
                row = backfill_rows.get(connection, wanted, tenant_id=self.tenant_id)
                report = report_of(row, backfill_rows.counts(connection, [row.id]).get(row.id, {}))
            if on_change is not None:
                on_change(report)
            if report.ended_at is not None:
                return self.get(wanted)
            if time.monotonic() > deadline:
                raise FreshlineError(f"{report.name} is still {report.status} after {timeout_s:g} s")
            time.sleep(poll_s)

    def advance(self, backfill_id: UUID) -> bool:
        """Note which runs have ended, start the dates that have their turn, end what is done; return whether it did.

        One transaction; whoever calls it at the same moment waits, and finds nothing left to do.
        """

        def work(connection: Connection) -> tuple[bool, list[UUID]]:
            row = backfill_rows.get(connection, backfill_id, tenant_id=self.tenant_id, lock=True)
            if row.ended_at is not None:
                return False, []
            now = self.database.now(connection)
            dates = backfill_rows.under_way(connection, backfill_id)
            ended = [one for one in dates if one.ended_at is not None]
            left = [one for one in dates if one.ended_at is None]
            status, reason, num_failed = _settle(connection, row, ended)
            started = 0
            if status == BackfillStatus.RUNNING:
                started, refusal = self._start_next(connection, row, len(left), now=now)
                if refusal is not None:
                    status, reason = BackfillStatus.STOPPED, refusal
            is_done = not left and not started
            if is_done and status == BackfillStatus.RUNNING:
                is_done = not backfill_rows.planned(connection, backfill_id, limit=1)
            if is_done and status == BackfillStatus.RUNNING:
                status = BackfillStatus.COMPLETED
                reason = f"{num_failed} of its dates did not end well" if num_failed else None
            values: dict[str, Any] = {"status": status, "reason": reason, "num_failed": num_failed}
            values |= {"ended_at": now} if is_done else {}
            if any(getattr(row, name) != value for name, value in values.items()):
                backfill_rows.change(connection, backfill_id, sources={BackfillStatus(row.status)}, **values)
            # A run that is told to end is told once: its status says so until it does.
            to_cancel = [one.run_id for one in left if one.cancel_requested_at is None]
            return bool(ended or started or is_done), to_cancel if status == BackfillStatus.CANCELLED else []

        changed, to_cancel = self.database.write(work)
        service = RunExecutionService(self.database, tenant_id=self.tenant_id)
        for run_id in to_cancel:
            try:
                service.cancel(run_id, actor=backfill_rows.show_id(backfill_id))
            except IllegalTransition:
                continue  # it ended by itself meanwhile
        return changed or bool(to_cancel)

    def _advance_far(self, backfill_id: UUID) -> int:
        """Advance while there is something to do at once, such as dates that are skipped; return how often."""
        for step in range(_MOST_STEPS):
            if not self.advance(backfill_id):
                return step
        return _MOST_STEPS

    def _start_next(
        self, connection: Connection, backfill: Row[Any], under_way: int, *, now: datetime
    ) -> tuple[int, str | None]:
        """Give the next dates their runs; return how many, and why the next one cannot be started, if it cannot."""
        started = 0
        reached = covered_until(connection, backfill.deployment_id)
        for one in _turns(connection, backfill, under_way):
            mode = backfill.update_mode
            if mode is None:
                is_covered = (
                    backfill.kind == DeploymentKind.REFRESH and reached is not None and one.data_date <= reached
                )
                mode = UpdateMode.FULL if is_covered else UpdateMode.INCREMENTAL
            shown = backfill_rows.show_id(backfill.id)
            submission = Submission(
                deployment=backfill.key,
                parameters=backfill.parameters,
                on_stale=backfill.on_stale,
                if_ready="run",
                update_mode=mode,
                data_as_of=one.data_date,
                idempotency_key=f"{shown}:{one.data_date}:{one.tries + 1}",
                actor=backfill.actor,
                trigger=Trigger.BACKFILL,
                trigger_name=shown,
            )
            try:
                run = record(connection, submission, tenant_id=backfill.tenant_id, clock=lambda: now).row
            except (InvalidInput, NotFound) as error:
                return started, f"{one.data_date} could not be started: {error}"
            backfill_rows.give_run(connection, backfill.id, one.data_date, run.id)
            started += 1
        return started, None

    def _plan(self, connection: Connection, request: BackfillRequest) -> tuple[BackfillPreview, Row[Any]]:
        today = self.database.now(connection).date()
        return plan(connection, request, tenant_id=self.tenant_id, today=today)


def advance_all(database: Database) -> int:
    """Advance every backfill that has not ended, whoever's it is; return how many had something to do."""
    with database.read() as connection:
        waiting = backfill_rows.open_ids(connection)
    advanced = 0
    for backfill_id, tenant_id in waiting:
        try:
            advanced += Backfills(database, tenant_id)._advance_far(backfill_id) > 0
        except StoreError:
            raise
        except FreshlineError as error:  # what is wrong with one must not keep the others
            _LOGGER.warning("%s could not be advanced: %s", backfill_rows.show_id(backfill_id), error)
    return advanced


def _settle(
    connection: Connection, backfill: Row[Any], ended: list[Row[Any]]
) -> tuple[BackfillStatus, str | None, int]:
    """Record how the runs of these dates ended; return the backfill's status, reason and failures after it."""
    failed = []
    for one in ended:
        backfill_rows.settle(connection, backfill.id, one.data_date, one.status)
        if one.status not in backfill_rows.GOOD:
            failed.append(one)
    status, num_failed = BackfillStatus(backfill.status), backfill.num_failed + len(failed)
    if status != BackfillStatus.RUNNING or num_failed <= backfill.max_failures:
        return status, backfill.reason, num_failed
    # It was running, so the last failure is among these.
    last = failed[-1]
    told = f"{show_run_id(last.run_id)} of {last.data_date} {last.status} ({why(last)})"
    count = f"{num_failed} dates did not end well, the last: " if num_failed > 1 else ""
    return BackfillStatus.STOPPED, count + told, num_failed


def _turns(connection: Connection, backfill: Row[Any], under_way: int) -> list[Row[Any]]:
    """Return the dates that have their turn: in order, as many as there is room for, and the last one alone.

    Alone and therefore with the newest fence, the version of the last date is the one that becomes current.
    """
    free = min(backfill.most_at_once - under_way, _MOST_PER_TRANSACTION)
    if free <= 0:
        return []
    found = backfill_rows.planned(connection, backfill.id, limit=free + 1)
    if len(found) == 1:
        return [] if under_way else found
    return found[: min(free, len(found) - 1)]


def _refuse_second(connection: Connection, deployment_id: UUID, *, but: UUID | None = None) -> None:
    """Refuse a second backfill of a deployment: the dates of two would overtake one another.

    Raises:
        Conflict: another one has not ended.
    """
    other = backfill_rows.open_of(connection, deployment_id)
    if other is not None and other.id != but:
        raise Conflict(
            f"{backfill_rows.show_id(other.id)} of {other.key}, {other.first_date} to {other.last_date}, is "
            f"{other.status}: wait for its end, or cancel it"
        )
