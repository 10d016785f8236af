"""Reading fetches what was asked for, on every kind of store, through a run and without one; folders come back."""

import shutil
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest
import s3fs

from freshline import storage
from freshline.flows.reading import Reading
from freshline.lineage import interface
from freshline.runs.result import Result
from freshline.storage import folders, parquet
from freshline.storage.artifacts import ArtifactRecord
from freshline.storage.encoding import ROW_GROUP_ROWS
from freshline.storage.errors import ObjectCorrupt
from freshline.storage.filesystem import ObjectStore
from freshline.storage.stored import StoredTable
from tests.unit.runs.conftest import make_world

ROWS = 2 * ROW_GROUP_ROWS
_CHOICES = {
    "columns": ({"columns": ["n"]}, 0.3),
    "where": ({"where": [("n", ">=", ROWS - 5)]}, 0.6),
    "both": ({"columns": ["n"], "where": [("n", ">=", ROWS - 5)]}, 0.2),
}
"""Options -> the part of the bytes that may be fetched for them: of five columns in two row groups."""


def numbers() -> pa.Table:
    random = np.random.default_rng(1)
    table = {f"c{number}": random.normal(size=ROWS).astype("float32") for number in range(4)}
    return pa.table({**table, "n": np.arange(ROWS, dtype="int32")})


@dataclass
class Readers:
    """The ways to read one published table."""

    reading: Reading
    stored: StoredTable
    objects: ObjectStore

    def by_run(self, **options):
        return self.reading.table("refresh/prices", None, **{"columns": None, "where": None, "form": "arrow"} | options)

    def outside(self, **options):
        return storage.read("refresh/prices", as_="arrow", **options)

    def as_batches(self, **options):
        return storage.read("refresh/prices", as_="batches", **options).read_all()


@pytest.fixture
def readers(store, sqlite_template, tmp_path, monkeypatch):
    """A table that was published on each backend."""
    shutil.copy(sqlite_template, tmp_path / "freshline.db")
    url = f"sqlite:///{tmp_path / 'freshline.db'}"
    world = make_world(url)
    world.objects = store
    stored = parquet.write_table(store, numbers())
    claim = world.start(world.service.submit("refresh/prices"))
    result = Result(artifacts=[ArtifactRecord.of_table("numbers", stored)])
    world.port.complete(claim.run.id, claim.run.fence, result)
    monkeypatch.setenv("FRESHLINE_DATABASE_URL", url)
    monkeypatch.setenv("FRESHLINE_ARTIFACTS_URL", store.url)
    yield Readers(Reading(world.port, claim.run.id, until=None, base_version_id=None), stored, store)
    if url in interface._opened:
        interface._opened.pop(url).dispose()
    world.database.dispose()


WAYS = ["by_run", "outside", "as_batches"]


@pytest.mark.parametrize("store", ["file", "memory"], indirect=True)
def test_bytes_that_were_not_asked_for_are_not_decoded(readers, store):
    """Every column but one is damaged in the first row group: only who asks for that sees it."""
    (fragment,) = readers.stored.fragments
    content = bytearray(store.read_bytes(fragment.name))
    content[100:200_000] = bytes(199_900)  # the pages of the first columns, not the footer
    store.delete(fragment.name)
    store.put_bytes(bytes(content), fragment.name)
    for way in WAYS:
        read = getattr(readers, way)
        assert read(columns=["n"]).column("n").to_pylist()[-1] == ROWS - 1
        assert read(where=[("n", ">=", ROWS - 5)]).num_rows == 5
        with pytest.raises(ObjectCorrupt):
            read(columns=["c0"])


@pytest.mark.parametrize("store", ["moto"], indirect=True)
@pytest.mark.parametrize("choice", _CHOICES)
def test_bytes_that_were_not_asked_for_are_not_fetched(readers, monkeypatch, choice):
    fetched: list[int] = []
    call = s3fs.S3FileSystem._call_s3

    async def counted(self, method, *arguments, **options):
        answer = await call(self, method, *arguments, **options)
        if method == "get_object":
            fetched.append(answer["ContentLength"])
        return answer

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", counted)
    options, most = _CHOICES[choice]
    expected = numbers().filter(pa.compute.field("n") >= ROWS - 5) if "where" in options else numbers()
    for way in WAYS:
        fetched.clear()
        found = getattr(readers, way)(**options)
        assert found.equals(expected.select(found.column_names))
        # The reader looks for the footer in the last 64 KiB of an object.
        assert 0 < sum(fetched) < most * readers.stored.size_bytes + 70_000


def test_folder_comes_back_from_every_store(store, tmp_path):
    (tmp_path / "model" / "assets").mkdir(parents=True)
    contents = {"weights": bytes(range(256)) * 8192, "assets/a": b"a", "assets/b": b""}
    for path, content in contents.items():
        (tmp_path / "model" / path).write_bytes(content)
    stored = folders.save_folder(store, tmp_path / "model")
    folders.download_folder(store, stored, tmp_path / "copy")
    assert {file.path: (tmp_path / "copy" / file.path).read_bytes() for file in stored.files} == contents
    victim = stored.files[0].name
    store.delete(victim)
    store.put_bytes(b"x", victim)
    with pytest.raises(ObjectCorrupt, match=victim):
        folders.download_folder(store, stored, tmp_path / "again")
    assert not (tmp_path / "again").exists()
