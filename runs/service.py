"""RunExecutionService: what may be asked for a run from outside of it.

Submitting, reading, cancelling, pausing, resuming; the side of the worker (claim, heartbeat, complete) is in
`execution`. No network: what is to reach Prefect is written to the outbox in the same transaction.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache, partialmethod
from typing import Any
from uuid import UUID

from sqlalchemy.engine import Connection

from ..storage import faults
from ..storage.database import Database
from ..storage.errors import IllegalTransition, InvalidInput
from ..storage.ids import parse_run_id, show_run_id
from ..storage.words import DeploymentKind, IfReady, OnStale, Trigger, UpdateMode
from . import outbox, store
from . import run_events as events
from .care import acts
from .details import Detail
from .ending import end_run
from .logs import run_event
from .models import Run
from .record import as_run
from .status import RunStatus, StopReason
from .submission import Recorded, Submission, record

_LOGGER = logging.getLogger(__name__)
_MOST_AT_ONCE = 1000


@dataclass(frozen=True)
class Submitted:
    """A run that was asked for."""

    run: Run
    is_new: bool
    """False: the run came with its key before, and nothing happened."""


@dataclass(frozen=True)
class RunExecutionService:
    """Creates a typed run per trigger, and ends it when asked to."""

    database: Database
    tenant_id: str = "default"

    def submit(
        self,
        deployment: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        on_stale: OnStale | str | None = None,
        if_ready: IfReady | str | None = None,
        update_mode: UpdateMode | str = UpdateMode.INCREMENTAL,
        data_as_of: date | None = None,
        idempotency_key: str | None = None,
        tags: Iterable[str] = (),
        metadata: Mapping[str, Any] | None = None,
        detail: Detail | Mapping[str, Any] | None = None,
        background: bool = True,
        parent: UUID | str | None = None,
        actor: str = "anonymous",
        kind: DeploymentKind | None = None,
    ) -> Run:
        """Record a run of `deployment` (`backtest/book`) and have it dispatched; return it as recorded.

        A run that the gate refuses or skips is recorded too, and has ended when this returns. With a key that is
        known already, the run that came with it is returned and nothing happens. `detail` holds facts of the run's
        type that are known beforehand; `metadata` is the caller's own; `background` says that nobody waits for it;
        `parent` is the run that needs it.

        Raises:
            NotFound: there is no such deployment; the message suggests the nearest names.
            InvalidInput: a parameter is not declared or has the wrong type, or the deployment is of another kind.
            IdempotencyConflict: the key came with another request before, or its run was deleted.
        """
        asked = Submission(
            deployment=deployment,
            parameters=dict(parameters or {}),
            on_stale=on_stale,
            if_ready=if_ready,
            update_mode=update_mode,
            data_as_of=data_as_of,
            idempotency_key=idempotency_key,
            tags=tags,
            metadata=metadata or {},
            detail=detail or {},
            background=background,
            parent=parent,
            actor=actor,
            kind=kind,
        )
        return self.submit_many([asked])[0]

    def submit_many(self, submissions: Sequence[Submission]) -> list[Run]:
        """Record several runs in one transaction, all or none; return them in the order given. See `submit`.

        Raises:
            InvalidInput: there are more than 1,000, or one of them cannot be recorded; nothing was.
        """
        return [one.run for one in self.submit_all(submissions)]

    def submit_all(self, submissions: Sequence[Submission]) -> list[Submitted]:
        """Do as `submit_many` does, and say of each run whether it is new or came with its key before."""
        _check_count(len(submissions))
        faults.reach("submit.begin")

        def work(connection: Connection) -> list[Recorded]:
            clock = cache(lambda: self.database.now(connection))  # one moment for all, once the first answer is there
            rows = [record(connection, one, tenant_id=self.tenant_id, clock=clock) for one in submissions]
            faults.reach("submit.before_commit")
            return rows

        recorded = self.database.write(work)
        faults.reach("submit.committed")
        for asked, done in zip(submissions, recorded, strict=True):
            message = f"submitted {asked.deployment}"
            run_event(_LOGGER, message, run=done.row, actor=asked.actor, deployment=asked.deployment)
        return [Submitted(as_run(done.row), done.is_new) for done in recorded]

    submit_pipeline_run = partialmethod(submit, kind=DeploymentKind.REFRESH)
    submit_experiment_run = partialmethod(submit, kind=DeploymentKind.PREVIEW)
    submit_training_run = partialmethod(submit, kind=DeploymentKind.TRAINING)
    submit_inference_run = partialmethod(submit, kind=DeploymentKind.INFERENCE)
    submit_monitoring_run = partialmethod(submit, kind=DeploymentKind.MONITORING)
    submit_portfolio_optimization_run = partialmethod(submit, kind=DeploymentKind.OPTIMIZE)
    submit_backtest_run = partialmethod(submit, kind=DeploymentKind.BACKTEST)

    def get(self, run_id: UUID | str) -> Run:
        """Return a run by its id, with or without `run-`.

        Raises:
            NotFound: there is no such run.
            RunDeleted: it was deleted; the message says by whom and why.
            InvalidInput: the text is not a run id.
        """
        with self.database.read() as connection:
            row = store.get_run(connection, parse_run_id(run_id))
            acts.refuse_deleted(connection, row)
            return as_run(row)

    def cancel(self, run_id: UUID | str, *, actor: str = "anonymous") -> Run:
        """Ask for the end of a run: one that has not started ends now, one that runs is told at its next heartbeat.

        Raises:
            NotFound: there is no such run.
            IllegalTransition: the run has ended.
        """
        wanted = parse_run_id(run_id)

        def work(connection: Connection) -> Run:
            now = self.database.now(connection)
            run = store.get_run(connection, wanted, lock=True)
            if run.status == RunStatus.CANCELLING:
                return as_run(run)
            asked = events.CancelRequested()
            if run.status == RunStatus.RUNNING:
                changed = store.transition(
                    connection,
                    wanted,
                    RunStatus.CANCELLING,
                    [asked],
                    actor=actor,
                    now=now,
                    cancel_requested_at=now,
                    lease_until=run.lease_until,
                    lease_owner=run.lease_owner,
                )
            else:
                reason = StopReason.CANCELLED_BY_USER
                cancelled = events.RunCancelled(stop_reason=reason)
                changed = end_run(
                    connection,
                    wanted,
                    RunStatus.CANCELLED,
                    reason,
                    cancelled,
                    actor=actor,
                    now=now,
                    started_at=run.started_at,
                    cancel_requested_at=now,
                )
                if changed is not None and changed.flow_run_id is not None:
                    outbox.enqueue(connection, outbox.Topic.CANCEL, wanted, dedupe_key=f"cancel:{wanted}", now=now)
            if changed is None:
                raise IllegalTransition(f"{show_run_id(wanted)} is {run.status}: it has ended and cannot be cancelled")
            faults.reach("cancel.before_commit")
            return as_run(changed)

        cancelled = self.database.write(work)
        faults.reach("cancel.committed")
        run_event(_LOGGER, "its cancellation was asked for", run=cancelled, actor=actor)
        return cancelled

    def pause(self, run_id: UUID | str, *, actor: str = "anonymous") -> Run:
        """Ask a running body to pause: it is told at its next heartbeat, and its flow run is suspended.

        Raises:
            NotFound: there is no such run.
            IllegalTransition: the run is not running, or has no flow run that Prefect could suspend.
        """
        wanted = parse_run_id(run_id)

        def work(connection: Connection) -> Run:
            now = self.database.now(connection)
            run = store.get_run(connection, wanted, lock=True)
            if run.status == RunStatus.PAUSED or (run.status == RunStatus.RUNNING and run.pause_requested_at):
                return as_run(run)
            if run.status != RunStatus.RUNNING:
                raise IllegalTransition(f"{show_run_id(wanted)} is {run.status}: only a running run can be paused")
            if run.flow_run_id is None or not run.background:
                raise IllegalTransition(
                    f"{show_run_id(wanted)} is called by another flow or by a script: pause the flow run that calls it"
                )
            entry = [events.PauseRequested()]
            changed = store.change(connection, wanted, entry, actor=actor, now=now, pause_requested_at=now)
            assert changed is not None, "the run was locked in this transaction"
            return as_run(changed)

        asked = self.database.write(work)
        run_event(_LOGGER, "its pause was asked for", run=asked, actor=actor)
        return asked

    def resume(self, run_id: UUID | str, *, actor: str = "anonymous") -> Run:
        """Let a paused run go on: Prefect starts its flow run again, whose claim makes the next attempt.

        Raises:
            NotFound: there is no such run.
            IllegalTransition: the run is not paused.
        """
        wanted = parse_run_id(run_id)

        def work(connection: Connection) -> Run:
            now = self.database.now(connection)
            run = store.get_run(connection, wanted, lock=True)
            if run.status != RunStatus.PAUSED:
                raise IllegalTransition(f"{show_run_id(wanted)} is {run.status}: only a paused run can be resumed")
            if not run.background and run.trigger in (Trigger.MANUAL, Trigger.SUBFLOW):
                raise IllegalTransition(
                    f"{show_run_id(wanted)} is called by another flow: resume the flow run that calls it"
                )
            if run.resume_due_at is not None:
                return as_run(run)
            entry = [events.ResumeRequested()]
            changed = store.change(connection, wanted, entry, actor=actor, now=now, resume_due_at=now)
            assert changed is not None, "the run was locked in this transaction"
            outbox.resume(connection, changed, now=now)
            return as_run(changed)

        asked = self.database.write(work)
        run_event(_LOGGER, "it is to go on", run=asked, actor=actor)
        return asked

    def annotate_many(
        self,
        run_ids: Iterable[UUID | str],
        *,
        tags: Iterable[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        actor: str = "anonymous",
    ) -> list[Run]:
        """Replace the tags of runs that have not ended, or merge into their metadata: all or none.

        Raises:
            NotFound: there is no such run.
            IllegalTransition: a run has ended; nothing was changed.
        """
        wanted = sorted({parse_run_id(run_id) for run_id in run_ids})
        _check_count(len(wanted))

        def work(connection: Connection) -> list[Run]:
            now = self.database.now(connection)
            changed = []
            for run_id in wanted:
                run = store.get_run(connection, run_id, lock=True)
                values: dict[str, Any] = {"metadata": {**run.metadata, **(metadata or {})}}
                if tags is not None:
                    values["tags"] = sorted(set(tags))
                row = store.change(connection, run_id, actor=actor, now=now, **values)
                if row is None:
                    raise IllegalTransition(f"{show_run_id(run_id)} is {run.status}: an ended run does not change")
                changed.append(as_run(row))
            return changed

        return self.database.write(work)

    def cancel_many(self, run_ids: Iterable[UUID | str], *, actor: str = "anonymous") -> list[Run]:
        """Ask for the end of several runs, each in a transaction of its own; return them as they are then.

        One that has ended meanwhile is returned as it is: what was wanted is so.

        Raises:
            NotFound: there is no such run; those before it in the order given were asked to end.
        """
        asked = []
        for run_id in run_ids:
            try:
                asked.append(self.cancel(run_id, actor=actor))
            except IllegalTransition:
                asked.append(self.get(run_id))
        return asked


def _check_count(count: int) -> None:
    if count > _MOST_AT_ONCE:
        raise InvalidInput(f"{count:,} runs at once; at most {_MOST_AT_ONCE:,}: split them")
