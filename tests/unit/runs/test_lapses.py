"""The sweep of lapsed policies, alone and with others; what it logs; and what it leaves alone."""

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from threading import Barrier

import pandas as pd
import pytest

from freshline.lineage.models import Freshness
from freshline.runs import logs
from freshline.runs.repair import lapses
from freshline.runs.result import Result
from freshline.storage.artifacts import ArtifactRecord
from freshline.storage.parquet import write_table
from freshline.storage.words import OnStale

PRICES, MOMENTUM, BOOK = "refresh/prices", "refresh/momentum", "backtest/book"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def world(world):
    """Prices hold for a day; everything has a version."""
    with_policy(world, PRICES, {"max_age": "1d"})
    for key in (PRICES, MOMENTUM, BOOK):
        world.run_through(key)
    return world


def with_policy(world, key, policy):
    declared = world.graph.declared | {key: replace(world.graph.declared[key], policy=policy)}
    world.graph.register(*declared.values())


def swept(caplog):
    lines = [record for record in caplog.records if record.name == lapses.__name__]
    return [json.loads(logs.JsonFormatter().format(record)) for record in lines]


@pytest.fixture
def caplog(caplog):
    caplog.set_level(logging.INFO, logger="freshline")
    return caplog


def test_lapse_is_swept_and_logged_once(world, caplog):
    assert world.reconcile().lapsed == 0
    world.pass_time(DAY)
    assert world.reconcile().lapsed == 1
    assert world.reconcile().lapsed == 0
    (line,) = swept(caplog)
    assert line.pop("at")
    assert line == {
        "level": "INFO",
        "module": "runs.repair.lapses",
        "message": "the freshness policy of v1 has lapsed",
        "actor": "reconciler",
        "deployment": PRICES,
        "freshness": "stale",
    }
    assert world.graph.freshness()[BOOK] == Freshness.STALE


def test_lapse_of_what_was_stale_already_is_a_cause_and_a_line_too(world, caplog):
    with_policy(world, MOMENTUM, {"max_age": "2d"})
    world.run_through(PRICES, 2)
    world.pass_time(2 * DAY)
    assert world.reconcile().lapsed == 2
    assert ("expired", "") in world.graph.causes(MOMENTUM)
    said = {line["deployment"]: line["message"] for line in swept(caplog)}
    assert said == {
        PRICES: "the freshness policy of v2 has lapsed",
        MOMENTUM: "the freshness policy of v1 has lapsed (it was stale already)",
    }


def test_lapses_are_swept_once_by_several_reconcilers(world, caplog):
    for key in (MOMENTUM, BOOK):
        with_policy(world, key, {"max_age": "1d"})
    world.pass_time(DAY)
    barrier = Barrier(4)

    def sweep(_):
        barrier.wait(timeout=30)
        return lapses.sweep(world.database)

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(sweep, range(4))) == 3
    assert sorted(line["deployment"] for line in swept(caplog)) == sorted([PRICES, MOMENTUM, BOOK])


def test_lapse_that_the_gate_found_first_is_no_news_to_the_sweep(world, caplog):
    world.pass_time(DAY)
    assert world.service.submit(MOMENTUM, on_stale=OnStale.REFUSE).status == "refused"
    assert world.reconcile().lapsed == 0
    assert world.graph.causes(PRICES) == [("expired", "")]


def test_lapse_neither_releases_nor_ends_a_run_that_waits_or_runs(world):
    with_policy(world, "refresh/calendar", {"max_age": "1h"})
    world.run_through("refresh/calendar")
    running = world.start(world.service.submit(MOMENTUM))
    world.graph.publish(PRICES, "moved on")
    waiting = world.service.submit(BOOK, on_stale=OnStale.WAIT)
    before = (world.service.get(waiting.id).status, world.service.get(running.run.id).status)
    assert before == ("waiting", "running")
    world.pass_time(HOUR)
    assert lapses.sweep(world.database) == 1
    assert (world.service.get(waiting.id).status, world.service.get(running.run.id).status) == before


def test_run_that_was_let_go_and_not_started_is_judged_when_it_is_claimed(world):
    pending = world.service.submit(MOMENTUM, on_stale=OnStale.REFUSE)
    assert pending.status == "pending"
    world.pass_time(DAY)
    world.reconcile()
    assert world.service.get(pending.id).status == "pending"
    assert world.start(pending).run.status == "refused"


def refresh_until(world, day, **options):
    """A refresh of prices whose last row is of a day."""
    claim = world.start(world.service.submit(PRICES))
    frame = pd.DataFrame({"date": [pd.Timestamp(day)], "x": [1.0]})
    stored = write_table(world.objects, frame, data_date="date")
    result = Result(artifacts=[ArtifactRecord.of_table("data", stored)], **options)
    world.port.complete(claim.run.id, claim.run.fence, result)
    world.gateway.end(claim.run.flow_run_id)


def test_source_that_had_nothing_new_is_delayed_until_its_data_are_too_old(world):
    with_policy(world, PRICES, {"max_age": "1d", "of": "data", "grace": "12h"})
    yesterday = world.moment.date() - DAY
    refresh_until(world, yesterday, source_delayed=True)
    assert world.graph.freshness()[PRICES] == Freshness.SOURCE_DELAYED
    # Within grace it may be read.
    reader = world.run_through(MOMENTUM, on_stale=OnStale.REFUSE)
    assert reader.status == "completed"
    (seen,) = reader.decision["upstreams"]
    assert (seen["deployment"], seen["freshness"]) == (PRICES, "source_delayed")
    # Its source is asked again and again, and its data get too old all the same.
    world.pass_time(DAY)
    refresh_until(world, yesterday, source_delayed=True)
    assert world.graph.freshness()[PRICES] == Freshness.STALE
    assert world.graph.causes(PRICES) == [("expired", "")]
    assert world.service.submit(MOMENTUM, on_stale=OnStale.REFUSE).status == "refused"
    refresh_until(world, world.moment.date())
    assert world.graph.freshness()[PRICES] == Freshness.READY


def test_source_that_is_delayed_lapses_by_the_sweep(world):
    with_policy(world, PRICES, {"max_age": "1d", "of": "data", "grace": "12h"})
    refresh_until(world, world.moment.date() - DAY, source_delayed=True)
    world.pass_time(DAY)
    assert world.reconcile().lapsed == 1
    assert world.graph.freshness()[PRICES] == Freshness.STALE
