"""Garbage collection: what nothing needs goes after the grace period, and nothing else ever."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
import sqlalchemy as sa

from freshline.storage import gc
from freshline.storage.artifacts import ArtifactRecord, insert_artifacts
from freshline.storage.database import Database
from freshline.storage.errors import ArtifactError, Conflict
from freshline.storage.faults import watched
from freshline.storage.files import save_file
from freshline.storage.filesystem import ObjectStore
from freshline.storage.ids import new_id
from freshline.storage.models import Artifact, ArtifactObject, StoredObject

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
GRACE = timedelta(days=1)
OBJECT = StoredObject.__table__


@pytest.fixture
def store() -> ObjectStore:
    return ObjectStore(f"memory://gc-{new_id()}")


class Keeper:
    """A database and a store with one clock, and artifacts that come and go."""

    def __init__(self, url, store) -> None:
        self.database, self.store, self.now = Database(url, clock=lambda: self.now), store, NOW

    def save(self, content: bytes):
        return save_file(self.store, content)

    def record(self, stored, *, since=None):
        owner = new_id()
        artifact = ArtifactRecord.of_file("file", stored)
        work = partial(insert_artifacts, owner_id=owner, artifacts=[artifact], now=self.now, since=since)
        self.database.write(work)
        return owner

    def forget(self, owner) -> None:
        def work(connection):
            ids = sa.select(Artifact.__table__.c.id).where(Artifact.__table__.c.owner_id == owner)
            connection.execute(
                sa.delete(ArtifactObject.__table__).where(ArtifactObject.__table__.c.artifact_id.in_(ids))
            )
            connection.execute(sa.delete(Artifact.__table__).where(Artifact.__table__.c.owner_id == owner))

        self.database.write(work)

    def condemn(self) -> int:
        return self.database.write(lambda connection: gc.condemn(connection, self.now))

    def sweep(self, store=None) -> gc.Swept:
        return gc.sweep(self.database, store or self.store, grace=GRACE)

    def names(self) -> list[str]:
        return [item.name for item in self.store.list()]

    def rows(self) -> int:
        with self.database.read() as connection:
            return connection.execute(sa.select(sa.func.count()).select_from(OBJECT)).scalar_one()


@pytest.fixture
def keeper(database_url, store) -> Iterator[Keeper]:
    keeper = Keeper(database_url, store)
    yield keeper
    keeper.database.dispose()


def test_sweep_of_nothing_deletes_nothing(keeper):
    assert keeper.condemn() == 0
    assert keeper.sweep() == gc.Swept(0, 0)


def test_object_that_an_artifact_needs_stays(keeper):
    stored = keeper.save(b"needed")
    keeper.record(stored)
    assert keeper.condemn() == 0
    keeper.now += 10 * GRACE
    assert keeper.sweep() == gc.Swept(0, 0)
    assert keeper.names() == [stored.name]


def test_object_goes_when_nothing_needs_it_for_longer_than_the_grace_period(keeper):
    keeper.forget(keeper.record(keeper.save(b"unneeded")))
    assert keeper.condemn() == 1
    keeper.now += GRACE - timedelta(seconds=1)
    assert keeper.condemn() == 0  # keeps its date
    assert keeper.sweep() == gc.Swept(0, 0)
    keeper.now += timedelta(seconds=1)
    assert keeper.sweep() == gc.Swept(1, 8)
    assert keeper.names() == []


def test_object_that_two_artifacts_share_stays_until_both_are_gone(keeper):
    stored = keeper.save(b"shared")
    first, second = keeper.record(stored), keeper.record(stored)
    keeper.forget(first)
    assert keeper.condemn() == 0
    keeper.forget(second)
    assert keeper.condemn() == 1


def test_object_needed_again_within_the_grace_period_stays(keeper):
    stored = keeper.save(b"again")
    keeper.forget(keeper.record(stored))
    keeper.condemn()
    keeper.now += GRACE
    keeper.record(stored)
    assert keeper.sweep() == gc.Swept(0, 0)
    assert keeper.names() == [stored.name]


def test_sweep_looks_for_artifacts_again_whatever_the_mark_says(keeper):
    stored = keeper.save(b"marked in error")
    keeper.record(stored)
    keeper.database.write(lambda connection: connection.execute(sa.update(OBJECT).values(condemned_at=NOW - 9 * GRACE)))
    assert keeper.sweep() == gc.Swept(0, 0)
    assert keeper.names() == [stored.name]
    keeper.condemn()
    with keeper.database.read() as connection:
        assert connection.execute(sa.select(OBJECT.c.condemned_at)).scalar_one() is None


def test_object_that_no_record_knows_is_adopted_and_goes_later(keeper):
    keeper.save(b"its writer died")
    assert gc.adopt(keeper.database, keeper.store) == 1
    assert gc.adopt(keeper.database, keeper.store) == 0
    assert keeper.sweep() == gc.Swept(0, 0)
    keeper.now += GRACE
    assert keeper.sweep() == gc.Swept(1, 15)


def test_object_adopted_while_its_run_still_writes_is_taken_up_at_its_end(keeper):
    stored = keeper.save(b"slow run")
    gc.adopt(keeper.database, keeper.store)
    keeper.now += GRACE / 2
    keeper.record(stored)
    keeper.now += GRACE
    keeper.condemn()
    assert keeper.sweep() == gc.Swept(0, 0)


def test_writer_that_found_an_object_which_is_then_swept_must_write_again(keeper):
    """The writer uploads nothing, because the object is there; before it records that, the object goes."""
    keeper.forget(keeper.record(keeper.save(b"content")))
    keeper.condemn()
    keeper.now += GRACE
    began = keeper.now
    stored = keeper.save(b"content")
    keeper.sweep()
    keeper.now += timedelta(minutes=1)
    with pytest.raises(Conflict, match="run again"):
        keeper.record(stored, since=began)
    began = keeper.now
    keeper.record(keeper.save(b"content"), since=began)
    assert keeper.names() == [stored.name]


def test_row_of_a_deleted_object_goes_after_another_grace_period(keeper):
    keeper.forget(keeper.record(keeper.save(b"x")))
    keeper.condemn()
    keeper.now += GRACE
    keeper.sweep()
    assert keeper.rows() == 1
    keeper.now += GRACE
    keeper.sweep()
    assert keeper.rows() == 0


class DyingStore(ObjectStore):
    """A store whose connection breaks after some deletions."""

    deletions = 1

    def delete(self, name: str) -> None:
        if self.deletions == 0:
            raise ArtifactError("the connection broke")
        self.deletions -= 1
        super().delete(name)


def test_sweep_that_died_is_finished_a_grace_period_later(keeper):
    for content in (b"a", b"b", b"c"):
        keeper.forget(keeper.record(keeper.save(content)))
    keeper.condemn()
    keeper.now += GRACE
    with pytest.raises(ArtifactError):
        keeper.sweep(DyingStore(keeper.store.url))
    assert len(keeper.names()) == 2
    assert keeper.sweep() == gc.Swept(0, 0)  # another one may still be at it
    keeper.now += GRACE
    assert keeper.sweep().objects == 3
    assert keeper.names() == []


def test_sweep_of_more_than_a_batch_deletes_all(keeper, monkeypatch):
    monkeypatch.setattr(gc, "_BATCH", 3)
    for number in range(8):
        keeper.save(b"%d" % number)
    assert gc.adopt(keeper.database, keeper.store) == 8
    keeper.now += GRACE
    assert keeper.sweep().objects == 8
    assert keeper.names() == []


def test_recorded_objects_survive_sweeps_that_race_with_their_writers(keeper):
    """Writers take up condemned objects while sweeps run: each keeps its object, or is told to write again."""
    contents = [b"%d" % number for number in range(40)]
    stored = [keeper.save(content) for content in contents]
    for item in stored:
        keeper.forget(keeper.record(item))
    keeper.condemn()
    keeper.now += GRACE
    began = keeper.now

    def write(item) -> bool:
        try:
            keeper.record(item, since=began)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(6) as executor:
        sweeps = [executor.submit(keeper.sweep) for _ in range(2)]
        kept = [item.name for item, is_kept in zip(stored, executor.map(write, stored), strict=True) if is_kept]
        swept = sum(sweep.result().objects for sweep in sweeps)
    assert sorted(kept) == keeper.names()
    assert swept == len(contents) - len(kept)


def test_sweep_that_waited_for_a_writer_s_lock_judges_anew(keeper):
    """The writer has taken the object up but not committed when the sweep decides: the sweep must see it afterwards."""
    if keeper.database.dialect != "postgresql":
        pytest.skip("SQLite has one writer at a time")
    stored = keeper.save(b"x")
    keeper.forget(keeper.record(stored))
    keeper.condemn()
    keeper.now += GRACE
    artifact = ArtifactRecord.of_file("file", stored)
    with ThreadPoolExecutor(1) as executor:
        with keeper.database.transaction() as connection:
            insert_artifacts(connection, new_id(), [artifact], now=keeper.now)
            sweep = executor.submit(keeper.sweep)
            wait_until_blocked(keeper.database, sweep)
        assert sweep.result() == gc.Swept(0, 0)
    assert keeper.names() == [stored.name]


def wait_until_blocked(database, future) -> None:
    blocked = sa.text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    for _ in range(500):
        with database.read() as connection:
            if connection.execute(blocked).scalar_one():
                return
        try:
            future.result(timeout=0.02)
        except TimeoutError:
            continue
        raise AssertionError("it did not wait")
    raise AssertionError("it neither waited nor ended")


def test_object_found_by_a_writer_and_collected_at_once_is_not_recorded_as_if_it_were_there(keeper):
    found = keeper.save(b"found, so nothing is uploaded")
    began = keeper.now
    keeper.now += timedelta(minutes=1)
    gc.adopt(keeper.database, keeper.store)
    assert gc.sweep(keeper.database, keeper.store, grace=timedelta(0)).objects == 1
    with pytest.raises(Conflict, match="garbage collection deleted"):
        keeper.record(found, since=began)


def test_sweep_under_way_is_not_taken_over_by_one_with_a_shorter_grace_period(keeper):
    """Else the slower of the two deletes what a writer uploaded after the faster one."""
    stored = keeper.save(b"written again")
    gc.adopt(keeper.database, keeper.store)
    keeper.now += GRACE
    reached, shorter, recorded = [], [], []

    def meanwhile(point):
        reached.append(point)
        if reached == ["sweep.decided"]:
            keeper.now += timedelta(minutes=1)
            shorter.append(gc.sweep(keeper.database, keeper.store, grace=timedelta(0)))
            keeper.now += timedelta(minutes=1)
            keeper.save(b"written again")
            with suppress(Conflict):  # written again, once the sweep is done
                recorded.append(keeper.record(stored, since=keeper.now))

    with watched(meanwhile):
        keeper.sweep()
    assert shorter == [gc.Swept(0, 0)]
    assert not recorded or keeper.names() == [stored.name]
