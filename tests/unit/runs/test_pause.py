"""Pause and resume from outside, of a run in every status, until the next attempt has the run again."""

from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from freshline.deployments.gateway import FlowRunState
from freshline.runs.intake import FlowCall
from freshline.runs.lease_terms import Beat
from freshline.runs.models import Outbox
from freshline.runs.status import RunStatus
from freshline.storage.errors import IllegalTransition, NotFound, PrefectError
from freshline.storage.ids import new_id
from freshline.storage.words import DeploymentKind
from tests.factories import declared


def pending(world):
    return world.service.submit("refresh/prices")


def waiting(world):
    return world.service.submit("refresh/momentum", on_stale="wait")


def running(world):
    return world.start(pending(world)).run


def retrying(world):
    run = running(world)
    world.port.fail(run.id, run.fence, ValueError("no luck"), "", will_retry=True)
    return run


def paused(world):
    """As a body does that is told at its heartbeat."""
    run = running(world)
    world.service.pause(run.id)
    assert world.port.heartbeat(run.id, run.fence) == Beat.PAUSE
    world.gateway.suspend(run.flow_run_id, message="was paused", timeout_s=600)
    world.port.pause(run.id, run.fence)
    return run


def cancelling(world):
    run = running(world)
    world.service.cancel(run.id)
    return run


def completed(world):
    return world.run_through("refresh/prices")


def failed(world):
    run = running(world)
    world.port.fail(run.id, run.fence, ValueError("no luck"), "", will_retry=False)
    return run


def cancelled(world):
    return world.service.cancel(pending(world).id)


def skipped(world):
    world.run_through("refresh/prices")
    return world.service.submit("refresh/prices", if_ready="skip")


def refused(world):
    return world.service.submit("refresh/momentum", on_stale="refuse")


MAKE = {
    one.__name__: one
    for one in (
        pending, waiting, running, retrying, paused, cancelling, completed, failed, cancelled, skipped, refused,
    )
}  # fmt: skip


def in_status(world, status):
    run = world.service.get(MAKE[status](world).id)
    assert run.status == status
    return run


def now(world, run):
    return world.service.get(run.id)


def flow_run_of(world, run):
    return world.gateway.read_flow_run(run.flow_run_id)


def called(world, *, calling=None):
    """The run of a flow that a script, or this flow run, calls."""
    world.graph.register(replace(declared("training/late"), prefect_name="late/late"), project="late")
    made = world.gateway.call(calling.flow_run_id) if calling else world.gateway.run_script()
    parent_id = calling.id if calling else None
    call = FlowCall(
        world.gateway.begin(made.id), kind=DeploymentKind.TRAINING, flow_names=("late",), parent_run_id=parent_id
    )
    return world.port.claim(call).run


def test_every_status_is_tried():
    assert set(MAKE) == set(RunStatus)


@pytest.mark.parametrize("status", sorted(set(MAKE) - {"running", "paused"}))
def test_pause_of_what_does_not_run_is_refused_and_changes_nothing(world, status):
    run = in_status(world, status)
    with pytest.raises(IllegalTransition, match=rf"run-{run.id} is {status}: only a running run can be paused"):
        world.service.pause(run.id)
    assert now(world, run) == run


@pytest.mark.parametrize("status", sorted(set(MAKE) - {"paused"}))
def test_resume_of_what_is_not_paused_is_refused_and_changes_nothing(world, status):
    run = in_status(world, status)
    with pytest.raises(IllegalTransition, match=rf"run-{run.id} is {status}: only a paused run can be resumed"):
        world.service.resume(run.id)
    assert now(world, run) == run


def test_pause_or_resume_of_an_unknown_run_is_not_found(world):
    for act in (world.service.pause, world.service.resume):
        with pytest.raises(NotFound, match="no run"):
            act(new_id())


def test_pause_of_a_running_run_is_told_at_its_next_heartbeat(world):
    run = in_status(world, "running")
    assert world.port.heartbeat(run.id, run.fence) is None
    asked = world.service.pause(f"run-{run.id}", actor="ada")
    assert (asked.status, asked.pause_requested_at) == ("running", world.moment)
    assert world.kinds(run.id)[-1] == "pause_requested"
    assert world.port.heartbeat(run.id, run.fence) == Beat.PAUSE
    assert now(world, run).lease_until is not None, "until it has stopped, it holds its lease"


def test_pause_that_was_asked_for_twice_is_one(world):
    run = in_status(world, "running")
    world.service.pause(run.id)
    before = world.kinds(run.id)
    world.pass_time(timedelta(seconds=5))
    again = world.service.pause(run.id)
    assert again.pause_requested_at == world.moment - timedelta(seconds=5)
    assert world.kinds(run.id) == before


def test_pause_of_a_paused_run_changes_nothing(world):
    run = in_status(world, "paused")
    assert world.service.pause(run.id) == run
    assert now(world, run) == run


def test_run_that_has_paused_holds_no_lease_and_outlasts_any_time(world):
    run = in_status(world, "paused")
    assert (run.lease_until, run.lease_owner, run.ended_at) == (None, None, None)
    assert world.kinds(run.id)[-2:] == ["pause_requested", "run_paused"]
    world.pass_time(timedelta(hours=12))
    repairs = world.reconcile()
    assert (repairs.expired, repairs.lost, repairs.closed) == (0, 0, 0)
    assert now(world, run).status == "paused"


def test_resume_leaves_through_the_outbox_and_the_next_claim_is_the_next_attempt(world):
    run = in_status(world, "paused")
    asked = world.service.resume(run.id, actor="ada")
    assert (asked.status, asked.resume_due_at) == ("paused", world.moment)
    assert world.kinds(run.id)[-1] == "resume_requested"
    assert flow_run_of(world, run).state_name == "Suspended", "nothing reaches Prefect within the transaction"
    assert world.dispatch() == 1
    assert flow_run_of(world, run).state_name == "Resuming"
    claim = world.claim(run.flow_run_id)
    assert (claim.may_start, claim.run.id, claim.run.attempt) == (True, run.id, 2)
    assert claim.run.fence > run.fence
    assert (claim.run.pause_requested_at, claim.run.resume_due_at) == (None, None)
    assert world.port.heartbeat(run.id, claim.run.fence) is None, "the pause that was asked for is over"
    world.complete(claim)
    assert now(world, run).status == "completed"
    assert len(world.queries.runs()) == 1


def test_resume_that_was_asked_for_twice_leaves_once(world):
    run = in_status(world, "paused")
    world.service.resume(run.id)
    before = world.kinds(run.id)
    assert world.service.resume(run.id) == now(world, run)
    assert world.kinds(run.id) == before
    outbox = Outbox.__table__
    with world.database.read() as connection:
        topics = connection.execute(sa.select(outbox.c.topic).where(outbox.c.run_id == run.id)).scalars().all()
    assert topics.count("resume") == 1


def test_run_is_paused_and_resumed_again_and_again(world):
    run = in_status(world, "paused")
    for attempt in (2, 3):
        world.service.resume(run.id)
        assert world.dispatch() == 1
        claim = world.claim(run.flow_run_id)
        assert claim.run.attempt == attempt
        world.service.pause(run.id)
        assert world.port.heartbeat(run.id, claim.run.fence) == Beat.PAUSE
        world.gateway.suspend(run.flow_run_id, message="was paused", timeout_s=600)
        world.port.pause(run.id, claim.run.fence)
        assert now(world, run).status == "paused"


def test_resume_is_sent_again_until_prefect_has_suspended_the_flow_run(world):
    run = running(world)
    world.service.pause(run.id)
    world.port.pause(run.id, run.fence)  # its process is on its way out
    world.service.resume(run.id)
    assert world.dispatch() == 0
    world.gateway.suspend(run.flow_run_id, message="was paused", timeout_s=600)
    world.pass_time(timedelta(seconds=2))
    assert world.dispatch() == 1
    assert world.claim(run.flow_run_id).run.attempt == 2


def test_resume_reaches_prefect_when_it_is_back(world):
    run = in_status(world, "paused")
    world.gateway.is_down = True
    world.service.resume(run.id)
    assert world.dispatch() == 0
    with pytest.raises(PrefectError):
        flow_run_of(world, run)
    world.gateway.is_down = False
    world.pass_time(timedelta(minutes=1))
    assert world.dispatch() == 1
    assert flow_run_of(world, run).state_name == "Resuming"


def test_cancellation_goes_before_a_pause(world):
    run = in_status(world, "running")
    world.service.pause(run.id)
    world.service.cancel(run.id)
    assert world.port.heartbeat(run.id, run.fence) == Beat.CANCEL


def test_paused_run_that_is_cancelled_ends_at_once_and_in_prefect(world):
    run = in_status(world, "paused")
    assert world.service.cancel(run.id).status == "cancelled"
    world.dispatch()
    assert flow_run_of(world, run).state_type == FlowRunState.CANCELLED
    with pytest.raises(IllegalTransition, match="is cancelled"):
        world.service.resume(run.id)


def test_body_that_finishes_before_it_is_told_completes(world):
    claim = world.start(pending(world))
    world.service.pause(claim.run.id)
    world.complete(claim)
    assert now(world, claim.run).status == "completed"


def test_worker_that_lost_the_run_does_not_pause_it(world):
    old = world.start(pending(world)).run
    new = world.claim(old.flow_run_id).run
    world.service.pause(old.id)
    world.port.pause(old.id, old.fence)
    assert now(world, new).status == "running"
    assert world.port.heartbeat(new.id, new.fence) == Beat.PAUSE


@pytest.mark.parametrize("by", ["script", "flow"])
def test_called_run_cannot_be_paused_and_says_what_can(world, by):
    run = called(world, calling=running(world) if by == "flow" else None)
    with pytest.raises(IllegalTransition, match="pause the flow run that calls it"):
        world.service.pause(run.id)
    assert now(world, run).pause_requested_at is None
