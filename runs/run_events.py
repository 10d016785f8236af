"""What can happen to a run: frozen records in the past tense, one discriminated union.

What a body records itself is in `author_events`.

Each round-trips through JSON: `kind` names the class, the rest is the payload. The number, the actor and the time
belong to the log entry (`run_event`), not to the event.
"""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field, TypeAdapter

from .author_events import RecordableEvent, RecordedEvent


class RunSubmitted(RecordedEvent):
    """The run was recorded."""

    kind: Literal["run_submitted"] = "run_submitted"
    trigger: str
    trigger_name: str | None = None
    because: str | None = None
    """What it is to put right, where nobody asked for it."""

    def payload(self) -> dict[str, Any]:
        """Return the event's own facts; without `because` where there is none, as older programs know it."""
        return {name: value for name, value in super().payload().items() if name != "because" or value is not None}


class RunDispatched(RecordedEvent):
    """Prefect has a flow run for it."""

    kind: Literal["run_dispatched"] = "run_dispatched"
    flow_run_id: UUID


class GateDecided(RecordedEvent):
    """The gate looked at the upstreams; recorded when that differs from the decision before, with warnings."""

    kind: Literal["gate_decided"] = "gate_decided"
    verdict: str
    reason: str


class RunWaiting(RecordedEvent):
    """The run waits for upstreams."""

    kind: Literal["run_waiting"] = "run_waiting"
    upstreams: list[str]


class RunReleased(RecordedEvent):
    """No upstream holds the run back any more."""

    kind: Literal["run_released"] = "run_released"


class RunStarted(RecordedEvent):
    """A worker claimed the run and starts its body."""

    kind: Literal["run_started"] = "run_started"
    attempt: int
    fence: int
    worker: str


class ProgressReported(RecordedEvent):
    """The body said how far it is: 0 to 1."""

    kind: Literal["progress_reported"] = "progress_reported"
    progress: float
    label: str | None = None


class AttemptFailed(RecordedEvent):
    """The body raised, and Prefect will start another attempt."""

    kind: Literal["attempt_failed"] = "attempt_failed"
    attempt: int
    error_type: str
    message: str


class CancelRequested(RecordedEvent):
    """Somebody asked for the run's cancellation."""

    kind: Literal["cancel_requested"] = "cancel_requested"


class CancelForced(RecordedEvent):
    """The worker did not stop in time after its cancellation had been asked for."""

    kind: Literal["cancel_forced"] = "cancel_forced"
    after_s: float
    """How long that was."""


class PauseRequested(RecordedEvent):
    """Somebody asked for the run's pause."""

    kind: Literal["pause_requested"] = "pause_requested"


class ResumeRequested(RecordedEvent):
    """Somebody asked for the paused run to go on."""

    kind: Literal["resume_requested"] = "resume_requested"


class RunPaused(RecordedEvent):
    """The body was suspended; no worker holds the run."""

    kind: Literal["run_paused"] = "run_paused"


class VersionPublished(RecordedEvent):
    """The run's result was published."""

    kind: Literal["version_published"] = "version_published"
    number: int
    digest: str
    is_current: bool
    affected: dict[str, str] = Field(default_factory=dict)
    """Deployments whose freshness changed with it, the nearest 100: key -> new freshness."""
    num_affected: dict[str, int] = Field(default_factory=dict)
    """How many they are: new freshness -> number."""


class RunCompleted(RecordedEvent):
    """The run ended well."""

    kind: Literal["run_completed"] = "run_completed"
    stop_reason: str


class RunFailed(RecordedEvent):
    """The run ended with an error, or its worker was lost."""

    kind: Literal["run_failed"] = "run_failed"
    stop_reason: str
    error_type: str | None = None
    message: str | None = None


class RunCancelled(RecordedEvent):
    """The run ended because somebody asked for it."""

    kind: Literal["run_cancelled"] = "run_cancelled"
    stop_reason: str


class RunSkipped(RecordedEvent):
    """The run was not needed."""

    kind: Literal["run_skipped"] = "run_skipped"
    stop_reason: str


class RunRefused(RecordedEvent):
    """The gate did not let the run start."""

    kind: Literal["run_refused"] = "run_refused"
    stop_reason: str
    message: str


Event = Annotated[
    RunSubmitted
    | RunDispatched
    | GateDecided
    | RunWaiting
    | RunReleased
    | RunStarted
    | ProgressReported
    | AttemptFailed
    | CancelRequested
    | CancelForced
    | PauseRequested
    | ResumeRequested
    | RunPaused
    | VersionPublished
    | RunCompleted
    | RunFailed
    | RunCancelled
    | RunSkipped
    | RunRefused
    | RecordableEvent,
    Field(discriminator="kind"),
]

_ADAPTER: TypeAdapter[Any] = TypeAdapter(Event)


def parse_event(kind: str, payload: dict[str, Any]) -> Event:
    """Return the event that a stored entry holds.

    Raises:
        pydantic.ValidationError: the entry is none that this program knows.
    """
    event: Event = _ADAPTER.validate_python({"kind": kind, **payload})
    return event
