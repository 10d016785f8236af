"""A run that is asked for from outside: what may be said of it, and how it is recorded.

Recorded, judged by the gate and written to the outbox in the caller's transaction: all of it or nothing.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy.engine import Connection, Row

from ..lineage import registry
from ..storage import faults
from ..storage.errors import InvalidInput
from ..storage.words import DeploymentKind, IfReady, OnStale, Trigger, UpdateMode
from . import admission, creation, details, outbox, store
from .details import Detail
from .request import REQUEST_PARAMETERS, RunRequest, check_key, read_request, resolve_if_ready
from .status import RunStatus
from .version_facts import with_version_ids


@dataclass(frozen=True, kw_only=True)
class Submission:
    """One run that is asked for."""

    deployment: str
    """Key of the deployment: `backtest/book`."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """The flow's own parameters."""
    on_stale: OnStale | str | None = None
    """What to do when an upstream is not ready; null: the deployment's default."""
    if_ready: IfReady | str | None = None
    """What to do when the result is ready already; null: the deployment's default."""
    update_mode: UpdateMode | str = UpdateMode.INCREMENTAL
    """Only what is new, or everything."""
    data_as_of: date | None = None
    """Nothing later is read."""
    idempotency_key: str | None = None
    """The same key gives the same run."""
    tags: Iterable[str] = ()
    """Free labels."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """The caller's own."""
    detail: Detail | Mapping[str, Any] = field(default_factory=dict)
    """Facts of the run's type that are known beforehand."""
    background: bool = True
    """Nobody waits for it."""
    parent: UUID | str | None = None
    """The run that needs it."""
    actor: str = "anonymous"
    """Who asks."""
    kind: DeploymentKind | None = None
    """The kind that the deployment must be of; null: whatever it is."""
    trigger: Trigger = Trigger.SUBMITTED
    """What starts it."""
    trigger_name: str | None = None
    """Which one, such as the backfill that it belongs to."""
    because: str | None = None
    """What it is to put right, where nobody asked for it."""

    def request(self) -> RunRequest:
        """Return what is asked of Freshline.

        Raises:
            InvalidInput: a value is not one of those that the option takes.
        """
        return read_request(
            {
                "on_stale": self.on_stale,
                "if_ready": self.if_ready,
                "update_mode": self.update_mode,
                "data_as_of": self.data_as_of,
            }
        )


@dataclass(frozen=True)
class Recorded:
    """The run that a submission has."""

    row: Row[Any]
    is_new: bool
    """False: the key was known, and nothing happened."""


def record(
    connection: Connection, submission: Submission, *, tenant_id: str, clock: Callable[[], datetime]
) -> Recorded:
    """Record a run and have it dispatched if the gate lets it start; return it, or that of the same key.

    `clock` gives the database's time.

    Raises:
        NotFound: there is no such deployment, or no such parent.
        InvalidInput: a parameter or fact is not declared or has the wrong type, or the deployment is of another kind,
            or the idempotency key cannot be one.
        IdempotencyConflict: the key came with another request before, or its run was deleted.
    """
    request = submission.request()
    check_key(submission.idempotency_key)
    target = target_of(connection, submission, tenant_id=tenant_id)
    named = with_version_ids(connection, target.kind, submission.detail, tenant_id=tenant_id)
    facts = details.valid_detail(target.kind, named)
    origin = creation.Origin(
        submission.trigger,
        submission.actor,
        trigger_name=submission.trigger_name,
        because=submission.because,
        idempotency_key=submission.idempotency_key,
        background=submission.background,
        parent_id=_parent(connection, submission, tenant_id),
    )
    now = clock()
    # As it is stored: a default of the deployment's is resolved once.
    resolved = resolve_if_ready(request, origin.trigger, target.declaration.get("if_ready"))
    decision = admission.judge(connection, target, resolved, origin.trigger, actor=origin.actor, now=now)
    created = creation.create_run(
        connection,
        target,
        origin,
        parameters=submission.parameters,
        request=request,
        tags=submission.tags,
        metadata=submission.metadata,
        detail=facts,
        decision=decision,
        now=now,
    )
    if created is None:
        return Recorded(_same_request(connection, submission, request, tenant_id), is_new=False)
    faults.reach("submit.inserted")
    admitted = admission.carry_out(connection, created, target, decision, resolved, now=now)
    if admitted.status == RunStatus.PENDING:
        outbox.dispatch(connection, admitted, now=now)
    return Recorded(admitted, is_new=True)


def target_of(connection: Connection, submission: Submission, *, tenant_id: str) -> Row[Any]:
    """Return the deployment that is to run, if the parameters and the kind fit it; errors as of `record`."""
    target = registry.deployment(connection, submission.deployment, tenant_id=tenant_id)
    if submission.kind is not None and target.kind != submission.kind:
        raise InvalidInput(
            f"{target.key} makes a {details.run_type(target.kind)}, not a {details.run_type(submission.kind)}"
        )
    if target.external:
        raise InvalidInput(f"{target.key} is external: Prefect does not run it")
    own = REQUEST_PARAMETERS & submission.parameters.keys()
    if own:
        raise InvalidInput(f"{', '.join(sorted(own))}: give this as an option of submit, not as a parameter")
    hidden = sorted(creation.secrets_of(target) & submission.parameters.keys())
    if hidden:
        raise InvalidInput(
            f"{target.key}: {', '.join(hidden)} is a secret, and a secret is not recorded: keep it in a block of "
            "Prefect's that the flow loads, or as the deployment's own parameter"
        )
    creation.check_parameters(target, submission.parameters)
    return target


def _parent(connection: Connection, submission: Submission, tenant_id: str) -> UUID | None:
    if submission.parent is None:
        return None
    parent: UUID = store.named_run(connection, submission.parent, tenant_id=tenant_id).id
    return parent


def _same_request(connection: Connection, submission: Submission, request: RunRequest, tenant_id: str) -> Row[Any]:
    key = str(submission.idempotency_key)
    known = store.run_by_key(connection, key, tenant_id=tenant_id)
    assert known is not None, "the key that prevented the insert is there"
    asked = creation.request_sha256(submission.deployment, submission.parameters, request)
    creation.check_same_request(known, key, is_same=known.request_sha256 == asked and known.replay_of is None)
    return known
