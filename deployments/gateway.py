"""What the rest of Freshline may ask of Prefect, as a Protocol and frozen records.

Owns the words for a Prefect deployment and a flow run as Prefect reports them. Must not import Prefect: the
real client is `client.PrefectGateway`, and the tests have one in memory that passes the same contract.

Every method is synchronous and may be called from several threads. Every method raises `PrefectError` when
Prefect cannot be reached or answers with an error; what else it raises is said where it is defined.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID


class FlowRunState(StrEnum):
    """Prefect's state types (`prefect.client.schemas.objects.StateType`, 3.8)."""

    SCHEDULED = "SCHEDULED"
    """Waits for its time, or for a worker."""
    PENDING = "PENDING"
    """A worker has taken it; the process starts. Not begun yet."""
    RUNNING = "RUNNING"
    """The flow function runs."""
    PAUSED = "PAUSED"
    """Paused in its process, or suspended (`state_name` is then `Suspended` and no process exists)."""
    CANCELLING = "CANCELLING"
    """The worker has been asked to stop it."""
    COMPLETED = "COMPLETED"
    """Ended well."""
    FAILED = "FAILED"
    """The flow function raised, or returned a failed state."""
    CANCELLED = "CANCELLED"
    """Ended by a cancellation."""
    CRASHED = "CRASHED"
    """The process or its infrastructure died."""


ENDED_STATES = frozenset({FlowRunState.COMPLETED, FlowRunState.FAILED, FlowRunState.CANCELLED, FlowRunState.CRASHED})
"""States that Prefect calls terminal. It can reopen a flow run nevertheless (a retry by hand)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowRunFacts:
    """One flow run, as Prefect reports it at one moment."""

    id: UUID
    name: str
    """Prefect's slug, or the name that was asked for."""
    deployment_id: UUID | None
    """None for a flow that was called directly, and for a subflow."""
    state_type: FlowRunState | None
    """None only between the creation of a flow run and its first state."""
    state_name: str | None
    """A word of its own within the type: `Late`, `Suspended`, `Refused`, `AwaitingRetry`…"""
    state_message: str | None
    state_at: datetime | None
    """Since when it is in this state (UTC, by the clock of whoever proposed the state); None without a state."""
    labels: Mapping[str, str]
    """Labels whose value is text, ours among them; Prefect adds some of its own."""
    idempotency_key: str | None
    created_by_type: str | None
    """`SCHEDULE`, `AUTOMATION`, `DEPLOYMENT`…; None for a click and for a call of the API alike."""
    created_by_name: str | None
    """The schedule's or automation's name or description."""
    parameters: Mapping[str, Any]
    """Those that were sent, merged with the deployment's; a default of the function may be missing."""
    parent_task_run_id: UUID | None
    """Set on a subflow: the task run that stands for it in its parent."""
    run_count: int
    """How often Prefect entered Running. No attempt number: 1 after suspend and resume."""
    tags: tuple[str, ...]
    is_auto_scheduled: bool
    """Prefect's scheduler made it, ahead of its time."""
    created_at: datetime | None
    """When the flow run was created (UTC); None if Prefect did not say."""
    expected_start_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    retries: int = 0
    """How many further attempts Prefect makes when the function raises; known once the function has begun."""
    retry_delay_s: float = 0.0
    """How long Prefect waits before each of them; known as `retries` is."""
    is_retried_in_process: bool = False
    """It waits for its next attempt in the process that made the last one: no worker takes it up."""
    is_started_again: bool = False
    """Somebody had Prefect start it again after it had ended; said until Prefect retries it by itself."""
    was_suspended: bool = False
    """It was suspended at least once since it was started, or started again."""

    @property
    def has_ended(self) -> bool:
        """Prefect calls the state terminal."""
        return self.state_type in ENDED_STATES

    @property
    def has_begun(self) -> bool:
        """The flow function was entered at least once."""
        # Prefect gives one that was cancelled before its start a start time too, that of its end.
        return self.started_at is not None and (self.run_count > 0 or not self.has_ended)

    @property
    def is_suspended(self) -> bool:
        """No process holds it; `Gateway.resume` schedules it again."""
        return self.state_type == FlowRunState.PAUSED and self.state_name == "Suspended"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRunFacts:
    """One task run of a flow run, as Prefect reports it at one moment.

    A call of another flow, in the process or through its deployment, has a task run that stands for it.
    """

    id: UUID
    flow_run_id: UUID
    name: str
    """Such as `fit-0`, or the name that was asked for."""
    task_key: str
    """The task: its function's name with a digest of its code."""
    state_type: FlowRunState | None
    """Task runs have the same state types as flow runs."""
    state_name: str | None
    """A word of its own within the type: `Cached`, `AwaitingRetry`…"""
    state_message: str | None
    run_count: int
    """How often Prefect entered Running; 0 all along when the task run stands for a flow run."""
    started_at: datetime | None
    ended_at: datetime | None
    total_run_time: timedelta
    """How long it was Running, without the time between two attempts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """What Prefect executes in a thread: its innermost flow run, and where in it the thread is."""

    flow_run: FlowRunFacts
    flow_name: str | None
    """Prefect's name of the flow; None where a task's process was not told."""
    function: Callable[..., Any] | None
    """The function of the flow; None where a task's process was not told."""
    in_task: bool
    """The thread is in a task of the flow run, not in the flow's function."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleFacts:
    """One schedule of a Prefect deployment."""

    id: UUID
    is_active: bool
    description: str
    """The rule in one line: `cron 0 18 * * 1-5 America/New_York`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentFacts:
    """One Prefect deployment, as Prefect reports it at one moment."""

    id: UUID
    prefect_name: str
    """`flow name/deployment name`."""
    flow_id: UUID
    parameter_names: tuple[str, ...]
    """Parameters that the flow declares, in their order; `submit` refuses any other."""
    parameter_schema: Mapping[str, Any]
    """OpenAPI schema of the parameters, as Prefect's run form uses it."""
    parameters: Mapping[str, Any]
    """The deployment's own values."""
    job_variables: Mapping[str, Any]
    is_paused: bool
    """All of its schedules are paused together."""
    schedules: tuple[ScheduleFacts, ...]
    work_pool_name: str | None
    tags: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactFacts:
    """One Prefect artifact of a flow run."""

    id: UUID
    key: str
    flow_run_id: UUID
    data: Any
    """Of a markdown artifact its text, of a table JSON as text."""


class Gateway(Protocol):
    """Prefect, as far as Freshline uses it."""

    @property
    def api_url(self) -> str:
        """The address that is talked to, without credentials: what people are shown before a change."""
        ...

    def is_healthy(self) -> bool:
        """Return whether Prefect's API answers. Never raises."""
        ...

    def read_deployment(self, prefect_name: str) -> DeploymentFacts:
        """Return the deployment called `flow name/deployment name`.

        Raises:
            NotFound: Prefect has no such deployment.
        """
        ...

    def read_deployments(self, deployment_ids: Iterable[UUID]) -> dict[UUID, DeploymentFacts]:
        """Return the deployments with these ids; one that Prefect does not have is missing."""
        ...

    def read_work_pool_names(self) -> tuple[str, ...]:
        """Return the names of all work pools, sorted."""
        ...

    def write_job_variables(self, deployment_id: UUID, *, env: Mapping[str, str]) -> None:
        """Merge `env` into the environment of the deployment's future runs; other job variables stay.

        Raises:
            NotFound: Prefect has no such deployment.
        """
        ...

    def pause_schedules(self, deployment_id: UUID) -> None:
        """Pause the deployment's schedules. Runs can still be created by hand. Idempotent.

        Raises:
            NotFound: Prefect has no such deployment.
        """
        ...

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
        """Create a flow run to start now, or return the one that this key created before.

        Calls are serialised within the process, and an answer 503 is tried again with the same key. With a
        known key Prefect returns the earlier flow run and compares nothing: other parameters are ignored
        silently. The key is unique per flow, not per deployment: put the deployment into it.

        Raises:
            NotFound: Prefect has no such deployment.
            InvalidInput: Prefect refused a parameter.
            Conflict: the key belongs to a flow run of another deployment.
        """
        ...

    def read_flow_run(self, flow_run_id: UUID) -> FlowRunFacts | None:
        """Return the flow run, or None when Prefect does not have it (any more)."""
        ...

    def read_flow_runs(self, flow_run_ids: Iterable[UUID]) -> dict[UUID, FlowRunFacts]:
        """Return the flow runs with these ids, any number; one that Prefect does not have is missing."""
        ...

    def recent_flow_runs(
        self, deployment_ids: Iterable[UUID], *, since: datetime, until: datetime | None = None
    ) -> list[FlowRunFacts]:
        """Return the flow runs of these deployments whose expected start lies within `since` and `until`.

        Oldest expected start first, both ends included. Without `until`, the future runs of schedules are among
        them, up to a hundred for each deployment. A flow run with an earlier expected start that is still open is
        not found here: re-read the open ones by id.
        """
        ...

    def read_callers(self, task_run_ids: Iterable[UUID]) -> dict[UUID, UUID]:
        """Return the id of the flow run to which each of these task runs belongs; one that is not there is missing.

        For the `parent_task_run_id` of a flow run, that is the flow run that called it.
        """
        ...

    def read_task_runs(self, flow_run_ids: Iterable[UUID]) -> list[TaskRunFacts]:
        """Return the task runs of these flow runs, any number, in no order.

        Prefect learns of them from events: one that has just begun or ended may be missing, or be as it was a
        moment before.
        """
        ...

    def set_state(
        self,
        flow_run_id: UUID,
        state_type: FlowRunState,
        *,
        name: str | None = None,
        message: str | None = None,
        force: bool = True,
    ) -> FlowRunFacts:
        """Set the state and return the flow run as it is afterwards.

        Without `force` Prefect's rules decide, and may refuse silently: read the answer.

        Raises:
            NotFound: Prefect has no such flow run.
        """
        ...

    def cancel(self, flow_run_id: UUID) -> FlowRunFacts:
        """Ask Prefect to cancel the flow run, and return it as it is afterwards.

        One that has not begun is cancelled at once; one that runs becomes `CANCELLING` and its worker ends
        it within seconds; one that has ended stays as it is.

        Raises:
            NotFound: Prefect has no such flow run.
        """
        ...

    def suspend(self, flow_run_id: UUID, *, message: str, timeout_s: float) -> None:
        """Suspend a running flow run of a deployment: it holds no worker until `resume` or the timeout.

        Does not return when the flow run is the one that this thread executes: Prefect's own signal then
        unwinds the flow function and the process ends. After `resume`, a new process starts the function
        from the top. When the timeout passes first, Prefect fails the flow run.

        Raises:
            NotFound: Prefect has no such flow run.
            Conflict: the flow run is not running, is a subflow, or belongs to no deployment: Prefect's reason.
        """
        ...

    def resume(self, flow_run_id: UUID) -> FlowRunFacts:
        """Schedule a suspended flow run to go on, and return it as it is afterwards.

        Raises:
            NotFound: Prefect has no such flow run.
            Conflict: the flow run is not suspended; the message says what it is.
        """
        ...

    def write_table_artifact(
        self,
        key: str,
        rows: Sequence[Mapping[str, Any]],
        *,
        description: str | None = None,
        flow_run_id: UUID | None = None,
    ) -> UUID:
        """Add a Prefect table artifact and return its id; NaN and infinities become empty cells.

        Without `flow_run_id` it is attached to the flow run that this thread executes, if any.

        Raises:
            InvalidInput: the key has other characters than a-z, 0-9 and dashes.
        """
        ...

    def write_markdown_artifact(
        self,
        key: str,
        markdown: str,
        *,
        description: str | None = None,
        flow_run_id: UUID | None = None,
    ) -> UUID:
        """Add a Prefect markdown artifact and return its id; otherwise as `write_table_artifact`."""
        ...

    def read_artifacts(self, flow_run_ids: Iterable[UUID], *, prefix: str) -> list[ArtifactFacts]:
        """Return the artifacts of these flow runs, any number, whose key begins with `prefix`, in no order.

        Raises:
            InvalidInput: the prefix has other characters than a-z, 0-9 and dashes.
        """
        ...

    def current_flow_run(self) -> FlowRunFacts | None:
        """Return the flow run that this thread executes, from memory; None outside of a flow."""
        ...

    def current_execution(self) -> Execution | None:
        """Return what Prefect executes in this thread, from memory; None outside of a flow."""
        ...
