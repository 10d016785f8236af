"""Dispatcher and reconciler: what leaves for Prefect, and every end that Prefect reports or hides."""

from dataclasses import replace
from datetime import date, timedelta

import pytest
import sqlalchemy as sa

from freshline.deployments.gateway import FlowRunState
from freshline.runs import outbox
from freshline.runs import run_events as events
from freshline.runs.ending import end_run
from freshline.runs.models import Outbox, RunDependency
from freshline.runs.repair.reconcile import Reconciler
from freshline.runs.status import RunStatus, StopReason
from freshline.storage.errors import InvalidInput, PrefectError
from tests.fakes import FakeGateway

MINUTE = timedelta(minutes=1)


def flow_runs(world):
    ids = [item.prefect_deployment_id for item in world.graph.declared.values()]
    return world.gateway.recent_flow_runs(ids, since=world.moment - timedelta(days=2))


def deployment_id(world, key):
    return world.graph.declared[key].prefect_deployment_id


def test_dispatch_creates_one_flow_run_with_our_label_and_parameters(world):
    run = world.service.submit("refresh/prices", if_ready="skip", tags=["nightly"])
    assert world.dispatch() == 1
    (flow_run,) = flow_runs(world)
    assert flow_run.labels == {"freshline.run_id": str(run.id)}
    assert flow_run.parameters == {"update_mode": "incremental", "if_ready": "skip"}
    assert flow_run.tags == ("nightly",)
    assert world.service.get(run.id).flow_run_id == flow_run.id


def test_renamed_parameters_go_out_and_come_in_under_the_names_of_the_flow(world):
    names = {"mode": "update_mode", "if_ready": "if_ready", "on_stale": "on_stale", "as_of": "data_as_of"}
    declared = [
        replace(item, declaration={"renamed": names, "if_ready": "skip", "parameters": {"lookback_d": 5}})
        for item in world.graph.declared.values()
    ]
    world.graph.register(*declared)
    run = world.service.submit("refresh/prices", data_as_of=date(2022, 1, 3))
    assert (run.parameters, run.request["if_ready"]) == ({"lookback_d": 5}, "skip")
    world.dispatch()
    sent = world.flow_run_of(run).parameters
    assert sent == {"lookback_d": 5, "mode": "incremental", "if_ready": "skip", "as_of": "2022-01-03"}
    clicked = world.claim(world.gateway.click(deployment_id(world, "refresh/prices"), {"as_of": "2022-01-04"}).id)
    assert clicked.run.data_as_of == date(2022, 1, 4)
    assert clicked.run.parameters == {"lookback_d": 5}


def test_dispatch_whose_reply_was_lost_is_repeated_and_makes_no_second_flow_run(world):
    run = world.service.submit("refresh/prices")
    world.gateway.lose_reply_of_next("create_flow_run")
    assert world.dispatch() == 0
    assert world.dispatch() == 0, "not before its time"
    world.pass_time(MINUTE)
    assert world.dispatch() == 1
    assert len(flow_runs(world)) == 1
    assert world.service.get(run.id).flow_run_id == flow_runs(world)[0].id


def test_dispatch_while_prefect_is_down_waits_and_then_goes(world):
    run = world.service.submit("refresh/prices")
    world.gateway.is_down = True
    for _ in range(5):
        assert world.dispatch() == 0
        world.pass_time(MINUTE)
    world.gateway.is_down = False
    assert world.dispatch() == 1
    assert world.service.get(run.id).flow_run_id is not None


def test_dispatch_that_prefect_refuses_ends_the_run_with_its_message(world):
    run = world.service.submit("refresh/prices")
    world.gateway.fail_next("create_flow_run", InvalidInput("no such parameter"))
    world.dispatch()
    ended = world.service.get(run.id)
    assert (ended.status, ended.stop_reason, ended.error_message) == ("failed", "not_dispatched", "no such parameter")
    assert world.dispatch() == 0


def test_dispatcher_that_died_after_its_claim_is_followed_by_another_one(world):
    world.service.submit("refresh/prices")
    taken = world.database.write(lambda c: outbox.claim(c, now=world.moment)).entries()
    assert len(taken) == 1
    assert world.dispatch() == 0, "somebody has it"
    world.pass_time(2 * MINUTE)
    assert world.dispatch() == 1
    assert not world.database.write(lambda c: outbox.settle(c, taken[0]).changed()), "the claim had run out"


def test_entries_about_one_run_leave_in_their_order(world):
    run = world.service.submit("refresh/prices")
    world.database.write(lambda c: outbox.enqueue(c, outbox.Topic.CANCEL, run.id, dedupe_key="later", now=world.moment))
    taken = world.database.write(lambda c: outbox.claim(c, now=world.moment)).entries()
    assert [entry.topic for entry in taken] == ["dispatch"]


def test_cancel_of_a_dispatched_run_reaches_prefect(world):
    run = world.service.submit("refresh/prices")
    world.dispatch()
    world.service.cancel(run.id)
    world.dispatch()
    assert world.flow_run_of(run).state_type == FlowRunState.CANCELLED


@pytest.mark.parametrize(
    ("state", "status", "stop_reason"),
    [
        (FlowRunState.CANCELLED, "cancelled", "cancelled_by_user"),
        (FlowRunState.CRASHED, "failed", "crashed"),
        (FlowRunState.FAILED, "failed", "error"),
        (FlowRunState.COMPLETED, "failed", "crashed"),
    ],
)
def test_reconcile_closes_a_running_run_as_prefect_says(world, state, status, stop_reason):
    claim = world.start(world.service.submit("refresh/prices"))
    world.gateway.end(claim.run.flow_run_id, state, message="as it is")
    assert world.reconcile().closed == 1
    run = world.service.get(claim.run.id)
    assert (run.status, run.stop_reason, run.error_message) == (status, stop_reason, "as it is")
    assert world.reconcile().closed == 0


@pytest.mark.parametrize(
    ("state", "status", "stop_reason"),
    [
        (FlowRunState.CANCELLED, "cancelled", "cancelled_by_user"),
        (FlowRunState.CRASHED, "failed", "crashed"),
        (FlowRunState.FAILED, "failed", "never_started"),
    ],
)
def test_reconcile_closes_a_run_that_never_started(world, state, status, stop_reason):
    run = world.service.submit("refresh/prices")
    world.dispatch()
    world.gateway.end(world.flow_run_of(run).id, state)
    world.pass_time(MINUTE)
    world.reconcile()
    assert (world.service.get(run.id).status, world.service.get(run.id).stop_reason) == (status, stop_reason)


def test_reconcile_of_a_deleted_flow_run_cancels_the_run(world):
    claim = world.start(world.service.submit("refresh/prices"))
    world.gateway.delete(claim.run.flow_run_id)
    world.pass_time(timedelta(seconds=1))
    world.reconcile()
    assert world.service.get(claim.run.id).stop_reason == "deleted_in_prefect"


def test_reconcile_expires_a_lease_and_forces_the_zombie_to_crashed(world):
    claim = world.start(world.service.submit("refresh/prices"))
    world.pass_time(timedelta(seconds=59))
    assert world.reconcile().expired == 0
    world.port.heartbeat(claim.run.id, claim.run.fence)
    world.pass_time(timedelta(seconds=59))
    assert world.reconcile().expired == 0
    world.pass_time(timedelta(seconds=2))
    assert world.reconcile().expired == 1
    world.dispatch()
    run = world.service.get(claim.run.id)
    assert (run.status, run.stop_reason) == ("failed", "lease_expired")
    assert world.flow_run_of(run).state_type == FlowRunState.CRASHED


def test_reconcile_ends_what_was_never_started_in_time(world):
    run = world.service.submit("refresh/prices")
    world.dispatch()
    world.pass_time(timedelta(hours=1))
    assert world.reconcile(start_within_s=7200).closed == 0
    world.pass_time(timedelta(hours=2))
    assert world.reconcile(start_within_s=7200).closed == 1
    assert world.service.get(run.id).stop_reason == "never_started"


def test_reconcile_records_a_flow_run_that_was_cancelled_before_its_start(world):
    flow_run = world.gateway.click(deployment_id(world, "refresh/prices"))
    assert world.reconcile().adopted == 0, "it is still scheduled"
    world.gateway.end(flow_run.id, FlowRunState.CANCELLED)
    assert world.reconcile().adopted == 1
    ((_, run),) = world.queries.runs()
    assert (run.status, run.trigger, run.flow_run_id) == ("cancelled", "manual", flow_run.id)
    assert world.reconcile().adopted == 0


def test_reconcile_records_a_crash_before_the_claim(world):
    flow_run = world.gateway.click(deployment_id(world, "refresh/prices"))
    world.gateway.end(flow_run.id, FlowRunState.CRASHED)
    world.reconcile()
    ((_, run),) = world.queries.runs()
    assert (run.status, run.stop_reason) == ("failed", "crashed")


def test_reconcile_leaves_what_ran_before_the_registration_alone(world):
    world.gateway.schedule(deployment_id(world, "refresh/prices"), at=world.moment - timedelta(hours=1))
    for flow_run in flow_runs(world):
        world.gateway.end(flow_run.id)
    assert world.reconcile().adopted == 0


def test_reconcile_turns_a_lapsed_policy_into_a_cause_once(world):
    declared = [
        replace(item, policy={"max_age": "1d"}) if item.key == "refresh/prices" else item
        for item in world.graph.declared.values()
    ]
    world.graph.register(*declared)
    world.run_through("refresh/prices")
    assert world.reconcile().lapsed == 0
    world.pass_time(timedelta(days=1))
    assert world.reconcile().lapsed == 1
    assert world.graph.causes("refresh/prices") == [("expired", "")]
    assert world.reconcile().lapsed == 0


def test_reconcile_releases_a_run_whose_upstream_became_ready_without_a_run(world):
    run = world.service.submit("refresh/momentum", on_stale="wait")
    assert world.reconcile().released == 0
    world.graph.publish("refresh/prices", "by hand")
    assert world.reconcile().released == 1
    assert world.service.get(run.id).status == "pending"


def test_reconcile_with_prefect_down_still_expires_and_says_what_failed(world):
    claim = world.start(world.service.submit("refresh/prices"))
    world.pass_time(2 * MINUTE)
    other = world.start(world.service.submit("refresh/prices"))
    world.gateway.is_down = True
    with pytest.raises(PrefectError):
        world.reconcile()
    assert world.service.get(claim.run.id).stop_reason == "lease_expired"
    assert world.service.get(other.run.id).status == "running"


def test_outbox_keeps_nothing_due_after_a_quiet_day(world):
    world.run_through("refresh/prices")
    table = Outbox.__table__
    with world.database.read() as connection:
        states = connection.execute(sa.select(table.c.state)).scalars().all()
    assert states == ["done"]


def test_reconcile_against_another_prefect_leaves_the_runs_alone(world):
    claim = world.start(world.service.submit("refresh/prices"))
    strange = Reconciler(world.database, FakeGateway(clock=lambda: world.moment))
    assert strange.pass_once().closed == 0
    assert world.service.get(claim.run.id).status == "running"


def test_reconcile_is_not_kept_by_a_flow_run_that_cannot_be_recorded(world):
    bad = world.gateway.click(deployment_id(world, "refresh/prices"), {"on_stale": "perhaps"})
    good = world.gateway.click(deployment_id(world, "refresh/prices"))
    for flow_run in (bad, good):
        world.gateway.end(flow_run.id, FlowRunState.CRASHED)
    assert world.reconcile().adopted == 2
    assert {run.flow_run_id for _, run in world.queries.runs()} == {bad.id, good.id}


def test_reconcile_after_a_gap_spares_leases_that_nobody_could_renew(world):
    reconciler = Reconciler(world.database, world.gateway)
    claim = world.start(world.service.submit("refresh/prices"))
    reconciler.pass_once()
    world.pass_time(10 * MINUTE)
    assert reconciler.pass_once().expired == 0
    world.port.heartbeat(claim.run.id, claim.run.fence)
    world.pass_time(timedelta(seconds=50))
    assert reconciler.pass_once().expired == 0
    world.pass_time(timedelta(seconds=50))
    assert reconciler.pass_once().expired == 1


def test_expiry_loses_against_a_heartbeat_that_came_first(world):
    claim = world.start(world.service.submit("refresh/prices"))
    world.pass_time(2 * MINUTE)
    world.port.heartbeat(claim.run.id, claim.run.fence)
    failed = events.RunFailed(stop_reason="lease_expired")
    lost = world.database.write(
        lambda c: end_run(
            c, claim.run.id, RunStatus.FAILED, StopReason.LEASE_EXPIRED, failed, actor="test", now=world.moment,
            lease_before=world.moment,
        )
    )  # fmt: skip
    assert lost is None
    assert world.service.get(claim.run.id).status == "running"


def test_reconcile_releases_a_waiting_run_that_was_not_told(world):
    book = world.service.submit("refresh/momentum", on_stale="refresh")
    dependency = RunDependency.__table__
    world.database.write(lambda c: c.execute(sa.delete(dependency).where(dependency.c.run_id == book.id)))
    assert world.reconcile().released == 1
    assert world.service.get(book.id).status == "pending"


def test_flow_run_that_crashed_before_its_start_may_be_started_again_by_hand(world):
    flow_run = world.gateway.click(deployment_id(world, "refresh/prices"))
    world.gateway.end(flow_run.id, FlowRunState.CRASHED)
    world.reconcile()
    world.gateway.start_again(flow_run.id)
    claim = world.claim(flow_run.id)
    assert (claim.may_start, claim.run.generation) == (True, 1)


def test_run_that_is_suspended_by_its_body_keeps_no_lease_and_goes_on(world):
    claim = world.start(world.service.submit("refresh/prices"))
    world.port.pause(claim.run.id, claim.run.fence)
    world.gateway.suspend(claim.run.flow_run_id, message="asks somebody", timeout_s=600)
    world.pass_time(10 * MINUTE)
    assert world.reconcile().expired == 0
    again = world.claim(claim.run.flow_run_id)
    assert (again.run.id, again.run.attempt, again.may_start) == (claim.run.id, 2, True)
