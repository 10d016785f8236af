"""Verification: damage is found, and said of every version that has it; what is whole is not complained of."""

from dataclasses import replace

import pandas as pd
import pytest
import sqlalchemy as sa

from freshline.runs.care import verifying
from freshline.runs.care.deletion import Deletions
from freshline.runs.care.verifying import How, Verifier
from freshline.runs.result import Result
from freshline.storage import verification
from freshline.storage.artifacts import ArtifactRecord
from freshline.storage.errors import ArtifactError, InvalidInput, NotFound, RunDeleted
from freshline.storage.files import save_file
from freshline.storage.filesystem import ObjectStore
from freshline.storage.models import StoredObject
from freshline.storage.parquet import write_table
from tests.databases import new_database_url

OBJECT = StoredObject.__table__

on_both = pytest.mark.parametrize("database_url", ["sqlite", "postgres"], indirect=True)


@pytest.fixture(params=["sqlite"])
def database_url(request, tmp_path):
    """SQLite, but for the tests that say that they run on both."""
    return new_database_url(request, tmp_path)


@pytest.fixture
def verifier(world):
    return Verifier(world.database, world.objects)


def written(world, *contents):
    runs = [world.run_through("refresh/prices", content) for content in contents]
    with world.database.read() as connection:
        return runs, sorted(connection.execute(sa.select(OBJECT.c.name)).scalars())


def damage(world, name, content):
    world.objects.delete(name)
    if content is not None:
        world.objects.filesystem.pipe_file(world.objects.path_of(name), content)


def flip(world, name):
    content = bytearray(world.objects.read_bytes(name))
    content[len(content) // 2] ^= 1
    damage(world, name, bytes(content))


@pytest.mark.parametrize("share", [0, -1, 1.5, float("nan")])
def test_share_that_is_none_is_refused(verifier, share):
    with pytest.raises(InvalidInput, match="share"):
        verifier.verify_all(How(share=share))


def test_verification_of_what_there_is_not_says_so(world, verifier):
    runs, _ = written(world, 1, 2)
    with pytest.raises(NotFound):
        verifier.verify("refresh/prices@v9")
    with pytest.raises(InvalidInput):
        verifier.verify("nonsense")
    Deletions(world.database).delete(runs[0].id)
    with pytest.raises(RunDeleted):
        verifier.verify(f"run-{runs[0].id}")


@on_both
def test_whole_store_is_found_whole_and_that_is_recorded(world, verifier):
    _, names = written(world, 1, 2)
    told = []
    found = verifier.verify_all(How(digests=True), watch=lambda *so_far: told.append(so_far))
    assert (found.objects, found.tables, found.damaged, found.last) == (2, 2, (), names[-1])
    assert told == [(1, 2, names[0]), (2, 2, names[1])]
    with world.database.read() as connection:
        rows = connection.execute(sa.select(OBJECT.c.verified_at, OBJECT.c.damage)).all()
    assert rows == [(world.moment, None)] * 2


@on_both
@pytest.mark.parametrize(
    ("spoil", "how", "fact"),
    [
        (lambda world, name: damage(world, name, None), How(reads=False), "it is not there"),
        (lambda world, name: damage(world, name, b"short"), How(reads=False), "it has 5 bytes, not"),
        (flip, How(), "its sha256 is"),
    ],
    ids=["missing", "short", "flipped"],
)
def test_damage_is_said_of_every_version_that_has_it(world, verifier, spoil, how, fact):
    runs, names = written(world, 1, 1)  # two versions, one object
    spoil(world, names[0])
    found = verifier.verify_all(how)
    assert [(one.object, one.reference, one.artifact) for one in found.damaged] == [
        (names[0], "refresh/prices@v1", "data"),
        (names[0], "refresh/prices@v2", "data"),
    ]
    assert [one.run_id for one in found.damaged] == [run.id for run in runs]
    assert all(fact in one.fact for one in found.damaged)
    with world.database.read() as connection:
        assert fact in connection.execute(sa.select(OBJECT.c.damage)).scalar_one()
    assert verifier.verify("refresh/prices@v2", how).damaged == found.damaged


def test_flipped_byte_is_not_seen_by_a_quick_look(world, verifier):
    _, names = written(world, 1)
    flip(world, names[0])
    assert verifier.verify_all(How(reads=False)).damaged == ()


def test_version_and_run_name_the_same_objects(world, verifier):
    (run, _), _ = written(world, 1, 2)
    by_version, by_run = verifier.verify("refresh/prices@v1"), verifier.verify(f"run-{run.id}")
    assert by_version == by_run
    assert by_version.objects == 1


@on_both
def test_verification_goes_on_behind_an_object(world, verifier, monkeypatch):
    monkeypatch.setattr(verifying, "_BATCH", 2)
    _, names = written(world, 1, 2, 3)
    assert verifier.verify_all(after=names[0]).objects == 2
    assert verifier.verify_all(after=names[2]).objects == 0


def test_sample_is_the_same_for_the_same_seed_and_about_as_large_as_said():
    names = [f"objects/{number:064x}" for number in range(2000)]
    taken = {seed: {name for name in names if How(share=0.1, seed=seed).takes(name)} for seed in (0, 1)}
    assert {name for name in names if How(share=0.1, seed=0).takes(name)} == taken[0] != taken[1]
    assert 130 < len(taken[0]) < 270
    assert all(How().takes(name) for name in names)


def test_rows_that_are_not_those_of_the_record_are_found_by_their_digest(world):
    frame = pd.DataFrame({"x": pd.Categorical(["a", "b", "a"]), "day": pd.date_range("2026-01-01", periods=3)})
    stored = write_table(world.objects, frame)
    assert verification.digest_damage_of(world.objects, stored) is None
    other = replace(stored, digest="0" * 64)
    assert "the logical digest of its rows is" in verification.digest_damage_of(world.objects, other)
    flip(world, stored.fragments[0].name)
    assert "damaged" in verification.digest_damage_of(world.objects, stored)


def test_store_that_does_not_answer_is_no_damage(world, verifier, monkeypatch):
    written(world, 1)

    def fail(*_):
        raise ArtifactError("the connection broke")

    monkeypatch.setattr(ObjectStore, "read_chunks", fail)
    with pytest.raises(ArtifactError, match="connection"):
        verifier.verify_all()


def test_what_lies_elsewhere_is_verified_where_it_is(world, verifier, tmp_path):
    elsewhere = ObjectStore((tmp_path / "theirs").as_uri())
    stored = save_file(elsewhere, b"theirs")
    referenced = replace(stored, name="", root=elsewhere.url_of(stored.name), format=2)
    claim = world.start(world.service.submit("refresh/prices"))
    result = Result(artifacts=[ArtifactRecord.of_file("file", referenced)])
    world.port.complete(claim.run.id, claim.run.fence, result)
    assert verifier.verify("refresh/prices").damaged == ()
    (tmp_path / "theirs" / stored.name).write_bytes(b"others")
    (found,) = verifier.verify("refresh/prices").damaged
    assert (found.object, found.artifact, found.reference) == (referenced.root, "file", "refresh/prices@v1")
    assert verifier.verify_all().objects == 0
