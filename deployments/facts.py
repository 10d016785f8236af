"""Prefect's objects as our frozen records.

Owns the translation, nothing else. Imports no Prefect: the objects are handed in.
"""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from .gateway import ArtifactFacts, DeploymentFacts, FlowRunFacts, FlowRunState, ScheduleFacts, TaskRunFacts


def flow_run_facts(flow_run: Any) -> FlowRunFacts:
    """Return the record of a `prefect.client.schemas.objects.FlowRun`."""
    state = flow_run.state
    created_by = flow_run.created_by
    state_type = state.type if state is not None else flow_run.state_type
    policy = flow_run.empirical_policy
    return FlowRunFacts(
        id=flow_run.id,
        name=flow_run.name,
        deployment_id=flow_run.deployment_id,
        state_type=FlowRunState(state_type.value) if state_type is not None else None,
        state_name=state.name if state is not None else flow_run.state_name,
        state_message=state.message if state is not None else None,
        state_at=_utc(state.timestamp) if state is not None else None,
        labels={key: value for key, value in (flow_run.labels or {}).items() if isinstance(value, str)},
        idempotency_key=flow_run.idempotency_key,
        created_by_type=created_by.type if created_by is not None else None,
        created_by_name=created_by.display_value if created_by is not None else None,
        parameters=dict(flow_run.parameters or {}),
        parent_task_run_id=flow_run.parent_task_run_id,
        run_count=flow_run.run_count,
        tags=tuple(flow_run.tags or ()),
        is_auto_scheduled=bool(flow_run.auto_scheduled),
        created_at=_utc(flow_run.created),
        expected_start_at=_utc(flow_run.expected_start_time),
        started_at=_utc(flow_run.start_time),
        ended_at=_utc(flow_run.end_time),
        retries=policy.retries or 0,
        retry_delay_s=float(policy.retry_delay or 0),
        # Prefect leaves the word when the next attempt has begun.
        is_retried_in_process=policy.retry_type == "in_process" and state is not None and state.is_scheduled(),
        is_started_again=policy.retry_type == "reschedule",
        was_suspended=bool(policy.pause_keys),
    )


def task_run_facts(task_run: Any) -> TaskRunFacts:
    """Return the record of a `prefect.client.schemas.objects.TaskRun` of a flow run."""
    state = task_run.state
    state_type = state.type if state is not None else task_run.state_type
    return TaskRunFacts(
        id=task_run.id,
        flow_run_id=task_run.flow_run_id,
        name=task_run.name,
        task_key=task_run.task_key,
        state_type=FlowRunState(state_type.value) if state_type is not None else None,
        state_name=state.name if state is not None else task_run.state_name,
        state_message=state.message if state is not None else None,
        run_count=task_run.run_count,
        started_at=_utc(task_run.start_time),
        ended_at=_utc(task_run.end_time),
        total_run_time=task_run.total_run_time,
    )


def deployment_facts(deployment: Any, *, flow_name: str) -> DeploymentFacts:
    """Return the record of a `prefect.client.schemas.responses.DeploymentResponse`."""
    schema: Mapping[str, Any] = deployment.parameter_openapi_schema or {}
    properties: Mapping[str, Any] = schema.get("properties") or {}
    # Prefect numbers the parameters in the order of the signature; JSON objects have none.
    names = sorted(properties, key=lambda name: properties[name].get("position", len(properties)))
    return DeploymentFacts(
        id=deployment.id,
        prefect_name=f"{flow_name}/{deployment.name}",
        flow_id=deployment.flow_id,
        parameter_names=tuple(names),
        parameter_schema=dict(schema),
        parameters=dict(deployment.parameters or {}),
        job_variables=dict(deployment.job_variables or {}),
        is_paused=bool(deployment.paused),
        schedules=tuple(
            ScheduleFacts(id=one.id, is_active=bool(one.active), description=_rule(one.schedule))
            for one in deployment.schedules or ()
        ),
        work_pool_name=deployment.work_pool_name,
        tags=tuple(deployment.tags or ()),
    )


def artifact_facts(artifact: Any) -> ArtifactFacts:
    """Return the record of a `prefect.client.schemas.objects.Artifact` of a flow run."""
    return ArtifactFacts(id=artifact.id, key=artifact.key, flow_run_id=artifact.flow_run_id, data=artifact.data)


def as_cells(value: Any) -> Any:
    """Return the value as JSON that a page can show: NaN and infinities as null, other types as text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): as_cells(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_cells(item) for item in value]
    if hasattr(value, "item") and not hasattr(value, "__len__"):  # a NumPy scalar
        return as_cells(value.item())
    return str(value)


def _utc(moment: Any) -> datetime | None:
    return datetime.fromisoformat(moment.isoformat()).astimezone(UTC) if moment is not None else None


def _rule(schedule: Any) -> str:
    for kind in ("cron", "interval", "rrule"):
        if (rule := getattr(schedule, kind, None)) is not None:
            zone = getattr(schedule, "timezone", None)
            return " ".join(str(part) for part in (kind, rule, zone) if part)
    return "no schedule"
