"""How a run ends that its own worker does not end: what Prefect's state means for it, and the act itself.

The act judges by what was seen a moment before. Whoever has moved the run meanwhile, be it its worker, a retry by hand
or another reconciler, wins: nothing happens then, and the next pass looks again.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.engine import Connection, Row

from ...deployments.gateway import FlowRunFacts, FlowRunState
from ...storage.database import Database
from .. import logs, outbox, store
from .. import run_events as events
from ..ending import end_run
from ..status import RunStatus, StopReason

ACTOR = "reconciler"
_TIMED_OUT = "TimedOut"

_END_OF = {
    FlowRunState.CANCELLED: (RunStatus.CANCELLED, StopReason.CANCELLED_BY_USER),
    FlowRunState.CRASHED: (RunStatus.FAILED, StopReason.CRASHED),
    FlowRunState.FAILED: (RunStatus.FAILED, StopReason.ERROR),
    # The body returned and yet never completed its run: its result was not published.
    FlowRunState.COMPLETED: (RunStatus.FAILED, StopReason.CRASHED),
}

_STATE_OF = {
    RunStatus.COMPLETED: (FlowRunState.COMPLETED, None),
    RunStatus.SKIPPED: (FlowRunState.COMPLETED, "Skipped"),
    RunStatus.CANCELLED: (FlowRunState.CANCELLED, None),
    RunStatus.REFUSED: (FlowRunState.CANCELLED, "Refused"),
    RunStatus.FAILED: (FlowRunState.CRASHED, None),
}
"""How the flow run of a run ends that has ended so."""
_CLOCKS_APART = timedelta(seconds=10)
"""The times of Prefect's states and ours are of different clocks; starting a flow run again by hand takes longer."""


@dataclass(frozen=True)
class Ending:
    """How a run has ended."""

    status: RunStatus
    stop_reason: StopReason
    message: str | None = None

    def event(self) -> events.Event:
        """Return the last event of such a run."""
        if self.status == RunStatus.CANCELLED:
            return events.RunCancelled(stop_reason=self.stop_reason)
        if self.status == RunStatus.REFUSED:
            return events.RunRefused(stop_reason=self.stop_reason, message=self.message or "")
        return events.RunFailed(stop_reason=self.stop_reason, message=self.message)


def ending_of(run: Row[Any], flow_run: FlowRunFacts | None, *, now: datetime, start_within_s: float) -> Ending | None:
    """Return how the run has ended according to Prefect, which has no such flow run if it is None; None: it goes on."""
    if flow_run is None:
        return Ending(RunStatus.CANCELLED, StopReason.DELETED_IN_PREFECT)
    if flow_run.state_type in _END_OF:
        status, reason = _END_OF[flow_run.state_type]
        if flow_run.state_type == FlowRunState.FAILED:
            status, reason = _end_of_failed(run, flow_run)
        return Ending(status, reason, flow_run.state_message)
    if run.status == RunStatus.PENDING and not flow_run.has_begun:
        due_at = flow_run.expected_start_at or run.created_at
        if now > due_at + timedelta(seconds=start_within_s):
            return Ending(RunStatus.FAILED, StopReason.NEVER_STARTED, flow_run.state_message)
    return None


def running_for(flow_run: FlowRunFacts | None, *, now: datetime) -> timedelta:
    """Return for how long Prefect has called the flow run Running; nothing when it does not.

    The state's time is of the worker's or Prefect's clock, `now` of the database's. One that is ahead makes this
    shorter, never negative: what is judged by it is judged later. Assumed is that none is behind by a large part of a
    lease: a flow run that has just begun would seem to be an old one.
    """
    if flow_run is None or flow_run.state_type != FlowRunState.RUNNING or flow_run.state_at is None:
        return timedelta()
    return max(timedelta(), now - flow_run.state_at)


def end_flow_run(connection: Connection, run: Row[Any], flow_run: FlowRunFacts, *, now: datetime) -> bool:
    """Have a flow run whose process was lost after its run had ended brought to its state; False: that was done.

    It is Crashed when the process began after that end, to do the run's work again: it was lost before its first act.
    """
    assert flow_run.state_at is not None, "it is Running"
    since = flow_run.state_at.isoformat()
    state, name = _STATE_OF[RunStatus(run.status)]
    message = f"its process was lost after its run had ended as {run.status}: Freshline has ended it"
    if run.attempt > 0 and flow_run.state_at > run.ended_at + _CLOCKS_APART:
        state, name = FlowRunState.CRASHED, None
        message = f"its process was lost before its first act; the run before had ended as {run.status}"
    return outbox.enqueue(
        connection,
        outbox.Topic.END,
        run.id,
        # A flow run may be started again, and lost again, without a new run.
        dedupe_key=f"end:{run.id}:{run.attempt}:{since}",
        now=now,
        payload={
            "flow_run_id": str(flow_run.id), "since": since, "state": state, "name": name, "message": message,
        },
    )  # fmt: skip


def close(
    connection: Connection,
    seen: Row[Any],
    ending: Ending,
    *,
    now: datetime,
    first: Sequence[events.Event] = (),
    lease_before: datetime | None = None,
) -> Row[Any] | None:
    """End a run as it was `seen`, `first` with these events; return its row, or None when somebody has moved it since.

    With `lease_before`, only while its lease is older: a heartbeat wins.
    """
    if not _is_as_seen(store.get_run(connection, seen.id, lock=True), seen):
        return None
    if first:
        store.change(connection, seen.id, first, actor=ACTOR, now=now)
    if ending.status == RunStatus.CANCELLED and seen.status == RunStatus.RUNNING:
        _ask_to_cancel(connection, seen, now=now)
    return end_run(
        connection,
        seen.id,
        ending.status,
        ending.stop_reason,
        ending.event(),
        actor=ACTOR,
        now=now,
        started_at=seen.started_at,
        held_fence=seen.fence,
        lease_before=lease_before,
        error_message=ending.message or seen.error_message,
    )


def pass_on_cancel(connection: Connection, seen: Row[Any], *, now: datetime) -> Row[Any] | None:
    """Tell a running run, as it was `seen`, that its flow run is being cancelled; return its row, or None as `close`.

    Its body is told at the next heartbeat, and from now on it has as long as with any other cancellation.
    """
    if not _is_as_seen(store.get_run(connection, seen.id, lock=True), seen):
        return None
    return _ask_to_cancel(connection, seen, now=now)


def log(logger: logging.Logger, database: Database, run: Row[Any], message: str) -> None:
    """Log what the reconciler has done to a run, after the commit."""
    with database.read() as connection:
        key = store.deployment_key(connection, run.deployment_id)
    logs.run_event(logger, message, run=run, actor=ACTOR, deployment=key)


def _end_of_failed(run: Row[Any], flow_run: FlowRunFacts) -> tuple[RunStatus, StopReason]:
    if run.status == RunStatus.WAITING:
        # Prefect fails a flow run that was suspended for longer than it was to be.
        return RunStatus.REFUSED, StopReason.WAITED_TOO_LONG
    if flow_run.state_name == _TIMED_OUT:
        return RunStatus.FAILED, StopReason.TIMED_OUT
    return RunStatus.FAILED, StopReason.ERROR if run.attempt > 0 else StopReason.NEVER_STARTED


def _is_as_seen(current: Row[Any], seen: Row[Any]) -> bool:
    # The fence alone does not say it: a run that had none when it was seen may have one now.
    return (current.status, current.fence, current.attempt) == (seen.status, seen.fence, seen.attempt)


def _ask_to_cancel(connection: Connection, run: Row[Any], *, now: datetime) -> Row[Any] | None:
    return store.transition(
        connection,
        run.id,
        RunStatus.CANCELLING,
        [events.CancelRequested()],
        actor="prefect",
        now=now,
        held_fence=run.fence,
        cancel_requested_at=now,
        lease_until=run.lease_until,
        lease_owner=run.lease_owner,
    )
