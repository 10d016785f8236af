"""Stand-ins of our own for what is slow or far away; each passes the contract of the real thing."""

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from freshline.deployments.gateway import (
    ENDED_STATES,
    ArtifactFacts,
    DeploymentFacts,
    Execution,
    FlowRunFacts,
    FlowRunState,
    ScheduleFacts,
    TaskRunFacts,
)
from freshline.storage.errors import Conflict, InvalidInput, NotFound, PrefectError

_JSON_TYPES: Mapping[str, tuple[type, ...]] = {
    "integer": (int,),
    "number": (int, float),
    "string": (str,),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}


@dataclass(frozen=True)
class Artifact:
    """A Prefect artifact that was written."""

    key: str
    kind: str
    data: Any
    description: str | None
    flow_run_id: UUID | None


class FakeGateway:
    """A Prefect server and its people in memory: passes the gateway's contract, and can fail on command.

    Failing, each for the next call only: `fail_next` (nothing happens), `lose_reply_of_next` (it happens, the caller
    gets an error). `is_down = True` fails every call until it is False again.

    What the worker, a person or the scheduler would do: `begin`, `task`, `call`, `run_script`, `retry`, `end`,
    `start_again`, `click`, `schedule`, `delete`, `delete_deployment`.
    """

    def __init__(self, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.is_down = False
        self.artifacts: dict[UUID, Artifact] = {}
        self.calls: list[str] = []
        """The names of the methods that were called, in order."""
        self._clock = clock
        self._lock = threading.RLock()
        self._deployments: dict[UUID, DeploymentFacts] = {}
        self._flow_runs: dict[UUID, FlowRunFacts] = {}
        self._task_runs: dict[UUID, TaskRunFacts] = {}
        self._keys: dict[tuple[UUID, str], UUID] = {}
        self._pools = {"local"}
        self._faults: dict[str, tuple[str, Exception]] = {}
        self._current: UUID | None = None

    # What a test arranges.

    def add_deployment(
        self,
        prefect_name: str,
        *,
        parameters: Mapping[str, Mapping[str, Any]] | None = None,
        job_variables: Mapping[str, Any] | None = None,
        schedules: Iterable[str] = (),
        work_pool_name: str = "local",
    ) -> DeploymentFacts:
        """Add a deployment, as `prefect deploy` would; `parameters` maps names to their JSON schemas."""
        with self._lock:
            flow_name = prefect_name.partition("/")[0]
            same_flow = [one for one in self._deployments.values() if one.prefect_name.startswith(f"{flow_name}/")]
            properties = {name: dict(schema) for name, schema in (parameters or {}).items()}
            facts = DeploymentFacts(
                id=uuid4(),
                prefect_name=prefect_name,
                flow_id=same_flow[0].flow_id if same_flow else uuid4(),
                parameter_names=tuple(properties),
                parameter_schema={"title": "Parameters", "type": "object", "properties": properties},
                parameters={},
                job_variables=dict(job_variables or {}),
                is_paused=False,
                schedules=tuple(ScheduleFacts(id=uuid4(), is_active=True, description=rule) for rule in schedules),
                work_pool_name=work_pool_name,
            )
            self._pools.add(work_pool_name)
            self._deployments[facts.id] = facts
            return facts

    def fail_next(self, method: str, error: Exception | None = None) -> None:
        """The next call of this method does nothing and raises."""
        self._faults[method] = ("before", error or PrefectError("Prefect answered 500 on command"))

    def lose_reply_of_next(self, method: str, error: Exception | None = None) -> None:
        """The next call of this method takes effect, and raises nevertheless."""
        self._faults[method] = ("after", error or PrefectError("Prefect's answer was lost on command"))

    def begin(self, flow_run_id: UUID) -> FlowRunFacts:
        """A worker starts the flow function."""
        with self._lock:
            before = self._existing(flow_run_id)
            now = self._clock()
            return self._put(
                replace(
                    before,
                    state_type=FlowRunState.RUNNING,
                    state_name="Running",
                    state_message=None,
                    state_at=now,
                    # Prefect does not count a start that goes on after a suspension.
                    run_count=before.run_count + (before.state_name != "Resuming"),
                    started_at=before.started_at or now,
                    ended_at=None,
                    is_retried_in_process=False,
                )
            )

    def call(self, caller: UUID, deployment_id: UUID | None = None) -> FlowRunFacts:
        """A flow calls another: in its process, or with `run_deployment` the one of a deployment."""
        with self._lock:
            parent = self.task(caller, "called-0", FlowRunState.PENDING)
            made = self._new(self._deployments[deployment_id] if deployment_id else None, {})
            return self._put(replace(made, parent_task_run_id=parent.id))

    def run_script(self) -> FlowRunFacts:
        """A script calls a flow under this server."""
        return self._new(None, {})

    def task(
        self,
        flow_run_id: UUID,
        name: str = "fit-0",
        state_type: FlowRunState = FlowRunState.RUNNING,
        *,
        state_name: str | None = None,
        message: str | None = None,
        task_run_id: UUID | None = None,
        attempt: int | None = None,
    ) -> TaskRunFacts:
        """The flow calls a task, or the task run of this id comes into another state."""
        with self._lock:
            now, known = self._clock(), self._task_runs.get(task_run_id or uuid4())
            is_running, has_ended = state_type == FlowRunState.RUNNING, state_type in ENDED_STATES
            entered = (known.run_count if known else 0) + is_running
            began = known.started_at if known else None
            facts = TaskRunFacts(
                id=known.id if known else (task_run_id or uuid4()),
                flow_run_id=flow_run_id,
                name=name,
                task_key=f"{name.rpartition('-')[0]}-0a1b2c3d",
                state_type=state_type,
                state_name=state_name or state_type.value.capitalize(),
                state_message=message,
                run_count=entered if attempt is None else attempt,
                started_at=began or (now if is_running or has_ended else None),
                ended_at=now if has_ended else None,
                total_run_time=now - began if has_ended and began else timedelta(),
            )
            self._task_runs[facts.id] = facts
            return facts

    def retry(self, flow_run_id: UUID, *, retries: int = 1, delay_s: float = 0.0) -> FlowRunFacts:
        """The function raises, and its process sleeps until it may call it again."""
        with self._lock:
            failed = self._with_state(
                self._existing(flow_run_id), FlowRunState.SCHEDULED, name="AwaitingRetry", message="it raised"
            )
            return self._put(
                replace(
                    failed,
                    retries=retries,
                    retry_delay_s=delay_s,
                    is_retried_in_process=True,
                    is_started_again=False,
                    was_suspended=False,
                )
            )

    def end(
        self,
        flow_run_id: UUID,
        state_type: FlowRunState = FlowRunState.COMPLETED,
        *,
        name: str | None = None,
        message: str | None = None,
    ) -> FlowRunFacts:
        """The flow run ends, by itself or because its process died."""
        with self._lock:
            return self._with_state(self._existing(flow_run_id), state_type, name=name, message=message)

    def start_again(self, flow_run_id: UUID) -> FlowRunFacts:
        """A person presses *Retry* on an ended flow run: it waits for a worker again."""
        with self._lock:
            ended = replace(self._existing(flow_run_id), is_started_again=True, was_suspended=False)
            return self._with_state(ended, FlowRunState.SCHEDULED, name="AwaitingRetry", message=None)

    def click(self, deployment_id: UUID, parameters: Mapping[str, Any] | None = None) -> FlowRunFacts:
        """A person presses *Quick run*: no label, no key, no creator."""
        return self._new(self._deployments[deployment_id], parameters or {})

    def schedule(self, deployment_id: UUID, *, at: datetime, by: str = "SCHEDULE", name: str = "daily") -> FlowRunFacts:
        """The scheduler (or, with `by="AUTOMATION"`, an automation) creates a flow run for this time."""
        made = self._new(self._deployments[deployment_id], {})
        with self._lock:
            return self._put(
                replace(
                    made,
                    created_by_type=by,
                    created_by_name=name,
                    is_auto_scheduled=by == "SCHEDULE",
                    expected_start_at=at,
                )
            )

    def delete(self, flow_run_id: UUID) -> None:
        """A person deletes the flow run; its key is free again."""
        with self._lock:
            gone = self._flow_runs.pop(flow_run_id)
            self._keys = {key: one for key, one in self._keys.items() if one != gone.id}

    def delete_deployment(self, deployment_id: UUID) -> None:
        """A person deletes the deployment; what was scheduled goes with it, what began stays."""
        with self._lock:
            del self._deployments[deployment_id]
            for flow_run in list(self._flow_runs.values()):
                if flow_run.deployment_id == deployment_id and flow_run.state_type == FlowRunState.SCHEDULED:
                    self.delete(flow_run.id)

    @contextmanager
    def within(self, flow_run_id: UUID) -> Iterator[None]:
        """This is the process that executes the flow run: `current_flow_run` returns it."""
        self._current = flow_run_id
        try:
            yield
        finally:
            self._current = None

    # The gateway.

    @property
    def api_url(self) -> str:
        return "http://prefect.test/api"

    def is_healthy(self) -> bool:
        return not self.is_down

    def read_deployment(self, prefect_name: str) -> DeploymentFacts:
        with self._call("read_deployment"):
            for facts in self._deployments.values():
                if facts.prefect_name == prefect_name:
                    return facts
            raise NotFound("Prefect deployment", prefect_name)

    def read_deployments(self, deployment_ids: Iterable[UUID]) -> dict[UUID, DeploymentFacts]:
        with self._call("read_deployments"):
            return {one: self._deployments[one] for one in deployment_ids if one in self._deployments}

    def read_work_pool_names(self) -> tuple[str, ...]:
        with self._call("read_work_pool_names"):
            return tuple(sorted(self._pools))

    def write_job_variables(self, deployment_id: UUID, *, env: Mapping[str, str]) -> None:
        with self._call("write_job_variables"):
            facts = self._deployment(deployment_id)
            merged = {**facts.job_variables, "env": {**facts.job_variables.get("env", {}), **env}}
            self._deployments[deployment_id] = replace(facts, job_variables=merged)

    def pause_schedules(self, deployment_id: UUID) -> None:
        with self._call("pause_schedules"):
            self._deployments[deployment_id] = replace(self._deployment(deployment_id), is_paused=True)

    def create_flow_run(
        self,
        deployment_id: UUID,
        *,
        parameters: Mapping[str, Any],
        idempotency_key: str,
        labels: Mapping[str, str],
        tags: Iterable[str] = (),
        name: str | None = None,
        job_variables: Mapping[str, Any] | None = None,
    ) -> FlowRunFacts:
        with self._call("create_flow_run"):
            deployment = self._deployment(deployment_id)
            _check_types(deployment, parameters)
            known = self._keys.get((deployment.flow_id, idempotency_key))
            if known is None:
                made = self._new(deployment, parameters)
                known = made.id
                self._keys[deployment.flow_id, idempotency_key] = known
                self._put(
                    replace(
                        made,
                        idempotency_key=idempotency_key,
                        labels=dict(labels),
                        tags=tuple(tags),
                        name=name or made.name,
                    )
                )
            flow_run = self._flow_runs[known]
            if flow_run.deployment_id != deployment_id:
                raise Conflict(f"the idempotency key {idempotency_key!r} belongs to another deployment")
            return flow_run

    def read_flow_run(self, flow_run_id: UUID) -> FlowRunFacts | None:
        with self._call("read_flow_run"):
            return self._flow_runs.get(flow_run_id)

    def read_flow_runs(self, flow_run_ids: Iterable[UUID]) -> dict[UUID, FlowRunFacts]:
        with self._call("read_flow_runs"):
            return {one: self._flow_runs[one] for one in flow_run_ids if one in self._flow_runs}

    def recent_flow_runs(
        self, deployment_ids: Iterable[UUID], *, since: datetime, until: datetime | None = None
    ) -> list[FlowRunFacts]:
        with self._call("recent_flow_runs"):
            wanted = set(deployment_ids)
            found = [
                (one.expected_start_at, one.id, one)
                for one in self._flow_runs.values()
                if one.deployment_id in wanted
                and one.expected_start_at is not None
                and one.expected_start_at >= since
                and (until is None or one.expected_start_at <= until)
            ]
            return [one for _, _, one in sorted(found, key=lambda item: item[:2])]

    def read_callers(self, task_run_ids: Iterable[UUID]) -> dict[UUID, UUID]:
        with self._call("read_callers"):
            known = self._task_runs
            return {one: known[one].flow_run_id for one in task_run_ids if one in known}

    def read_task_runs(self, flow_run_ids: Iterable[UUID]) -> list[TaskRunFacts]:
        with self._call("read_task_runs"):
            wanted = set(flow_run_ids)
            return [one for one in self._task_runs.values() if one.flow_run_id in wanted]

    def set_state(
        self,
        flow_run_id: UUID,
        state_type: FlowRunState,
        *,
        name: str | None = None,
        message: str | None = None,
        force: bool = True,
    ) -> FlowRunFacts:
        with self._call("set_state"):
            before = self._existing(flow_run_id)
            if before.has_ended and state_type == FlowRunState.SCHEDULED and not force:
                before = replace(before, is_started_again=True, was_suspended=False)
            return self._with_state(before, state_type, name=name, message=message)

    def cancel(self, flow_run_id: UUID) -> FlowRunFacts:
        with self._call("cancel"):
            flow_run = self._existing(flow_run_id)
            if flow_run.has_ended or flow_run.state_type == FlowRunState.CANCELLING:
                return flow_run
            holds_process = flow_run.state_type not in (FlowRunState.SCHEDULED, FlowRunState.PAUSED)
            state = FlowRunState.CANCELLING if holds_process else FlowRunState.CANCELLED
            return self._with_state(flow_run, state)

    def suspend(self, flow_run_id: UUID, *, message: str, timeout_s: float) -> None:
        with self._call("suspend"):
            flow_run = self._existing(flow_run_id)
            if flow_run.state_type != FlowRunState.RUNNING:
                raise Conflict(
                    f"flow run {flow_run_id} cannot be suspended: Cannot suspend flows that are not currently running."
                )
            for what, is_so in {
                "subflows": flow_run.parent_task_run_id is not None,
                "flows without a deployment": flow_run.deployment_id is None,
            }.items():
                if is_so:
                    raise Conflict(f"flow run {flow_run_id} cannot be suspended: Cannot suspend {what}.")
            flow_run = replace(flow_run, was_suspended=True)
            self._with_state(flow_run, FlowRunState.PAUSED, name="Suspended", message=message)
            if self._current == flow_run_id:
                raise Suspension(message)

    def resume(self, flow_run_id: UUID) -> FlowRunFacts:
        with self._call("resume"):
            flow_run = self._existing(flow_run_id)
            if not flow_run.is_suspended:
                raise Conflict(f"flow run {flow_run_id} cannot be resumed: it is {flow_run.state_name}")
            return self._with_state(flow_run, FlowRunState.SCHEDULED, name="Resuming")

    def write_table_artifact(
        self,
        key: str,
        rows: Sequence[Mapping[str, Any]],
        *,
        description: str | None = None,
        flow_run_id: UUID | None = None,
    ) -> UUID:
        from freshline.deployments.facts import as_cells

        with self._call("write_table_artifact"):
            data = [{name: as_cells(value) for name, value in row.items()} for row in rows]
            return self._write("table", key, data, description, flow_run_id)

    def write_markdown_artifact(
        self, key: str, markdown: str, *, description: str | None = None, flow_run_id: UUID | None = None
    ) -> UUID:
        with self._call("write_markdown_artifact"):
            return self._write("markdown", key, markdown, description, flow_run_id)

    def read_artifacts(self, flow_run_ids: Iterable[UUID], *, prefix: str) -> list[ArtifactFacts]:
        with self._call("read_artifacts"):
            _check_artifact_key(prefix)
            wanted = set(flow_run_ids)
            return [
                ArtifactFacts(id=made, key=one.key, flow_run_id=one.flow_run_id, data=one.data)
                for made, one in self.artifacts.items()
                if one.flow_run_id in wanted and one.flow_run_id is not None and one.key.startswith(prefix)
            ]

    def current_flow_run(self) -> FlowRunFacts | None:
        return self._flow_runs.get(self._current) if self._current is not None else None

    def current_execution(self) -> Execution | None:
        flow_run = self.current_flow_run()
        if flow_run is None:
            return None
        return Execution(flow_run=flow_run, flow_name=None, function=None, in_task=False)

    # Within.

    @contextmanager
    def _call(self, method: str) -> Iterator[None]:
        """One request: counted, one at a time, with the fault that was ordered for it."""
        with self._lock:
            self.calls.append(method)
            if self.is_down:
                raise PrefectError(f"Prefect at {self.api_url} cannot be reached (on command)")
            moment, error = self._faults.pop(method, ("", None))
            if moment == "before" and error is not None:
                raise error
            yield
            if moment == "after" and error is not None:
                raise error

    def _deployment(self, deployment_id: UUID) -> DeploymentFacts:
        if deployment_id not in self._deployments:
            raise NotFound("Prefect deployment", str(deployment_id))
        return self._deployments[deployment_id]

    def _existing(self, flow_run_id: UUID) -> FlowRunFacts:
        if flow_run_id not in self._flow_runs:
            raise NotFound("flow run", str(flow_run_id))
        return self._flow_runs[flow_run_id]

    def _put(self, flow_run: FlowRunFacts) -> FlowRunFacts:
        self._flow_runs[flow_run.id] = flow_run
        return flow_run

    def _new(self, deployment: DeploymentFacts | None, parameters: Mapping[str, Any]) -> FlowRunFacts:
        with self._lock:
            now = self._clock()
            return self._put(
                FlowRunFacts(
                    id=uuid4(),
                    name=f"fake-flow-run-{len(self._flow_runs) + 1}",
                    deployment_id=deployment.id if deployment else None,
                    state_type=FlowRunState.SCHEDULED if deployment else FlowRunState.PENDING,
                    state_name="Scheduled" if deployment else "Pending",
                    state_message=None,
                    state_at=now,
                    labels={},
                    idempotency_key=None,
                    created_by_type=None,
                    created_by_name=None,
                    parameters={**(deployment.parameters if deployment else {}), **parameters},
                    parent_task_run_id=None,
                    run_count=0,
                    tags=(),
                    is_auto_scheduled=False,
                    created_at=now,
                    expected_start_at=now,
                    started_at=None,
                    ended_at=None,
                )
            )

    def _with_state(
        self,
        flow_run: FlowRunFacts,
        state_type: FlowRunState,
        *,
        name: str | None = None,
        message: str | None = None,
    ) -> FlowRunFacts:
        now = self._clock()
        changed = replace(
            flow_run,
            state_type=state_type,
            state_name=name or state_type.value.capitalize(),
            state_message=message,
            state_at=now,
            is_retried_in_process=False,
        )
        return self._put(replace(changed, ended_at=now if changed.has_ended else None))

    def _write(self, kind: str, key: str, data: Any, description: str | None, flow_run_id: UUID | None) -> UUID:
        _check_artifact_key(key)
        made = uuid4()
        self.artifacts[made] = Artifact(key, kind, data, description, flow_run_id or self._current)
        return made


def _check_artifact_key(key: str) -> None:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", key):
        raise InvalidInput(f"{key!r} is no key for a Prefect artifact; use a-z, 0-9 and dashes")


class Suspension(BaseException):
    """What unwinds a flow that suspended itself, in place of Prefect's own signal."""


def _check_types(deployment: DeploymentFacts, parameters: Mapping[str, Any]) -> None:
    properties = deployment.parameter_schema["properties"]
    for name, value in parameters.items():
        kinds = _JSON_TYPES.get(properties.get(name, {}).get("type", ""))
        is_number = isinstance(value, bool) and kinds in (_JSON_TYPES["integer"], _JSON_TYPES["number"])
        if kinds is not None and (not isinstance(value, kinds) or is_number):
            raise InvalidInput(f"Prefect refused the parameters: {name}={value!r} is no {kinds[0].__name__}")
