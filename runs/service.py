"""RunExecutionService: what may be asked for a run from outside of it.

Submitting, reading and cancelling; the side of the worker (claim, heartbeat, complete) is in `execution`. No network:
what is to reach Prefect is written to the outbox in the same transaction.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import partialmethod
from typing import Any
from uuid import UUID

from sqlalchemy.engine import Connection

from ..lineage import registry
from ..storage.database import Database
from ..storage.errors import IdempotencyConflict, IllegalTransition, InvalidInput
from ..storage.ids import parse_run_id, show_run_id
from ..storage.words import DeploymentKind, IfReady, OnStale, Trigger, UpdateMode
from . import admission, creation, events, outbox, store
from .details import run_type
from .ending import end_run
from .models import Run
from .request import REQUEST_PARAMETERS, RunRequest, read_request
from .status import RunStatus, StopReason

_ATTRIBUTE_OF = {"metadata": "metadata_"}
"""Column -> attribute, where SQLModel needs the column's name for itself."""


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
        actor: str = "anonymous",
        kind: DeploymentKind | None = None,
    ) -> Run:
        """Record a run of `deployment` (`backtest/book`) and have it dispatched; return it as recorded.

        A run that the gate refuses or skips is recorded too, and has ended when this returns. With a key that is
        known already, the run that came with it is returned and nothing happens.

        Raises:
            NotFound: there is no such deployment; the message suggests the nearest names.
            InvalidInput: a parameter is not declared or has the wrong type, or the deployment is of another kind.
            IdempotencyConflict: the key came with another request before.
        """
        request = read_request(
            {"on_stale": on_stale, "if_ready": if_ready, "update_mode": update_mode, "data_as_of": data_as_of}
        )
        given = dict(parameters or {})

        def work(connection: Connection) -> Run:
            target = registry.deployment(connection, deployment, tenant_id=self.tenant_id)
            if kind is not None and target.kind != kind:
                raise InvalidInput(f"{deployment} makes a {run_type(target.kind)}, not a {kind} run")
            if target.external:
                raise InvalidInput(f"{deployment} is external: Prefect does not run it")
            own = REQUEST_PARAMETERS & given.keys()
            if own:
                raise InvalidInput(f"{', '.join(sorted(own))}: give this as an option of submit, not as a parameter")
            creation.check_parameters(target, given)
            now = self.database.now(connection)
            origin = creation.Origin(Trigger.SUBMITTED, actor, idempotency_key=idempotency_key)
            created = creation.create_run(
                connection,
                target,
                origin,
                parameters=given,
                request=request,
                tags=tags,
                now=now,
            )
            if created is None:
                return self._same_request(connection, str(idempotency_key), target.key, given, request)
            admitted = admission.admit(connection, created, target, now=now).run
            if admitted.status == RunStatus.PENDING:
                outbox.enqueue(
                    connection,
                    outbox.Topic.DISPATCH,
                    admitted.id,
                    dedupe_key=f"dispatch:{admitted.id}",
                    now=now,
                )
            return as_run(admitted)

        return self.database.write(work)

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
                    cancel_requested_at=now,
                )
                if changed is not None and changed.flow_run_id is not None:
                    outbox.enqueue(connection, outbox.Topic.CANCEL, wanted, dedupe_key=f"cancel:{wanted}", now=now)
            if changed is None:
                raise IllegalTransition(f"{show_run_id(wanted)} is {run.status}: it has ended and cannot be cancelled")
            return as_run(changed)

        return self.database.write(work)

    def _same_request(
        self,
        connection: Connection,
        key: str,
        deployment: str,
        parameters: Mapping[str, Any],
        request: RunRequest,
    ) -> Run:
        known = store.run_by_key(connection, key, tenant_id=self.tenant_id)
        assert known is not None, "the key that prevented the insert is there"
        if known.request_sha256 != creation.request_sha256(deployment, parameters, request):
            raise IdempotencyConflict(
                f"the idempotency key {key!r} came with another request before ({show_run_id(known.id)}); use a new key"
            )
        return as_run(known)


def as_run(row: Any) -> Run:
    """Return a row of `run` as its typed record."""
    return Run(**{_ATTRIBUTE_OF.get(name, name): value for name, value in row._asdict().items()})
