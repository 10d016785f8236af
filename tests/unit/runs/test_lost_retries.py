"""Runs without a lease whose process is gone: between two attempts, and suspended within a flow that has ended."""

from dataclasses import replace
from datetime import timedelta

import pytest

from freshline.deployments.gateway import FlowRunState
from freshline.runs.intake import FlowCall
from freshline.runs.repair.reconcile import Reconciler
from freshline.storage.errors import PrefectError
from freshline.storage.words import DeploymentKind
from tests.factories import declared

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
LEASE = 60 * SECOND
DELAY = 30 * SECOND


@pytest.fixture
def calls(world):
    """One more deployment, whose flow others call as `late`."""
    late = replace(declared("training/late"), prefect_name="late/late")
    world.graph.register(late, project="late")
    return world


def started_from_script(calls):
    flow_run = calls.gateway.begin(calls.gateway.run_script().id)
    return calls.port.claim(FlowCall(flow_run, kind=DeploymentKind.TRAINING, flow_names=("late",))).run


def started_by_worker(calls):
    return calls.start(calls.service.submit("refresh/prices")).run


def retrying(world, run, *, due_after=DELAY):
    """Its body raised; Prefect calls it again after the delay, in the same process."""
    due_at = world.moment + due_after if due_after is not None else None
    error = ValueError("no luck")
    world.port.fail(run.id, run.fence, error, "", will_retry=True, resume_due_at=due_at)
    world.gateway.retry(run.flow_run_id, delay_s=DELAY.total_seconds())
    found = world.service.get(run.id)
    assert (found.status, found.lease_until, found.background) == ("retrying", None, run.background)
    return found


def how(world, run):
    found = world.service.get(run.id)
    return found.status, found.stop_reason


def state_in_prefect(world, run):
    world.dispatch()
    return world.gateway.read_flow_run(run.flow_run_id).state_type


@pytest.mark.parametrize("begin", [started_from_script, started_by_worker])
def test_run_whose_process_is_gone_between_two_attempts_ends_a_lease_after_the_next_was_due(calls, begin):
    run = retrying(calls, begin(calls))
    calls.pass_time(DELAY + LEASE - SECOND)
    calls.reconcile()
    assert how(calls, run) == ("retrying", None)
    calls.pass_time(SECOND)
    repairs = calls.reconcile()
    assert repairs.lost + repairs.closed == 1
    assert how(calls, run) == ("failed", "crashed")
    ended = calls.service.get(run.id)
    assert ended.error_message == "its next attempt did not begin: its process is gone; the last one failed: no luck"
    assert (ended.error_type, ended.attempt) == ("ValueError", 1)
    assert ended.duration_ns == (DELAY + LEASE) // timedelta(microseconds=1) * 1000
    assert calls.kinds(run.id)[-2:] == ["attempt_failed", "run_failed"]
    assert state_in_prefect(calls, run) == FlowRunState.CRASHED
    repairs = calls.reconcile()
    assert (repairs.lost, repairs.closed) == (0, 0)


@pytest.mark.parametrize("begin", [started_from_script, started_by_worker])
def test_run_that_does_not_say_when_its_next_attempt_is_due_has_a_lease_from_its_failure(calls, begin):
    run = retrying(calls, begin(calls), due_after=None)
    calls.pass_time(LEASE - SECOND)
    calls.reconcile()
    assert how(calls, run) == ("retrying", None)
    calls.pass_time(SECOND)
    calls.reconcile()
    assert how(calls, run) == ("failed", "crashed")


@pytest.mark.parametrize("begin", [started_from_script, started_by_worker])
def test_run_whose_next_attempt_began_in_prefect_and_claimed_nothing_ends_too(calls, begin):
    run = retrying(calls, begin(calls))
    calls.pass_time(DELAY)
    calls.gateway.begin(run.flow_run_id)
    calls.pass_time(LEASE)
    calls.reconcile()
    assert how(calls, run) == ("failed", "crashed")
    assert state_in_prefect(calls, run) == FlowRunState.CRASHED


def test_run_of_a_script_ends_while_prefect_is_down(calls):
    run = retrying(calls, started_from_script(calls))
    calls.pass_time(DELAY + LEASE)
    calls.gateway.is_down = True
    with pytest.raises(PrefectError):
        calls.reconcile()
    assert how(calls, run) == ("failed", "crashed")


def test_run_that_a_worker_may_have_goes_on_while_prefect_is_down(calls):
    run = retrying(calls, started_by_worker(calls))
    calls.pass_time(HOUR)
    calls.gateway.is_down = True
    with pytest.raises(PrefectError):
        calls.reconcile()
    assert how(calls, run) == ("retrying", None)


def test_run_whose_retry_was_asked_for_by_hand_waits_for_a_worker_however_long(calls):
    run = retrying(calls, started_by_worker(calls))
    calls.gateway.end(run.flow_run_id, FlowRunState.CRASHED)
    calls.gateway.start_again(run.flow_run_id)
    calls.pass_time(HOUR)
    assert calls.reconcile().closed == 0
    assert calls.claim(run.flow_run_id).run.attempt == 2


@pytest.mark.parametrize("begin", [started_from_script, started_by_worker])
def test_attempt_that_begins_in_time_keeps_its_run(calls, begin):
    run = retrying(calls, begin(calls))
    calls.pass_time(DELAY + LEASE - SECOND)
    flow_run = calls.gateway.begin(run.flow_run_id)
    claim = calls.port.claim(FlowCall(flow_run, kind=DeploymentKind.TRAINING, flow_names=("late",)))
    assert (claim.run.id, claim.run.attempt, claim.run.resume_due_at) == (run.id, 2, None)
    calls.pass_time(LEASE - SECOND)
    repairs = calls.reconcile()
    assert (repairs.lost, repairs.closed, repairs.expired) == (0, 0, 0)
    assert how(calls, run) == ("running", None)


def test_attempt_that_begins_after_its_run_was_given_up_has_a_run_of_its_own(calls):
    run = retrying(calls, started_from_script(calls))
    calls.pass_time(DELAY + LEASE)
    calls.reconcile()
    flow_run = calls.gateway.begin(run.flow_run_id)
    claim = calls.port.claim(FlowCall(flow_run, kind=DeploymentKind.TRAINING, flow_names=("late",)))
    assert (claim.may_start, claim.run.retry_of, claim.run.generation) == (True, run.id, 1)
    assert how(calls, run) == ("failed", "crashed")


def test_run_is_spared_for_a_lease_after_nobody_could_look(calls):
    reconciler = Reconciler(calls.database, calls.gateway)
    reconciler.pass_once()
    called, served = (retrying(calls, begin(calls)) for begin in (started_from_script, started_by_worker))
    calls.pass_time(HOUR)
    reconciler.pass_once()
    assert {how(calls, run)[0] for run in (called, served)} == {"retrying"}
    calls.pass_time(LEASE)
    reconciler.pass_once()
    assert {how(calls, run) for run in (called, served)} == {("failed", "crashed")}


def test_second_reconciler_does_nothing_twice(calls):
    runs = [retrying(calls, begin(calls)) for begin in (started_from_script, started_by_worker)]
    calls.pass_time(DELAY + LEASE)
    first, second = (Reconciler(calls.database, calls.gateway) for _ in range(2))
    seen = first._deadlines.overdue_retries() + first._deadlines._overdue_retries()
    assert {run.id for run in seen} == {run.id for run in runs}
    second.pass_once()
    assert [first._deadlines.end_retry(run) for run in seen] == [False] * len(seen)
    assert [calls.kinds(run.id).count("run_failed") for run in runs] == [1, 1]


# Suspended within a flow that was.


def suspended_within(calls):
    """A flow run was suspended while a flow that it calls was executed: Prefect's signal unwound both."""
    caller = started_by_worker(calls)
    flow_run = calls.gateway.begin(calls.gateway.call(caller.flow_run_id).id)
    child = calls.port.claim(
        FlowCall(flow_run, kind=DeploymentKind.TRAINING, flow_names=("late",), parent_run_id=caller.id)
    ).run
    calls.gateway.suspend(caller.flow_run_id, message="by hand", timeout_s=600)
    for run in (child, caller):
        calls.port.pause(run.id, run.fence)
    assert calls.service.get(child.id).status == "paused"
    return caller, child


def test_suspended_child_goes_on_as_its_next_attempt_when_its_caller_does(calls):
    caller, child = suspended_within(calls)
    calls.pass_time(HOUR)
    assert calls.reconcile().lost == 0
    calls.gateway.resume(caller.flow_run_id)
    calls.claim(caller.flow_run_id)
    flow_run = calls.gateway.read_flow_run(child.flow_run_id)  # Prefect gives the call the flow run that it had
    again = calls.port.claim(
        FlowCall(flow_run, kind=DeploymentKind.TRAINING, flow_names=("late",), parent_run_id=caller.id)
    )
    assert (again.run.id, again.run.attempt, again.may_start) == (child.id, 2, True)


@pytest.mark.parametrize(
    ("state", "expected"),
    [(FlowRunState.CANCELLED, ("cancelled", "cancelled_by_user")), (FlowRunState.CRASHED, ("failed", "crashed"))],
)
def test_suspended_child_ends_with_its_caller(calls, state, expected):
    caller, child = suspended_within(calls)
    calls.gateway.end(caller.flow_run_id, state)
    calls.reconcile()
    assert calls.reconcile().lost == 1
    assert how(calls, caller) == how(calls, child) == expected
    assert calls.service.get(child.id).error_message == "the run that called it ended while it was suspended"
    assert state_in_prefect(calls, child) == FlowRunState.CRASHED
    assert calls.reconcile().lost == 0


@pytest.mark.parametrize("begin", [started_from_script, started_by_worker])
def test_process_that_slept_through_the_cancellation_of_its_run_does_not_start_again(calls, begin):
    run = retrying(calls, begin(calls))
    calls.service.cancel(run.id)
    assert state_in_prefect(calls, run) == FlowRunState.CANCELLED
    # Prefect lets it: measured on 3.8.8.
    flow_run = calls.gateway.begin(run.flow_run_id)
    claim = calls.port.claim(FlowCall(flow_run, kind=DeploymentKind.TRAINING, flow_names=("late",)))
    assert (claim.run.id, claim.may_start) == (run.id, False)
    assert how(calls, run) == ("cancelled", "cancelled_by_user")


def test_process_that_was_resumed_before_the_cancellation_of_its_run_does_not_start(calls):
    run = started_by_worker(calls)
    calls.gateway.suspend(run.flow_run_id, message="paused", timeout_s=60)
    calls.port.pause(run.id, run.fence)
    calls.gateway.resume(run.flow_run_id)
    calls.service.cancel(run.id)
    claim = calls.claim(run.flow_run_id)
    assert (claim.run.id, claim.may_start) == (run.id, False)


@pytest.mark.parametrize("had_begun", [True, False])
def test_run_that_was_cancelled_is_started_again_by_hand(calls, had_begun):
    if had_begun:
        run = retrying(calls, started_by_worker(calls))
    else:
        run = calls.service.submit("refresh/prices")
        calls.dispatch()
        run = calls.service.get(run.id)
    calls.service.cancel(run.id)
    calls.dispatch()
    calls.gateway.start_again(run.flow_run_id)
    claim = calls.claim(run.flow_run_id)
    assert (claim.may_start, claim.run.retry_of, claim.run.generation) == (True, run.id, 1)
