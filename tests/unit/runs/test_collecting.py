"""Garbage collection as a whole: runs that were deleted, objects that nobody needs, and who else is at it."""

import os
import random
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from multiprocessing import get_context

import pandas as pd
import pytest
import sqlalchemy as sa

from freshline.lineage.models import Alias, Deployment, DeploymentState, Version, VersionInput
from freshline.runs.care.collecting import Collected, Collector
from freshline.runs.care.deletion import Deletions
from freshline.runs.care.deletion_reports import Selection
from freshline.runs.care.models import Chore
from freshline.runs.care.retention import Retention
from freshline.runs.curation import Curation
from freshline.runs.models import Run, RunInput
from freshline.runs.models import Store as StoreIdentity
from freshline.runs.store import store_id
from freshline.storage import gc
from freshline.storage.artifacts import ArtifactRecord, insert_artifacts
from freshline.storage.database import Database
from freshline.storage.errors import Conflict, FreshlineError, InvalidInput, RunDeleted
from freshline.storage.faults import Guard, switched_off, watched
from freshline.storage.files import save_file
from freshline.storage.filesystem import ObjectStore
from freshline.storage.ids import new_id
from freshline.storage.models import Artifact, ArtifactObject, StoredObject
from freshline.storage.parquet import write_table
from tests.databases import new_database_url
from tests.factories import START

DAY = timedelta(days=1)
on_and_off = pytest.mark.parametrize("is_on", [True, False], ids=["on", "off"])

on_both = pytest.mark.parametrize("database_url", ["sqlite", "postgres"], indirect=True)


@pytest.fixture(params=["sqlite"])
def database_url(request, tmp_path):
    """SQLite, but for the tests that say that they run on both."""
    return new_database_url(request, tmp_path)


@pytest.fixture
def collector(world):
    return Collector(world.database, world.objects)


def lost(database, objects):
    """Objects that a readable record names and that are not there."""
    link, artifact = ArtifactObject.__table__, Artifact.__table__
    query = (
        sa.select(link.c.object_name)
        .join(artifact, artifact.c.id == link.c.artifact_id)
        .where(artifact.c.removed_at.is_(None))
    )
    with database.read() as connection:
        named = set(connection.execute(query).scalars())
    return named - {item.name for item in objects.list()}


def removed(database, table, column):
    """Versions without data that this column names."""
    version = Version.__table__
    query = sa.select(version.c.number).join(table.__table__, table.__table__.c[column] == version.c.id)
    with database.read() as connection:
        return connection.execute(query.where(version.c.removed_at.is_not(None))).scalars().all()


def unreadable_inputs(database):
    """Versions without data that a version with data was built from."""
    read, built, source = VersionInput.__table__, Version.__table__.alias(), Version.__table__
    query = (
        sa.select(built.c.number, source.c.number)
        .select_from(read)
        .join(built, built.c.id == read.c.version_id)
        .join(source, source.c.id == read.c.input_version_id)
        .where(built.c.removed_at.is_(None), source.c.removed_at.is_not(None))
    )
    with database.read() as connection:
        return connection.execute(query).all()


def unreadable_pins(database):
    """Versions without data that a run under way has pinned."""
    pin, source, run = RunInput.__table__, Version.__table__, Run.__table__
    query = (
        sa.select(source.c.number)
        .join(pin, pin.c.version_id == source.c.id)
        .join(run, run.c.id == pin.c.run_id)
        .where(run.c.ended_at.is_(None), source.c.removed_at.is_not(None))
    )
    with database.read() as connection:
        return connection.execute(query).scalars().all()


def test_negative_grace_is_refused(collector):
    for act in (collector.collect, collector.preview):
        with pytest.raises(InvalidInput, match="grace period"):
            act(-DAY)


def test_collection_of_an_empty_store_does_nothing(collector):
    assert collector.collect(DAY) == Collected(0, 0, 0, 0, 0)


@on_both
def test_deleted_run_goes_for_good_when_its_grace_has_passed(world, collector):
    run = world.run_through("refresh/prices", 1)
    world.run_through("refresh/prices", 2)
    Deletions(world.database).delete(run.id, reason="wrong", actor="ann")
    assert collector.collect(DAY).erased == 0
    world.pass_time(DAY)
    preview = collector.preview(DAY)
    assert (preview.erasable, preview.objects) == (1, gc.Preview(0, 0, 0, gc.Swept(0, 0)))
    told = []
    first = collector.collect(DAY, watch=lambda *so_far: told.append(so_far))
    assert (first.erased, first.condemned, first.objects) == (1, 1, 0)
    assert ("erase", 1, 1) in told
    world.pass_time(DAY)
    assert collector.preview(DAY).objects.due.objects == 1
    second = collector.collect(DAY, watch=lambda *so_far: told.append(so_far))
    assert (second.objects, told[-1]) == (1, ("delete", 1, 1))
    with pytest.raises(RunDeleted, match="for good"):
        world.service.get(run.id)
    assert len(list(world.objects.list())) == 1


def test_restored_run_survives_every_later_collection(world, collector):
    run = world.run_through("refresh/prices", 1)
    world.run_through("refresh/prices", 2)
    deletions = Deletions(world.database)
    deletions.delete(run.id)
    collector.collect(DAY)
    deletions.restore(run.id)
    for _ in range(2):
        world.pass_time(2 * DAY)
        assert collector.collect(DAY).objects == 0
    assert lost(world.database, world.objects) == set()


def test_restoring_after_the_sweep_is_refused_and_nothing_is_named_that_is_gone(world, collector):
    """An undelete that comes too late gets an error, never a record of what is gone."""
    run = world.run_through("refresh/prices", 1)
    world.run_through("refresh/prices", 2)
    deletions = Deletions(world.database)
    deletions.delete(run.id)
    for _ in range(2):
        world.pass_time(DAY)
        collector.collect(DAY)
    with pytest.raises(Conflict, match="cannot come back"):
        deletions.restore(run.id)
    assert lost(world.database, world.objects) == set()


@on_both
def test_erasing_and_restoring_at_once_end_in_one_of_the_two(world):
    runs = [world.run_through("refresh/prices", number) for number in range(5)][:-1]
    deletions = Deletions(world.database)
    deletions.delete(*(run.id for run in runs))

    def restore(run):
        try:
            deletions.restore(run.id)
        except Conflict:
            return False
        return True

    def erase(run):
        try:
            return bool(deletions.erase(run.id))
        except Conflict:
            return False

    with ThreadPoolExecutor(4) as executor:
        pairs = [(executor.submit(restore, run), executor.submit(erase, run)) for run in runs]
        ended = [(restored.result(), erased.result()) for restored, erased in pairs]
    assert all(restored != erased for restored, erased in ended), ended
    assert lost(world.database, world.objects) == set()


# In its turn.


@on_both
def test_run_that_is_deleted_again_during_a_collection_has_its_whole_grace_period(world, collector):
    runs = [world.run_through("refresh/prices", number) for number in range(3)][:-1]
    deletions = Deletions(world.database)
    deletions.delete(*(run.id for run in runs))
    world.pass_time(DAY)

    def change_the_mind(point):
        if point == "erase.begin":
            for run in runs:
                deletions.restore(run.id)
                deletions.delete(run.id)

    with watched(change_the_mind):
        assert collector.collect(DAY).erased == 0
    assert len(deletions.restore(*(run.id for run in runs))) == 2


def test_collection_without_being_asked_comes_once_in_an_interval(world, collector):
    due = partial(collector.collect_when_due, DAY, every=DAY)
    assert due() is None  # it begins to count
    world.pass_time(DAY)
    with ThreadPoolExecutor(4) as executor:
        done = [future.result() for future in [executor.submit(due) for _ in range(4)]]
    assert [one for one in done if one is not None] == [Collected(0, 0, 0, 0, 0)]
    with world.database.read() as connection:
        chore = connection.execute(sa.select(Chore.__table__)).one()
    assert chore.began_at == chore.ended_at == START + DAY
    world.pass_time(DAY)
    assert due() is not None


# Under the right root.


@pytest.fixture
def other(tmp_path, sqlite_template):
    """Another store's collector, which was given the first one's root."""
    shutil.copy(sqlite_template, tmp_path / "other.db")
    database = Database(f"sqlite:///{tmp_path / 'other.db'}", sqlite_synchronous="OFF")
    database.write(lambda connection: connection.execute(sa.update(StoreIdentity.__table__).values(id=new_id())))
    yield lambda objects: Collector(database, objects)
    database.dispose()


def test_root_of_two_stores_is_collected_by_neither(world, collector, other):
    world.run_through("refresh/prices", 1)
    assert collector.collect_when_due(DAY, every=DAY) is None  # its mark is there long before its turn
    for refused in (other(world.objects), collector):
        with pytest.raises(Conflict, match=r"holds the objects of another store too .*FRESHLINE_ARTIFACTS_URL"):
            refused.collect(timedelta(0))
        with pytest.raises(Conflict, match="holds the objects of another store too"):
            refused.preview(timedelta(0))
    assert lost(world.database, world.objects) == set()


def test_mark_of_a_store_that_is_gone_can_be_removed(world, collector, other):
    gone = other(world.objects)
    gone.collect(DAY)
    with pytest.raises(Conflict, match=r"remove .*/stores/"):
        collector.collect(DAY)
    with gone.database.read() as connection:
        world.objects.delete(f"stores/{store_id(connection)}")
    collector.collect(DAY)


def test_root_that_is_not_the_store_s_is_left_alone(world, tmp_path):
    world.run_through("refresh/prices", 1)
    wrong = ObjectStore((tmp_path / "elsewhere").as_uri())
    with pytest.raises(Conflict, match="has none of the 1 objects that were recorded last"):
        Collector(world.database, wrong).collect(timedelta(0))
    assert list(wrong.list("stores/")) == []


# Faults. A store of its own, with one clock, and objects that were condemned long ago.


class Store:
    def __init__(self, url, directory) -> None:
        self.now = START
        self.database = Database(url, clock=lambda: self.now, sqlite_synchronous="OFF")
        self.objects = ObjectStore(directory.as_uri())
        self.collector = Collector(self.database, self.objects)

    def record(self, stored):
        artifact = ArtifactRecord.of_file("file", stored)
        self.database.write(partial(insert_artifacts, owner_id=new_id(), artifacts=[artifact], now=self.now))


@pytest.fixture
def store(database_url, tmp_path):
    made = Store(database_url, tmp_path / "objects")
    yield made
    made.database.dispose()


@on_both
@on_and_off
def test_sweep_against_a_new_reference(store, is_on):
    """A writer takes an object up between its mark and its deletion; without the second look it would be lost."""
    stored = save_file(store.objects, b"x")
    store.collector.collect(DAY)
    store.now += DAY
    with store.database.transaction() as connection:
        # As it stands when the mark is read before the writer commits, and the deletion is decided after.
        insert_artifacts(connection, new_id(), [ArtifactRecord.of_file("file", stored)], now=store.now)
        connection.execute(sa.update(StoredObject.__table__).values(condemned_at=START))
    with switched_off(*([] if is_on else [Guard.SWEEP_NEED])):
        gc.sweep(store.database, store.objects, grace=DAY)
    assert lost(store.database, store.objects) == (set() if is_on else {stored.name})


@on_both
@on_and_off
def test_new_reference_against_a_sweep(store, is_on):
    """A sweep has decided when a writer, who found the object and uploaded nothing, records it."""
    stored = save_file(store.objects, b"x")
    store.collector.collect(DAY)
    store.now += DAY
    refused = []

    def write_meanwhile(point):
        if point == "sweep.decided":
            try:
                store.record(stored)
            except Conflict as error:
                refused.append(str(error))

    with switched_off(*([] if is_on else [Guard.TAKE_UP])), watched(write_meanwhile):
        store.collector.collect(DAY)
    assert len(refused) == is_on
    assert lost(store.database, store.objects) == (set() if is_on else {stored.name})


def _collect_until_killed(url, objects, now, point, occurrence):
    seen = 0

    def die(reached):
        nonlocal seen
        seen += reached == point
        if seen == occurrence:
            os.kill(os.getpid(), signal.SIGKILL)

    database = Database(url, clock=lambda: now)
    with watched(die):
        Collector(database, ObjectStore(objects)).collect(DAY)


def kill_a_collection(store, point, occurrence):
    arguments = (str(store.database.engine.url.render_as_string(hide_password=False)), store.objects.url, store.now)
    process = get_context("spawn").Process(target=_collect_until_killed, args=(*arguments, point, occurrence))
    process.start()
    process.join(timeout=60)
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("database_url", ["sqlite", pytest.param("postgres", marks=pytest.mark.slow)], indirect=True)
def test_collection_whose_process_was_killed_is_finished_by_the_next_one(store):
    for number in range(4):
        save_file(store.objects, b"%d" % number)
    kept = save_file(store.objects, b"kept")
    store.collector.collect(DAY)
    store.record(kept)
    store.now += DAY
    kill_a_collection(store, "sweep.deleted", 2)
    assert len(list(store.objects.list())) == 3
    store.now += DAY
    store.collector.collect(DAY)
    assert [item.name for item in store.objects.list()] == [kept.name]


@on_both
@pytest.mark.slow
@pytest.mark.parametrize("point", ["gc.adopted", "gc.condemned", "sweep.decided"])
def test_collection_killed_at_any_other_point_is_finished_too(store, point):
    for number in range(4):
        save_file(store.objects, b"%d" % number)
    kept = save_file(store.objects, b"kept")
    store.record(kept)
    store.collector.collect(DAY)
    store.now += DAY
    kill_a_collection(store, point, 1)
    for _ in range(2):
        store.now += DAY
        store.collector.collect(DAY)
    assert [item.name for item in store.objects.list()] == [kept.name]


@pytest.mark.parametrize("point", ["erase.before_commit", "erase.committed"])
def test_erasure_that_is_interrupted_goes_on(world, collector, point):
    runs = [world.run_through("refresh/prices", number) for number in range(3)][:-1]
    Deletions(world.database).delete(*(run.id for run in runs))
    world.pass_time(DAY)

    def die(reached):
        if reached == point:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), watched(die):
        collector.collect(DAY)
    left = 1 if point == "erase.committed" else 2
    assert collector.preview(DAY).erasable == left
    assert collector.collect(DAY).erased == left


# Whatever happens in whatever order.


def play(world, seed, steps):
    """A history in which everything happens that touches objects; what must hold is looked at after each step."""
    drawn = random.Random(seed)
    curation, deletions = Curation(world.database), Deletions(world.database)
    keeper, collector = Retention(world.database), Collector(world.database, world.objects)
    keys = ["refresh/calendar", "refresh/prices", "refresh/momentum", "backtest/book"]
    under_way, told = [], []
    run_table, version = Run.__table__, Version.__table__

    def any_of(column, *where):
        with world.database.read() as connection:
            found = sorted(connection.execute(sa.select(column).where(*where)).scalars())
        return drawn.choice(found) if found else new_id()

    def any_version():
        deployment = Deployment.__table__
        query = sa.select(deployment.c.key, version.c.number).join(
            deployment, deployment.c.id == version.c.deployment_id
        )
        with world.database.read() as connection:
            row = drawn.choice(sorted(connection.execute(query).all()))
        return f"{row.key}@v{row.number}"

    def write():
        world.run_through(drawn.choice(keys), drawn.randrange(6), on_stale="force")

    def claim():
        if len(under_way) < 3:
            under_way.append(world.start(world.service.submit(drawn.choice(keys), on_stale="force")))

    def complete():
        if under_way:
            world.complete(under_way.pop(drawn.randrange(len(under_way))), drawn.randrange(6))

    def orphan():
        write_table(world.objects, pd.DataFrame({"x": [drawn.randrange(6)]}))

    acts = {
        "write": write,
        "claim": claim,
        "complete": complete,
        "orphan": orphan,
        "alias": lambda: curation.set_alias(any_version(), drawn.choice(["champion", "challenger"])),
        "withdraw": lambda: curation.withdraw(any_version(), "wrong"),
        "right": lambda: curation.restore(any_version(), "right"),
        "delete": lambda: deletions.delete(any_of(run_table.c.id), cascade=drawn.random() < 0.5),
        "bulk": lambda: deletions.delete_all(Selection(deployment=drawn.choice(keys))),
        "undelete": lambda: deletions.restore(any_of(run_table.c.id, run_table.c.deleted_at.is_not(None))),
        "erase": lambda: deletions.erase(any_of(run_table.c.id, run_table.c.deleted_at.is_not(None))),
        "retain": keeper.apply,
        "gc": lambda: collector.collect(DAY),
        "wait": lambda: world.pass_time(drawn.choice([DAY / 2, DAY, 3 * DAY])),
    }
    weights = [4, 2, 2, 1, 1, 1, 1, 1, 0.2, 1, 1, 1, 2, 2]
    write()
    for _ in range(steps):
        act = drawn.choices(list(acts), weights)[0]
        told.append(act)
        try:
            acts[act]()
        except FreshlineError as error:
            told[-1] += f" ({error})"
        wrong = {
            "lost": lost(world.database, world.objects),
            "current": removed(world.database, DeploymentState, "version_id"),
            "aliased": removed(world.database, Alias, "version_id"),
            "read": unreadable_inputs(world.database),
            "pinned": unreadable_pins(world.database),
        }
        assert not any(wrong.values()), (seed, wrong, told)
    for claim_ in under_way:
        world.port.fail(claim_.run.id, claim_.run.fence, ValueError("end"), "", will_retry=False)


def with_rules_everywhere(world):
    with world.database.transaction() as connection:
        connection.execute(sa.update(Deployment.__table__).values(retention={"keep_days": 2, "keep_last": 2}))
    return world


@on_both
def test_no_history_loses_an_object_that_a_readable_record_names(world):
    play(with_rules_everywhere(world), seed=1, steps=50)


@on_both
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_long_history_loses_an_object_that_a_readable_record_names(world):
    for seed in range(2, 12):
        play(with_rules_everywhere(world), seed=seed, steps=100)
