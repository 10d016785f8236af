"""Deployments that are refreshed by themselves: once per burst, in order, without spinning, and whoever dies."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from threading import Barrier

import pandas as pd
import pytest

from freshline.runs.curation import Curation
from freshline.runs.redo.backfill_plan import BackfillRequest
from freshline.runs.redo.backfilling import Backfills
from freshline.runs.redo.replaying import Replays
from freshline.runs.repair.auto_refresh import refresh_stale
from freshline.runs.result import Result
from freshline.storage.artifacts import ArtifactRecord
from freshline.storage.auto_refresh import read_auto_refresh
from freshline.storage.faults import watched
from freshline.storage.ids import show_run_id
from freshline.storage.parquet import write_table
from tests.factories import declared

PRICES, MOMENTUM, BOOK = "refresh/prices", "refresh/momentum", "backtest/book"
SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
QUIET = 30 * SECOND

# When it is due follows from what is recorded, in the same way on both.
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def world(world):
    """Prices, momentum and book with a version each; nothing is refreshed by itself yet."""
    for key in (PRICES, MOMENTUM, BOOK):
        world.run_through(key)
    return world


def declare(world, key, **changes):
    """Register a deployment anew, otherwise as it was."""
    world.graph.now = world.moment
    world.graph.register(*(world.graph.declared | {key: replace(world.graph.declared[key], **changes)}).values())


def refreshed_by_itself(world, *keys, **options):
    options = {"quiet": "30s", "wait_at_most": "5m", "at_most_every": "1m"} | options
    for key in keys:
        declare(world, key, auto_refresh=read_auto_refresh(options).to_json())


def sweep(world):
    return refresh_stale(world.database)


def sweep_after(world, elapsed):
    world.pass_time(elapsed)
    return sweep(world)


def open_run(world, key):
    (run,) = [run for _, run in world.queries.runs(deployment=key) if run.ended_at is None]
    return run


def finish(world, key, content):
    """Let the open run of a deployment go through."""
    run = open_run(world, key)
    world.complete(world.start(run), content)
    return world.service.get(run.id)


def end_with_old_data(world):
    """The source has nothing newer than what lapsed days ago."""
    claim = world.start(open_run(world, PRICES))
    stored = write_table(world.objects, pd.DataFrame({"date": [pd.Timestamp("2026-01-01")]}), data_date="date")
    world.port.complete(claim.run.id, claim.run.fence, Result(artifacts=[ArtifactRecord.of_table("data", stored)]))
    world.gateway.end(claim.run.flow_run_id)


def end_in_failure(world, key):
    claim = world.start(open_run(world, key))
    world.port.fail(claim.run.id, claim.run.fence, ValueError("no data"), "", will_retry=False)
    world.gateway.end(claim.run.flow_run_id)


def freshness(world):
    return {key: value.value for key, value in world.graph.freshness().items()}


# Once, and in order.


@on_sqlite
def test_burst_of_changes_is_one_run_after_it_is_quiet(world):
    refreshed_by_itself(world, MOMENTUM)
    for content in range(2, 12):
        world.run_through(PRICES, content)
        assert sweep_after(world, SECOND) == 0
    assert sweep_after(world, QUIET - 2 * SECOND) == 0
    assert sweep_after(world, SECOND) == 1
    assert sweep_after(world, HOUR) == 0  # it is under way
    finish(world, MOMENTUM, 2)
    assert sweep_after(world, HOUR) == 0
    assert freshness(world)[MOMENTUM] == "ready"


def test_chain_and_diamond_are_refreshed_upstream_first_each_once(world):
    refreshed_by_itself(world, MOMENTUM, BOOK)
    changed = world.run_through(PRICES, 2)
    assert sweep_after(world, QUIET) == 1
    finish(world, MOMENTUM, 2)
    assert sweep(world) == 0
    assert sweep_after(world, QUIET) == 1
    finish(world, BOOK, 2)
    assert sweep_after(world, HOUR) == 0
    assert set(freshness(world).values()) == {"ready", "not_initialized"}
    by_itself = [(key, run) for key, run in world.queries.runs() if run.trigger == "cascade"]
    assert [key for key, _ in by_itself] == [BOOK, MOMENTUM]
    assert {(run.trigger_name, run.status) for _, run in by_itself} == {("auto_refresh", "completed")}
    assert {run.actor for _, run in by_itself} == {show_run_id(changed.id)}


@on_sqlite
def test_upstream_that_comes_to_an_equal_digest_spares_what_is_downstream(world):
    refreshed_by_itself(world, MOMENTUM, BOOK)
    declare(world, MOMENTUM, declaration_digest="declaration-2")
    assert sweep_after(world, QUIET) == 1
    finish(world, MOMENTUM, 1)
    assert sweep_after(world, HOUR) == 0
    assert freshness(world)[BOOK] == "ready"


@on_sqlite
def test_run_that_is_not_needed_any_more_when_it_starts_is_skipped(world):
    refreshed_by_itself(world, MOMENTUM)
    world.run_through(PRICES, 2)
    sweep_after(world, QUIET)
    run = open_run(world, MOMENTUM)
    world.run_through(PRICES, 1)
    world.start(run)
    assert world.service.get(run.id).status == "skipped"


@on_sqlite
def test_upstream_that_is_not_refreshed_by_itself_holds_back_what_reads_it(world):
    refreshed_by_itself(world, BOOK)
    world.run_through(PRICES, 2)
    assert sweep_after(world, HOUR) == 0
    assert world.queries.explain(BOOK).auto_refresh == "auto-refresh: when its upstreams are ready"
    world.run_through(MOMENTUM, 2)
    assert sweep_after(world, QUIET) == 1


@on_sqlite
def test_deployment_that_cannot_be_refreshed_does_not_keep_the_others(world, caplog):
    refreshed_by_itself(world, MOMENTUM, BOOK)
    key = f"auto-refresh:{world.graph.id(MOMENTUM)}:1"
    world.complete(world.start(world.service.submit(MOMENTUM, idempotency_key=key, update_mode="full")), 1)
    declare(world, MOMENTUM, declaration_digest="declaration-2")
    world.pass_time(SECOND)
    declare(world, BOOK, declaration_digest="declaration-2", edges=[])
    assert sweep_after(world, QUIET) == 1
    assert open_run(world, BOOK).trigger_name == "auto_refresh"
    assert "came with another request before" in caplog.text
    assert world.reconcile().refreshed == 0
    caplog.clear()
    refused = {}
    for _ in range(3):
        assert refresh_stale(world.database, refused) == 0
    assert caplog.text.count("could not be refreshed by itself") == 1
    (stale,) = refused
    refused[stale] = "another reason"
    assert refresh_stale(world.database, refused) == 0
    assert caplog.text.count("could not be refreshed by itself") == 2
    sound = world.graph.id(BOOK)
    refused[sound] = "a reason of long ago"
    assert refresh_stale(world.database, refused) == 0
    assert refused.keys() == {stale}, "when it is refused again, nobody would hear"


@on_sqlite
def test_wait_of_a_deployment_that_is_not_refreshed_by_itself_any_more_is_forgotten(world):
    refreshed_by_itself(world, MOMENTUM)
    world.run_through(PRICES, 2)
    assert sweep_after(world, SECOND) == 0
    declare(world, MOMENTUM, auto_refresh=None)
    assert sweep_after(world, HOUR) == 0
    world.run_through(PRICES, 3)
    refreshed_by_itself(world, MOMENTUM)
    assert sweep_after(world, QUIET - SECOND) == 0
    assert sweep_after(world, SECOND) == 1


# Coalesced.


def test_run_under_way_is_awaited_and_followed_by_one_if_it_had_pinned_before_the_change(world):
    refreshed_by_itself(world, MOMENTUM)
    claim = world.start(world.service.submit(MOMENTUM))
    world.run_through(PRICES, 2)
    assert sweep_after(world, HOUR) == 0
    world.complete(claim, "of the old prices")
    assert sweep(world) == 1
    finish(world, MOMENTUM, 2)
    assert sweep_after(world, HOUR) == 0


@on_sqlite
def test_replay_under_way_does_not_count(world):
    refreshed_by_itself(world, MOMENTUM)
    first = next(run for _, run in world.queries.runs(deployment=MOMENTUM))
    world.run_through(PRICES, 2)
    Replays(world.database).replay(first.id)
    assert sweep_after(world, QUIET) == 1


@on_sqlite
def test_backfill_between_two_of_its_runs_is_under_way(world):
    class Dying(Backfills):
        def advance(self, backfill_id):
            raise InterruptedError

    refreshed_by_itself(world, MOMENTUM)
    world.run_through(PRICES, 2)
    with pytest.raises(InterruptedError):
        Dying(world.database).start(BackfillRequest(deployment=MOMENTUM, first="2025-12-01", last="2025-12-01"))
    assert sweep_after(world, HOUR) == 0
    Backfills(world.database).cancel(Backfills(world.database).newest()[0].id)
    assert sweep(world) == 1


@on_sqlite
def test_stream_of_changes_that_never_ceases_does_not_put_it_off_for_ever(world):
    refreshed_by_itself(world, MOMENTUM, wait_at_most="1m")
    submitted = []
    for content in range(2, 10):
        world.run_through(PRICES, content)
        submitted.append(sweep_after(world, 10 * SECOND))
    assert submitted == [0, 0, 0, 0, 0, 1, 0, 0]


@on_sqlite
def test_wait_that_ended_without_a_run_is_forgotten(world):
    refreshed_by_itself(world, MOMENTUM)
    world.run_through(PRICES, 2)
    assert sweep_after(world, SECOND) == 0
    world.run_through(PRICES, 1)
    assert sweep_after(world, HOUR) == 0
    world.run_through(PRICES, 3)
    assert sweep_after(world, QUIET - SECOND) == 0
    assert sweep_after(world, SECOND) == 1


@on_sqlite
def test_upstream_with_a_run_under_way_is_awaited_but_not_for_ever(world):
    refreshed_by_itself(world, BOOK)
    world.run_through(PRICES, 2)
    world.run_through(MOMENTUM, 2)
    claim = world.start(world.service.submit(PRICES))
    assert sweep_after(world, 4 * MINUTE) == 0
    assert "when the runs of its upstreams have ended" in world.queries.explain(BOOK).auto_refresh
    assert sweep_after(world, MINUTE) == 1
    assert world.service.get(claim.run.id).status == "running"


# It does not spin.


@on_sqlite
def test_upstream_that_always_moves_gets_a_run_at_most_every_so_often(world):
    refreshed_by_itself(world, MOMENTUM, quiet="0s", at_most_every="3m")
    world.run_through(PRICES, 2)
    submitted = [sweep(world)]
    for content in range(3, 11):
        claim = world.start(open_run(world, MOMENTUM)) if submitted[-1] else None
        world.run_through(PRICES, content)
        if claim is not None:
            world.complete(claim, content)
        submitted.append(sweep_after(world, MINUTE))
    assert submitted == [1, 0, 0, 1, 0, 0, 1, 0, 0]


@on_sqlite
def test_failures_for_the_same_causes_back_off_until_something_changes(world):
    refreshed_by_itself(world, MOMENTUM)
    world.run_through(PRICES, 2)
    assert sweep_after(world, QUIET) == 1
    for pause in (1, 2, 4):
        end_in_failure(world, MOMENTUM)
        assert sweep_after(world, pause * MINUTE - SECOND) == 0
        assert sweep_after(world, SECOND) == 1
    end_in_failure(world, MOMENTUM)
    assert "stale for the same reasons; 8m after that" in world.queries.explain(MOMENTUM).auto_refresh
    world.run_through(PRICES, 3)
    assert sweep_after(world, QUIET) == 0  # at most every minute
    assert sweep_after(world, QUIET) == 1


@on_sqlite
def test_failure_of_somebody_elses_run_on_what_is_there_now_is_a_try_too(world):
    refreshed_by_itself(world, MOMENTUM)
    world.run_through(PRICES, 2)
    world.service.submit(MOMENTUM)
    end_in_failure(world, MOMENTUM)
    assert sweep_after(world, QUIET) == 0
    assert sweep_after(world, QUIET) == 1


@on_sqlite
def test_cancelled_run_is_not_repeated_until_something_changes(world):
    refreshed_by_itself(world, MOMENTUM)
    world.run_through(PRICES, 2)
    sweep_after(world, QUIET)
    world.service.cancel(open_run(world, MOMENTUM).id, actor="anna")
    assert sweep_after(world, 30 * DAY) == 0
    assert "was cancelled" in world.queries.explain(MOMENTUM).auto_refresh
    declare(world, MOMENTUM, declaration_digest="declaration-2")
    assert sweep_after(world, QUIET) == 1


@on_sqlite
def test_policy_that_no_run_satisfies_is_tried_ever_less_often(world):
    refreshed_by_itself(world, PRICES)
    declare(world, PRICES, policy={"max_age": "1d", "of": "data"})
    world.service.submit(PRICES)
    count, tried_at = 1, []
    for minute in range(17):
        if count:
            end_with_old_data(world)
        count = sweep(world)
        tried_at += [minute] * count
        world.pass_time(MINUTE)
    assert tried_at == [1, 3, 6, 11]  # each has ended a minute later, and the pause doubles


# Whatever makes it stale.


def expire(world):
    declare(world, MOMENTUM, policy={"max_age": "1h"})
    world.pass_time(HOUR)
    assert world.reconcile().refreshed == 0


def withdraw(world):
    world.run_through(PRICES, 2)
    world.run_through(MOMENTUM, 2)
    Curation(world.database).withdraw(f"{PRICES}@v2", "wrong currency", actor="anna")


def redeploy(world):
    declare(world, MOMENTUM, declaration_digest="declaration-2")


def named_after(world, act):
    """(actor, why) of the run that follows."""
    refreshed_by_itself(world, MOMENTUM)
    act(world)
    world.pass_time(QUIET)
    assert world.reconcile().refreshed == 1
    run = open_run(world, MOMENTUM)
    explained = world.queries.explain_run(run.id)
    because = explained.moments[0].what.removeprefix("recorded, trigger cascade: ")
    assert because in explained.asked_by
    return run.actor, because


@on_sqlite
def test_policy_that_lapses_is_named_by_the_run_that_follows(world):
    assert named_after(world, expire) == ("freshness policy", "its freshness policy has lapsed")


@on_sqlite
def test_deploy_that_changes_it_is_named_by_the_run_that_follows(world):
    why = "its declaration or code is not the one that built the current version"
    assert named_after(world, redeploy) == ("deploy", why)


def test_withdrawal_is_named_by_the_run_that_follows(world):
    actor, why = named_after(world, withdraw)
    assert actor == "anna"
    assert why.startswith("v2 of refresh/prices, which it read, was withdrawn; refresh/prices is at v1 now")


@on_sqlite
def test_deployment_that_nobody_wants_refreshed_is_left_alone(world):
    refreshed_by_itself(world, MOMENTUM)
    declare(world, MOMENTUM, auto_refresh=None)
    world.run_through(PRICES, 2)
    assert sweep_after(world, HOUR) == 0
    assert world.queries.explain(MOMENTUM).auto_refresh is None
    refreshed_by_itself(world, MOMENTUM)
    world.graph.register(*(item for key, item in world.graph.declared.items() if key not in (MOMENTUM, BOOK)))
    assert sweep(world) == 0


@on_sqlite
def test_deployment_turned_off_and_on_again_gets_runs_again(world):
    refreshed_by_itself(world, MOMENTUM)
    for content in (2, 3):
        world.run_through(PRICES, content)
        assert sweep_after(world, HOUR) == 1
        finish(world, MOMENTUM, content)
        declare(world, MOMENTUM, auto_refresh=None)
        refreshed_by_itself(world, MOMENTUM)


def test_status_says_when_it_is_due(world):
    refreshed_by_itself(world, MOMENTUM, BOOK)
    world.run_through(PRICES, 2)
    said = {row.key: row.auto_refresh for row in world.queries.status()}
    assert said == {
        "refresh/calendar": None,
        PRICES: None,
        MOMENTUM: "auto-refresh due at 2026-01-05 12:00:30 UTC: once nothing has changed for 30s",
        BOOK: "auto-refresh: when its upstreams are ready",
    }
    sweep_after(world, QUIET)
    assert "a run is under way" in world.queries.explain(MOMENTUM).auto_refresh


# Whoever dies, and however many there are.


def test_sweep_that_dies_at_any_point_leaves_one_run_to_the_next(world):
    refreshed_by_itself(world, MOMENTUM)
    world.run_through(PRICES, 2)
    world.pass_time(QUIET)

    def die_at(point):
        def die(reached):
            if reached == point:
                raise InterruptedError(point)

        return die

    for name in ("begin", "locked", "before_commit", "committed"):
        point = f"auto_refresh.{name}"
        with watched(die_at(point)), pytest.raises(InterruptedError, match=point):
            sweep(world)
    assert sweep(world) == 0
    open_run(world, MOMENTUM)


def test_sweeps_at_the_same_moment_submit_one_run(world):
    refreshed_by_itself(world, MOMENTUM)
    world.run_through(PRICES, 2)
    world.pass_time(QUIET)
    both = Barrier(4)

    def meet(reached):
        if reached == "auto_refresh.begin":  # each has found it to be due
            both.wait(60)

    with watched(meet), ThreadPoolExecutor(4) as threads:
        found = [sweeping.result() for sweeping in [threads.submit(sweep, world) for _ in range(4)]]
    assert sorted(found) == [0, 0, 0, 1]
    open_run(world, MOMENTUM)


@on_sqlite
def test_publication_of_an_external_upstream_is_followed_too(world):
    vendor = declared("refresh/vendor", external=True)
    world.graph.register(*world.graph.declared.values(), vendor)
    refreshed_by_itself(world, PRICES)
    declare(world, PRICES, edges=declared(PRICES, ["refresh/vendor"]).edges)
    world.graph.now = world.moment
    world.graph.publish("refresh/vendor", "1")
    world.run_through(PRICES, 2)
    assert sweep_after(world, HOUR) == 0
    world.graph.now = world.moment
    world.graph.publish("refresh/vendor", "2")
    assert sweep_after(world, QUIET) == 1
