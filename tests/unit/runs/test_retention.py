"""Retention: what the rules keep, what goes, and that what is kept can still be read down to the sources."""

import os
import signal
from datetime import timedelta
from multiprocessing import get_context
from threading import Event, Thread

import pytest
import sqlalchemy as sa

from freshline.lineage.models import Deployment
from freshline.runs.care import acts, retention
from freshline.runs.care.collecting import Collector
from freshline.runs.care.deletion import Deletions
from freshline.runs.care.retention import Retention
from freshline.runs.curation import Curation
from freshline.storage.database import Database
from freshline.storage.errors import DataRemoved, NotFound, ObjectMissing
from freshline.storage.faults import Guard, switched_off, watched
from freshline.storage.parquet import read_table
from tests.databases import new_database_url

DEPLOYMENT = Deployment.__table__
DAY = timedelta(days=1)

on_both = pytest.mark.parametrize("database_url", ["sqlite", "postgres"], indirect=True)


@pytest.fixture(params=["sqlite"])
def database_url(request, tmp_path):
    """SQLite, but for the tests that say that they run on both."""
    return new_database_url(request, tmp_path)


def with_rules(world, **rules):
    """Give deployments rules, by resource name."""
    with world.database.transaction() as connection:
        for name, rule in rules.items():
            is_it = DEPLOYMENT.c.key.in_([f"refresh/{name}", f"backtest/{name}"])
            connection.execute(sa.update(DEPLOYMENT).where(is_it).values(retention=rule))
    return Retention(world.database)


def prices(world, *contents):
    """Versions of prices, a day apart."""
    found = []
    for content in contents:
        found.append(world.run_through("refresh/prices", content))
        world.pass_time(DAY)
    return found


def names(holdings):
    return [one.name for one in holdings]


def can_read(world, reference):
    try:
        table = world.port.resolve(reference).artifacts["data"].stored_table()
    except DataRemoved:
        return False
    return read_table(world.objects, table).num_rows == 1


def test_plan_of_an_unknown_deployment_says_so(world):
    with pytest.raises(NotFound, match="refresh/nothing"):
        Retention(world.database).plan("refresh/nothing")


def test_without_a_rule_nothing_goes(world):
    prices(world, 1, 2)
    planned = Retention(world.database).plan()
    assert planned.removed == ()
    assert "refresh/prices" in planned.without_rule


def test_rule_keeps_the_young_and_the_last_and_says_why(world):
    prices(world, 1, 2, 3, 4)  # they are 4, 3, 2 and 1 days old
    kept = with_rules(world, prices={"keep_days": 3, "keep_last": 1}).plan("refresh/prices")
    assert names(kept.removed) == ["refresh/prices@v2", "refresh/prices@v1"]
    assert [one.reason for one in kept.kept] == ["it ended less than 3 days ago"] * 2
    assert kept.removed[0].rule == "3 days, the last 1"
    last = with_rules(world, prices={"keep_last": 2}).plan("refresh/prices")
    assert [one.reason for one in last.kept] == ["it is one of the last 2 versions"] * 2
    assert last.freed_bytes == last.size_bytes > 0


@on_both
def test_current_aliased_and_labelled_versions_stay(world):
    prices(world, 1, 2, 3, 4, 5)
    curation = Curation(world.database)
    curation.set_alias("refresh/prices@v1", "champion")
    curation.label("refresh/prices@v2", "v1.0.0")
    curation.withdraw("refresh/prices@v5", "wrong")  # v4 is current again
    planned = with_rules(world, prices={"keep_days": 0}).plan()
    assert {one.version: one.reason for one in planned.kept} == {
        1: "the alias champion names it",
        2: "it has the label v1.0.0",
        4: "it is the current version",
    }
    assert names(planned.removed) == ["refresh/prices@v5", "refresh/prices@v3"]


@on_both
def test_what_a_kept_run_read_stays_down_to_the_sources(world):
    """book v1 read momentum v1 and prices v1; it is kept only because it has an alias."""
    for content in (1, 2):
        world.run_through("refresh/prices", content)
        world.run_through("refresh/momentum", 10 * content)
        world.run_through("backtest/book", 100 * content)
        world.pass_time(DAY)
    rule = {"keep_days": 0}
    keeper = with_rules(world, prices=rule, momentum=rule, book=rule)
    assert names(keeper.plan().removed) == ["backtest/book@v1", "refresh/momentum@v1", "refresh/prices@v1"]
    Curation(world.database).set_alias("backtest/book@v1", "champion")
    planned = keeper.plan()
    assert planned.removed == ()
    why = {one.name: one.reason for one in planned.kept}
    assert why["refresh/prices@v1"] in ("backtest/book@v1 read it", "refresh/momentum@v1 read it")
    assert why["refresh/momentum@v1"] == "backtest/book@v1 read it"


@on_both
def test_what_a_run_under_way_has_pinned_stays(world):
    prices(world, 1)
    world.start(world.service.submit("refresh/momentum"))
    prices(world, 2)
    planned = with_rules(world, prices={"keep_days": 0}).plan()
    assert planned.removed == ()
    assert any("is under way and reads it" in one.reason for one in planned.kept)


@on_both
def test_applied_retention_takes_the_data_and_leaves_the_records(world):
    first, second = prices(world, 1, 2)
    before = world.graph.freshness(), world.queries.status()
    keeper = with_rules(world, prices={"keep_days": 0})
    told = []
    removed = keeper.apply(watch=lambda *so_far: told.append(so_far))
    assert (names(removed.holdings), removed.spared, told) == (["refresh/prices@v1"], (), [(1, 1)])
    assert not can_read(world, "refresh/prices@v1")
    assert can_read(world, "refresh/prices@v2")
    with pytest.raises(DataRemoved, match=r"retention removed it on 2026-01-07, which keeps 0 days of refresh/prices"):
        world.port.resolve("refresh/prices@v1").artifacts["data"].stored_table()
    assert (world.graph.freshness(), world.queries.status()) == before
    report = world.queries.report(first.id)
    assert [one.name for one in report.artifacts] == ["data"]
    assert report.artifacts[0].removed_reason.startswith("retention removed it")
    shown = Curation(world.database).version("refresh/prices@v1").version
    assert shown.removed_reason.startswith("retention removed it")
    assert keeper.apply().holdings == ()
    assert world.queries.report(second.id).artifacts[0].removed_reason is None


@on_both
def test_objects_that_others_share_are_not_counted_as_freed_and_not_deleted(world):
    prices(world, 1, 2, 1)  # v1 and v3 are the same bytes
    keeper = with_rules(world, prices={"keep_days": 0})
    planned = keeper.plan()
    assert names(planned.removed) == ["refresh/prices@v2", "refresh/prices@v1"]
    assert planned.freed_bytes < planned.size_bytes
    keeper.apply(planned)
    collector = Collector(world.database, world.objects)
    assert collector.collect(DAY).condemned == 1
    world.pass_time(DAY)
    assert collector.collect(DAY).objects == 1
    assert can_read(world, "refresh/prices@v3")


def test_version_without_data_never_becomes_current_again(world):
    prices(world, 1, 2, 3)
    with_rules(world, prices={"keep_last": 1}).apply()
    judged = Curation(world.database).withdraw("refresh/prices@v3", "wrong")
    assert judged.current is None


def test_replay_of_what_is_removed_says_so(world):
    prices(world, 1)
    signal = world.run_through("refresh/momentum", 10)
    prices(world, 2)
    world.run_through("refresh/momentum", 20)
    rule = {"keep_days": 0}
    with_rules(world, prices=rule, momentum=rule).apply()
    from freshline.runs.redo.replaying import Replays

    with pytest.raises(Exception, match=r"refresh/prices@v1"):
        Replays(world.database).replay(signal.id)


def test_removed_run_can_be_deleted_and_restored_without_its_data(world):
    first, _ = prices(world, 1, 2)
    with_rules(world, prices={"keep_days": 0}).apply()
    deletions = Deletions(world.database)
    deletions.delete(first.id)
    deletions.restore(first.id)
    assert not can_read(world, "refresh/prices@v1")
    with world.database.read() as connection:
        assert [act.kind for act in acts.acts_of(connection, first.id)] == ["deleted", "restored"]


# Faults.


def test_retention_that_is_killed_between_two_batches_goes_on(world, monkeypatch):
    monkeypatch.setattr(retention, "_BATCH", 1)
    prices(world, 1, 2, 3, 4)
    keeper = with_rules(world, prices={"keep_last": 1})

    def die(point):
        if point == "retention.committed":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), watched(die):
        keeper.apply()
    assert names(keeper.plan().removed) == ["refresh/prices@v2", "refresh/prices@v1"]
    assert len(keeper.apply().holdings) == 2


def _apply_until_killed(url, now, point, occurrence):
    seen = 0

    def die(reached):
        nonlocal seen
        seen += reached == point
        if seen == occurrence:
            os.kill(os.getpid(), signal.SIGKILL)

    retention._BATCH = 1
    with watched(die):
        Retention(Database(url, clock=lambda: now)).apply()


@on_both
@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "left"), [("retention.batch", 2), ("retention.removed", 2), ("retention.committed", 1)]
)
def test_retention_whose_process_was_killed_goes_on(world, point, left):
    prices(world, 1, 2, 3, 4)
    keeper = with_rules(world, prices={"keep_last": 1})
    url = world.database.engine.url.render_as_string(hide_password=False)
    arguments = (url, world.moment, point, 2)
    process = get_context("spawn").Process(target=_apply_until_killed, args=arguments)
    process.start()
    process.join(timeout=60)
    assert process.exitcode == -signal.SIGKILL
    assert len(keeper.plan().removed) == left
    assert [can_read(world, f"refresh/prices@v{number}") for number in (1, 2, 3, 4)].count(True) == left + 1
    assert len(keeper.apply().holdings) == left


@on_both
@pytest.mark.parametrize("is_on", [True, False], ids=["on", "off"])
def test_version_that_gets_an_alias_after_the_plan_stays(world, is_on):
    """Without the second look under the lock, the alias would name what cannot be read."""
    prices(world, 1, 2)
    keeper = with_rules(world, prices={"keep_days": 0})
    planned = keeper.plan()
    Curation(world.database).set_alias("refresh/prices@v1", "champion")
    with switched_off(*([] if is_on else [Guard.REMOVAL_NEED])):
        removed = keeper.apply(planned)
    assert names(removed.spared) == (["refresh/prices@v1"] if is_on else [])
    assert can_read(world, "refresh/prices@champion") == is_on


@on_both
def test_alias_that_waits_for_retention_finds_the_data_gone(world):
    """Retention holds the version's lock: whoever names it meanwhile is told, and names nothing that is gone."""
    prices(world, 1, 2)
    keeper = with_rules(world, prices={"keep_days": 0})
    locked, told = Event(), []

    def name_it():
        locked.wait(timeout=30)
        try:
            Curation(world.database).set_alias("refresh/prices@v1", "champion")
        except Exception as error:
            told.append(str(error))

    thread = Thread(target=name_it)
    thread.start()
    with world.database.transaction() as connection:
        keeper._remove(keeper.plan().removed, connection)
        locked.set()
    thread.join(timeout=60)
    assert len(told) == 1
    assert "has no data any more" in told[0]


@on_both
def test_reader_of_a_version_that_is_removed_while_it_reads_gets_its_rows_or_an_error(world):
    """Within the grace period it reads on undisturbed; behind it the object is gone, and that is said."""
    prices(world, 1, 2)
    held = world.port.resolve("refresh/prices@v1").artifacts["data"].stored_table()
    with_rules(world, prices={"keep_days": 0}).apply()
    collector = Collector(world.database, world.objects)
    collector.collect(DAY)
    assert read_table(world.objects, held).num_rows == 1
    world.pass_time(DAY)
    collector.collect(DAY)
    with pytest.raises(ObjectMissing, match="what retention removes while somebody reads it"):
        read_table(world.objects, held)


def test_what_a_deleted_run_read_stays_until_it_is_erased(world):
    """Who takes the deletion back finds what the run was built from."""
    prices(world, 1, 2)
    signal = world.run_through("refresh/momentum", 3)
    world.run_through("refresh/prices", 4)
    world.run_through("refresh/momentum", 5)
    keeper, deletions = with_rules(world, prices={"keep_days": 0}), Deletions(world.database)
    deletions.delete(signal.id)
    assert names(keeper.apply().holdings) == ["refresh/prices@v1"]
    assert keeper.plan().kept[-1].reason == "refresh/momentum@v1, which is deleted and can be restored, read it"
    deletions.restore(signal.id)
    assert can_read(world, "refresh/prices@v2")
    assert can_read(world, "refresh/momentum@v1")
    deletions.delete(signal.id)
    deletions.erase(signal.id)
    assert names(keeper.apply().holdings) == ["refresh/prices@v2"]
