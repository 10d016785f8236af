"""Which run does a flow run belong to? The same answer for a worker that starts it and for the reconciler.

A flow run that Freshline dispatched carries its run's id as a label. Any other one (a click, a schedule, an
automation) gets its run here, exactly one, guarded by the unique (flow run, generation).
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.engine import Connection, Row

from ..deployments.gateway import FlowRunFacts
from ..lineage import registry
from ..storage.words import Trigger
from . import store
from .creation import Origin, create_run
from .request import split_parameters
from .status import RunStatus, StopReason

RUN_LABEL = "freshline.run_id"
"""The label that a dispatched flow run carries."""

_TRIGGER_OF = {"SCHEDULE": Trigger.SCHEDULE, "AUTOMATION": Trigger.AUTOMATION}


def ensure_run(connection: Connection, flow_run: FlowRunFacts, *, now: datetime, is_starting: bool) -> Row[Any] | None:
    """Return the run of a flow run, recorded now if it had none; None when its deployment is not ours.

    With `is_starting`, a flow run that somebody started again after its run had ended gets a new run of the next
    generation: a terminal run never reopens.
    """
    if flow_run.deployment_id is None:
        return None
    deployment = registry.deployment_by_prefect_id(connection, flow_run.deployment_id)
    if deployment is None:
        return None
    run = _labelled_run(connection, flow_run, deployment.id, now=now)
    run = store.newest_run_of_flow_run(connection, flow_run.id) or run
    if run is None:
        return _create(connection, flow_run, deployment, _origin(flow_run), now=now)
    if is_starting and RunStatus(run.status).is_terminal and _was_started_again(run, flow_run):
        again = Origin(
            Trigger.MANUAL, "prefect", flow_run_id=flow_run.id, generation=run.generation + 1, retry_of=run.id
        )
        return _create(connection, flow_run, deployment, again, now=now)
    return run


def _labelled_run(
    connection: Connection, flow_run: FlowRunFacts, deployment_id: UUID, *, now: datetime
) -> Row[Any] | None:
    label = flow_run.labels.get(RUN_LABEL)
    try:
        run = store.find_run(connection, UUID(label)) if label else None
    except ValueError:
        return None  # somebody else's label
    if run is None or run.deployment_id != deployment_id:
        return None
    if run.flow_run_id is None:
        # The flow began before the dispatcher could record its id.
        return store.change(connection, run.id, actor="prefect", now=now, flow_run_id=flow_run.id) or run
    return run


def _was_started_again(run: Row[Any], flow_run: FlowRunFacts) -> bool:
    """True when the run's body had started, Prefect has been through Running before, or had lost it before."""
    was_lost = run.stop_reason in (StopReason.CRASHED, StopReason.NEVER_STARTED)
    return run.attempt > 0 or flow_run.run_count > 1 or was_lost


def _origin(flow_run: FlowRunFacts) -> Origin:
    trigger = _TRIGGER_OF.get(flow_run.created_by_type or "", Trigger.MANUAL)
    return Origin(trigger, "prefect", trigger_name=flow_run.created_by_name, flow_run_id=flow_run.id)


def _create(
    connection: Connection,
    flow_run: FlowRunFacts,
    deployment: Row[Any],
    origin: Origin,
    *,
    now: datetime,
) -> Row[Any] | None:
    own, request = split_parameters(flow_run.parameters, deployment.declaration.get("renamed", {}))
    created = create_run(
        connection,
        deployment,
        origin,
        parameters=own,
        request=request,
        now=now,
    )
    return created or store.newest_run_of_flow_run(connection, flow_run.id)
