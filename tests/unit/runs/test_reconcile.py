"""The reconciler: deadlines, what Prefect says of runs in every status, flow runs without a run, two at once."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from threading import Barrier

import pytest

from freshline.deployments.gateway import FlowRunState
from freshline.runs.repair.reconcile import Reconciler
from freshline.storage import faults
from freshline.storage.errors import Fenced, PrefectError
from freshline.storage.faults import Guard
from tests.fakes import FakeGateway

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


def a_reconciler(world, **options):
    return Reconciler(world.database, world.gateway, **options)


def started(world):
    return world.start(world.service.submit("refresh/prices")).run


def deployment_id(world, key="refresh/prices"):
    return world.graph.declared[key].prefect_deployment_id


def now(world, run):
    return world.service.get(run.id)


def how(world, run):
    found = now(world, run)
    return found.status, found.stop_reason


def beating(world, run, elapsed):
    """Let time pass for a worker that is alive."""
    while elapsed > timedelta():
        world.pass_time(min(elapsed, 50 * SECOND))
        elapsed -= 50 * SECOND
        world.port.heartbeat(run.id, run.fence)


def state_in_prefect(world, run):
    return world.gateway.read_flow_run(run.flow_run_id).state_type


def runs(world):
    return [run for _, run in world.queries.runs()]


# A cancellation that nobody heeds.


def test_cancel_that_is_not_heeded_is_forced_after_its_time(world):
    run = started(world)
    world.service.cancel(run.id)
    beating(world, run, 179 * SECOND)
    assert world.reconcile().forced == 0
    beating(world, run, SECOND)
    assert world.reconcile().forced == 1
    assert how(world, run) == ("cancelled", "cancelled_by_user")
    assert world.kinds(run.id)[-3:] == ["cancel_requested", "cancel_forced", "run_cancelled"]
    assert [event.after_s for _, event in world.queries.events(run.id) if event.kind == "cancel_forced"] == [180.0]
    with pytest.raises(Fenced):
        world.port.heartbeat(run.id, run.fence)
    with pytest.raises(Fenced):
        world.port.complete(run.id, run.fence, world.result())
    assert world.reconcile().forced == 0


def test_cancel_that_was_forced_reaches_prefect_and_then_crashes_what_goes_on(world):
    run = started(world)
    world.service.cancel(run.id)
    beating(world, run, 180 * SECOND)
    world.reconcile()
    world.dispatch()
    assert state_in_prefect(world, run) == FlowRunState.CANCELLING
    world.pass_time(59 * SECOND)
    world.dispatch()
    assert state_in_prefect(world, run) == FlowRunState.CANCELLING, "its worker may still be ending the process"
    world.pass_time(SECOND)
    world.dispatch()
    assert state_in_prefect(world, run) == FlowRunState.CRASHED


def test_body_that_finishes_before_the_cancellation_is_forced_completes(world):
    claim = world.start(world.service.submit("refresh/prices"))
    world.service.cancel(claim.run.id)
    beating(world, claim.run, 200 * SECOND)
    world.complete(claim)
    assert world.reconcile().forced == 0
    assert how(world, claim.run) == ("completed", "completed")


def test_cancel_has_as_long_as_the_setting_says(world):
    run = started(world)
    world.service.cancel(run.id)
    world.pass_time(5 * SECOND)
    assert world.reconcile(cancel_within_s=5.0).forced == 1


def test_cancel_is_forced_while_prefect_is_down(world):
    run = started(world)
    world.service.cancel(run.id)
    beating(world, run, 180 * SECOND)
    world.gateway.is_down = True
    with pytest.raises(PrefectError):
        world.reconcile()
    assert how(world, run) == ("cancelled", "cancelled_by_user")


def test_flow_run_that_is_being_cancelled_in_prefect_tells_its_run(world):
    run = started(world)
    world.gateway.cancel(run.flow_run_id)
    world.reconcile()
    assert (now(world, run).status, world.kinds(run.id)[-1]) == ("cancelling", "cancel_requested")
    assert world.port.heartbeat(run.id, run.fence)
    world.reconcile()
    assert world.kinds(run.id).count("cancel_requested") == 1
    world.gateway.end(run.flow_run_id, FlowRunState.CANCELLED)
    world.reconcile()
    assert how(world, run) == ("cancelled", "cancelled_by_user")


# A wait without an end.


def test_run_that_waited_too_long_is_refused_and_names_what_was_not_ready(world):
    run = world.service.submit("backtest/book", on_stale="wait")
    world.pass_time(timedelta(days=7) - SECOND)
    assert world.reconcile().refused == 0
    world.pass_time(SECOND)
    assert world.reconcile().refused == 1
    assert how(world, run) == ("refused", "waited_too_long")
    message = "it waited 7 days for refresh/momentum (not_initialized) and refresh/prices (not_initialized)"
    assert now(world, run).error_message == message
    assert world.kinds(run.id)[-1] == "run_refused"
    assert world.reconcile().refused == 0


def test_flow_run_that_waited_too_long_is_resumed_and_does_not_start(world):
    flow_run = world.gateway.schedule(deployment_id(world, "refresh/momentum"), at=world.moment)
    run = world.claim(flow_run.id).run
    world.gateway.suspend(flow_run.id, message="waits", timeout_s=7 * 86_400)
    world.pass_time(HOUR)
    world.reconcile(wait_within_s=3600.0)
    world.dispatch()
    assert world.gateway.read_flow_run(flow_run.id).state_name == "Resuming"
    claim = world.claim(flow_run.id)
    assert (claim.may_start, claim.run.id, claim.run.stop_reason) == (False, run.id, "waited_too_long")


def test_flow_run_whose_suspension_prefect_ended_has_waited_too_long(world):
    flow_run = world.gateway.schedule(deployment_id(world, "refresh/momentum"), at=world.moment)
    run = world.claim(flow_run.id).run
    world.gateway.end(flow_run.id, FlowRunState.FAILED, message="The flow was paused and never resumed.")
    world.reconcile()
    assert how(world, run) == ("refused", "waited_too_long")


def test_wait_is_counted_from_when_it_began_and_not_from_the_submission(world):
    run = world.service.submit("refresh/momentum", on_stale="wait")
    world.pass_time(50 * MINUTE)
    world.run_through("refresh/prices")
    assert now(world, run).status == "pending"
    world.dispatch()
    world.graph.register(*(replace(item, declaration_digest="new") for item in world.graph.declared.values()))
    claim = world.claim(world.flow_run_of(run).id)
    assert claim.run.status == "waiting", "its upstream is stale again"
    world.gateway.suspend(claim.run.flow_run_id, message="it waits", timeout_s=86_400)
    world.pass_time(50 * MINUTE)
    assert world.reconcile(wait_within_s=3600.0).refused == 0
    world.pass_time(10 * MINUTE)
    assert world.reconcile(wait_within_s=3600.0).refused == 1


def test_run_that_waits_for_one_that_waited_too_long_is_refused_too(world):
    world.run_through("refresh/calendar")
    book = world.service.submit("backtest/book", on_stale="refresh")
    prices, momentum = (
        next(run for run in runs(world) if run.deployment_id == world.graph.id(key))
        for key in ("refresh/prices", "refresh/momentum")
    )
    world.pass_time(2 * HOUR)
    world.start(now(world, prices))
    world.reconcile(wait_within_s=3600.0)
    assert how(world, momentum)[0] == "refused"
    assert how(world, book)[0] == "refused"
    assert now(world, prices).status == "running"


# Deployments that were deleted in Prefect.


def test_run_without_a_flow_run_ends_when_its_deployment_was_deleted(world):
    world.gateway.is_down = True
    run = world.service.submit("refresh/prices")
    world.dispatch()
    world.gateway.is_down = False
    world.gateway.delete_deployment(deployment_id(world))
    assert world.reconcile().closed == 0, "its dispatch may be on its way"
    world.pass_time(2 * MINUTE)
    assert world.reconcile().closed == 1
    assert how(world, run) == ("failed", "not_dispatched")
    assert "refresh/prices was deleted in Prefect" in now(world, run).error_message
    world.dispatch()
    assert how(world, run) == ("failed", "not_dispatched")


def test_run_without_a_flow_run_stays_when_its_deployment_exists(world):
    run = world.service.submit("refresh/prices")
    world.pass_time(2 * MINUTE)
    assert world.reconcile().closed == 0
    assert now(world, run).status == "pending"


def test_run_without_a_flow_run_stays_when_prefect_has_nothing_of_its_project(world):
    run = world.service.submit("refresh/prices")
    world.pass_time(2 * MINUTE)
    strange = FakeGateway(clock=lambda: world.moment)
    strange.add_deployment("flow/of-somebody-else")
    assert Reconciler(world.database, strange).pass_once().closed == 0
    assert now(world, run).status == "pending"


def test_scheduled_flow_run_that_went_with_its_deployment_ends_its_run(world):
    run = world.service.submit("refresh/prices")
    world.dispatch()
    world.gateway.delete_deployment(deployment_id(world))
    assert world.reconcile().closed == 1
    assert how(world, run) == ("cancelled", "deleted_in_prefect")


def test_body_that_runs_goes_on_when_its_deployment_was_deleted(world):
    claim = world.start(world.service.submit("refresh/prices"))
    world.gateway.delete_deployment(deployment_id(world))
    world.gateway.delete(claim.run.flow_run_id)
    world.reconcile()
    world.port.complete(claim.run.id, claim.run.fence, world.result(claim=claim))
    assert how(world, claim.run) == ("completed", "completed")


# What Prefect says, in every status that has no worker.


ENDS = {
    FlowRunState.CANCELLED: ("cancelled", "cancelled_by_user"),
    FlowRunState.CRASHED: ("failed", "crashed"),
    FlowRunState.FAILED: ("failed", "error"),
    FlowRunState.COMPLETED: ("failed", "crashed"),
}


@pytest.mark.parametrize("state", list(ENDS))
@pytest.mark.parametrize("status", ["running", "retrying", "paused", "cancelling"])
def test_run_in_any_status_ends_as_prefect_says(world, status, state):
    run = started(world)
    if status == "retrying":
        world.port.fail(run.id, run.fence, ValueError("no luck"), "", will_retry=True)
    if status == "paused":
        world.port.pause(run.id, run.fence)
    if status == "cancelling":
        world.service.cancel(run.id)
    assert now(world, run).status == status
    world.gateway.end(run.flow_run_id, state)
    assert world.reconcile().closed == 1
    assert how(world, run) == ENDS[state]
    before = world.kinds(run.id)
    assert world.reconcile().closed == 0
    assert world.kinds(run.id) == before


def test_run_that_is_retried_goes_on_while_prefect_has_not_ended_it(world):
    run = started(world)
    world.port.fail(run.id, run.fence, ValueError("no luck"), "", will_retry=True)
    world.gateway.set_state(run.flow_run_id, FlowRunState.SCHEDULED, name="AwaitingRetry")
    world.pass_time(HOUR)
    assert world.reconcile().closed == 0
    assert world.claim(run.flow_run_id).run.attempt == 2


@pytest.mark.parametrize("is_claimed", [True, False])
def test_flow_run_that_timed_out_says_so(world, is_claimed):
    run = world.service.submit("refresh/prices")
    world.dispatch()
    flow_run = world.flow_run_of(run)
    if is_claimed:
        world.claim(flow_run.id)
    world.gateway.end(flow_run.id, FlowRunState.FAILED, name="TimedOut", message="exceeded 10 seconds")
    world.reconcile()
    assert (*how(world, run), now(world, run).error_message) == ("failed", "timed_out", "exceeded 10 seconds")


def at(point, act):
    """Do something once, at the moment when a reconciler reaches a point."""
    left = [act]

    def watch(reached):
        if reached == point and left:
            left.pop()()

    return faults.watched(watch)


def cut_off():
    raise RuntimeError("cut off")


def test_flow_run_that_was_reopened_after_prefect_was_asked_keeps_its_run(world):
    run = world.service.submit("refresh/prices")
    world.dispatch()
    flow_run = world.flow_run_of(run)
    world.gateway.end(flow_run.id, FlowRunState.CRASHED)

    def reopen():
        world.gateway.start_again(flow_run.id)
        world.claim(flow_run.id)

    with at("reconcile.closing", reopen):
        assert world.reconcile().closed == 0
    assert (now(world, run).status, now(world, run).attempt) == ("running", 1)
    assert [one.id for one in runs(world)] == [run.id]


def test_flow_run_that_was_reopened_after_its_run_had_ended_gets_a_new_one(world):
    run = started(world)
    world.gateway.end(run.flow_run_id, FlowRunState.CRASHED)
    world.reconcile()
    world.gateway.start_again(run.flow_run_id)
    again = world.claim(run.flow_run_id).run
    assert (again.retry_of, again.generation) == (run.id, 1)
    world.reconcile()
    assert (how(world, run)[0], now(world, again).status) == ("failed", "running")
    assert len(runs(world)) == 2


class Late(FakeGateway):
    """Answers as Prefect would have a while ago."""

    def __init__(self, gateway, flow_runs):
        self.__dict__ = gateway.__dict__
        self.late = flow_runs

    def read_flow_runs(self, flow_run_ids):
        return {one: self.late[one] for one in flow_run_ids}


def test_facts_that_are_late_end_no_later_attempt(world):
    run = started(world)
    crashed = world.gateway.end(run.flow_run_id, FlowRunState.CRASHED)
    late = Reconciler(world.database, Late(world.gateway, {run.flow_run_id: crashed}))

    def start_again():
        world.gateway.start_again(run.flow_run_id)
        world.claim(run.flow_run_id)

    with at("reconcile.closing", start_again):
        assert late.pass_once().closed == 0
    assert (now(world, run).status, now(world, run).attempt) == ("running", 2)


# Flow runs without a run.


def scheduled(world, at):
    return world.gateway.schedule(deployment_id(world), at=at)


def test_adoption_asks_for_a_day_first_and_then_for_what_is_new(world, monkeypatch):
    asked = []
    read = world.gateway.recent_flow_runs
    monkeypatch.setattr(
        world.gateway,
        "recent_flow_runs",
        lambda ids, *, since, until: asked.append(until - since) or read(ids, since=since, until=until),
    )
    reconciler = a_reconciler(world)
    for elapsed in (timedelta(), 15 * SECOND, 15 * SECOND, 2 * HOUR):
        world.pass_time(elapsed)
        reconciler.pass_once()
    day, overlap = timedelta(hours=24), 10 * MINUTE + 15 * SECOND
    assert asked == [day, overlap, overlap, day]


def test_adoption_misses_nothing_of_a_pass_that_failed(world):
    reconciler = a_reconciler(world)
    reconciler.pass_once()
    world.pass_time(MINUTE)
    lost = scheduled(world, world.moment)
    world.gateway.end(lost.id, FlowRunState.CANCELLED)
    for method in ("recent_flow_runs", "recent_flow_runs"):
        world.gateway.fail_next(method)
        with pytest.raises(PrefectError):
            reconciler.pass_once()
        world.pass_time(20 * MINUTE)
    assert reconciler.pass_once().adopted == 1
    assert [run.flow_run_id for run in runs(world)] == [lost.id]


def test_adoption_that_is_cut_off_between_two_flow_runs_records_the_rest_later(world):
    reconciler = a_reconciler(world)
    reconciler.pass_once()
    world.pass_time(MINUTE)
    cancelled = {scheduled(world, world.moment).id for _ in range(3)}
    for flow_run_id in cancelled:
        world.gateway.end(flow_run_id, FlowRunState.CANCELLED)

    for point in ("adopted", "adopting"):
        with at(f"reconcile.{point}", cut_off), pytest.raises(RuntimeError):
            reconciler.pass_once()
        assert len(runs(world)) == 1
        world.pass_time(20 * MINUTE)
    assert reconciler.pass_once().adopted == 2
    assert {run.flow_run_id for run in runs(world)} == cancelled


def test_adoption_of_a_flow_run_that_stays_scheduled_for_hours(world):
    reconciler = a_reconciler(world)
    late = scheduled(world, world.moment + MINUTE)
    for _ in range(60):
        world.pass_time(HOUR)
        assert reconciler.pass_once().adopted == 0
    world.gateway.end(late.id, FlowRunState.CANCELLED)
    assert reconciler.pass_once().adopted == 1
    assert [(run.flow_run_id, run.trigger, run.status) for run in runs(world)] == [(late.id, "schedule", "cancelled")]


def test_adoption_forgets_a_flow_run_that_was_deleted(world):
    reconciler = a_reconciler(world)
    gone = scheduled(world, world.moment)
    reconciler.pass_once()
    world.gateway.delete(gone.id)
    world.pass_time(HOUR)
    reconciler.pass_once()
    world.gateway.calls.clear()
    reconciler.pass_once()
    assert world.gateway.calls == ["recent_flow_runs"]


def test_adoption_in_a_new_process_looks_back_for_a_day(world):
    world.pass_time(timedelta(hours=30))
    before, within = (scheduled(world, world.moment - timedelta(hours=hours)) for hours in (25, 23))
    for flow_run in (before, within):
        world.gateway.end(flow_run.id, FlowRunState.CANCELLED)
    assert world.reconcile().adopted == 1
    assert [run.flow_run_id for run in runs(world)] == [within.id]


def test_adoption_finds_what_a_clock_behind_ours_hides_within_the_hour(world):
    world.pass_time(2 * HOUR)
    reconciler = a_reconciler(world)
    reconciler.pass_once()
    world.pass_time(MINUTE)
    hidden = scheduled(world, world.moment - HOUR)
    world.gateway.end(hidden.id, FlowRunState.CANCELLED)
    assert reconciler.pass_once().adopted == 0
    world.pass_time(HOUR)
    with at("reconcile.adopting", cut_off), pytest.raises(RuntimeError):
        reconciler.pass_once()
    world.pass_time(MINUTE)
    assert reconciler.pass_once().adopted == 1


def test_adoption_of_a_deployment_that_comes_later_looks_back_to_its_registration(world):
    known = list(world.graph.declared.values())
    world.graph.register(*known[:1])
    world.graph.register(*known)
    reconciler = a_reconciler(world)
    world.pass_time(HOUR)
    world.graph.register(*(item for item in known if item.key != "backtest/book"))
    reconciler.pass_once()
    flow_run = world.gateway.click(deployment_id(world, "refresh/prices"))
    world.gateway.end(flow_run.id, FlowRunState.CANCELLED)
    world.pass_time(30 * MINUTE)
    world.graph.register(*known)
    assert reconciler.pass_once().adopted == 1


def test_called_flow_run_that_never_started_has_the_run_of_its_caller_as_parent(world):
    caller = started(world)
    called = world.gateway.call(caller.flow_run_id, deployment_id(world, "refresh/calendar"))
    world.gateway.end(called.id, FlowRunState.CANCELLED)
    assert world.reconcile().adopted == 1
    (child,) = [run for run in runs(world) if run.flow_run_id == called.id]
    assert (child.parent_id, child.trigger, child.status) == (caller.id, "subflow", "cancelled")


BAD = {"on_stale": "perhaps", "lookback_d": 5}


def test_called_flow_run_with_parameters_that_cannot_be_read_has_the_run_of_its_caller_as_parent(world):
    caller = started(world)
    called = world.gateway.call(caller.flow_run_id, deployment_id(world, "refresh/calendar"))
    world.gateway._put(replace(called, parameters=BAD))
    world.gateway.begin(called.id)
    world.gateway.end(called.id, FlowRunState.FAILED)
    assert world.reconcile().adopted == 1
    (child,) = [run for run in runs(world) if run.flow_run_id == called.id]
    assert (child.parent_id, child.trigger, child.status) == (caller.id, "subflow", "failed")
    assert "on_stale='perhaps'" in child.error_message


def test_run_that_the_reconciler_ends_says_how_long_it_ran(world):
    run = started(world)
    world.pass_time(30 * SECOND)
    world.gateway.end(run.flow_run_id, FlowRunState.CRASHED)
    assert world.reconcile().closed == 1
    assert now(world, run).duration_ns == 30_000_000_000


@pytest.mark.parametrize(
    ("state", "has_begun", "status", "stop_reason"),
    [
        (FlowRunState.FAILED, True, "failed", "error"),
        (FlowRunState.CRASHED, False, "failed", "never_started"),
        (FlowRunState.CANCELLED, False, "cancelled", "cancelled_by_user"),
    ],
)
def test_flow_run_with_parameters_that_cannot_be_read_is_recorded_with_the_reason(
    world, state, has_begun, status, stop_reason
):
    flow_run = world.gateway.click(deployment_id(world), BAD)
    if has_begun:
        world.gateway.begin(flow_run.id)
    world.gateway.end(flow_run.id, state)
    assert world.reconcile().adopted == 1
    (run,) = runs(world)
    assert (run.status, run.stop_reason, run.flow_run_id) == (status, stop_reason, flow_run.id)
    assert run.parameters == BAD
    assert "on_stale='perhaps'" in run.error_message
    assert world.reconcile().adopted == 0


def test_flow_run_with_parameters_that_no_database_takes_is_recorded_without_them(world):
    flow_run = world.gateway.click(deployment_id(world), {"x": "a\0b"})
    world.gateway.end(flow_run.id, FlowRunState.FAILED)
    world.reconcile()
    (run,) = runs(world)
    assert (run.status, run.parameters) == ("failed", {})
    assert "NUL" in run.error_message


def test_flow_run_with_bad_parameters_is_not_judged_before_its_end(world):
    reconciler = a_reconciler(world)
    flow_run = world.gateway.click(deployment_id(world), BAD)
    world.gateway.begin(flow_run.id)
    assert reconciler.pass_once().adopted == 0
    world.pass_time(HOUR)
    world.gateway.end(flow_run.id, FlowRunState.FAILED)
    assert reconciler.pass_once().adopted == 1


# Fault points and guards.


def test_points_are_reached_in_their_order(world):
    reached = []
    lost, ended = started(world), world.claim(world.gateway.click(deployment_id(world)).id).run
    world.pass_time(50 * SECOND)
    world.port.heartbeat(ended.id, ended.fence)
    world.gateway.end(ended.flow_run_id)
    world.gateway.end(world.gateway.click(deployment_id(world)).id, FlowRunState.CANCELLED)
    world.pass_time(20 * SECOND)
    with faults.watched(reached.append):
        world.reconcile()
    assert how(world, lost) == ("failed", "lease_expired")
    assert [point for point in reached if point.startswith("reconcile.")] == [
        f"reconcile.{name}" for name in ("begin", "expiring", "expired", "closing", "closed", "adopting", "adopted")
    ]


def test_lease_that_is_not_guarded_never_expires(world):
    run = started(world)
    world.pass_time(HOUR)
    with faults.switched_off(Guard.LEASE):
        assert world.reconcile().expired == 0
    assert now(world, run).status == "running"
    assert world.reconcile().expired == 1


# Two of them at once.


def everything(world):
    """One of everything that a reconciler acts upon; return what may happen once to each."""
    lost, cancelled = started(world), world.claim(world.gateway.click(deployment_id(world)).id).run
    world.service.cancel(cancelled.id)
    waiting = world.service.submit("refresh/momentum", on_stale="wait")
    ended = world.claim(world.gateway.click(deployment_id(world)).id).run
    beating(world, ended, 170 * SECOND)
    world.port.heartbeat(cancelled.id, cancelled.fence)
    world.pass_time(15 * SECOND)
    world.gateway.end(ended.flow_run_id, FlowRunState.FAILED)
    world.gateway.task(ended.flow_run_id, "fit-0", FlowRunState.COMPLETED)
    world.gateway.end(world.gateway.click(deployment_id(world)).id, FlowRunState.CANCELLED)
    world.gateway.end(world.gateway.click(deployment_id(world), BAD).id, FlowRunState.CRASHED)
    return {
        lost.id: ("failed", "lease_expired"),
        cancelled.id: ("cancelled", "cancelled_by_user"),
        waiting.id: ("refused", "waited_too_long"),
        ended.id: ("failed", "error"),
    }


def check_each_happened_once(world, expected):
    found = {run.id: run for run in runs(world)}
    assert {run_id: (found[run_id].status, found[run_id].stop_reason) for run_id in expected} == expected
    assert len(found) == len(expected) + 2
    assert all(run.ended_at is not None for run in found.values())
    for run_id in found:
        kinds = world.kinds(run_id)
        numbers = [number for number, _ in world.queries.events(run_id)]
        assert numbers == list(range(1, len(numbers) + 1))
        ends = ("run_failed", "run_cancelled", "run_refused")
        assert sum(kind in ends for kind in kinds) == 1
        assert len([kind for kind in kinds if kind in ("cancel_requested", "cancel_forced")]) in (0, 1, 2)
        assert kinds.count("cancel_forced") <= 1
    (stepped,) = [run_id for run_id in found if world.queries.report(run_id).usage.num_steps]
    assert world.queries.report(stepped).usage.num_steps == 1


POINTS = ("begin", "expiring", "expired", "closing", "closed", "adopting", "adopted")


@pytest.mark.parametrize("point", POINTS)
def test_second_reconciler_that_passes_within_the_first_does_nothing_twice(world, point):
    expected = everything(world)
    first, second = (a_reconciler(world, wait_within_s=60.0) for _ in range(2))
    with at(f"reconcile.{point}", second.pass_once):
        first.pass_once()
    check_each_happened_once(world, expected)


def test_reconcilers_in_threads_do_nothing_twice(world):
    expected = everything(world)
    barrier = Barrier(4)

    def pass_at_once(_):
        reconciler = a_reconciler(world, wait_within_s=60.0)
        barrier.wait(timeout=30)
        return reconciler.pass_once()

    with ThreadPoolExecutor(4) as pool:
        repairs = list(pool.map(pass_at_once, range(4)))
    check_each_happened_once(world, expected)
    for name in ("expired", "closed", "forced", "refused"):
        assert sum(getattr(one, name) for one in repairs) == 1, name


def test_reconciler_that_was_killed_is_followed_by_another_one(world):
    expected = everything(world)

    class Killed(BaseException):
        pass

    def die():
        raise Killed

    for point in POINTS:
        with at(f"reconcile.{point}", die), pytest.raises(Killed):
            a_reconciler(world, wait_within_s=60.0).pass_once()
    a_reconciler(world, wait_within_s=60.0).pass_once()
    check_each_happened_once(world, expected)
