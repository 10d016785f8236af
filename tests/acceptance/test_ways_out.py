"""Every way out: whatever ends a run, or keeps it from starting, its one record says what it was.

Against a real Prefect server and workers, with SIGKILLs. The flow runs start together before the first test, and each
meets its fate as soon as its body is under way; each test then looks at the record, and at what Prefect says.
"""

import os
import signal
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from freshline.deployments.gateway import FlowRunState
from freshline.runs import store
from freshline.runs.models import Run
from tests.acceptance.ways import WAIT_S, opened
from tests.acceptance.ways_project import DOOMED_POOL

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

VISIBLE_WITHIN_S = 75.0
"""How long after the fact the record has its end, with the settings that are there when none is set."""


@dataclass(frozen=True)
class Fates:
    """What was to happen to each flow run, and has been done to it."""

    cancelled_before_start: Run
    cancelled_in_prefect_before_start: UUID
    dying: UUID
    dying_submitted: Run
    killed: UUID
    deleted: UUID
    cancelled: Run
    cancelled_in_prefect: UUID
    survivor: UUID
    """Its worker was killed."""
    zombie: UUID
    """Its worker was killed, and it was too."""
    release: Path
    """The bodies that go on return when this file is there."""
    at: dict[str, datetime] = field(default_factory=dict)
    """When each was done, by name."""

    def note(self, name):
        """Remember that it was done now."""
        self.at[name] = datetime.now(UTC)


@pytest.fixture(scope="module")
def fates(ways):
    return meet(ways)


def meet(ways):
    """Start what is to end badly, and end it so as soon as its body is under way."""
    release = ways.project / "release"
    parameters = {"release": str(release)}
    worker = ways.start_worker(DOOMED_POOL)
    fates = Fates(
        survivor=ways.create("orphan", parameters),
        zombie=ways.create("orphan", parameters),
        dying=ways.create("dying"),
        dying_submitted=ways.submit("dying"),
        killed=ways.create("held", parameters),
        deleted=ways.create("held", parameters),
        cancelled=ways.submit("held", parameters),
        cancelled_in_prefect=ways.create("held", parameters),
        cancelled_before_start=ways.submit("waiting"),
        cancelled_in_prefect_before_start=ways.create("waiting"),
        release=release,
    )
    ways.cancel_in_prefect(fates.cancelled_in_prefect_before_start)
    fates.note("cancelled_in_prefect_before_start")
    ways.dispatched(fates.cancelled_before_start)
    ways.freshline.service.cancel(fates.cancelled_before_start.id)
    fates.note("cancelled_before_start")

    ways.running(fates.survivor)
    # A lease that was renewed in the moment of the kill lasts longest: not the moment to measure from.
    ways.wait_for("some time without a heartbeat", lambda: age_s(ways.running(fates.zombie).heartbeat_at) > 0.5)
    worker.send_signal(signal.SIGKILL)
    worker.wait(timeout=WAIT_S)
    ways.kill_flow(fates.zombie)
    fates.note("zombie")

    ways.running(fates.killed)
    ways.kill_flow(fates.killed)
    fates.note("killed")
    ways.running(fates.deleted)
    ways.call("DELETE", f"flow_runs/{fates.deleted}")
    fates.note("deleted")
    ways.running(ways.dispatched(fates.cancelled).flow_run_id)
    ways.freshline.service.cancel(fates.cancelled.id)
    fates.note("cancelled")
    ways.running(fates.cancelled_in_prefect)
    ways.cancel_in_prefect(fates.cancelled_in_prefect)
    fates.note("cancelled_in_prefect")
    return fates


def age_s(moment):
    """How long ago it was, in seconds."""
    return (datetime.now(UTC) - moment).total_seconds()


def outline(run):
    """How a run came to be and how it ended."""
    return (run.type, run.trigger, run.status, run.stop_reason, run.attempt, run.generation, run.retry_of)


def is_alone(ways, run):
    """True when the flow run has this run and no other."""
    return [one.id for one in ways.runs_of_flow_run(run.flow_run_id)] == [run.id]


def in_prefect(ways, flow_run_id, state):
    """Return Prefect's flow run as soon as it is in this state."""
    return ways.flow_run_when(flow_run_id, lambda flow_run: flow_run.state_type == state, f"the state {state}")


def ended_by(ways, run):
    """Who wrote the last event of a run that has ended."""
    with ways.freshline.database.read() as connection:
        return store.events_of(connection, run.id)[-1].actor


def published(ways, run):
    """The numbers of the versions that this run has published."""
    return [event.number for _, event in ways.queries.events(run.id) if event.kind == "version_published"]


def test_run_cancelled_before_its_start_is_cancelled_and_so_is_its_flow_run(ways, fates):
    run = ways.ended(fates.cancelled_before_start.id)
    assert outline(run) == ("PipelineRun", "submitted", "cancelled", "cancelled_by_user", 0, 0, None)
    assert is_alone(ways, run)
    assert run.started_at is None
    assert in_prefect(ways, run.flow_run_id, FlowRunState.CANCELLED).run_count == 0


def test_flow_run_cancelled_in_prefect_before_its_start_gets_one_cancelled_run(ways, fates):
    run = ways.ended(ways.the_run(fates.cancelled_in_prefect_before_start).id)
    assert outline(run) == ("PipelineRun", "manual", "cancelled", "cancelled_by_user", 0, 0, None)
    assert is_alone(ways, run)
    assert run.started_at is None


def test_process_that_dies_at_import_gives_one_failed_run_that_never_began(ways, fates):
    run = ways.ended(ways.the_run(fates.dying).id)
    assert outline(run) == ("PipelineRun", "manual", "failed", "crashed", 0, 0, None)
    assert is_alone(ways, run)
    assert run.started_at is None
    assert in_prefect(ways, fates.dying, FlowRunState.CRASHED)


def test_submitted_run_whose_process_dies_at_import_is_failed(ways, fates):
    run = ways.ended(fates.dying_submitted.id)
    assert outline(run) == ("PipelineRun", "submitted", "failed", "crashed", 0, 0, None)
    assert is_alone(ways, run)


def test_killed_flow_process_gives_one_failed_run(ways, fates):
    run = ways.ended(ways.the_run(fates.killed).id)
    assert outline(run) == ("PipelineRun", "manual", "failed", "crashed", 1, 0, None)
    assert is_alone(ways, run)
    assert published(ways, run) == []
    assert in_prefect(ways, fates.killed, FlowRunState.CRASHED)


def test_flow_run_deleted_in_prefect_while_running_gives_one_cancelled_run_and_stops_its_body(ways, fates):
    run = ways.ended(ways.the_run(fates.deleted).id)
    assert outline(run) == ("PipelineRun", "manual", "cancelled", "deleted_in_prefect", 1, 0, None)
    assert is_alone(ways, run)
    assert published(ways, run) == []
    assert ways.gateway.read_flow_run(fates.deleted) is None
    ways.wait_for("the body to stop", lambda: not ways.flow_processes(fates.deleted))
    assert ways.freshline.service.get(run.id).model_dump() == run.model_dump()


def test_run_cancelled_while_running_stops_where_its_body_looks(ways, fates):
    run = ways.ended(fates.cancelled.id)
    assert outline(run) == ("PipelineRun", "submitted", "cancelled", "cancelled_by_user", 1, 0, None)
    assert is_alone(ways, run)
    assert run.cancel_requested_at is not None
    assert published(ways, run) == []
    kinds = [event.kind for _, event in ways.queries.events(run.id)]
    assert kinds[-2:] == ["cancel_requested", "run_cancelled"]
    assert ended_by(ways, run) == "worker"  # the body itself has said so: nobody killed it
    assert in_prefect(ways, run.flow_run_id, FlowRunState.CANCELLED)


def test_flow_run_cancelled_in_prefect_while_running_gives_one_cancelled_run(ways, fates):
    run = ways.ended(ways.the_run(fates.cancelled_in_prefect).id)
    assert outline(run) == ("PipelineRun", "manual", "cancelled", "cancelled_by_user", 1, 0, None)
    assert is_alone(ways, run)
    assert published(ways, run) == []
    assert in_prefect(ways, fates.cancelled_in_prefect, FlowRunState.CANCELLED)


def test_killed_worker_and_flow_give_one_failed_run_and_the_zombie_is_crashed_in_prefect(ways, fates):
    run = ways.ended(ways.the_run(fates.zombie).id)
    assert outline(run) == ("PipelineRun", "manual", "failed", "lease_expired", 1, 0, None)
    assert is_alone(ways, run)
    assert published(ways, run) == []
    assert ended_by(ways, run) == "reconciler"
    # Nobody else was left to say so in Prefect.
    assert in_prefect(ways, fates.zombie, FlowRunState.CRASHED)


def test_flow_outlives_its_killed_worker_and_completes(ways, fates):
    expired_at = ways.ended(ways.the_run(fates.zombie).id).ended_at
    # Both had the same worker: whoever takes it for dead because of that has done so by now.
    orphan = ways.wait_for(
        "a later heartbeat",
        lambda: next((run for run in [ways.running(fates.survivor)] if run.heartbeat_at > expired_at), None),
    )
    fates.release.touch()
    run = ways.ended(orphan.id)
    assert outline(run) == ("PipelineRun", "manual", "completed", "completed", 1, 0, None)
    assert is_alone(ways, run)
    assert published(ways, run) == [1]
    assert in_prefect(ways, fates.survivor, FlowRunState.COMPLETED)


def test_run_that_nobody_starts_in_time_is_failed_as_never_started(ways, fates):
    fates.release.touch()
    for flow_run_id in (fates.survivor, fates.zombie, fates.killed, fates.deleted, fates.cancelled_in_prefect):
        ways.ended(ways.the_run(flow_run_id).id)  # or else they would not be in time either
    submitted = ways.dispatched(ways.submit("waiting"))
    alone = Path(sys.executable).with_name("freshline")
    reconciler = ways.start(alone, "reconcile", FRESHLINE_START_WITHIN_S="1", FRESHLINE_RECONCILE_S="1")
    try:
        run = ways.ended(submitted.id)
    finally:
        reconciler.terminate()
        printed, _ = reconciler.communicate(timeout=WAIT_S)
    assert reconciler.returncode == 0, printed
    assert outline(run) == ("PipelineRun", "submitted", "failed", "never_started", 0, 0, None)
    assert is_alone(ways, run)
    assert run.started_at is None
    assert not ways.gateway.read_flow_run(run.flow_run_id).has_begun


@pytest.mark.slow
def test_with_the_settings_as_they_are_every_end_is_in_the_record_within_75_s(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("FRESHLINE_")]:
        monkeypatch.delenv(name)
    with opened(tmp_path, settings={}) as ways:
        fates = meet(ways)
        runs = {
            name: ways.ended(known.id if isinstance(known, Run) else ways.the_run(known).id)
            for name in fates.at
            for known in [getattr(fates, name)]
        }
        dying = ways.ended(ways.the_run(fates.dying).id)
        died_at = in_prefect(ways, fates.dying, FlowRunState.CRASHED).ended_at
        fates.release.touch()
        assert ways.ended(ways.the_run(fates.survivor).id).status == "completed"
        assert all(is_alone(ways, run) for run in [*runs.values(), dying])
    took_s = {name: (run.ended_at - fates.at[name]).total_seconds() for name, run in runs.items()}
    took_s["dying"] = (dying.ended_at - died_at).total_seconds()
    print(f"took, in seconds: {took_s}")
    assert {name: run.stop_reason for name, run in runs.items()} == {
        "cancelled_before_start": "cancelled_by_user",
        "cancelled_in_prefect_before_start": "cancelled_by_user",
        "zombie": "lease_expired",
        "killed": "crashed",
        "deleted": "deleted_in_prefect",
        "cancelled": "cancelled_by_user",
        "cancelled_in_prefect": "cancelled_by_user",
    }
    assert max(took_s.values()) <= VISIBLE_WITHIN_S, took_s
