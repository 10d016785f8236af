"""The worker's side: claim, pins, heartbeat, completion with propagation, failure, and every way in."""

from contextlib import contextmanager
from dataclasses import replace
from datetime import date, timedelta

import pandas as pd
import pytest

from freshline.deployments.gateway import FlowRunState
from freshline.lineage.models import Freshness
from freshline.runs.port import DirectPort
from freshline.runs.result import Read, Result
from freshline.storage.artifacts import ArtifactRecord
from freshline.storage.errors import Fenced, InvalidInput, NotFound, StoreMismatch, StoreUnavailable
from freshline.storage.ids import new_id
from freshline.storage.parquet import write_table

READY, STALE = Freshness.READY, Freshness.STALE


def test_run_through_publishes_a_version_and_ends_completed(world):
    run = world.run_through("refresh/prices")
    assert (run.status, run.stop_reason, run.attempt) == ("completed", "completed", 1)
    assert run.version_id is not None
    assert world.graph.freshness()["refresh/prices"] == READY
    assert world.kinds(run.id) == [
        "run_submitted",
        "gate_decided",
        "run_dispatched",
        "run_started",
        "version_published",
        "run_completed",
    ]


def test_claim_pins_the_current_versions_of_that_moment(world):
    world.run_through("refresh/prices", 1)
    claim = world.start(world.service.submit("refresh/momentum"))
    world.run_through("refresh/prices", 2)
    assert {role: pin.number for role, pin in world.port.pins(claim.run.id).items()} == {"prices": 1}
    world.complete(claim)
    assert world.graph.causes("refresh/momentum") == [("input_changed", "prices")]


def test_whole_chain_with_refresh_runs_in_order_and_releases_each_when_its_upstreams_are_done(world):
    book = world.service.submit("backtest/book", on_stale="refresh")
    order = []
    while world.service.get(book.id).status != "completed":
        world.dispatch()
        key, run = next((k, r) for k, r in world.queries.runs() if r.status == "pending" and r.flow_run_id)
        order.append(key)
        world.complete(world.claim(run.flow_run_id), content=key)
    assert order == ["refresh/prices", "refresh/momentum", "backtest/book"]
    assert {key for key, freshness in world.graph.freshness().items() if freshness == READY} == set(order)
    inputs = world.queries.report(book.id).inputs
    assert {(read.key, read.number, read.depth) for read in inputs} == {
        ("refresh/momentum", 1, 1),
        ("refresh/prices", 1, 1),
    }


def test_completion_names_what_became_stale(world):
    for key in ("refresh/prices", "refresh/momentum", "backtest/book"):
        world.run_through(key)
    run = world.run_through("refresh/prices", 2)
    published = next(event for _, event in world.queries.events(run.id) if event.kind == "version_published")
    assert published.affected == {"refresh/momentum": "stale", "backtest/book": "stale"}


def test_early_cutoff_skips_a_waiting_run_whose_deployment_became_ready_without_it(world):
    for key in ("refresh/prices", "refresh/momentum", "backtest/book"):
        world.run_through(key)
    world.run_through("refresh/prices", 2)
    book = world.service.submit("backtest/book", on_stale="refresh", if_ready="skip")
    world.run_through("refresh/prices", 1)  # back to what had been read
    world.dispatch()
    momentum = next(run for key, run in world.queries.runs() if key == "refresh/momentum")
    claim = world.claim(momentum.flow_run_id)
    assert not claim.may_start
    assert claim.run.status == "skipped"
    assert (world.service.get(book.id).status, world.service.get(book.id).stop_reason) == ("skipped", "already_ready")


def test_refresh_of_what_lapses_again_at_once_is_refused_instead_of_repeated(world):
    old_data = [
        replace(item, policy={"max_age": "1d", "of": "data"}) if item.key == "refresh/prices" else item
        for item in world.graph.declared.values()
    ]
    world.graph.register(*old_data)
    run = world.service.submit("refresh/momentum", on_stale="refresh")
    world.pass_time(timedelta(seconds=1))
    world.dispatch()
    prices = next(found for key, found in world.queries.runs() if key == "refresh/prices")
    claim = world.claim(prices.flow_run_id)
    frame = pd.DataFrame({"date": [pd.Timestamp("2022-01-03")], "x": [1]})
    stored = write_table(world.objects, frame, data_date="date")
    world.port.complete(claim.run.id, claim.run.fence, Result(artifacts=[ArtifactRecord.of_table("data", stored)]))
    world.dispatch()
    again = world.claim(world.service.get(run.id).flow_run_id)
    assert again.run.status == "refused"
    assert "refresh/prices was refreshed for this run, and its policy has lapsed" in again.run.error_message
    assert len(world.queries.runs()) == 2


def test_completing_twice_changes_nothing(world):
    claim = world.start(world.service.submit("refresh/prices"))
    result = world.result(claim=claim)
    world.port.complete(claim.run.id, claim.run.fence, result)
    before = world.kinds(claim.run.id)
    world.port.complete(claim.run.id, claim.run.fence, result)
    assert world.kinds(claim.run.id) == before


def test_older_run_that_completes_last_is_superseded(world):
    older = world.start(world.service.submit("refresh/prices"))
    newer = world.start(world.service.submit("refresh/prices"))
    world.complete(newer, 2)
    world.complete(older, 1)
    assert world.service.get(newer.run.id).stop_reason == "completed"
    assert world.service.get(older.run.id).stop_reason == "superseded"
    with world.database.read():
        status = next(row for row in world.queries.status() if row.key == "refresh/prices")
    assert status.version == 1


def test_append_whose_base_is_not_current_any_more_is_superseded(world):
    world.run_through("refresh/prices", 0)
    first = world.start(world.service.submit("refresh/prices"))
    second = world.start(world.service.submit("refresh/prices"))
    world.complete(first, 1, base_version_id=first.run.base_version_id)
    world.complete(second, 2, base_version_id=second.run.base_version_id)
    assert world.service.get(second.run.id).stop_reason == "superseded"


def test_fenced_worker_can_neither_beat_nor_complete_nor_fail(world):
    run = world.service.submit("refresh/prices")
    old = world.start(run)
    new = world.claim(old.run.flow_run_id)  # its infrastructure started the flow run again
    assert (new.run.id, new.run.attempt) == (run.id, 2)
    for act in (
        lambda: world.port.heartbeat(run.id, old.run.fence),
        lambda: world.port.record(run.id, old.run.fence, progress=0.5),
        lambda: world.port.complete(run.id, old.run.fence, world.result()),
        lambda: world.port.fail(run.id, old.run.fence, ValueError(), "", will_retry=False),
    ):
        with pytest.raises(Fenced):
            act()
    world.complete(new)
    assert world.service.get(run.id).status == "completed"


def test_failed_completion_publishes_nothing(world):
    claim = world.start(world.service.submit("refresh/prices"))
    with pytest.raises(Exception, match="backtest_field"):
        world.port.complete(claim.run.id, claim.run.fence, world.result(claim=claim, detail={"backtest_field": 1}))
    assert world.service.get(claim.run.id).status == "running"
    assert world.graph.freshness()["refresh/prices"] == Freshness.NOT_INITIALIZED


def test_failure_ends_the_run_and_leaves_the_current_version_true(world):
    world.run_through("refresh/prices")
    claim = world.start(world.service.submit("refresh/prices"))
    world.port.fail(claim.run.id, claim.run.fence, ValueError("no luck"), "trace", will_retry=False)
    run = world.service.get(claim.run.id)
    assert (run.status, run.stop_reason, run.error_type, run.error_message) == (
        "failed",
        "error",
        "ValueError",
        "no luck",
    )
    status = next(row for row in world.queries.status() if row.key == "refresh/prices")
    assert (status.freshness, status.activity) == ("ready", "error")


def test_failure_of_an_upstream_refuses_whoever_waited(world):
    book = world.service.submit("backtest/book", on_stale="refresh")
    world.dispatch()
    _, prices = next((k, r) for k, r in world.queries.runs() if r.status == "pending")
    claim = world.claim(prices.flow_run_id)
    world.port.fail(claim.run.id, claim.run.fence, ValueError("no luck"), "", will_retry=False)
    run = world.service.get(book.id)
    assert (run.status, run.stop_reason) == ("refused", "upstream_not_ready")


def test_flow_run_that_is_started_again_and_refused_while_it_waits_has_one_more_run(world):
    def claim_and_wait():
        claim = world.claim(flow_run.id)
        assert claim.run.status == "waiting"
        world.gateway.suspend(flow_run.id, message="waits", timeout_s=600)
        _, prices = next((key, run) for key, run in world.queries.runs() if run.status == "pending")
        world.dispatch()
        upstream = world.claim(world.service.get(prices.id).flow_run_id).run
        world.port.fail(upstream.id, upstream.fence, ValueError("no luck"), "", will_retry=False)
        world.dispatch()
        # It is resumed to be told: that is no start.
        told = world.claim(flow_run.id)
        assert (told.run.id, told.run.status, told.may_start) == (claim.run.id, "refused", False)
        world.gateway.end(flow_run.id, FlowRunState.CANCELLED)
        return told.run

    flow_run = world.gateway.click(deployment_id(world, "refresh/momentum"), {"on_stale": "refresh"})
    first = claim_and_wait()
    runs = [first]
    for generation in (1, 2):
        world.gateway.start_again(flow_run.id)
        runs.append(claim_and_wait())
        assert (runs[-1].retry_of, runs[-1].generation) == (runs[-2].id, generation)


def test_failure_that_prefect_retries_is_the_same_run_next_attempt(world):
    claim = world.start(world.service.submit("refresh/prices"))
    world.port.fail(claim.run.id, claim.run.fence, ValueError(), "", will_retry=True)
    assert world.service.get(claim.run.id).status == "retrying"
    again = world.claim(claim.run.flow_run_id)
    assert (again.run.id, again.run.attempt, again.run.status) == (claim.run.id, 2, "running")
    assert again.run.fence > claim.run.fence
    world.complete(again)
    assert world.kinds(claim.run.id).count("run_started") == 2


def test_cancel_is_noticed_at_the_next_heartbeat(world):
    claim = world.start(world.service.submit("refresh/prices"))
    assert not world.port.heartbeat(claim.run.id, claim.run.fence)
    world.service.cancel(claim.run.id, actor="ada")
    assert world.port.heartbeat(claim.run.id, claim.run.fence)
    world.port.acknowledge_cancel(claim.run.id, claim.run.fence)
    run = world.service.get(claim.run.id)
    assert (run.status, run.stop_reason) == ("cancelled", "cancelled_by_user")


def test_body_that_finishes_while_cancelling_completes(world):
    claim = world.start(world.service.submit("refresh/prices"))
    world.service.cancel(claim.run.id)
    world.complete(claim)
    assert world.service.get(claim.run.id).status == "completed"


def test_click_in_prefect_gets_one_run_of_its_own(world):
    flow_run = world.gateway.click(deployment_id(world, "refresh/prices"), {"if_ready": "skip", "lookback_d": 5})
    claim = world.claim(flow_run.id)
    assert claim.may_start
    assert (claim.run.trigger, claim.run.parameters, claim.run.request["if_ready"]) == (
        "manual",
        {"lookback_d": 5},
        "skip",
    )
    world.complete(claim)
    assert [run.id for _, run in world.queries.runs()] == [claim.run.id]


def test_click_on_a_stale_deployment_is_refused_with_the_reason(world):
    claim = world.claim(world.gateway.click(deployment_id(world, "refresh/momentum")).id)
    assert not claim.may_start
    assert (claim.run.status, claim.run.error_message) == ("refused", "refresh/prices has no version yet")


@pytest.mark.parametrize(("by", "trigger"), [("SCHEDULE", "schedule"), ("AUTOMATION", "automation")])
def test_schedule_and_automation_get_one_run_that_says_which(world, by, trigger):
    flow_run = world.gateway.schedule(
        deployment_id(world, "refresh/prices"), at=world.moment, by=by, name="weekdays at six"
    )
    claim = world.claim(flow_run.id)
    assert (claim.run.trigger, claim.run.trigger_name) == (trigger, "weekdays at six")


def test_scheduled_run_waits_for_its_upstreams_and_is_resumed(world):
    flow_run = world.gateway.schedule(deployment_id(world, "refresh/momentum"), at=world.moment)
    claim = world.claim(flow_run.id)
    assert claim.run.status == "waiting"
    world.gateway.suspend(flow_run.id, message="waits", timeout_s=600)
    world.run_through("refresh/prices")
    world.dispatch()
    assert world.gateway.read_flow_run(flow_run.id).state_type == FlowRunState.SCHEDULED
    again = world.claim(flow_run.id)
    assert again.may_start
    assert again.run.id == claim.run.id


def test_flow_run_started_again_by_hand_after_its_end_is_a_new_run(world):
    first = world.run_through("refresh/prices")
    world.gateway.start_again(first.flow_run_id)
    claim = world.claim(first.flow_run_id)
    assert (claim.run.retry_of, claim.run.generation, claim.may_start) == (first.id, 1, True)
    world.complete(claim)
    assert world.service.get(first.id).ended_at == first.ended_at
    assert len(world.queries.runs()) == 2


def test_flow_run_of_a_run_that_was_cancelled_before_does_not_start(world):
    run = world.service.submit("refresh/prices")
    world.dispatch()
    flow_run = world.flow_run_of(run)
    world.service.cancel(run.id)
    claim = world.claim(flow_run.id)
    assert not claim.may_start
    assert claim.run.id == run.id
    assert len(world.queries.runs()) == 1


def test_claim_before_the_dispatcher_recorded_the_flow_run_is_the_same_run(world):
    run = world.service.submit("refresh/prices")
    world.gateway.lose_reply_of_next("create_flow_run")
    world.dispatch()
    assert world.service.get(run.id).flow_run_id is None
    flow_run = world.gateway.recent_flow_runs(
        [deployment_id(world, "refresh/prices")], since=world.moment - timedelta(days=1)
    )[0]
    claim = world.claim(flow_run.id)
    assert (claim.run.id, claim.run.flow_run_id) == (run.id, flow_run.id)
    world.pass_time(timedelta(seconds=5))
    world.dispatch()
    assert len(world.queries.runs()) == 1


def test_claim_in_another_store_is_refused_with_the_setting(world):
    flow_run = world.gateway.click(deployment_id(world, "refresh/prices"))
    port = DirectPort(world.database, world.objects, world.gateway, store_id=str(new_id()))
    with pytest.raises(StoreMismatch, match="FRESHLINE_DATABASE_URL"):
        port.claim(world.gateway.begin(flow_run.id))
    assert world.queries.runs() == []


def test_claim_of_a_deployment_that_is_not_registered_is_an_error(world):
    other = world.gateway.add_deployment("flow/unknown")
    with pytest.raises(NotFound, match="registered deployment"):
        world.claim(world.gateway.click(other.id).id)


def test_read_that_was_not_declared_becomes_an_input_and_an_edge(world):
    world.run_through("refresh/calendar")
    claim = world.start(world.service.submit("refresh/prices"))
    world.port.complete(claim.run.id, claim.run.fence, reading(world, "refresh/calendar"))
    assert [(read.role, read.key) for read in world.queries.inputs("refresh/prices")] == [
        ("refresh/calendar", "refresh/calendar")
    ]
    world.run_through("refresh/calendar", 2)
    assert world.graph.causes("refresh/prices") == [("input_changed", "refresh/calendar")]


def test_read_that_closes_a_cycle_is_refused_with_the_path(world):
    world.run_through("refresh/prices")
    world.run_through("refresh/momentum")
    claim = world.start(world.service.submit("refresh/prices"))
    with pytest.raises(InvalidInput, match=r"cycle: refresh/\w+ -> refresh/\w+ -> refresh/\w+"):
        world.port.complete(claim.run.id, claim.run.fence, reading(world, "refresh/momentum"))


def reading(world, reference):
    """A result that was built on a version that nobody had declared."""
    other = world.port.resolve(reference)
    return replace(world.result(7), reads=[Read(reference, other.upstream_id, other.version_id)])


def deployment_id(world, key):
    return next(item.prefect_deployment_id for item in world.graph.declared.values() if item.key == key)


def test_version_that_is_asked_for_by_its_number_is_that_version_again_and_again(world):
    world.run_through("refresh/calendar", 1)
    world.run_through("refresh/calendar", 2)
    for _ in range(2):
        claim = world.start(world.service.submit("refresh/prices"))
        world.port.complete(claim.run.id, claim.run.fence, reading(world, "refresh/calendar@v1"))
        assert [read.number for read in world.queries.inputs("refresh/prices")] == [1]
        assert world.graph.freshness()["refresh/prices"] == READY, "it need not be fresh"


def test_gate_knows_of_a_policy_that_has_lapsed_since_the_reconciler_looked(world):
    world.graph.register(
        *(replace(item, policy={"max_age": "1h"}) if item.key == "refresh/prices" else item
          for item in world.graph.declared.values())
    )  # fmt: skip
    world.run_through("refresh/prices")
    world.pass_time(timedelta(hours=2))
    run = world.service.submit("refresh/momentum")
    assert (run.status, run.error_message) == (
        "refused",
        "refresh/prices is stale: its freshness policy has lapsed",
    )


def test_refresh_joins_no_run_that_reads_to_another_day(world):
    world.start(world.service.submit("refresh/prices", data_as_of=date(2010, 1, 1)))
    world.service.submit("refresh/momentum", on_stale="refresh", data_as_of=date(2022, 1, 1))
    days = [run.data_as_of for key, run in world.queries.runs() if key == "refresh/prices"]
    assert sorted(days) == [date(2010, 1, 1), date(2022, 1, 1)]


def test_failure_whose_message_no_database_takes_is_recorded_all_the_same(world):
    claim = world.start(world.service.submit("refresh/prices"))
    world.port.fail(claim.run.id, claim.run.fence, ValueError("a\0b\ud800"), "x\0", will_retry=False)
    assert world.service.get(claim.run.id).error_message == "a\ufffdb?"


def test_completion_outlasts_a_connection_that_is_lost(world, monkeypatch):
    claim = world.start(world.service.submit("refresh/prices"))
    opened, lost = world.database.transaction, []

    @contextmanager
    def lose_once(**options):
        if not lost:
            lost.append(True)
            raise StoreUnavailable("the database went away")
        with opened(**options) as connection:
            yield connection

    monkeypatch.setattr(type(world.database), "transaction", lambda self, **options: lose_once(**options))
    world.port.complete(claim.run.id, claim.run.fence, world.result(claim=claim))
    assert world.service.get(claim.run.id).status == "completed"
    assert lost
