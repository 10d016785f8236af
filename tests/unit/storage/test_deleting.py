"""Rows left out: only those, in the same order, with the digest of the rest written at once."""

from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from freshline.storage.deleting import delete_rows
from freshline.storage.digest import BLOCK_ROWS
from freshline.storage.errors import InvalidInput, ObjectCorrupt
from freshline.storage.filesystem import ObjectStore
from freshline.storage.ids import new_id
from freshline.storage.parquet import read_table, write_table


def memory_store() -> ObjectStore:
    return ObjectStore(f"memory://test-{new_id()}")


@pytest.fixture(scope="module")
def in_parts():
    """A store and a table of 150,000 rows in three fragments."""
    store = memory_store()
    stored = write_table(store, pa.table({"n": range(70_000)}))
    for start, stop in ((70_000, 100_000), (100_000, 150_000)):
        stored = write_table(store, pa.table({"n": range(start, stop)}), base=stored)
    return store, stored


@pytest.mark.parametrize(
    ("where", "shared"),
    [
        ([("n", "==", 0)], [1, 2]),
        ([("n", "==", 149_999)], [0, 1]),
        ([("n", "in", [BLOCK_ROWS - 1, BLOCK_ROWS, 70_000])], [2]),
        ((pc.field("n") >= 70_000) & (pc.field("n") < 100_000), [0, 2]),
        (pc.field("n") >= 0, []),
        (pc.field("n") < 149_998, []),
    ],
)
def test_delete_leaves_out_those_rows_and_shares_the_other_fragments(in_parts, where, shared):
    store, base = in_parts
    stored = delete_rows(store, base, where)
    gone = set(read_table(store, base, where=where)["n"].to_pylist())
    rest = pa.table({"n": pa.array([n for n in range(150_000) if n not in gone], pa.int64())})
    assert [number for number, one in enumerate(base.fragments) if one in stored.fragments] == shared
    assert read_table(store, stored).equals(rest)
    written = write_table(store, rest)
    assert (stored.digest, stored.blocks, stored.rows) == (written.digest, written.blocks, written.rows)


def test_delete_of_no_row_is_the_table(in_parts):
    store, base = in_parts
    assert delete_rows(store, base, [("n", "<", 0)]) == base


def test_delete_keeps_rows_of_which_the_condition_says_nothing():
    store = memory_store()
    stored = delete_rows(store, write_table(store, pa.table({"x": [1, None, 3]})), [("x", ">", 1)])
    assert read_table(store, stored)["x"].to_pylist() == [1, None]


def test_delete_of_the_last_day_says_the_new_one():
    store = memory_store()
    table = pa.table({"n": [1, 2], "day": [date(2020, 1, 1), date(2020, 1, 9)]})
    stored = delete_rows(store, write_table(store, table, data_date="day"), [("n", "==", 2)])
    assert (stored.first_data_date, stored.last_data_date) == (date(2020, 1, 1), date(2020, 1, 1))
    empty = delete_rows(store, stored, [("n", "==", 1)])
    assert (empty.rows, empty.last_data_date, empty.data_date) == (0, None, "day")


@pytest.mark.parametrize("where", [None, 7, [("nowhere", "==", 1)], [("n", "==", "text")], [("n", "~~", 1)]])
def test_delete_by_what_is_no_condition_is_refused(in_parts, where):
    store, base = in_parts
    with pytest.raises(InvalidInput, match=r"condition|say which rows"):
        delete_rows(store, base, where)


def test_delete_from_a_damaged_table_names_the_object(tmp_path):
    store = ObjectStore(tmp_path.as_uri())
    base = write_table(store, pa.table({"n": range(1_000)}))
    path = tmp_path / base.fragments[0].name
    content = bytearray(path.read_bytes())
    content[60] ^= 1
    path.write_bytes(content)
    with pytest.raises(ObjectCorrupt, match=base.fragments[0].name):
        delete_rows(store, base, [("n", "==", 5)])
