"""A writer is killed at each step of an upload: nothing is half there, its repetition succeeds, and the rest goes."""

import hashlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from uuid import UUID

import pytest
import sqlalchemy as sa

from freshline.storage import gc, s3
from freshline.storage.artifacts import artifacts_of
from freshline.storage.database import Database
from freshline.storage.errors import ArtifactError
from freshline.storage.files import open_file, save_file
from freshline.storage.filesystem import ObjectStore
from freshline.storage.ids import new_id
from freshline.storage.models import Artifact
from freshline.storage.parquet import read_table, write_table
from tests.contracts.s3_servers import BUCKET, S3Server, moto_server
from tests.faults import uploads

GRACE = timedelta(days=1)
OFTEN = {"file": ("put.uploaded",), "moto": ("put.part",)}
SELDOM = {
    "file": ("put.begin", "put.verified", uploads.RECORDED),
    "moto": ("put.begin", "put.created", "put.parts", "put.uploaded", "put.verified", uploads.RECORDED),
}


@pytest.fixture(scope="module")
def moto() -> Iterator[S3Server]:
    with moto_server() as server:
        yield server


class Place:
    """A store, a database whose clock can be moved, and a look from outside at what lies there."""

    def __init__(self, store: ObjectStore, database_url: str, server: S3Server | None) -> None:
        self.store, self.database_url, self._server = store, database_url, server
        self.ahead = timedelta()
        self.database = Database(database_url, clock=lambda: datetime.now(UTC) + self.ahead, sqlite_synchronous="OFF")
        self.environment = server.environment() if server else {}

    def artifacts(self) -> int:
        with self.database.read() as connection:
            return connection.execute(sa.select(sa.func.count()).select_from(Artifact.__table__)).scalar_one()

    def half_objects(self) -> list[str]:
        """Objects whose bytes are not those that their names promise."""
        return [
            item.name
            for item in self.store.list()
            if hashlib.sha256(self.store.read_bytes(item.name)).hexdigest()
            != PurePosixPath(item.name).name.partition(".")[0]
        ]

    def left(self) -> list[str]:
        """Everything that lies there: objects, staged files, uploads that are not completed."""
        left = [item.name for item in self.store.list()]
        if self._server is None:
            staging = self.store.local_root / "staging"
            return left + ([path.name for path in staging.iterdir()] if staging.exists() else [])
        uploads_ = self._server.client().list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
        return left + [one["Key"] for one in uploads_ if f"s3://{BUCKET}/{one['Key']}".startswith(self.store.url)]

    def collect(self) -> None:
        """Garbage collection, twice, with more than the grace period between."""
        gc.adopt(self.database, self.store)
        self.ahead += 2 * GRACE
        gc.sweep(self.database, self.store, grace=GRACE)


def place(kind, request, tmp_path, monkeypatch) -> Place:
    database = tmp_path / "freshline.db"
    database.write_bytes(request.getfixturevalue("sqlite_template").read_bytes())
    url = f"sqlite:///{database}"
    if kind == "file":
        return Place(ObjectStore((tmp_path / "objects").as_uri()), url, None)
    server: S3Server = request.getfixturevalue("moto")
    monkeypatch.setattr(s3, "PART_BYTES", uploads.PART_BYTES)
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    return Place(ObjectStore(f"{server.url}/{new_id()}"), url, server)


def points(chosen) -> list[tuple[str, str]]:
    return [(kind, point) for kind, named in chosen.items() for point in named]


def die_and_repeat(at: Place, point: str) -> None:
    owner: UUID = new_id()
    assert uploads.killed_at(point, at.store.url, at.environment, at.database_url, owner), "it did not die there"
    assert at.artifacts() == 0
    assert at.half_objects() == []
    at.collect()
    assert at.left() == []
    uploads.write(at.store, at.database, owner)
    with at.database.read() as connection:
        model, prices = artifacts_of(connection, owner)
    assert read_table(at.store, prices.stored_table()).equals(uploads.TABLE)
    with open_file(at.store, model.stored_file()) as content:
        assert content.read() == uploads.LARGE
    at.collect()
    assert len(at.left()) == 2


@pytest.mark.parametrize(("kind", "point"), points(OFTEN))
def test_killed_writer_leaves_nothing_that_counts(request, tmp_path, monkeypatch, kind, point):
    die_and_repeat(place(kind, request, tmp_path, monkeypatch), point)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "point"), points(SELDOM))
def test_killed_writer_leaves_nothing_that_counts_at_the_other_points(request, tmp_path, monkeypatch, kind, point):
    die_and_repeat(place(kind, request, tmp_path, monkeypatch), point)


class StaleStore(ObjectStore):
    """A store whose listing is that of a moment ago: with objects that are gone, and without those that are new."""

    listed: list = []  # noqa: RUF012 - each test gives its own

    def list(self, prefix="objects/"):
        yield from self.listed


def test_stale_listing_deletes_nothing_that_a_record_names(request, tmp_path, monkeypatch):
    at = place("file", request, tmp_path, monkeypatch)
    gone = save_file(at.store, b"deleted and written again")
    stale = StaleStore(at.store.url)
    stale.listed = list(at.store.list())
    at.store.delete(gone.name)
    artifacts = uploads.write(at.store, at.database, new_id())  # what the listing does not show
    assert gc.adopt(at.database, stale) == 1
    at.ahead += 2 * GRACE
    assert gc.sweep(at.database, stale, grace=GRACE).objects == 1  # one that is not there: no error
    assert {one.stored.name for one in artifacts[:1]} < set(at.left())
    assert read_table(at.store, artifacts[1].stored_table()).equals(uploads.TABLE)


def test_object_that_a_stale_listing_shows_and_a_record_names_stays(request, tmp_path, monkeypatch):
    at = place("file", request, tmp_path, monkeypatch)
    artifacts = uploads.write(at.store, at.database, new_id())
    stale = StaleStore(at.store.url)
    stale.listed = list(at.store.list()) * 2
    assert gc.adopt(at.database, stale) == 0
    at.ahead += 2 * GRACE
    assert gc.sweep(at.database, stale, grace=GRACE).objects == 0
    assert read_table(at.store, artifacts[1].stored_table()).equals(uploads.TABLE)


def full(*_args, **_options):
    raise OSError(28, os.strerror(28))


def test_disk_that_is_full_when_the_object_is_put_in_place_leaves_nothing(tmp_path, monkeypatch):
    store = ObjectStore((tmp_path / "objects").as_uri())
    (tmp_path / "model").write_bytes(b"x" * 1000)
    with monkeypatch.context() as patched:
        patched.setattr("freshline.storage.local_disk.shutil.copyfile", full)
        with pytest.raises(ArtifactError, match=r"cannot write file:.*objects/x: .*No space left on device"):
            store.put_file(tmp_path / "model", "objects/x")
    assert list(store.list()) == []
    assert list((tmp_path / "objects" / "staging").iterdir()) == []


def test_local_disk_that_is_full_keeps_nothing_of_a_table_for_another_store(tmp_path, monkeypatch):
    """A fragment that is not small is staged on this machine before it is sent, wherever the store is."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    store = ObjectStore(f"memory://{new_id()}")
    with monkeypatch.context() as patched:
        patched.setattr("freshline.storage.encoding._SMALL_BYTES", 0)
        patched.setattr("freshline.storage.encoding.describe_fragment", full)
        with pytest.raises(OSError, match="No space left"):
            write_table(store, uploads.TABLE)
    assert list(tmp_path.iterdir()) == []
    assert list(store.list()) == []
