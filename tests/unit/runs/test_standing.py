"""What is done again does not take the place of something newer: replays never, earlier data dates not."""

from dataclasses import replace
from datetime import date, timedelta

import pandas as pd
import pytest
import sqlalchemy as sa

from freshline.lineage import versions, withdrawal
from freshline.lineage.models import Edge
from freshline.runs.redo.replaying import Replays
from freshline.runs.result import Read, Result
from freshline.runs.submission import Submission
from freshline.storage.artifacts import ArtifactRecord
from freshline.storage.parquet import write_table
from freshline.storage.words import Trigger

_EDGE = Edge.__table__


def replay(world, run):
    return Replays(world.database).replay(run.id)


def current(world, key):
    return next(row.version for row in world.queries.status() if row.key == key)


def version_of(world, run_id):
    with world.database.read() as connection:
        return versions.version_of_run(connection, run_id)


def rows_until(world, last, **options):
    """What a body leaves whose table has data until this date; no table without one."""
    if last is None:
        return Result(artifacts=[], **options)
    stored = write_table(world.objects, pd.DataFrame({"date": [pd.Timestamp(last)]}), data_date="date")
    return Result(artifacts=[ArtifactRecord.of_table("data", stored)], **options)


def finish(world, claim, result):
    world.port.complete(claim.run.id, claim.run.fence, result)
    world.gateway.end(claim.run.flow_run_id)
    return world.service.get(claim.run.id)


def asked(world, day, key="refresh/prices"):
    """A run of a backfill for this day."""
    return world.service.submit_many([Submission(deployment=key, data_as_of=day, trigger=Trigger.BACKFILL)])[0]


def test_replay_is_kept_as_a_version_and_never_becomes_current(world):
    original = world.run_through("refresh/prices", content=1)
    world.run_through("refresh/momentum")
    claim = world.start(replay(world, original))
    world.complete(claim, content=2)
    ended = world.service.get(claim.run.id)
    assert (ended.status, ended.stop_reason) == ("completed", "superseded")
    assert (version_of(world, ended.id).number, current(world, "refresh/prices")) == (2, 1)
    assert world.graph.freshness()["refresh/momentum"] == "ready"


def test_replay_with_the_same_result_does_not_become_current_either(world):
    original = world.run_through("refresh/prices", content=1)
    claim = world.start(replay(world, original))
    world.complete(claim, content=1)
    assert current(world, "refresh/prices") == 1
    assert version_of(world, claim.run.id).digest == version_of(world, original.id).digest


def test_run_after_a_replay_becomes_current(world):
    original = world.run_through("refresh/prices", content=1)
    world.complete(world.start(replay(world, original)), content=2)
    world.run_through("refresh/prices", content=3)
    assert current(world, "refresh/prices") == 3


def test_replay_begins_with_the_base_of_the_run_that_it_repeats(world):
    first = world.run_through("refresh/prices", content=1)
    second = world.run_through("refresh/prices", content=2)
    world.run_through("refresh/prices", content=3)
    assert world.start(replay(world, second)).run.base_version_id == version_of(world, first.id).id
    assert world.start(replay(world, first)).run.base_version_id is None


def test_further_attempt_of_a_replay_reads_what_its_first_one_read(world):
    world.run_through("refresh/prices", content=1)
    original = world.run_through("refresh/momentum", content=1)
    claim = world.start(replay(world, original))
    world.run_through("refresh/prices", content=2)
    again = world.claim(claim.run.flow_run_id)
    assert (again.may_start, again.run.attempt) == (True, 2)
    assert {pin.number for pin in world.port.pins(claim.run.id).values()} == {1}


def test_replay_whose_flow_run_is_started_again_by_hand_stays_a_replay(world):
    original = world.run_through("refresh/prices", content=1)
    claim = world.start(replay(world, original))
    world.complete(claim, content=2)
    again = world.claim(claim.run.flow_run_id)
    assert (again.run.retry_of, again.run.replay_of) == (claim.run.id, original.id)
    world.complete(again, content=3)
    assert current(world, "refresh/prices") == 1


def test_replay_makes_no_edge_of_what_is_not_read_any_more(world):
    world.run_through("refresh/calendar")
    claim = world.start(world.service.submit("refresh/prices"))
    calendar = world.port.resolve("refresh/calendar")
    reads = [Read("refresh/calendar", calendar.upstream_id, calendar.version_id)]
    original = finish(world, claim, Result(reads=reads))
    with world.database.read() as connection:
        observed = connection.execute(sa.select(_EDGE).where(_EDGE.c.observed)).all()
    assert [row.role for row in observed] == ["refresh/calendar"]
    world.database.write(lambda connection: connection.execute(sa.delete(_EDGE).where(_EDGE.c.observed)))
    again = world.start(replay(world, original))
    finish(world, again, Result(reads=reads))
    with world.database.read() as connection:
        assert connection.execute(sa.select(_EDGE).where(_EDGE.c.observed)).all() == []


@pytest.mark.parametrize(("day", "number"), [(date(2026, 1, 1), 1), (date(2026, 1, 2), 2), (date(2026, 1, 3), 2)])
def test_run_of_a_backfill_becomes_current_only_from_the_date_that_is_covered_on(world, day, number):
    finish(world, world.start(world.service.submit("refresh/prices")), rows_until(world, date(2026, 1, 2)))
    claim = world.start(asked(world, day))
    ended = finish(world, claim, rows_until(world, day))
    assert current(world, "refresh/prices") == number
    assert ended.stop_reason == ("completed" if number == 2 else "superseded")


def test_first_version_of_a_backfill_becomes_current(world):
    finish(world, world.start(asked(world, date(2020, 1, 2))), rows_until(world, date(2020, 1, 2)))
    assert current(world, "refresh/prices") == 1


def test_version_without_data_dates_covers_the_date_that_its_run_was_bounded_to(world):
    finish(world, world.start(asked(world, date(2025, 6, 2))), rows_until(world, None))
    finish(world, world.start(asked(world, date(2025, 6, 1))), rows_until(world, None))
    assert current(world, "refresh/prices") == 1
    finish(world, world.start(asked(world, date(2025, 6, 3))), rows_until(world, None))
    assert current(world, "refresh/prices") == 3


def test_version_without_data_dates_of_an_unbounded_run_covers_the_day_that_it_was_published(world):
    finish(world, world.start(world.service.submit("refresh/prices")), rows_until(world, None))
    day = world.moment.date()
    finish(world, world.start(asked(world, day - timedelta(days=1))), rows_until(world, None))
    assert current(world, "refresh/prices") == 1
    finish(world, world.start(asked(world, day)), rows_until(world, None))
    assert current(world, "refresh/prices") == 3


def test_run_of_a_backfill_leaves_the_place_to_an_older_fence_that_reads_to_a_later_date(world):
    finish(world, world.start(asked(world, date(2025, 6, 1))), rows_until(world, date(2025, 6, 1)))
    scheduled = world.start(world.service.submit("refresh/prices"))
    claim = world.start(asked(world, date(2025, 6, 2)))
    assert claim.run.fence > scheduled.run.fence
    finish(world, claim, rows_until(world, date(2025, 6, 2)))
    assert current(world, "refresh/prices") == 1
    finish(world, scheduled, rows_until(world, date(2026, 1, 2)))
    assert current(world, "refresh/prices") == 3


def test_backfilled_run_started_again_by_hand_does_not_become_current(world):
    finish(world, world.start(world.service.submit("refresh/prices")), rows_until(world, date(2026, 1, 2)))
    claim = world.start(asked(world, date(2025, 6, 1)))
    finish(world, claim, rows_until(world, date(2025, 6, 1)))
    again = world.claim(claim.run.flow_run_id)
    assert (again.run.trigger, again.run.data_as_of) == ("manual", date(2025, 6, 1))
    finish(world, again, rows_until(world, date(2025, 6, 1)))
    assert current(world, "refresh/prices") == 1


def test_single_run_for_an_earlier_date_becomes_current_as_it_was_asked_for(world):
    finish(world, world.start(world.service.submit("refresh/prices")), rows_until(world, date(2026, 1, 2)))
    run = world.service.submit("refresh/prices", data_as_of=date(2025, 6, 1))
    finish(world, world.start(run), rows_until(world, date(2025, 6, 1)))
    assert current(world, "refresh/prices") == 2


def test_withdrawal_of_the_current_version_does_not_fall_back_to_a_replay(world):
    first = world.run_through("refresh/prices", content=1)
    second = world.run_through("refresh/prices", content=2)
    world.complete(world.start(replay(world, second)), content=2)

    def withdraw(connection):
        row = versions.version_of_run(connection, second.id)
        withdrawal.withdraw(connection, row, reason="wrong", actor="ada", now=world.moment)

    world.database.write(withdraw)
    assert current(world, "refresh/prices") == version_of(world, first.id).number


def test_declaration_that_changed_does_not_keep_a_replay_from_running(world):
    original = world.run_through("refresh/calendar", content=1)
    known = world.graph.declared
    world.graph.register(
        *(item if key != "refresh/calendar" else replace(item, declaration_digest="2") for key, item in known.items())
    )
    claim = world.start(replay(world, original))
    world.complete(claim, content=1)
    assert world.service.get(claim.run.id).declaration_digest == "2"
