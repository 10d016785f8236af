"""The schema that is recorded with a version."""

import io
import json

import pandas as pd
import pytest
from click.testing import CliRunner
from rich.console import Console

from freshline.runs import interface
from freshline.runs.cli import cli
from freshline.runs.cli.output import changed_columns
from freshline.runs.composition import Freshline
from freshline.runs.curation import Curation
from freshline.runs.result import Result
from freshline.runs.schemas import published_schema
from freshline.storage.artifacts import ArtifactRecord
from freshline.storage.database import dump_json
from freshline.storage.files import save_file
from freshline.storage.filesystem import ObjectStore
from freshline.storage.ids import new_id, show_run_id
from freshline.storage.parquet import write_table
from freshline.storage.settings import Settings


@pytest.fixture
def objects():
    return ObjectStore(f"memory://{new_id()}")


def table(objects, name, frame, *, publish=True):
    return ArtifactRecord.of_table(name, write_table(objects, frame), publish=publish)


def test_schema_of_a_version_without_tables_is_empty(objects):
    report = ArtifactRecord.of_file("report", save_file(objects, b"x"))
    unpublished = table(objects, "scratch", pd.DataFrame({"x": [1]}), publish=False)
    assert published_schema([report, unpublished]) == {}


def test_schema_has_the_columns_of_every_published_table_in_their_order(objects):
    rows = table(objects, "rows", pd.DataFrame({"b": [1.0], "a": [2]}))
    other = table(objects, "other", pd.DataFrame({"text": ["x"]}))
    found = published_schema([rows, other])
    assert list(found) == ["other", "rows"]
    assert found["rows"] == [["b", "float64"], ["a", "int64"]]


def published(world, *frames):
    """Publish a version of prices; one table per frame."""
    tables = [table(world.objects, f"t{number}", frame) for number, frame in enumerate(frames)]
    claim = world.start(world.service.submit("refresh/prices"))
    world.port.complete(claim.run.id, claim.run.fence, Result(artifacts=tables))
    return claim.run.id


def test_version_records_how_its_columns_changed_since_the_one_before(world):
    first = pd.DataFrame({"a": pd.array([1], "int32"), "b": ["x"], "c": [1.0]})
    second = pd.DataFrame({"a": [1], "c": pd.array([1.0], "float32"), "d": [True]})
    for frames in ([first], [first], [second], [second, first]):
        run_id = published(world, *frames)
    curation = Curation(world.database)
    diffs = {one.number: one.schema_diff for one in curation.versions("refresh/prices")}
    assert diffs == {
        1: None,
        2: None,
        3: {"t0": {"added": [["d", "bool"]], "removed": [["b", "string"]], "widened": [["a", "int32", "int64"]],
                   "changed": [["c", "float64", "float32"]]}},
        4: {"t1": {"added": [["a", "int32"], ["b", "string"], ["c", "float64"]]}},
    }  # fmt: skip
    assert curation.version("refresh/prices@v3").version.schema_diff == diffs[3]
    assert world.queries.report(run_id).schema_diff == diffs[4]


def test_changed_columns_are_shown_with_the_version_and_with_its_run(world, monkeypatch):
    made = Freshline(Settings(), world.database, world.objects)
    monkeypatch.setattr(interface, "shared_freshline", lambda: made)
    published(world, pd.DataFrame({"a": pd.array([1], "int32")}))
    run_id = published(world, pd.DataFrame({"a": [1]}))
    for words in (("versions", "refresh/prices@v2"), ("show", show_run_id(run_id))):
        done = CliRunner().invoke(cli, words, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        assert "widened: int32 -> int64" in done.output
    done = CliRunner().invoke(cli, ["versions", "refresh/prices@v2", "--json"], catch_exceptions=False)
    assert json.loads(done.output)["version"]["schema_diff"] == {"t0": {"widened": [["a", "int32", "int64"]]}}


def test_diff_that_the_database_would_refuse_is_left_out(world):
    published(world, pd.DataFrame([range(600)], columns=["x" * 150 + str(number) for number in range(600)]))
    run_id = published(world, pd.DataFrame([range(600)], columns=["y" * 150 + str(number) for number in range(600)]))
    assert world.queries.report(run_id).schema_diff is None


def test_changed_columns_are_shown_in_words():
    diffs = {"prices": {"added": [["d", "bool"]], "removed": [["b", "string"]], "widened": [["a", "int32", "int64"]],
                        "changed": [["c", "float64", "float32"]], "reordered": True}}  # fmt: skip
    shown = io.StringIO()
    Console(file=shown, width=100).print(changed_columns(diffs))
    lines = [" ".join(line.split()) for line in shown.getvalue().splitlines()]
    assert lines[4:9] == [
        "prices d added: bool",
        "prices b removed: was string",
        "prices a widened: int32 -> int64",
        "prices c changed: float64 -> float32",
        "prices in another order",
    ]


@pytest.mark.parametrize("letter", ["x", "\u00fc", "\U0001f4c8"])
def test_schema_that_the_database_would_refuse_is_left_out(objects, letter):
    names = [letter * 3000 + str(number) for number in range(50)]
    wide = table(objects, "wide", pd.DataFrame([range(50)], columns=names))
    found = published_schema([wide, table(objects, "again", pd.DataFrame([range(50)], columns=names))])
    assert found is None


def test_schema_of_a_thousand_long_columns_is_one_that_the_database_takes(objects):
    names = ["c" * 150 + str(number) for number in range(1000)]
    found = published_schema([table(objects, "wide", pd.DataFrame([range(1000)], columns=names))])
    assert len(found["wide"]) == 1000
    assert dump_json(found)
