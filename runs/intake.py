"""Which run does a start belong to? The same answer for a worker that starts a flow and for the reconciler.

A flow run that Freshline dispatched carries its run's id as a label. Any other one (a click, a schedule, an
automation, a flow that calls another) gets its run here, exactly one, guarded by the unique (flow run, generation).
A call without a flow run of its own gets a new run each time. Knows Prefect by its records alone: who called a flow
run is asked before (`Gateway.read_callers`), outside of the transaction.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from ..deployments.gateway import FlowRunFacts
from ..lineage import registry
from ..lineage.models import Deployment
from ..storage.compiled import Answer
from ..storage.errors import InvalidInput, NotFound
from ..storage.ids import new_id, show_run_id
from ..storage.words import DeploymentKind, Trigger
from . import store
from .creation import Origin, create_run
from .request import split_parameters
from .status import RunStatus, StopReason

_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]

RUN_LABEL = "freshline.run_id"
"""The label that a dispatched flow run carries."""

_TRIGGER_OF = {"SCHEDULE": Trigger.SCHEDULE, "AUTOMATION": Trigger.AUTOMATION}


@dataclass(frozen=True)
class FlowCall:
    """A start of a tracked flow's function, as its process sees it."""

    flow_run: FlowRunFacts | None
    """The flow run that this start is of; None for a call of the function inside of another flow."""
    kind: DeploymentKind | None = None
    """As what the function is tracked; None: whatever the flow run's deployment says."""
    flow_names: tuple[str, ...] = ()
    """Prefect's names of the flows that have this function; the deployment is found by them."""
    deployment: str | None = None
    """Key of the deployment that was said to be meant."""
    parent_run_id: UUID | None = None
    """The run whose body makes this call."""
    caller_id: UUID | None = None
    """The flow run that makes this call, where its run is not known."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """The call's arguments, as JSON; those of a deployment's flow run are the flow run's."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """The function's names for Freshline's parameters -> ours."""
    id: UUID = field(default_factory=new_id)
    """Of this call: recording it twice, such as after a lost reply, gives one run."""

    @classmethod
    def of_deployment(cls, flow_run: FlowRunFacts, *, caller_id: UUID | None = None) -> "FlowCall":
        """Return the start of a deployment's flow run, which says all that is to be known."""
        return cls(flow_run, caller_id=caller_id)

    @property
    def can_wait(self) -> bool:
        """True when Prefect can suspend it: neither a subflow, however it was called, nor a call in a script."""
        flow_run = self.flow_run
        return flow_run is not None and flow_run.deployment_id is not None and flow_run.parent_task_run_id is None

    @property
    def shown(self) -> str:
        """The call in an error message."""
        return " or ".join(map(repr, self.flow_names)) or "this call"


@dataclass(frozen=True)
class AskedOfStart:
    """What has to be known of a deployment's flow run, asked of the database."""

    deployment: Answer
    """Its deployment, if that is ours."""
    runs: Callable[[], list[Row[Any]]]
    """Returns the runs that may be its, locked."""


def ask_of_start(connection: Connection, flow_run: FlowRunFacts | None) -> AskedOfStart | None:
    """Ask for what has to be known of a flow run; None where its deployment is not Prefect's."""
    if flow_run is None or flow_run.deployment_id is None:
        return None
    return AskedOfStart(
        registry.ask_deployment_by_prefect_id(connection, flow_run.deployment_id),
        store.ask_runs_of_start(connection, flow_run.id, labelled=_label_of(flow_run)),
    )


def run_of_call(
    connection: Connection, call: FlowCall, asked: AskedOfStart | None, *, tenant_id: str, now: datetime
) -> tuple[Row[Any], Row[Any] | None]:
    """Return the run of a call that starts now, recorded if it had none; nobody else changes it meanwhile.

    With it comes its deployment, where that was read on the way. `asked` is what `ask_of_start` has returned for the
    call's flow run.

    Raises:
        NotFound: the call's deployment is not registered.
        InvalidInput: several deployments may be meant, or the one that was said is of another kind.
    """
    flow_run = call.flow_run
    if flow_run is not None and asked is not None:
        found = _run_of_deployment(connection, flow_run, asked, now=now, is_starting=True, caller_id=call.caller_id)
        if found is None:
            raise NotFound("registered deployment for the flow run", flow_run.name)
        return found
    parent_id = call.parent_run_id or _run_of_caller(connection, call.caller_id)
    trigger, actor = (Trigger.SUBFLOW, show_run_id(parent_id)) if parent_id else (Trigger.MANUAL, "prefect")
    origin = Origin(trigger, actor, parent_id=parent_id, background=False)
    if flow_run is None:
        key = f"call:{call.id}"
        origin = replace(origin, idempotency_key=key)
        known = store.run_by_key(connection, key, tenant_id=tenant_id)
        known = store.get_run(connection, known.id, lock=True) if known is not None else None
    else:
        origin = replace(origin, flow_run_id=flow_run.id)
        known = _newest_of(store.ask_runs_of_start(connection, flow_run.id)(), flow_run.id)
        if known is not None and _is_called_again(known, flow_run, parent_id):
            # Whoever calls is called again, and calls again: that is no act of a person.
            origin = replace(origin, generation=known.generation + 1, retry_of=known.id)
            known = None
    if known is not None:
        return known, None
    deployment = _deployment_of(connection, call, tenant_id)
    own, request = split_parameters(call.parameters, call.renamed)
    created = create_run(connection, deployment, origin, parameters=own, request=request, now=now)
    if created is None:
        assert flow_run is not None, "nobody else has this call"
        created = _existing(connection, flow_run.id)
    return created, deployment


def ensure_run(
    connection: Connection,
    flow_run: FlowRunFacts,
    *,
    now: datetime,
    is_starting: bool,
    caller_id: UUID | None = None,
) -> Row[Any] | None:
    """Return the run of a deployment's flow run, recorded now if it had none; None when the deployment is not ours.

    With `is_starting`, a flow run that somebody started again after its run had ended gets a new run of the next
    generation: a terminal run never reopens. `caller_id` is the flow run that called this one, if one did: its run,
    if it has one, is the parent.
    """
    asked = ask_of_start(connection, flow_run)
    if asked is None:
        return None
    found = _run_of_deployment(connection, flow_run, asked, now=now, is_starting=is_starting, caller_id=caller_id)
    return None if found is None else found[0]


def _run_of_deployment(
    connection: Connection,
    flow_run: FlowRunFacts,
    asked: AskedOfStart,
    *,
    now: datetime,
    is_starting: bool,
    caller_id: UUID | None,
) -> tuple[Row[Any], Row[Any]] | None:
    label = _label_of(flow_run)
    deployment = asked.deployment.first()
    if deployment is None:
        return None
    found = asked.runs()
    run = _newest_of(found, flow_run.id)
    if run is None:
        # The label may have been copied from the flow run that the run has: that is another one's.
        free = (label, deployment.id, None)
        run = next((one for one in found if (one.id, one.deployment_id, one.flow_run_id) == free), None)
        if run is not None:
            # The flow began before the dispatcher could record its id.
            run = store.change(connection, run.id, actor="prefect", now=now, flow_run_id=flow_run.id) or run
    if run is None:
        origin = _origin(flow_run, parent_id=_run_of_caller(connection, caller_id))
    elif is_starting and _starts_again(run, flow_run):
        origin = Origin(
            Trigger.MANUAL,
            "prefect",
            parent_id=_run_of_caller(connection, caller_id),
            flow_run_id=flow_run.id,
            generation=run.generation + 1,
            retry_of=run.id,
            # Started again by hand, a replay stays one.
            replay_of=run.replay_of,
            base_version_id=run.base_version_id if run.replay_of is not None else None,
        )
    else:
        return run, deployment
    own, request = split_parameters(flow_run.parameters, deployment.declaration.get("renamed", {}))
    created = create_run(connection, deployment, origin, parameters=own, request=request, now=now)
    return created or _existing(connection, flow_run.id), deployment


def _label_of(flow_run: FlowRunFacts) -> UUID | None:
    try:
        return UUID(flow_run.labels[RUN_LABEL])
    except (KeyError, ValueError):
        return None  # none, or somebody else's


def _newest_of(rows: Iterable[Row[Any]], flow_run_id: UUID) -> Row[Any] | None:
    """Return the run of the highest generation that this flow run has among these."""
    own = [row for row in rows if row.flow_run_id == flow_run_id]
    return max(own, key=lambda row: row.generation, default=None)


def _starts_again(run: Row[Any], flow_run: FlowRunFacts) -> bool:
    """True when somebody has started a deployment's flow run again whose run had ended.

    Of one that was cancelled Prefect must say so: measured on 3.8.8, it lets a process go on that slept between two
    attempts, or was being resumed, while its flow run was cancelled. One that ended while it waited is resumed to be
    told so: taken for a new start, it would wait, and end, and be resumed for ever.
    """
    if run.stop_reason == StopReason.CANCELLED_BY_USER:
        return flow_run.is_started_again and not flow_run.was_suspended
    is_told = flow_run.was_suspended and run.status in (RunStatus.REFUSED, RunStatus.SKIPPED)
    return _had_begun(run, flow_run) and not is_told


def _is_called_again(run: Row[Any], flow_run: FlowRunFacts, parent_id: UUID | None) -> bool:
    """True when a flow is called whose run had ended; False when its process slept while that was cancelled."""
    slept = run.stop_reason == StopReason.CANCELLED_BY_USER and run.resume_due_at is not None
    return _had_begun(run, flow_run) and not (slept and run.parent_id == parent_id)


def _had_begun(run: Row[Any], flow_run: FlowRunFacts) -> bool:
    """True when the run has ended, after its body had started, or had been lost, or Prefect was in Running before."""
    was_lost = run.stop_reason in (StopReason.CRASHED, StopReason.NEVER_STARTED)
    return RunStatus(run.status).is_terminal and (run.attempt > 0 or flow_run.run_count > 1 or was_lost)


def _origin(flow_run: FlowRunFacts, *, parent_id: UUID | None) -> Origin:
    if parent_id is not None:
        return Origin(Trigger.SUBFLOW, show_run_id(parent_id), parent_id=parent_id, flow_run_id=flow_run.id)
    trigger = _TRIGGER_OF.get(flow_run.created_by_type or "", Trigger.MANUAL)
    return Origin(trigger, "prefect", trigger_name=flow_run.created_by_name, flow_run_id=flow_run.id)


def _run_of_caller(connection: Connection, caller_id: UUID | None) -> UUID | None:
    run = store.newest_run_of_flow_run(connection, caller_id) if caller_id is not None else None
    return run.id if run is not None else None


def _deployment_of(connection: Connection, call: FlowCall, tenant_id: str) -> Row[Any]:
    """Return the deployment to which a call belongs for which Prefect knows none."""
    if call.deployment is not None:
        said = registry.deployment(connection, call.deployment, tenant_id=tenant_id)
        if said.external:
            raise InvalidInput(f"run_as({said.key!r}): it is external, nothing runs it; name another deployment")
        if said.kind != call.kind:
            raise InvalidInput(
                f"run_as({said.key!r}): the function of {call.shown} is tracked as {call.kind}, that deployment is a "
                f"{said.kind}; name one of the kind {call.kind}"
            )
        return said
    if not call.flow_names:
        raise NotFound("registered deployment for the flow run", call.flow_run.name if call.flow_run else "")
    found = _deployments_of_flows(connection, call, tenant_id)
    if len(found) == 1:
        return found[0]
    if not found:
        raise NotFound(
            f"registered {call.kind} deployment (deploy the flow, or name one with freshline.flows.run_as) of the flow",
            " or ".join(call.flow_names),
        )
    keys = [row.key for row in found]
    raise InvalidInput(
        f"several deployments run the flow {call.shown}: {', '.join(keys)}; say to which one the call belongs: "
        f"`with freshline.flows.run_as({keys[0]!r}):`"
    )


def _deployments_of_flows(connection: Connection, call: FlowCall, tenant_id: str) -> list[Row[Any]]:
    """Return the deployments of the flows of these names that are tracked as this kind, ordered by key."""
    of_flow = [_DEPLOYMENT.c.prefect_name.startswith(f"{name}/", autoescape=True) for name in call.flow_names]
    query = (
        sa.select(_DEPLOYMENT)
        .where(
            _DEPLOYMENT.c.tenant_id == tenant_id,
            _DEPLOYMENT.c.kind == call.kind,
            _DEPLOYMENT.c.retired_at.is_(None),
            sa.or_(*of_flow),
        )
        .order_by(_DEPLOYMENT.c.key)
    )
    # SQLite's LIKE takes one case for the other.
    return [row for row in connection.execute(query) if row.prefect_name.partition("/")[0] in call.flow_names]


def _existing(connection: Connection, flow_run_id: UUID) -> Row[Any]:
    """Return the run that another caller recorded at the same moment."""
    run = _newest_of(store.ask_runs_of_start(connection, flow_run_id)(), flow_run_id)
    assert run is not None, "the flow run that prevented the insert has one"
    return run
