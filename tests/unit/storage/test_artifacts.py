"""The records of artifacts."""

from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest
import sqlalchemy as sa

from freshline.storage.artifacts import ArtifactRecord, artifacts_of, insert_artifacts
from freshline.storage.errors import Conflict, InvalidInput
from freshline.storage.files import save_file
from freshline.storage.filesystem import ObjectStore
from freshline.storage.ids import new_id
from freshline.storage.models import ArtifactKind, ArtifactObject, StoredObject
from freshline.storage.parquet import write_table

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
OBJECT = StoredObject.__table__


@pytest.fixture
def store() -> ObjectStore:
    return ObjectStore(f"memory://artifacts-{new_id()}")


def table_of(store, name="prices", *values, base=None):
    table = pa.table({"date": pa.array([date(2020, 1, value) for value in values], pa.date32())})
    return ArtifactRecord.of_table(name, write_table(store, table, data_date="date", base=base))


def record(database, *artifacts, owner=None, since=None):
    owner = owner or new_id()
    database.write(lambda connection: insert_artifacts(connection, owner, artifacts, now=NOW, since=since))
    return owner


def objects_of(database):
    with database.read() as connection:
        return {row.name: row for row in connection.execute(sa.select(OBJECT))}


@pytest.mark.parametrize("name", ["", "x" * 251, "a\nb", "a\0"])
def test_artifact_with_a_name_that_cannot_be_shown_is_refused(database, store, name):
    with pytest.raises(InvalidInput, match="1 to 250 printable characters"):
        record(database, ArtifactRecord.of_file(name, save_file(store, b"x")))


def test_artifacts_of_one_name_are_refused(database, store):
    artifact = ArtifactRecord.of_file("model", save_file(store, b"x"))
    with pytest.raises(InvalidInput, match="two artifacts are named 'model'"):
        record(database, artifact, artifact)


def test_artifact_recorded_twice_for_one_owner_is_refused_by_the_database(database, store):
    artifact = ArtifactRecord.of_file("model", save_file(store, b"x"))
    owner = record(database, artifact)
    with pytest.raises(sa.exc.IntegrityError):
        record(database, artifact, owner=owner)


def test_artifact_asked_for_as_the_other_kind_says_what_it_is(store):
    with pytest.raises(InvalidInput, match="'model' is a file"):
        ArtifactRecord.of_file("model", save_file(store, b"x")).stored_table()
    with pytest.raises(InvalidInput, match="'prices' is a table"):
        table_of(store, "prices", 1).stored_file()


def test_artifacts_come_back_by_name_with_all_that_they_hold(database, store):
    table = table_of(store, "../prices 'ü'", 1, 3)
    model = ArtifactRecord.of_file("model", save_file(store, b"x", media_type="a/b"), publish=False, digest="mine")
    empty = table_of(store, "empty")
    owner = record(database, table, model, empty)
    with database.read() as connection:
        assert artifacts_of(connection, owner) == sorted([table, model, empty], key=lambda artifact: artifact.name)
        assert artifacts_of(connection, new_id()) == []
    assert (table.kind, table.rows, table.media_type) == (ArtifactKind.TABLE, 2, "application/vnd.apache.parquet")
    assert (table.first_data_date, table.last_data_date) == (date(2020, 1, 1), date(2020, 1, 3))
    assert (model.kind, model.rows, model.digest, model.size_bytes) == (ArtifactKind.FILE, None, "mine", 1)
    assert (model.first_data_date, model.last_data_date) == (None, None)


def test_artifacts_share_the_rows_of_shared_objects(database, store):
    first = table_of(store, "prices", 1)
    second = table_of(store, "prices", 2, base=first.stored_table())
    record(database, first)
    record(database, second)
    assert len(objects_of(database)) == 2
    with database.read() as connection:
        links = connection.execute(sa.select(sa.func.count()).select_from(ArtifactObject.__table__)).scalar_one()
    assert links == 3


def test_table_of_many_fragments_is_recorded_in_order(database, store):
    from dataclasses import replace

    stored = table_of(store, "prices", 1).stored_table()
    one = stored.fragments[0]
    many = tuple(replace(one, name=f"objects/ab/{number:04}.parquet") for number in range(1_200))
    owner = record(database, ArtifactRecord.of_table("prices", replace(stored, fragments=many)))
    with database.read() as connection:
        assert artifacts_of(connection, owner)[0].stored_table().fragments == many
    assert len(objects_of(database)) == 1_200


def test_recording_clears_a_condemned_object(database, store):
    artifact = table_of(store, "prices", 1)
    record(database, artifact)
    database.write(lambda connection: connection.execute(sa.update(OBJECT).values(condemned_at=NOW)))
    record(database, artifact)
    assert [row.condemned_at for row in objects_of(database).values()] == [None]


@pytest.mark.parametrize("since", [None, NOW])
def test_recording_an_object_whose_deletion_was_decided_is_refused(database, store, since):
    artifact = table_of(store, "prices", 1)
    record(database, artifact)
    database.write(lambda connection: connection.execute(sa.update(OBJECT).values(swept_at=NOW)))
    with pytest.raises(Conflict, match="run again"):
        record(database, artifact, since=since)


def test_recording_an_object_deleted_while_it_was_written_is_refused(database, store):
    artifact = table_of(store, "prices", 1)
    record(database, artifact)
    database.write(lambda connection: connection.execute(sa.update(OBJECT).values(swept_at=NOW, deleted_at=NOW)))
    for since in (None, NOW - timedelta(seconds=1)):
        with pytest.raises(Conflict, match="run again"):
            record(database, artifact, since=since)


def test_recording_an_object_deleted_before_it_was_written_takes_it_up(database, store):
    artifact = table_of(store, "prices", 1)
    record(database, artifact)
    database.write(lambda connection: connection.execute(sa.update(OBJECT).values(swept_at=NOW, deleted_at=NOW)))
    record(database, artifact, since=NOW + timedelta(seconds=1))
    assert [(row.swept_at, row.deleted_at) for row in objects_of(database).values()] == [(None, None)]
