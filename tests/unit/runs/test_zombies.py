"""Flow runs that Prefect calls Running for good: their process died where no lease could run out."""

from datetime import timedelta

import pytest

from freshline.deployments.gateway import FlowRunState
from freshline.runs.intake import FlowCall
from freshline.runs.port import DirectPort
from freshline.runs.repair.deadlines import Deadlines, Grace
from freshline.runs.repair.reconcile import Reconciler
from freshline.storage.errors import PrefectError

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
LEASE = 60 * SECOND


def clicked(world, name, parameters=None):
    return world.gateway.click(world.gateway.read_deployment(f"flow/{name}").id, parameters)


def begun(world, key="refresh/prices", **options):
    """A run whose flow run has begun in Prefect; its process has not claimed it."""
    run = world.service.submit(key, **options)
    world.dispatch()
    world.gateway.begin(world.flow_run_of(run).id)
    return world.service.get(run.id)


def waiting(world):
    """A run whose claim was told to wait, and whose process died before it suspended its flow run."""
    flow_run = clicked(world, "backtest-book", {"on_stale": "wait"})
    claim = world.claim(flow_run.id)
    assert (claim.may_start, claim.run.status) == (False, "waiting")
    return claim.run


def resumed(world):
    """A run that was paused, and whose flow run was resumed; its process has not claimed it again."""
    run = world.start(world.service.submit("refresh/prices")).run
    world.gateway.suspend(run.flow_run_id, message="later", timeout_s=3600)
    world.port.pause(run.id, run.fence)
    world.gateway.resume(run.flow_run_id)
    world.gateway.begin(run.flow_run_id)
    return world.service.get(run.id)


def how(world, run):
    found = world.service.get(run.id)
    return found.status, found.stop_reason


def in_prefect(world, flow_run_id):
    world.dispatch()
    return world.gateway.read_flow_run(flow_run_id)


def generations(world, flow_run_id):
    """(generation, status, is the next one of the one before) of the flow run's runs."""
    runs = sorted(
        (run for _, run in world.queries.runs() if run.flow_run_id == flow_run_id), key=lambda run: run.generation
    )
    before = [None, *(run.id for run in runs)]
    assert [run.retry_of for run in runs] == before[: len(runs)]
    return [(run.generation, run.status) for run in runs]


# Its process died before it held the run.


@pytest.mark.parametrize(
    ("arrange", "status"),
    [(begun, "pending"), (waiting, "waiting"), (resumed, "paused")],
    ids=["pending", "waiting", "paused"],
)
def test_run_without_a_lease_ends_when_its_flow_run_has_been_running_for_a_lease(world, arrange, status):
    run = arrange(world)
    world.pass_time(LEASE - SECOND)
    world.reconcile()
    assert how(world, run) == (status, None)
    assert in_prefect(world, run.flow_run_id).state_type == FlowRunState.RUNNING
    world.pass_time(SECOND)
    assert world.reconcile().closed == 1
    assert how(world, run) == ("failed", "crashed")
    assert "nothing was heard of it" in world.service.get(run.id).error_message
    assert in_prefect(world, run.flow_run_id).state_type == FlowRunState.CRASHED
    again = world.reconcile()
    assert (again.closed, again.outlived) == (0, 0)


def test_run_that_is_released_while_its_lost_process_was_to_suspend_itself_comes_to_its_end(world):
    run = waiting(world)
    for upstream in ("refresh/prices", "refresh/momentum"):
        world.run_through(upstream)
    assert how(world, run) == ("pending", None)
    assert in_prefect(world, run.flow_run_id).state_type == FlowRunState.RUNNING
    world.pass_time(LEASE)
    world.reconcile()
    assert how(world, run) == ("failed", "crashed")
    for _ in range(3):
        world.pass_time(MINUTE)
        world.dispatch()
    assert in_prefect(world, run.flow_run_id).state_type == FlowRunState.CRASHED


def test_run_whose_flow_run_is_suspended_or_queued_is_left_alone(world):
    suspended, queued = waiting(world), world.service.submit("refresh/prices")
    world.gateway.suspend(suspended.flow_run_id, message="it waits", timeout_s=86_400)
    world.dispatch()
    world.pass_time(HOUR)
    assert world.reconcile().closed == 0
    assert (how(world, suspended)[0], how(world, queued)[0]) == ("waiting", "pending")


def test_run_of_which_something_was_heard_within_the_lease_goes_on(world):
    flow_run = world.gateway.begin(clicked(world, "refresh-prices").id)
    world.pass_time(HOUR)
    assert world.reconcile().adopted == 1, "nobody was there to record it before"
    assert world.reconcile().closed == 0
    assert generations(world, flow_run.id) == [(0, "pending")]
    world.pass_time(LEASE)
    assert world.reconcile().closed == 1


def test_prefect_whose_clock_is_ahead_only_delays_the_end(world):
    world.pass_time(HOUR)
    run = begun(world)
    world.pass_time(-HOUR)
    for _ in range(2):
        assert world.reconcile().closed == 0
    world.pass_time(HOUR + LEASE)
    assert world.reconcile().closed == 1
    assert how(world, run) == ("failed", "crashed")


def test_claim_that_wins_against_the_reconciler_keeps_the_run(world):
    seen = begun(world)
    world.pass_time(LEASE)
    assert world.port.claim(FlowCall.of_deployment(world.flow_run_of(seen))).may_start
    deadlines = Deadlines(world.database, 60.0, cancel_within_s=180.0, wait_within_s=3600.0, grace=Grace(60.0, 60.0))
    assert not deadlines.end_unclaimed(seen)
    assert how(world, seen) == ("running", None)
    assert in_prefect(world, seen.flow_run_id).state_type == FlowRunState.RUNNING


@pytest.mark.parametrize("away", ["database", "Prefect"])
def test_after_a_gap_nothing_ends_for_one_lease(world, away):
    reconciler = Reconciler(world.database, world.gateway)
    run = begun(world)
    reconciler.pass_once()
    for _ in range(6 if away == "Prefect" else 1):
        world.pass_time(15 * SECOND if away == "Prefect" else 5 * MINUTE)
        if away == "Prefect":
            world.gateway.is_down = True
            with pytest.raises(PrefectError):
                reconciler.pass_once()
    world.gateway.is_down = False
    reconciler.pass_once()
    world.pass_time(LEASE - SECOND)
    reconciler.pass_once()
    assert how(world, run) == ("pending", None)
    world.pass_time(SECOND)
    reconciler.pass_once()
    assert how(world, run) == ("failed", "crashed")


@pytest.mark.parametrize("is_forced", [False, True], ids=["still Running in Prefect", "Crashed in Prefect"])
def test_claim_that_comes_after_its_run_was_given_up_starts_exactly_one_more(world, is_forced):
    run = begun(world)
    flow_run = world.flow_run_of(run)
    world.pass_time(LEASE)
    world.reconcile()
    if is_forced:
        world.dispatch()
    claim = world.port.claim(FlowCall.of_deployment(flow_run))
    assert (claim.may_start, claim.run.generation, claim.run.retry_of) == (True, 1, run.id)
    repeated = world.port.claim(FlowCall.of_deployment(flow_run))
    assert repeated.run.id == claim.run.id
    assert generations(world, flow_run.id) == [(0, "failed"), (1, "running")]

    state = in_prefect(world, flow_run.id).state_type
    world.reconcile()
    if is_forced:
        assert state == FlowRunState.CRASHED
        assert generations(world, flow_run.id) == [(0, "failed"), (1, "failed")]
    else:
        assert state == FlowRunState.RUNNING, "what was said of the run before is void"
        world.complete(repeated)
        assert generations(world, flow_run.id) == [(0, "failed"), (1, "completed")]


# Its process died after its run had ended.


def completed(world):
    claim = world.start(world.service.submit("refresh/prices"))
    world.port.complete(claim.run.id, claim.run.fence, world.result(claim=claim))
    return claim.run


def failed(world):
    run = world.start(world.service.submit("refresh/prices")).run
    world.port.fail(run.id, run.fence, ValueError("no"), "Traceback", will_retry=False)
    return run


def refused(world):
    return world.claim(clicked(world, "backtest-book", {"on_stale": "refuse"}).id).run


def skipped(world):
    world.run_through("refresh/prices")
    return world.claim(clicked(world, "refresh-prices", {"if_ready": "skip"}).id).run


def cancelled(world):
    run = world.start(world.service.submit("refresh/prices")).run
    world.service.cancel(run.id, actor="somebody")
    world.port.acknowledge_cancel(run.id, run.fence)
    return run


ENDS = [
    (completed, "completed", "COMPLETED", "Completed"),
    (skipped, "skipped", "COMPLETED", "Skipped"),
    (failed, "failed", "CRASHED", "Crashed"),
    (cancelled, "cancelled", "CANCELLED", "Cancelled"),
    (refused, "refused", "CANCELLED", "Refused"),
]


@pytest.mark.parametrize(("arrange", "status", "state", "name"), ENDS, ids=[end[1] for end in ENDS])
def test_flow_run_that_outlives_its_run_is_brought_to_its_end(world, arrange, status, state, name):
    run = arrange(world)
    assert how(world, run)[0] == status
    before = world.service.get(run.id)
    world.pass_time(LEASE - SECOND)
    assert world.reconcile().outlived == 0
    assert in_prefect(world, run.flow_run_id).state_type == FlowRunState.RUNNING
    world.pass_time(SECOND)
    assert world.reconcile().outlived == 1
    assert world.reconcile().outlived == 0, "it is said once"
    found = in_prefect(world, run.flow_run_id)
    assert (found.state_type, found.state_name) == (state, name)
    assert f"lost after its run had ended as {status}" in found.state_message
    assert world.reconcile().outlived == 0
    assert world.service.get(run.id) == before


def test_flow_run_that_outlives_a_long_run_is_found_by_the_process_that_saw_it_begin(world):
    reconciler = Reconciler(world.database, world.gateway, interval_s=86_400.0)
    port = DirectPort(world.database, world.objects, world.gateway, lease_s=86_400.0 * 3)
    run = world.service.submit("refresh/prices")
    world.dispatch()
    claim = port.claim(FlowCall.of_deployment(world.gateway.begin(world.flow_run_of(run).id)))
    for _ in range(3):
        reconciler.pass_once()
        world.pass_time(10 * HOUR)
    port.complete(run.id, claim.run.fence, world.result(claim=claim))
    assert reconciler.pass_once().outlived == 0
    world.pass_time(LEASE)
    assert reconciler.pass_once().outlived == 1


@pytest.mark.parametrize(("hours", "found"), [(23, 1), (25, 0)])
def test_new_process_looks_back_for_a_day(world, hours, found):
    completed(world)
    world.pass_time(hours * HOUR)
    assert world.reconcile().outlived == found


def test_flow_run_that_was_started_again_and_lost_before_its_claim_is_crashed_each_time(world):
    run = world.run_through("refresh/prices")
    for _ in range(2):
        world.pass_time(MINUTE)
        world.gateway.start_again(run.flow_run_id)
        world.gateway.begin(run.flow_run_id)
        world.pass_time(LEASE)
        assert world.reconcile().outlived == 1
        found = in_prefect(world, run.flow_run_id)
        assert (found.state_type, found.state_message) == (
            FlowRunState.CRASHED,
            "its process was lost before its first act; the run before had ended as completed",
        )


def test_end_of_a_flow_run_that_goes_on_meanwhile_is_void(world):
    run = completed(world)
    world.pass_time(LEASE)
    world.reconcile()
    world.gateway.end(run.flow_run_id)
    world.pass_time(SECOND)
    world.gateway.start_again(run.flow_run_id)
    world.gateway.begin(run.flow_run_id)
    assert in_prefect(world, run.flow_run_id).state_type == FlowRunState.RUNNING


def test_flow_run_of_a_run_that_ended_before_its_flow_run_was_known_comes_to_its_end(world):
    run = world.service.submit("refresh/prices")
    world.gateway.lose_reply_of_next("create_flow_run")
    world.dispatch()
    world.service.cancel(run.id, actor="somebody")
    (flow_run,) = world.gateway.recent_flow_runs(
        [world.gateway.read_deployment("flow/refresh-prices").id], since=world.moment - HOUR, until=None
    )
    world.gateway.begin(flow_run.id)
    world.pass_time(LEASE)
    assert world.reconcile().outlived == 1
    assert in_prefect(world, flow_run.id).state_type == FlowRunState.CANCELLED


def test_after_prefect_was_away_flow_runs_have_a_lease_to_say_how_they_ended(world):
    reconciler = Reconciler(world.database, world.gateway)
    run = completed(world)
    reconciler.pass_once()
    world.pass_time(5 * MINUTE)
    assert reconciler.pass_once().outlived == 0
    world.pass_time(LEASE)
    assert reconciler.pass_once().outlived == 1
    assert in_prefect(world, run.flow_run_id).state_type == FlowRunState.COMPLETED
