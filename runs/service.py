"""RunExecutionService: what may be asked for a run from outside of it.

Submitting, reading and cancelling; the side of the worker (claim, heartbeat, complete) is in `execution`. No network:
what is to reach Prefect is written to the outbox in the same transaction.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import partialmethod
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row
from sqlalchemy.orm.attributes import manager_of_class

from ..lineage import registry
from ..storage import faults
from ..storage.database import Database
from ..storage.errors import IdempotencyConflict, IllegalTransition, InvalidInput
from ..storage.ids import parse_run_id, show_run_id
from ..storage.words import DeploymentKind, IfReady, OnStale, Trigger, UpdateMode
from . import admission, creation, details, events, outbox, store
from .details import Detail
from .ending import end_run
from .logs import run_event
from .models import Run
from .request import REQUEST_PARAMETERS, RunRequest, read_request, resolve_if_ready
from .status import RunStatus, StopReason

_LOGGER = logging.getLogger(__name__)
_MANAGER = manager_of_class(Run)
_COLUMN_OF = {attribute.key: attribute.columns[0].name for attribute in sa.inspect(Run).column_attrs}
"""Attribute of a `Run` -> column: `metadata_` has another name, SQLModel needs its own for itself."""


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
            IdempotencyConflict: the key came with another request before.
        """
        request = read_request(
            {"on_stale": on_stale, "if_ready": if_ready, "update_mode": update_mode, "data_as_of": data_as_of}
        )
        given = dict(parameters or {})
        origin = creation.Origin(
            Trigger.SUBMITTED,
            actor,
            idempotency_key=idempotency_key,
            background=background,
            parent_id=parse_run_id(parent) if parent is not None else None,
        )
        faults.reach("submit.begin")

        def work(connection: Connection) -> Row[Any]:
            target = self._target(connection, deployment, given, kind)
            facts = details.valid_detail(target.kind, _facts(detail))
            now = self.database.now(connection)
            if origin.parent_id is not None:
                store.get_run(connection, origin.parent_id)
            # As it is stored: a default of the deployment's is resolved once.
            resolved = resolve_if_ready(request, target.declaration.get("if_ready"))
            decision = admission.judge(connection, target, resolved, origin.trigger, actor=actor, now=now)
            created = creation.create_run(
                connection,
                target,
                origin,
                parameters=given,
                request=request,
                tags=tags,
                metadata=metadata,
                detail=facts,
                decision=decision,
                now=now,
            )
            if created is None:
                return self._same_request(connection, str(idempotency_key), target.key, given, request)
            faults.reach("submit.inserted")
            admitted = admission.carry_out(connection, created, target, decision, resolved, now=now)
            if admitted.status == RunStatus.PENDING:
                outbox.dispatch(connection, admitted, now=now)
            faults.reach("submit.before_commit")
            return admitted

        run = self.database.write(work)
        faults.reach("submit.committed")
        run_event(_LOGGER, f"submitted {deployment}", run=run, actor=actor, deployment=deployment)
        return as_run(run)

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
            InvalidInput: the text is not a run id.
        """
        with self.database.read() as connection:
            return as_run(store.get_run(connection, parse_run_id(run_id)))

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
            if run.status == RunStatus.PAUSED or run.pause_requested_at is not None:
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
            if run.resume_due_at is not None:
                return as_run(run)
            entry = [events.ResumeRequested()]
            changed = store.change(connection, wanted, entry, actor=actor, now=now, resume_due_at=now)
            assert changed is not None, "the run was locked in this transaction"
            key = f"resume:{wanted}:{changed.last_seq}"
            outbox.enqueue(connection, outbox.Topic.RESUME, wanted, dedupe_key=key, now=now)
            return as_run(changed)

        asked = self.database.write(work)
        run_event(_LOGGER, "it is to go on", run=asked, actor=actor)
        return asked

    def _target(
        self, connection: Connection, deployment: str, parameters: Mapping[str, Any], kind: DeploymentKind | None
    ) -> Row[Any]:
        """Return the deployment that is to run, if these parameters and this kind fit it."""
        target = registry.deployment(connection, deployment, tenant_id=self.tenant_id)
        if kind is not None and target.kind != kind:
            raise InvalidInput(f"{deployment} makes a {details.run_type(target.kind)}, not a {kind} run")
        if target.external:
            raise InvalidInput(f"{deployment} is external: Prefect does not run it")
        own = REQUEST_PARAMETERS & parameters.keys()
        if own:
            raise InvalidInput(f"{', '.join(sorted(own))}: give this as an option of submit, not as a parameter")
        creation.check_parameters(target, parameters)
        return target

    def _same_request(
        self,
        connection: Connection,
        key: str,
        deployment: str,
        parameters: Mapping[str, Any],
        request: RunRequest,
    ) -> Row[Any]:
        known = store.run_by_key(connection, key, tenant_id=self.tenant_id)
        assert known is not None, "the key that prevented the insert is there"
        if known.request_sha256 != creation.request_sha256(deployment, parameters, request):
            raise IdempotencyConflict(
                f"the idempotency key {key!r} came with another request before ({show_run_id(known.id)}); use a new key"
            )
        return known


def _facts(detail: Detail | Mapping[str, Any] | None) -> Mapping[str, Any]:
    return detail.model_dump(exclude_unset=True) if isinstance(detail, Detail) else detail or {}


def as_run(row: Any) -> Run:
    """Return a row of `run` as its typed record, made as SQLAlchemy makes what it loads: nothing is validated."""
    run: Run = Run.__new__(Run)
    _MANAGER.setup_instance(run)
    values = row._asdict()
    run.__dict__.update({name: values[column] for name, column in _COLUMN_OF.items()})
    return run
