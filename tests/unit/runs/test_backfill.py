"""Backfills: what would run, in which order, how many at once, and that nothing is lost or done twice."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta

import pandas as pd
import pytest

from freshline.runs.care.deletion import Deletions
from freshline.runs.redo.backfill_plan import BackfillRequest
from freshline.runs.redo.backfilling import Backfills, advance_all
from freshline.runs.redo.date_ranges import dates_between
from freshline.runs.result import Result
from freshline.storage.artifacts import ArtifactRecord
from freshline.storage.errors import Conflict, FreshlineError, IllegalTransition, InvalidInput, NotFound
from freshline.storage.ids import new_id
from freshline.storage.parquet import write_table
from tests.factories import declared

FIRST, LAST = date(2025, 12, 1), date(2025, 12, 5)
"""Monday to Friday."""


def asked(deployment="refresh/prices", first=FIRST, last=LAST, **options):
    return BackfillRequest(deployment=deployment, first=first, last=last, **options)


def backfills(world):
    return Backfills(world.database)


def days(*numbers):
    return [date(2025, 12, number) for number in numbers]


def open_runs(world):
    """The runs under way by data date."""
    return {run.data_as_of: run for _, run in world.queries.runs(limit=500) if run.ended_at is None}


def body(world, until):
    """What a body leaves whose table has data until this date."""
    stored = write_table(world.objects, pd.DataFrame({"date": [pd.Timestamp(until)]}), data_date="date")
    return Result(artifacts=[ArtifactRecord.of_table("data", stored)])


def end(world, *numbers):
    """Let the runs of these days of December complete."""
    for day in days(*numbers):
        claim = world.start(open_runs(world)[day])
        world.port.complete(claim.run.id, claim.run.fence, body(world, day))
        world.gateway.end(claim.run.flow_run_id)


def fail(world, number):
    claim = world.start(open_runs(world)[date(2025, 12, number)])
    world.port.fail(claim.run.id, claim.run.fence, ValueError("no data"), "", will_retry=False)
    world.gateway.end(claim.run.flow_run_id)


def declare(world, key, **options):
    """Register a deployment anew, otherwise as it was."""
    old = world.graph.declared[key]
    new = replace(declared(key, **options), prefect_deployment_id=old.prefect_deployment_id, edges=old.edges)
    world.graph.register(*(new if name == key else item for name, item in world.graph.declared.items()))


class Dying(Backfills):
    """Whoever records what is to be, and dies before anything is done about it."""

    def advance(self, backfill_id):
        raise InterruptedError


# The dates.


@pytest.mark.parametrize(
    ("every", "expected"),
    [
        ("1d", [(1, 30), (1, 31), (2, 1), (2, 2)]),
        ("2d", [(1, 30), (2, 1)]),
        ("1w", [(1, 30)]),
        ("1mo", [(1, 30)]),
    ],
)
def test_dates_follow_one_another_at_the_step(every, expected):
    found = dates_between(date(2024, 1, 30), date(2024, 2, 2), calendar=None, every=every)
    assert [(day.month, day.day) for day in found] == expected


def test_months_keep_the_day_of_the_first_date_or_end_with_the_month():
    found = dates_between(date(2024, 1, 31), date(2025, 1, 31), calendar=None, every="3mo")
    assert found == [date(2024, 1, 31), date(2024, 4, 30), date(2024, 7, 31), date(2024, 10, 31), date(2025, 1, 31)]


def test_calendar_gives_its_sessions_without_holidays_and_weekends():
    found = dates_between(date(2024, 12, 24), date(2024, 12, 30), calendar="XNYS", every=None)
    assert [day.day for day in found] == [24, 26, 27, 30]


def test_range_of_one_date_is_that_date():
    assert dates_between(FIRST, FIRST, calendar="XNYS", every=None) == [FIRST]


def test_range_may_hold_100_000_dates_and_no_more():
    first = date(1700, 1, 1)
    assert len(dates_between(first, first + timedelta(days=99_999), calendar=None, every="1d")) == 100_000
    with pytest.raises(InvalidInput, match=r"holds more than 100,000 dates; at most 100,000 at once: split it"):
        dates_between(first, first + timedelta(days=100_000), calendar=None, every="1d")


def test_last_dates_of_the_calendar_end_the_steps():
    found = dates_between(date(9999, 11, 30), date.max, calendar=None, every="1mo")
    assert found == [date(9999, 11, 30), date(9999, 12, 30)]


# Bad input.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"first": LAST, "last": FIRST}, "from 2025-12-05 to 2025-12-01 is reversed"),
        ({"last": date(2026, 1, 6)}, r"ends on 2026-01-06, after today \(2026-01-05\)"),
        ({"first": date(2025, 12, 6), "last": date(2025, 12, 7), "calendar": "XNYS"}, "XNYS has no session"),
        ({"first": date(1, 1, 1)}, "more than 100,000 dates"),
        ({"first": "yesterday"}, "first='yesterday' is not a date; write it like 2024-01-31"),
        ({"every": "1m"}, "every='1m' is no step: write days, weeks or months like 1d, 2w or 1mo"),
        ({"every": "0d"}, "every='0d' is no step"),
        ({"every": "1d", "calendar": "XNYS"}, "either a calendar or a step"),
        ({"limit": 0}, "limit=0: from 1 to 1,000 runs"),
        ({"limit": 1001}, "limit=1001: from 1 to 1,000 runs"),
        ({"max_failures": -1}, "max_failures=-1"),
        ({"on_stale": "refresh"}, "on_stale='refresh': a backfill does not refresh its upstreams"),
        ({"on_stale": "maybe"}, "on_stale='maybe': write wait, refuse, force"),
        ({"update_mode": "half"}, "update_mode='half'"),
        ({"parameters": {"no_such": 1}}, "declares no parameter 'no_such'"),
        ({"parameters": {"data_as_of": "2024-01-01"}}, "data_as_of: give this as an option"),
    ],
)
def test_bad_request_is_one_clear_message_and_records_nothing(world, options, message):
    for act in (backfills(world).preview, backfills(world).start):
        with pytest.raises(InvalidInput, match=message) as caught:
            act(asked(**options))
        assert "\n" not in str(caught.value)
    assert backfills(world).newest() == []


def test_unknown_deployment_and_calendar_suggest_the_nearest(world):
    with pytest.raises(NotFound, match=r"'refresh/price'\. Did you mean 'refresh/prices'"):
        backfills(world).start(asked("refresh/price"))
    with pytest.raises(NotFound, match=r"There is no calendar of exchange_calendars 'XNYC'\. Did you mean"):
        backfills(world).start(asked(calendar="XNYC"))
    with pytest.raises(NotFound, match="There is no deployment"):
        backfills(world).newest(deployment="refresh/price")


def test_external_deployment_is_refused(world):
    world.graph.register(*world.graph.declared.values(), declared("refresh/vendor", external=True))
    with pytest.raises(InvalidInput, match="refresh/vendor is external: Prefect does not run it"):
        backfills(world).start(asked("refresh/vendor"))


def test_unknown_backfill_is_one_clear_message(world):
    for act in (backfills(world).get, backfills(world).cancel, backfills(world).resume):
        with pytest.raises(NotFound, match="There is no backfill 'backfill-"):
            act(new_id())
        with pytest.raises(InvalidInput, match="'7' is not the id of a backfill"):
            act("7")


# What would run.


def test_preview_lists_the_dates_and_records_nothing(world):
    preview = backfills(world).preview(asked())
    assert preview.dates == tuple(days(1, 2, 3, 4, 5))
    assert (preview.calendar, preview.every, preview.existing) == (None, "1d", ())
    assert (world.queries.runs(), backfills(world).newest()) == ([], [])


def test_preview_takes_the_calendar_of_the_policy(world):
    declare(world, "refresh/prices", policy={"calendar": "XNYS"})
    preview = backfills(world).preview(asked(last=date(2025, 12, 8)))
    assert (preview.calendar, preview.dates) == ("XNYS", tuple(days(1, 2, 3, 4, 5, 8)))
    assert len(backfills(world).preview(asked(last=date(2025, 12, 8), every="1d")).dates) == 8


def test_dates_with_a_run_that_completed_or_is_under_way_are_left_out(world):
    for day in days(1, 2, 3):
        world.service.submit("refresh/prices", data_as_of=day)
    end(world, 1)
    world.service.cancel(open_runs(world)[date(2025, 12, 3)].id)
    preview = backfills(world).preview(asked())
    assert preview.dates == tuple(days(3, 4, 5))
    assert [(one.data_date, one.status) for one in preview.existing] == list(
        zip(days(1, 2), ["completed", "pending"], strict=True)
    )
    assert len(backfills(world).preview(asked(again=True)).dates) == 5


def test_deleted_run_does_not_stand_for_its_date_until_it_is_restored(world):
    run = world.service.submit("refresh/prices", data_as_of=FIRST)
    world.service.submit("refresh/prices", data_as_of=days(2)[0])
    end(world, 1, 2)
    deletions = Deletions(world.database)
    deletions.delete(run.id)
    assert backfills(world).preview(asked()).dates == tuple(days(1, 3, 4, 5))
    deletions.restore(run.id)
    assert backfills(world).preview(asked()).dates == tuple(days(3, 4, 5))


def test_run_with_other_parameters_does_not_stand_for_a_date(world):
    declare(world, "refresh/prices", parameters=["n"])
    world.service.submit("refresh/prices", {"n": 1}, data_as_of=FIRST)
    assert len(backfills(world).preview(asked(parameters={"n": 2})).dates) == 5
    assert len(backfills(world).preview(asked(parameters={"n": 1})).dates) == 4


def test_range_whose_dates_all_have_a_run_is_refused(world):
    run = world.service.submit("refresh/prices", data_as_of=FIRST)
    with pytest.raises(InvalidInput, match=f"each of the 1 dates has a run already, the first is run-{run.id}"):
        backfills(world).start(asked(last=FIRST))


# How it goes.


def test_dates_run_one_after_the_other_in_order_until_all_are_done(world):
    backfill = backfills(world).start(asked(), actor="ada")
    for number in (1, 2, 3, 4, 5):
        assert list(open_runs(world)) == days(number)
        end(world, number)
        world.reconcile()
    done = backfills(world).get(backfill.id)
    assert (done.status, done.reason, done.num_done, done.num_dates) == ("completed", None, 5, 5)
    assert done.ended_at is not None
    assert [one.status for one in done.dates] == ["completed"] * 5
    assert world.reconcile().backfilled == 0
    (state,) = [row for row in world.queries.status() if row.key == "refresh/prices"]
    assert (state.version, state.data_end) == (5, LAST)


def test_run_of_a_date_is_bounded_to_it_and_says_what_it_belongs_to(world):
    declare(world, "refresh/prices", parameters=["n"])
    backfill = backfills(world).start(asked(parameters={"n": 7}), actor="ada")
    (run,) = open_runs(world).values()
    assert (run.trigger, run.trigger_name, run.actor) == ("backfill", backfill.name, "ada")
    assert (run.parameters, run.data_as_of) == ({"n": 7}, FIRST)
    assert run.request["data_as_of"] == "2025-12-01"
    claim = world.start(run)
    assert world.flow_run_of(run).parameters["data_as_of"] == "2025-12-01"
    assert claim.run.request["data_as_of"] == "2025-12-01"


def test_what_the_current_version_covers_is_run_in_full_and_what_follows_is_incremental(world):
    claim = world.start(world.service.submit("refresh/prices"))
    world.port.complete(claim.run.id, claim.run.fence, body(world, date(2025, 12, 2)))
    world.gateway.end(claim.run.flow_run_id)
    backfills(world).start(asked(last=date(2025, 12, 3)))
    modes = []
    for number in (1, 2, 3):
        modes.append(open_runs(world)[date(2025, 12, number)].request["update_mode"])
        end(world, number)
        world.reconcile()
    assert modes == ["full", "full", "incremental"]


def test_update_mode_that_is_asked_for_holds_for_every_date(world):
    backfills(world).start(asked(update_mode="full"))
    assert open_runs(world)[FIRST].request["update_mode"] == "full"


def test_no_more_than_the_limit_are_under_way_and_the_last_date_goes_alone(world):
    backfill = backfills(world).start(asked(limit=3))
    assert sorted(open_runs(world)) == days(1, 2, 3)
    end(world, 2)
    world.reconcile()
    assert sorted(open_runs(world)) == days(1, 3, 4)
    end(world, 1, 3)
    world.reconcile()
    assert sorted(open_runs(world)) == days(4)
    end(world, 4)
    world.reconcile()
    assert sorted(open_runs(world)) == days(5)
    end(world, 5)
    world.reconcile()
    assert backfills(world).get(backfill.id).status == "completed"


def test_last_date_becomes_current_although_others_end_out_of_order(world):
    backfills(world).start(asked(limit=10))
    end(world, 4, 2, 1, 3)
    world.reconcile()
    end(world, 5)
    (state,) = [row for row in world.queries.status() if row.key == "refresh/prices"]
    assert state.data_end == LAST


def test_dates_wait_for_an_upstream_that_is_not_ready_and_hold_their_place(world):
    backfill = backfills(world).start(asked("refresh/momentum"))
    (run,) = open_runs(world).values()
    assert run.status == "waiting"
    world.reconcile()
    assert backfills(world).get(backfill.id).counts == {"under_way": 1, "planned": 4}


def test_refused_date_stops_the_backfill_with_the_reason(world):
    backfill = backfills(world).start(asked("refresh/momentum", on_stale="refuse"))
    assert (backfill.status, backfill.counts) == ("stopped", {"refused": 1, "planned": 4})
    assert "of 2025-12-01 refused (refresh/prices has no version yet" in backfill.reason
    assert backfill.ended_at is not None
    assert len(world.queries.runs()) == 1


def test_failed_date_stops_what_was_not_started_and_resuming_tries_it_again(world):
    backfill = backfills(world).start(asked(limit=2))
    fail(world, 1)
    world.reconcile()
    stopped = backfills(world).get(backfill.id)
    assert (stopped.status, stopped.counts) == ("stopped", {"failed": 1, "under_way": 1, "planned": 3})
    assert stopped.reason.endswith("of 2025-12-01 failed (no data)")
    assert stopped.ended_at is None
    end(world, 2)
    world.reconcile()
    assert backfills(world).get(backfill.id).ended_at is not None
    resumed = backfills(world).resume(backfill.name)
    assert (resumed.status, resumed.reason, resumed.ended_at) == ("running", None, None)
    assert sorted(open_runs(world)) == days(1, 3)
    assert [one.tries for one in resumed.dates] == [2, 1, 1, 0, 0]


def test_failures_that_are_allowed_do_not_stop_it(world):
    backfill = backfills(world).start(asked(last=date(2025, 12, 3), max_failures=1))
    fail(world, 1)
    world.reconcile()
    end(world, 2)
    world.reconcile()
    end(world, 3)
    world.reconcile()
    done = backfills(world).get(backfill.id)
    assert (done.status, done.reason) == ("completed", "1 of its dates did not end well")
    assert backfills(world).resume(backfill.id).counts == {"completed": 2, "under_way": 1}


def test_one_failure_too_many_stops_it(world):
    backfill = backfills(world).start(asked(max_failures=1))
    for number in (1, 2):
        fail(world, number)
        world.reconcile()
    assert backfills(world).get(backfill.id).reason.startswith("2 dates did not end well, the last: run-")


def test_deployment_that_was_retired_meanwhile_stops_it(world):
    backfill = backfills(world).start(asked("refresh/calendar"))
    kept = [item for key, item in world.graph.declared.items() if key != "refresh/calendar"]
    end(world, 1)
    world.graph.register(*kept)
    world.reconcile()
    stopped = backfills(world).get(backfill.id)
    assert stopped.status == "stopped"
    assert stopped.reason.startswith("2025-12-02 could not be started: There is no deployment 'refresh/calendar'")


def test_cancelling_ends_its_runs_and_starts_no_more(world):
    backfill = backfills(world).start(asked(limit=2))
    world.start(open_runs(world)[FIRST])
    cancelled = backfills(world).cancel(backfill.id, actor="ada")
    assert (cancelled.status, cancelled.reason) == ("cancelled", "cancelled by ada")
    assert cancelled.counts == {"under_way": 1, "cancelled": 1, "planned": 3}
    assert open_runs(world)[FIRST].status == "cancelling"
    run = open_runs(world)[FIRST]
    world.port.acknowledge_cancel(run.id, run.fence)
    world.reconcile()
    ended = backfills(world).get(backfill.id)
    assert (ended.counts, ended.ended_at is not None) == ({"cancelled": 2, "planned": 3}, True)
    assert backfills(world).cancel(backfill.id).reason == "cancelled by ada"
    assert backfills(world).resume(backfill.id).counts == {"under_way": 2, "planned": 3}


def test_resuming_while_a_run_of_it_still_stops_is_a_conflict(world):
    backfill = backfills(world).start(asked())
    claim = world.start(open_runs(world)[FIRST])
    backfills(world).cancel(backfill.id)
    with pytest.raises(Conflict, match=f"{backfill.name} is cancelled, and runs of it have not stopped yet"):
        backfills(world).resume(backfill.id)
    world.port.acknowledge_cancel(claim.run.id, claim.run.fence)
    world.reconcile()
    # Nobody cancelled what was resumed: the date that stopped has its turn again.
    assert backfills(world).resume(backfill.id).counts == {"under_way": 1, "planned": 4}


def test_cancelling_whose_caller_died_is_finished_by_the_reconciler(world):
    backfill = backfills(world).start(asked())
    with pytest.raises(InterruptedError):
        Dying(world.database).cancel(backfill.id)
    assert open_runs(world)[FIRST].status == "pending"
    world.reconcile()
    assert open_runs(world) == {}
    assert backfills(world).get(backfill.id).counts == {"cancelled": 1, "planned": 4}


def test_start_whose_caller_died_is_taken_up_by_the_reconciler(world):
    with pytest.raises(InterruptedError):
        Dying(world.database).start(asked())
    assert open_runs(world) == {}
    world.reconcile()
    assert list(open_runs(world)) == [FIRST]


def test_completed_backfill_can_be_neither_cancelled_nor_resumed(world):
    backfill = backfills(world).start(asked(last=FIRST))
    end(world, 1)
    world.reconcile()
    with pytest.raises(IllegalTransition, match="is completed: there is nothing to cancel"):
        backfills(world).cancel(backfill.id)
    with pytest.raises(IllegalTransition, match="is completed: each of its dates is done"):
        backfills(world).resume(backfill.id)


def test_second_backfill_of_a_deployment_is_refused_until_the_first_has_ended(world):
    first = backfills(world).start(asked())
    with pytest.raises(Conflict, match=f"{first.name} of refresh/prices, 2025-12-01 to 2025-12-05, is running"):
        backfills(world).start(asked(first=date(2024, 1, 1), last=date(2024, 1, 2)))
    backfills(world).start(asked("refresh/calendar"))
    backfills(world).cancel(first.id)
    second = backfills(world).start(asked())
    with pytest.raises(Conflict, match=f"{second.name} of refresh/prices"):
        backfills(world).resume(first.id)


def test_two_that_advance_at_once_start_nothing_twice(world):
    backfill = backfills(world).start(asked(limit=2))
    end(world, 1, 2)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: advance_all(world.database), range(4)))
    assert sorted(open_runs(world)) == days(3, 4)
    assert backfills(world).get(backfill.id).counts == {"completed": 2, "under_way": 2, "planned": 1}


def test_two_callers_at_once_start_one_backfill(world):
    def start(_):
        try:
            return backfills(world).start(asked())
        except Conflict:
            return None

    with ThreadPoolExecutor(2) as pool:
        started = [found for found in pool.map(start, range(2)) if found is not None]
    assert len(started) == len(backfills(world).newest()) == 1


def test_wait_starts_what_has_its_turn_and_tells_how_it_is(world):
    backfill = backfills(world).start(asked(last=date(2025, 12, 3)))
    told = []

    def moved(report):
        told.append(report.num_done)
        if under_way := open_runs(world):
            end(world, min(under_way).day)

    done = backfills(world).wait(backfill.id, on_change=moved, poll_s=0)
    assert (done.status, told) == ("completed", [0, 1, 2, 3])


def test_wait_that_takes_too_long_says_so(world):
    backfill = backfills(world).start(asked())
    with pytest.raises(FreshlineError, match=f"{backfill.name} is still running after 0 s"):
        backfills(world).wait(backfill.id, timeout_s=0, poll_s=0)


def test_list_has_the_newest_first_without_their_dates(world):
    first = backfills(world).start(asked())
    second = backfills(world).start(asked("refresh/calendar"))
    assert [one.id for one in backfills(world).newest()] == [second.id, first.id]
    (found,) = backfills(world).newest(deployment="refresh/prices")
    assert (found.id, found.num_dates, found.dates) == (first.id, 5, ())


def test_long_range_is_recorded_at_once_and_started_in_order(world):
    backfill = backfills(world).start(asked(first=date(2000, 1, 1), last=date(2025, 12, 31)))
    assert backfill.num_dates == 9497
    assert list(open_runs(world)) == [date(2000, 1, 1)]
