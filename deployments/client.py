"""The gateway to a real Prefect server, over Prefect's own synchronous client.

Owns the requests, which of them are tried again, and the translation of Prefect's errors. Knows nothing of
runs. How Prefect's objects become our records is in `facts`.
"""

import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID, uuid4

from ..storage.errors import Conflict, InvalidInput, NotFound, PrefectError
from .answers import check_accepted, not_found, refused_parameters
from .facts import artifact_facts, as_cells, deployment_facts, flow_run_facts, task_run_facts
from .gateway import ArtifactFacts, DeploymentFacts, Execution, FlowRunFacts, FlowRunState, TaskRunFacts

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

P = ParamSpec("P")
T = TypeVar("T")

_PAGE = 200  # the server's own limit
_RETRIED_ANSWERS = {408, 429, 502, 503}
"""Prefect answers 503 when its SQLite file is locked: the request had no effect."""
_ATTEMPTS = 8
_LONGEST_PAUSE_S = 2.0
_ARTIFACT_KEY = re.compile(r"[a-z0-9][a-z0-9-]*")


class PrefectGateway:
    """A `gateway.Gateway` over HTTP; one client, shared by all threads and opened at the first request.

    Args:
        api_url: the server's API; None takes what Prefect's settings say when the first request is made, with
            their credentials.
        sleep: waits between two attempts; tests inject their own.
    """

    def __init__(self, api_url: str | None = None, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._asked_url = api_url
        self._sleep = sleep
        self._opening = threading.Lock()
        self._creating = threading.Lock()
        self._client: SyncPrefectClient | None = None
        self._settings: Any = None

    @property
    def api_url(self) -> str:
        """The server's address, without credentials."""
        parts = urlsplit(self._asked_url or str(self._open().api_url))
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))

    def close(self) -> None:
        """Close the connections; the gateway opens new ones when it is used again."""
        with self._opening:
            client, self._client = self._client, None
        if client is not None:
            client.__exit__(None, None, None)

    def is_healthy(self) -> bool:
        """Return whether Prefect's API answers. Never raises."""
        try:
            self._call(lambda client: client.request("GET", "/health"), retry=False)
        except PrefectError:
            return False
        return True

    def read_deployment(self, prefect_name: str) -> DeploymentFacts:
        """See `Gateway.read_deployment`."""
        with not_found("Prefect deployment", prefect_name):
            found = self._call(lambda client: client.read_deployment_by_name(prefect_name))
        return deployment_facts(found, flow_name=prefect_name.partition("/")[0])

    def read_deployments(self, deployment_ids: Iterable[UUID]) -> dict[UUID, DeploymentFacts]:
        """See `Gateway.read_deployments`."""
        from prefect.client.schemas import filters

        found: dict[UUID, DeploymentFacts] = {}
        for ids in _batches(deployment_ids):
            wanted = filters.DeploymentFilter(id=filters.DeploymentFilterId(any_=ids))
            deployments = self._call(_reading("read_deployments", deployment_filter=wanted, limit=_PAGE))
            flows = self._call(_reading("read_flows", deployment_filter=wanted, limit=_PAGE))
            names = {flow.id: flow.name for flow in flows}
            found |= {one.id: deployment_facts(one, flow_name=names[one.flow_id]) for one in deployments}
        return found

    def write_job_variables(self, deployment_id: UUID, *, env: Mapping[str, str]) -> None:
        """See `Gateway.write_job_variables`."""
        from prefect.client.schemas.actions import DeploymentUpdate

        with not_found("Prefect deployment", deployment_id):
            written = self._call(lambda client: client.read_deployment(deployment_id)).job_variables
            merged = {**written, "env": {**(written.get("env") or {}), **env}}
            update = DeploymentUpdate(job_variables=merged)
            self._call(lambda client: client.update_deployment(deployment_id, update))

    def read_work_pool_names(self) -> tuple[str, ...]:
        """See `Gateway.read_work_pool_names`."""
        names: list[str] = []
        while True:
            page = self._call(_reading("read_work_pools", limit=_PAGE, offset=len(names)))
            names += [pool.name for pool in page]
            if len(page) < _PAGE:
                return tuple(sorted(names))

    def pause_schedules(self, deployment_id: UUID) -> None:
        """See `Gateway.pause_schedules`."""
        with not_found("Prefect deployment", deployment_id):
            self._call(lambda client: client.pause_deployment(deployment_id))

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
        """See `Gateway.create_flow_run`."""

        def create(client: "SyncPrefectClient") -> Any:
            return client.create_flow_run_from_deployment(
                deployment_id,
                parameters=dict(parameters),
                idempotency_key=idempotency_key,
                labels=dict(labels),
                tags=list(tags),
                name=name,
                job_variables=dict(job_variables) if job_variables is not None else None,
            )

        # One at a time: with many requests at once Prefect's SQLite file is locked most of the time.
        with self._creating, not_found("Prefect deployment", deployment_id), refused_parameters():
            flow_run = flow_run_facts(self._call(create))
        if flow_run.deployment_id != deployment_id:
            raise Conflict(
                f"the idempotency key {idempotency_key!r} belongs to flow run {flow_run.id} of deployment "
                f"{flow_run.deployment_id}, not of {deployment_id}; put the deployment's id into the key"
            )
        return flow_run

    def read_flow_run(self, flow_run_id: UUID) -> FlowRunFacts | None:
        """See `Gateway.read_flow_run`."""
        return self.read_flow_runs([flow_run_id]).get(flow_run_id)

    def read_flow_runs(self, flow_run_ids: Iterable[UUID]) -> dict[UUID, FlowRunFacts]:
        """See `Gateway.read_flow_runs`."""
        from prefect.client.schemas import filters

        found: dict[UUID, FlowRunFacts] = {}
        for ids in _batches(flow_run_ids):
            wanted = filters.FlowRunFilter(id=filters.FlowRunFilterId(any_=ids))
            for flow_run in self._call(_reading("read_flow_runs", flow_run_filter=wanted, limit=_PAGE)):
                found[flow_run.id] = flow_run_facts(flow_run)
        return found

    def recent_flow_runs(
        self, deployment_ids: Iterable[UUID], *, since: datetime, until: datetime | None = None
    ) -> list[FlowRunFacts]:
        """See `Gateway.recent_flow_runs`."""
        from prefect.client.schemas import filters, sorting

        found: dict[UUID, FlowRunFacts] = {}
        window = filters.FlowRunFilterExpectedStartTime(after_=since, before_=until)
        for ids in _batches(deployment_ids):
            wanted = filters.FlowRunFilter(
                deployment_id=filters.FlowRunFilterDeploymentId(any_=ids), expected_start_time=window
            )
            sort = sorting.FlowRunSort.EXPECTED_START_TIME_ASC
            for page in self._pages("read_flow_runs", flow_run_filter=wanted, sort=sort):
                found |= {flow_run.id: flow_run_facts(flow_run) for flow_run in page}
        return sorted(found.values(), key=lambda facts: (facts.expected_start_at or since, facts.id))

    def read_callers(self, task_run_ids: Iterable[UUID]) -> dict[UUID, UUID]:
        """See `Gateway.read_callers`."""
        from prefect.client.schemas import filters

        found: dict[UUID, UUID] = {}
        for ids in _batches(task_run_ids):
            wanted = filters.TaskRunFilter(id=filters.TaskRunFilterId(any_=ids))
            for task_run in self._call(_reading("read_task_runs", task_run_filter=wanted, limit=_PAGE)):
                if task_run.flow_run_id is not None:
                    found[task_run.id] = task_run.flow_run_id
        return found

    def read_task_runs(self, flow_run_ids: Iterable[UUID]) -> list[TaskRunFacts]:
        """See `Gateway.read_task_runs`."""
        from prefect.client.schemas import filters, sorting

        found: dict[UUID, TaskRunFacts] = {}
        for ids in _batches(flow_run_ids):
            wanted = filters.TaskRunFilter(flow_run_id=filters.TaskRunFilterFlowRunId(any_=ids))
            # By id: an order that nothing changes while pages are turned. What is new meanwhile is seen the next time.
            for page in self._pages("read_task_runs", task_run_filter=wanted, sort=sorting.TaskRunSort.ID_DESC):
                found |= {task_run.id: task_run_facts(task_run) for task_run in page}
        return list(found.values())

    def set_state(
        self,
        flow_run_id: UUID,
        state_type: FlowRunState,
        *,
        name: str | None = None,
        message: str | None = None,
        force: bool = True,
    ) -> FlowRunFacts:
        """See `Gateway.set_state`."""
        from prefect.client.schemas.objects import State, StateType

        state: Any = State(type=StateType(state_type.value), name=name, message=message)
        with not_found("flow run", flow_run_id):
            self._call(lambda client: client.set_flow_run_state(flow_run_id, state, force=force))
        return self._present(flow_run_id)

    def cancel(self, flow_run_id: UUID) -> FlowRunFacts:
        """See `Gateway.cancel`."""
        flow_run = self._present(flow_run_id)
        if flow_run.has_ended or flow_run.state_type == FlowRunState.CANCELLING:
            return flow_run
        return self.set_state(flow_run_id, FlowRunState.CANCELLING, force=False)

    def suspend(self, flow_run_id: UUID, *, message: str, timeout_s: float) -> None:
        """See `Gateway.suspend`."""
        from prefect.exceptions import Pause
        from prefect.states import Suspended

        # Prefect takes a suspension with a key that it has seen for one that was resumed already.
        proposed: Any = Suspended(timeout_seconds=int(timeout_s), pause_key=uuid4().hex, message=message)
        with not_found("flow run", flow_run_id):
            answer = self._call(lambda client: client.set_flow_run_state(flow_run_id, proposed))
        check_accepted(answer, "suspended", flow_run_id)
        current = self.current_flow_run()
        if current is not None and current.id == flow_run_id:
            raise Pause(state=answer.state)

    def resume(self, flow_run_id: UUID) -> FlowRunFacts:
        """See `Gateway.resume`."""
        flow_run = self._present(flow_run_id)
        if not flow_run.is_suspended:
            raise Conflict(f"flow run {flow_run_id} cannot be resumed: it is {flow_run.state_name}")
        with not_found("flow run", flow_run_id):
            answer = self._call(lambda client: client.resume_flow_run(flow_run_id))
        check_accepted(answer, "resumed", flow_run_id)
        return self._present(flow_run_id)

    def write_table_artifact(
        self,
        key: str,
        rows: Sequence[Mapping[str, Any]],
        *,
        description: str | None = None,
        flow_run_id: UUID | None = None,
    ) -> UUID:
        """See `Gateway.write_table_artifact`."""
        data = json.dumps([{str(name): as_cells(value) for name, value in row.items()} for row in rows])
        return self._write_artifact("table", key, data, description, flow_run_id)

    def write_markdown_artifact(
        self,
        key: str,
        markdown: str,
        *,
        description: str | None = None,
        flow_run_id: UUID | None = None,
    ) -> UUID:
        """See `Gateway.write_markdown_artifact`."""
        return self._write_artifact("markdown", key, markdown, description, flow_run_id)

    def read_artifacts(self, flow_run_ids: Iterable[UUID], *, prefix: str) -> list[ArtifactFacts]:
        """See `Gateway.read_artifacts`."""
        from prefect.client.schemas import filters, sorting

        _check_artifact_key(prefix)
        found: dict[UUID, ArtifactFacts] = {}
        for ids in _batches(flow_run_ids):
            wanted = filters.ArtifactFilter(
                key=filters.ArtifactFilterKey(like_=f"{prefix}%"), flow_run_id=filters.ArtifactFilterFlowRunId(any_=ids)
            )
            for page in self._pages("read_artifacts", artifact_filter=wanted, sort=sorting.ArtifactSort.ID_DESC):
                found |= {artifact.id: artifact_facts(artifact) for artifact in page}
        return list(found.values())

    def current_flow_run(self) -> FlowRunFacts | None:
        """See `Gateway.current_flow_run`."""
        execution = self.current_execution()
        return execution.flow_run if execution is not None else None

    def current_execution(self) -> Execution | None:
        """See `Gateway.current_execution`."""
        if "prefect.context" not in sys.modules:
            return None
        from prefect.context import FlowRunContext, TaskRunContext

        flow, task = FlowRunContext.get(), TaskRunContext.get()
        if flow is None or flow.flow_run is None:
            return None
        return Execution(
            flow_run=flow_run_facts(flow.flow_run),
            flow_name=flow.flow.name if flow.flow is not None else None,
            function=flow.flow.fn if flow.flow is not None else None,
            # A flow that a task calls has a context of its own inside of the task's.
            in_task=task is not None and task.task_run.flow_run_id == flow.flow_run.id,
        )

    def _write_artifact(
        self, kind: str, key: str, data: str, description: str | None, flow_run_id: UUID | None
    ) -> UUID:
        _check_artifact_key(key)
        if flow_run_id is None and (current := self.current_flow_run()) is not None:
            flow_run_id = current.id
        content = {
            "type": kind,
            "key": key,
            "data": data,
            "description": description,
            "flow_run_id": str(flow_run_id) if flow_run_id else None,
        }
        # Not `create_artifact`: it emits an event through a thread that talks to the settings' server.
        answer = self._call(lambda client: client.request("POST", "/artifacts/", json=content))
        return UUID(answer.json()["id"])

    def _present(self, flow_run_id: UUID) -> FlowRunFacts:
        flow_run = self.read_flow_run(flow_run_id)
        if flow_run is None:
            raise NotFound("flow run", str(flow_run_id))
        return flow_run

    def _pages(self, method: str, **wanted: Any) -> Iterator[list[Any]]:
        offset = 0
        while True:
            page = self._call(_reading(method, **wanted, limit=_PAGE, offset=offset))
            yield page
            if len(page) < _PAGE:
                return
            offset += _PAGE

    def _open(self) -> "SyncPrefectClient":
        with self._opening:
            if self._client is None:
                from .connection import open_client

                self._client, self._settings = open_client(self._asked_url)
            return self._client

    def _call(self, send: "Callable[[SyncPrefectClient], T]", *, retry: bool = True) -> T:
        """Send one request; an answer that asks for patience is tried again, for about 20 s.

        Raises:
            PrefectError: no connection, or an answer that means an error.
        """
        from .connection import answer_status, settings_in_force, translated

        client = self._open()
        for attempt in range(_ATTEMPTS if retry else 1):
            if attempt > 0:
                # Prefect's client (3.8) itself waits about 2 s before it hands such an answer over.
                self._sleep(min(0.1 * 2**attempt, _LONGEST_PAUSE_S))
            try:
                with settings_in_force(self._settings), translated(self.api_url):
                    return send(client)
            except PrefectError as error:
                failure = error
                if answer_status(error) not in _RETRIED_ANSWERS:
                    break
        raise failure


def _check_artifact_key(key: str) -> None:
    if not _ARTIFACT_KEY.fullmatch(key):
        raise InvalidInput(f"{key!r} is no key for a Prefect artifact; use a-z, 0-9 and dashes")


def _batches(ids: Iterable[UUID]) -> Iterator[list[UUID]]:
    """Yield the distinct ids, sorted, as many at a time as the server answers with."""
    rest = sorted(set(ids))
    while rest:
        yield rest[:_PAGE]
        rest = rest[_PAGE:]


def _reading(method: str, **filters: Any) -> "Callable[[SyncPrefectClient], list[Any]]":
    def send(client: "SyncPrefectClient") -> list[Any]:
        found: list[Any] = getattr(client, method)(**filters)
        return found

    return send
