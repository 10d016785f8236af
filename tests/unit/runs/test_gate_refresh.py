"""Refreshing what is stale: two callers at once plan one refresh, and it goes on without whoever asked for it."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta

import pytest
import sqlalchemy as sa

from freshline.lineage import staleness
from freshline.runs import store
from freshline.runs.models import RunDependency
from freshline.runs.redo.replaying import Replays
from freshline.runs.service import RunExecutionService
from tests.factories import START, Graph, declared

CALLERS = 2
MEET_S = 30.0

SUBMIT_AND_DIE = """
import os, signal, sys
from datetime import datetime
from freshline.runs.service import RunExecutionService
from freshline.storage import faults
from freshline.storage.database import Database

url, start, key = sys.argv[1:]
database = Database(url, clock=lambda: datetime.fromisoformat(start))

def die(point):
    if point == "submit.committed":
        os.kill(os.getpid(), signal.SIGKILL)

with faults.watched(die):
    RunExecutionService(database).submit(key, on_stale="refresh")
"""


@pytest.fixture
def diamond(database):
    """Two books over the same diamond, in which nothing has a version."""
    return Graph(
        database,
        declared("refresh/prices"),
        declared("refresh/momentum", ["refresh/prices"]),
        declared("refresh/value", ["refresh/prices"]),
        declared("backtest/one", ["refresh/momentum", "refresh/value"]),
        declared("backtest/two", ["refresh/momentum", "refresh/value"]),
    )


def runs_of(graph):
    """Deployment -> its runs."""
    keys = {graph.id(key): key for key in graph.declared}
    found = {key: [] for key in keys.values()}
    with graph.database.read() as connection:
        for row in connection.execute(sa.select(store.RUN).order_by(store.RUN.c.id)):
            found[keys[row.deployment_id]].append(row)
    return found


def waits_of(graph):
    """{(run, the run that it waits for)}, by ids."""
    table = RunDependency.__table__
    with graph.database.read() as connection:
        return {(row.run_id, row.upstream_run_id) for row in connection.execute(sa.select(table))}


@pytest.mark.parametrize("keys", [("backtest/one", "backtest/one"), ("backtest/one", "backtest/two")])
def test_callers_at_once_plan_one_refresh_of_each_upstream_and_wait_for_the_same_runs(diamond, keys, monkeypatch):
    meeting = threading.Barrier(CALLERS)
    lock_states = staleness.lock_states
    met = threading.local()

    def meet_and_lock(connection, deployment_ids):
        # Both have seen what is stale, and neither has planned anything. On SQLite the second one has not begun.
        if connection.dialect.name != "sqlite" and not getattr(met, "once", False):
            met.once = True
            meeting.wait(MEET_S)
        lock_states(connection, deployment_ids)

    monkeypatch.setattr(staleness, "lock_states", meet_and_lock)

    def submit(key):
        if diamond.database.dialect == "sqlite":
            meeting.wait(MEET_S)
        return RunExecutionService(diamond.database).submit(key, on_stale="refresh")

    with ThreadPoolExecutor(CALLERS) as threads:
        asked = list(threads.map(submit, keys))

    found = runs_of(diamond)
    assert [run.status for run in asked] == ["waiting", "waiting"]
    shared = {key: runs for key, runs in found.items() if key.startswith("refresh/")}
    assert {key: len(runs) for key, runs in shared.items()} == {
        "refresh/prices": 1,
        "refresh/momentum": 1,
        "refresh/value": 1,
    }
    (prices,), (momentum,), (value,) = shared.values()
    assert waits_of(diamond) == {
        (momentum.id, prices.id),
        (value.id, prices.id),
        *((run.id, upstream.id) for run in asked for upstream in (momentum, value)),
    }


def test_upstream_that_became_ready_while_the_plan_was_awaited_is_not_refreshed_again(world, monkeypatch):
    if world.database.dialect == "sqlite":
        pytest.skip("nobody completes while another one plans: there is one writer at a time")
    refreshing = world.start(world.service.submit("refresh/prices"))
    lock_states = staleness.lock_states

    def complete_and_lock(connection, deployment_ids):
        monkeypatch.undo()
        world.complete(refreshing)
        lock_states(connection, deployment_ids)

    monkeypatch.setattr(staleness, "lock_states", complete_and_lock)
    run = world.service.submit("refresh/momentum", on_stale="refresh")
    assert [key for key, _ in world.queries.runs()].count("refresh/prices") == 1
    assert run.status == "waiting"
    world.reconcile()
    assert world.service.get(run.id).status == "pending"


def test_upstream_that_lapses_as_soon_as_it_was_refreshed_is_refreshed_once_and_the_run_refused(world):
    prices = replace(world.graph.declared["refresh/prices"], policy={"max_age": "1m"})
    world.graph.register(*(world.graph.declared | {prices.key: prices}).values())
    run = world.service.submit("refresh/momentum", on_stale="refresh")
    world.pass_time(timedelta(minutes=1))
    world.dispatch()
    (refreshing,) = [one for key, one in world.queries.runs() if key == "refresh/prices"]
    world.complete(world.claim(world.flow_run_of(refreshing).id))
    world.pass_time(timedelta(minutes=2))
    claim = world.start(run)
    assert (claim.may_start, claim.run.status) == (False, "refused")
    assert claim.run.error_message.endswith(
        "refresh/prices was refreshed for this run, and its policy has lapsed all the same: its data are too old"
    )
    assert [key for key, _ in world.queries.runs()].count("refresh/prices") == 1


def test_refresh_goes_on_when_the_run_that_asked_for_it_is_cancelled(world):
    book = world.service.submit("backtest/book", on_stale="refresh")
    world.service.cancel(book.id)
    for key in ("refresh/prices", "refresh/momentum"):
        world.dispatch()
        (run,) = [run for name, run in world.queries.runs() if name == key]
        world.complete(world.claim(world.flow_run_of(run).id), key)
    assert world.graph.freshness() == {
        "refresh/calendar": "not_initialized",
        "refresh/prices": "ready",
        "refresh/momentum": "ready",
        "backtest/book": "not_initialized",
    }
    assert world.service.get(book.id).status == "cancelled"


def test_refresh_goes_on_when_whoever_asked_was_killed_after_the_submission(world):
    url = world.database.engine.url.render_as_string(hide_password=False)
    died = subprocess.run(
        [sys.executable, "-c", SUBMIT_AND_DIE, url, START.isoformat(), "backtest/book"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert died.returncode == -9, died.stderr

    (book,) = [run for key, run in world.queries.runs() if key == "backtest/book"]
    assert book.status == "waiting"
    done = []
    for key in ("refresh/prices", "refresh/momentum", "backtest/book"):
        world.dispatch()
        (run,) = [run for name, run in world.queries.runs() if name == key]
        claim = world.claim(world.flow_run_of(run).id)
        world.complete(claim, key)
        done.append(world.service.get(run.id).status)
    assert done == ["completed"] * 3
    assert world.service.get(book.id).decision["reason"] == "every upstream is ready"


@pytest.fixture
def stale_momentum(world):
    """Momentum has a version that was built on prices of before: whoever refreshes the book refreshes it."""
    world.run_through("refresh/prices", 1)
    world.run_through("refresh/momentum", 1)
    world.run_through("refresh/prices", 2)
    return world


def test_refresh_does_not_join_a_replay_and_does_not_fall_with_it(stale_momentum):
    world = stale_momentum
    (original,) = [run for key, run in world.queries.runs() if key == "refresh/momentum"]
    replaying = world.start(Replays(world.database).replay(original.id))
    book = world.service.submit("backtest/book", on_stale="refresh")
    (awaited,) = world.queries.explain_run(book.id).waits_for
    assert awaited.deployment == "refresh/momentum"
    assert awaited.run_id != replaying.run.id
    world.port.fail(replaying.run.id, replaying.run.fence, ValueError("no data"), "", will_retry=False)
    assert world.service.get(book.id).status == "waiting"
    world.complete(world.start(world.service.get(awaited.run_id)), 2)
    assert world.service.get(book.id).status == "pending"


@pytest.mark.parametrize("days", [(None, date(2025, 1, 2)), (date(2025, 1, 2), None)])
def test_refresh_joins_the_run_that_reads_to_its_day_whichever_is_newer(stale_momentum, days):
    world = stale_momentum
    under_way = {day: world.service.submit("refresh/momentum", data_as_of=day) for day in days}
    book = world.service.submit("backtest/book", on_stale="refresh")
    assert [one.run_id for one in world.queries.explain_run(book.id).waits_for] == [under_way[None].id]


def test_wait_for_a_retired_upstream_that_was_ready_ends_by_its_deadline(world):
    def made(key, upstream=()):
        facts = world.gateway.add_deployment(f"flow/{key.replace('/', '-')}")
        return replace(declared(key, upstream), prefect_deployment_id=facts.id)

    world.graph.register(made("refresh/vendor"), project="vendors")
    world.graph.register(made("refresh/ratings", ["refresh/vendor"]), project="ratings")
    world.run_through("refresh/vendor")
    world.graph.register(project="vendors")
    run = world.service.submit("refresh/ratings", on_stale="wait")
    statuses = []
    for _ in range(3):
        world.pass_time(timedelta(minutes=25))
        world.reconcile(wait_within_s=3600.0)
        statuses.append(world.service.get(run.id).status)
    assert statuses == ["waiting", "waiting", "refused"]
