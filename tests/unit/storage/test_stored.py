"""The records of tables and files travel as JSON."""

import json

import pyarrow as pa
import pytest

from freshline.storage.errors import InvalidInput
from freshline.storage.filesystem import ObjectStore
from freshline.storage.parquet import write_table
from freshline.storage.stored import StoredFile, StoredTable, object_name, schema_difference

FILE = StoredFile(name="objects/ab/abc", sha256="abc", size_bytes=3, media_type="text/plain")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"name": "x"}', '{"rows": -1}'])
@pytest.mark.parametrize("record", [StoredTable, StoredFile])
def test_record_that_is_none_is_refused(record, text):
    with pytest.raises(InvalidInput, match=f"not the record of a {record.__name__}"):
        record.from_json(text)


def test_record_of_a_newer_program_says_so():
    newer = json.dumps({**json.loads(FILE.to_json()), "format": 99})
    with pytest.raises(InvalidInput, match=r"format 99.*upgrade"):
        StoredFile.from_json(newer)


def test_record_of_a_file_comes_back():
    assert StoredFile.from_json(FILE.to_json()) == FILE


def test_record_of_a_table_comes_back_with_its_arrow_schema():
    table = pa.table({"day": pa.array([0], pa.date32()), "x": pa.array([[1.5]], pa.list_(pa.float32()))})
    stored = write_table(ObjectStore("memory://stored"), table, data_date="day")
    again = StoredTable.from_json(stored.to_json().encode())
    assert again == stored
    assert again.to_arrow_schema().equals(table.schema)


def test_object_name_starts_with_two_letters_of_the_hash():
    assert object_name("abcdef", ".parquet") == "objects/ab/abcdef.parquet"


@pytest.mark.parametrize(
    ("got", "words"),
    [
        ({"a": "int64", "b": "string"}, None),
        ({"a": "int64"}, "missing 'b'"),
        ({"a": "int64", "b": "string", "c": "bool"}, "unknown 'c'"),
        ({"a": "int64", "bb": "string"}, "missing 'b'; unknown 'bb' (did you mean 'b'?)"),
        ({"a": "int32", "b": "string"}, "'a' is int32 instead of int64"),
        ({"b": "string", "a": "int64"}, "their order is 'b', 'a' instead of 'a', 'b'"),
    ],
)
def test_schema_difference_says_what_differs(got, words):
    assert schema_difference((("a", "int64"), ("b", "string")), tuple(got.items())) == words
