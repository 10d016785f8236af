"""The schema that is recorded with a version."""

import pandas as pd
import pytest

from freshline.runs.schemas import published_schema
from freshline.storage.artifacts import ArtifactRecord
from freshline.storage.database import dump_json
from freshline.storage.files import save_file
from freshline.storage.filesystem import ObjectStore
from freshline.storage.ids import new_id
from freshline.storage.parquet import write_table


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
