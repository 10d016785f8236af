"""The life of a run as data: statuses, allowed transitions, and the reasons for an end.

    pending ──> running ──> completed
      │  ▲        │  │ ▲ └──> failed
      ▼  │        │  │ └─── retrying ──> failed | cancelled
    waiting       │  └────> paused ──> running | failed | cancelled
      │           └───────> cancelling ──> cancelled | completed | failed
      └─> skipped | refused | cancelled | failed          (pending may end so too)

Standard library only: everything else may import this.
"""

from collections.abc import Mapping
from enum import StrEnum
from functools import cache


class RunStatus(StrEnum):
    """Where a run is in its life."""

    PENDING = "pending"
    """Recorded; it waits for Prefect to start it."""
    WAITING = "waiting"
    """The gate holds it until upstreams are ready; it holds no worker."""
    RUNNING = "running"
    """A worker executes it and holds its lease."""
    RETRYING = "retrying"
    """An attempt failed and Prefect will start another one; no lease."""
    PAUSED = "paused"
    """Its body suspended the flow run; no lease."""
    CANCELLING = "cancelling"
    """Its cancellation was asked for; the worker has not stopped yet."""
    COMPLETED = "completed"
    """Its result is published."""
    FAILED = "failed"
    """It ended with an error, or its worker was lost."""
    CANCELLED = "cancelled"
    """It ended because somebody asked for it."""
    SKIPPED = "skipped"
    """It was not needed."""
    REFUSED = "refused"
    """The gate did not let it start."""

    @property
    def is_terminal(self) -> bool:
        """True when the run has ended and never changes again."""
        return self in TERMINAL


TRANSITIONS: Mapping[RunStatus, frozenset[RunStatus]] = {
    RunStatus.PENDING: frozenset(
        {
            RunStatus.RUNNING,
            RunStatus.WAITING,
            RunStatus.SKIPPED,
            RunStatus.REFUSED,
            RunStatus.CANCELLED,
            RunStatus.FAILED,
        }
    ),
    RunStatus.WAITING: frozenset(
        {RunStatus.PENDING, RunStatus.SKIPPED, RunStatus.REFUSED, RunStatus.CANCELLED, RunStatus.FAILED}
    ),
    RunStatus.RUNNING: frozenset(
        {
            RunStatus.COMPLETED,
            RunStatus.FAILED,
            RunStatus.RETRYING,
            RunStatus.PAUSED,
            RunStatus.CANCELLING,
        }
    ),
    RunStatus.RETRYING: frozenset({RunStatus.RUNNING, RunStatus.FAILED, RunStatus.CANCELLED}),
    RunStatus.PAUSED: frozenset({RunStatus.RUNNING, RunStatus.FAILED, RunStatus.CANCELLED}),
    RunStatus.CANCELLING: frozenset({RunStatus.CANCELLED, RunStatus.COMPLETED, RunStatus.FAILED}),
    RunStatus.COMPLETED: frozenset(),
    RunStatus.FAILED: frozenset(),
    RunStatus.CANCELLED: frozenset(),
    RunStatus.SKIPPED: frozenset(),
    RunStatus.REFUSED: frozenset(),
}

TERMINAL = frozenset(status for status, following in TRANSITIONS.items() if not following)
"""A run with such a status has ended."""

ENDED_BADLY = TERMINAL - {RunStatus.COMPLETED}
"""A run with such a status has ended without a result: the few that people look for."""

LEASED = frozenset({RunStatus.RUNNING, RunStatus.CANCELLING})
"""A run with such a status holds a lease."""

ACTIVE = frozenset(RunStatus) - TERMINAL
"""A run with such a status is under way."""


@cache
def sources_of(target: RunStatus) -> frozenset[RunStatus]:
    """Return the statuses from which `target` may be reached in one step."""
    return frozenset(status for status, following in TRANSITIONS.items() if target in following)


class StepStatus(StrEnum):
    """Where a step is: Prefect's state of its task run."""

    PENDING = "pending"
    """Prefect has not started it."""
    RUNNING = "running"
    """It runs."""
    RETRYING = "retrying"
    """It failed and Prefect will start it again."""
    COMPLETED = "completed"
    """It returned."""
    CACHED = "cached"
    """Its result was taken from Prefect's cache."""
    FAILED = "failed"
    """It raised."""
    CRASHED = "crashed"
    """Its process or infrastructure was lost."""
    CANCELLED = "cancelled"
    """It was cancelled, or its run ended before it did."""


class StopReason(StrEnum):
    """Why a run ended; every terminal run has one."""

    COMPLETED = "completed"
    """The body returned and its result is the current version."""
    SUPERSEDED = "superseded"
    """The body returned, but a newer run had published before: its version is not the current one."""
    ALREADY_READY = "already_ready"
    """Skipped: the deployment was ready."""
    UPSTREAM_NOT_READY = "upstream_not_ready"
    """An upstream was not ready, or the run that was to refresh it did not complete."""
    ERROR = "error"
    """The body raised."""
    CRASHED = "crashed"
    """Prefect says that the process or its infrastructure was lost."""
    LEASE_EXPIRED = "lease_expired"
    """The worker was not heard of for a whole lease."""
    NEVER_STARTED = "never_started"
    """Prefect did not start it in time, or ended it before its start."""
    NOT_DISPATCHED = "not_dispatched"
    """Prefect refused to create the flow run."""
    TIMED_OUT = "timed_out"
    """Prefect's time limit of the flow passed."""
    WAITED_TOO_LONG = "waited_too_long"
    """Its upstreams were not ready before its deadline."""
    CANCELLED_BY_USER = "cancelled_by_user"
    """Somebody cancelled it, here or in Prefect."""
    DELETED_IN_PREFECT = "deleted_in_prefect"
    """Its flow run was deleted in Prefect."""
