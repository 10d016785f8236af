"""Rows put in by key: each key once, in its place, and nothing written again that need not be."""

from datetime import date
from decimal import Decimal
from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freshline.storage.digest import BLOCK_ROWS, table_digest
from freshline.storage.errors import InvalidInput, NotFound, ObjectMissing
from freshline.storage.filesystem import ObjectStore
from freshline.storage.ids import new_id
from freshline.storage.parquet import read_table, to_pandas, write_table
from freshline.storage.stored import StoredTable
from freshline.storage.upserting import upsert_table

KEY = ["asset", "date"]


def memory_store() -> ObjectStore:
    return ObjectStore(f"memory://test-{new_id()}")


def prices(*rows) -> pa.Table:
    names, kinds = ("asset", "date", "close"), (pa.string(), pa.date32(), pa.float64())
    columns = list(zip(*rows, strict=True)) or [[], [], []]
    return pa.table([pa.array(values, kind) for values, kind in zip(columns, kinds, strict=True)], names=names)


def day(number: int) -> date:
    return date(2020, 1, number)


def upserted(rows, new):
    """What an upsert means, row by row."""
    found = {row[:2]: row for row in rows}
    return list((found | {row[:2]: row for row in new}).values())


_ROWS = st.lists(
    st.tuples(st.sampled_from(["AAPL", "MSFT", ""]), st.integers(1, 4).map(day), st.floats(allow_nan=False)),
    unique_by=lambda row: row[:2],
    max_size=8,
)


@settings(max_examples=40, deadline=None)
@given(_ROWS, st.lists(_ROWS, max_size=3), st.lists(st.integers(0, 8), max_size=2))
def test_upsert_gives_the_rows_of_its_meaning_and_the_digest_of_these_written_at_once(first, more, cuts):
    store, expected = memory_store(), first
    parts = [first[start:stop] for start, stop in pairwise([0, *sorted(cuts), len(first)])]
    stored = write_table(store, prices())
    for part in parts:
        stored = write_table(store, prices(*part), base=stored)
    for new in more:
        stored, expected = upsert_table(store, prices(*new), base=stored, key=KEY), upserted(expected, new)
    assert read_table(store, stored).to_pydict() == prices(*expected).to_pydict()
    assert stored.digest == table_digest(prices().schema, [prices(*expected)]).sha256
    assert stored.rows == len(expected) == sum(fragment.rows for fragment in stored.fragments)
    assert StoredTable.from_json(stored.to_json()) == stored


def numbered(start: int, stop: int, value: float = 0.0) -> pa.Table:
    numbers = np.arange(start, stop)
    return pa.table({"n": numbers, "x": np.full(len(numbers), value)})


@pytest.fixture(scope="module")
def in_parts():
    """A store and a table of 200,000 rows in four fragments, the first of two row groups."""
    store = memory_store()
    stored = write_table(store, numbered(0, 150_000))
    for start in (150_000, 160_000, 190_000):
        stop = {150_000: 160_000, 160_000: 190_000, 190_000: 200_000}[start]
        stored = write_table(store, numbered(start, stop), base=stored)
    return store, stored


@pytest.mark.parametrize(
    ("touched", "shared"),
    [
        ([3], [1, 2, 3]),
        ([BLOCK_ROWS - 1, BLOCK_ROWS], [1, 2, 3]),
        ([140_000], [1, 2, 3]),
        ([155_000], [0, 2, 3]),
        ([155_000, 165_000], [0, 3]),
        ([199_999], [0, 1, 2]),
        ([0, 199_999], [1, 2]),
        ([200_001, 200_000], [0, 1, 2, 3]),
        ([155_000, 200_001], [0, 2, 3]),
        ([0, 155_000, 165_000, 195_000, 200_001], []),
    ],
)
def test_upsert_shares_the_fragments_without_a_replaced_row(in_parts, touched, shared):
    store, base = in_parts
    new = pa.table({"n": touched, "x": np.arange(1.0, len(touched) + 1)})
    stored = upsert_table(store, new, base=base, key=["n"])
    assert [number for number, one in enumerate(base.fragments) if one in stored.fragments] == shared
    expected = numbered(0, 200_000).to_pandas().set_index("n")["x"]
    for number, value in zip(touched, new["x"].to_pylist(), strict=True):
        expected.loc[number] = value
    whole = pa.table({"n": expected.index.to_numpy(), "x": expected.to_numpy()})
    assert read_table(store, stored).equals(whole)
    assert (stored.digest, stored.blocks) == (write_table(store, whole).digest, write_table(store, whole).blocks)


def test_upsert_into_nothing_is_the_table_with_its_key():
    store = memory_store()
    rows = prices(("AAPL", day(1), 1.0), ("MSFT", day(1), 2.0))
    stored = upsert_table(store, rows, base=None, key=KEY, data_date="date")
    assert (stored.digest, stored.key) == (write_table(store, rows).digest, ("asset", "date"))
    assert (stored.first_data_date, stored.last_data_date) == (day(1), day(1))


def test_upsert_without_a_key_takes_that_of_the_last_one():
    store = memory_store()
    stored = upsert_table(store, prices(("AAPL", day(1), 1.0)), base=None, key=KEY)
    stored = write_table(store, prices(("AAPL", day(2), 1.0)), base=stored)
    stored = upsert_table(store, prices(("AAPL", day(1), 5.0)), base=stored)
    assert read_table(store, stored)["close"].to_pylist() == [5.0, 1.0]
    with pytest.raises(InvalidInput, match="say key="):
        upsert_table(store, prices(("AAPL", day(1), 1.0)), base=write_table(store, prices(("AAPL", day(1), 1.0))))


def test_upsert_of_no_rows_shares_everything():
    store = memory_store()
    base = write_table(store, prices(("AAPL", day(1), 1.0)))
    assert upsert_table(store, prices(), base=base, key=KEY).fragments == base.fragments


def test_upsert_of_the_same_rows_again_is_the_same_objects(in_parts):
    store, base = in_parts
    before = len(list(store.list()))
    assert upsert_table(store, numbered(150_000, 160_000), base=base, key=["n"]).fragments == base.fragments
    assert len(list(store.list())) == before


@pytest.mark.parametrize("data_date", ["date", "seen"])
def test_upsert_that_moves_the_last_day_says_the_new_one(data_date):
    store = memory_store()
    base = pa.table({"n": [1, 2], "date": [day(1), day(9)], "seen": [day(1), day(9)]})
    stored = write_table(store, base, data_date=data_date)
    moved = pa.table({"n": [2], "date": [day(5)], "seen": [day(5)]})
    found = upsert_table(store, moved, base=stored, key=["n"])
    assert (found.first_data_date, found.last_data_date) == (day(1), day(5))


def test_upsert_of_pandas_keeps_index_and_categories():
    store = memory_store()
    index = pd.MultiIndex.from_tuples([("AAPL", day(1)), ("MSFT", day(1))], names=KEY)
    frame = pd.DataFrame({"close": [1.0, 2.0], "kind": pd.Categorical(["a", "b"])}, index=index)
    base = write_table(store, frame)
    new = pd.DataFrame({"close": [7.0, 8.0], "kind": pd.Categorical(["b", "c"])}, index=index[[1]].append(
        pd.MultiIndex.from_tuples([("GOOG", day(1))], names=KEY)))  # fmt: skip
    read = to_pandas(store, upsert_table(store, new, base=base, key=KEY))
    assert list(read.index) == [("AAPL", day(1)), ("MSFT", day(1)), ("GOOG", day(1))]
    assert (list(read["close"]), list(read["kind"])) == ([1.0, 7.0, 8.0], ["a", "b", "c"])


KEYS = {
    "bool": pa.array([True, False]),
    "uint64": pa.array([2**64 - 1, 0], pa.uint64()),
    "float": pa.array([-0.0, 1.5]),
    "decimal": pa.array([Decimal("1.10"), Decimal("-2.20")], pa.decimal128(20, 2)),
    "large text": pa.array(["ü", ""], pa.large_string()),
    "view": pa.array(["ü", ""], pa.string_view()),
    "binary": pa.array([b"\0", b""]),
    "fixed": pa.array([b"abc", b"abd"], pa.binary(3)),
    "zoned": pa.array([1, 2], pa.timestamp("ns", "Europe/Berlin")),
    "seconds": pa.array([1, 2], pa.timestamp("s")),
    "time": pa.array([1, 2], pa.time64("us")),
    "duration": pa.array([1, -2], pa.duration("ms")),
    "uuid": pa.array([b"0" * 16, b"1" * 16], pa.uuid()),
    "dictionary": pa.array(["a", "b"]).dictionary_encode(),
}


@pytest.mark.parametrize("kind", KEYS)
def test_upsert_finds_keys_of_any_single_values(kind, monkeypatch):
    store = memory_store()
    table = pa.table({"k": KEYS[kind], "x": [1, 2]})
    base = write_table(store, table)
    for most in (10_000, 1):  # a list of values to compare with, then their extremes
        monkeypatch.setattr("freshline.storage.keys._MOST_VALUES", most)
        stored = upsert_table(store, table.set_column(1, "x", pa.array([7, 8])), base=base, key=["k"])
        assert read_table(store, stored)["x"].to_pylist() == [7, 8]


def test_upsert_knows_one_zero():
    store = memory_store()
    base = write_table(store, pa.table({"k": [-0.0, 1.0], "x": [1, 2]}))
    stored = upsert_table(store, pa.table({"k": [0.0], "x": [3]}), base=base, key=["k"])
    assert read_table(store, stored)["x"].to_pylist() == [3, 2]


def test_upsert_by_many_columns_compares_all_of_them():
    store = memory_store()
    columns = {f"k{number}": np.arange(2_000) // (number + 1) for number in range(6)}
    table = pa.table({**columns, "x": np.zeros(2_000)})
    new = table.slice(500, 100).set_column(6, "x", pa.array(np.ones(100)))
    other = new.slice(0, 1).set_column(5, "k5", pa.array([999_999]))
    stored = upsert_table(store, pa.concat_tables([new, other]), base=write_table(store, table), key=list(columns))
    values = read_table(store, stored)["x"].to_numpy()
    assert (len(values), values.sum(), values[500:600].sum()) == (2_001, 101.0, 100.0)


@pytest.mark.parametrize(
    ("rows", "key", "error", "message"),
    [
        (prices(("AAPL", day(1), 1.0)), ["asset", "dat"], NotFound, "Did you mean 'date'"),
        (prices(("AAPL", day(1), 1.0)), "asset", InvalidInput, "names of the columns"),
        (prices(("AAPL", day(1), 1.0)), ["asset", "asset"], InvalidInput, "'asset' twice"),
        (prices(("AAPL", None, 1.0)), KEY, InvalidInput, "'date' is null in some rows"),
        (prices(("AAPL", day(1), float("nan"))), ["close"], InvalidInput, "'close' is null"),
        (
            prices(("AAPL", day(1), 1.0), ("MSFT", day(1), 1.0), ("AAPL", day(1), 2.0)),
            KEY,
            InvalidInput,
            "first rows 0 and 2 with asset=AAPL, date=2020-01-01: give each key once",
        ),
        (prices(("AAPL", day(1), 1.0)), ["asset"], InvalidInput, "holds 2 rows with the key asset=AAPL"),
    ],
)
def test_upsert_by_what_does_not_tell_rows_apart_is_refused(rows, key, error, message):
    store = memory_store()
    base = write_table(store, prices(("AAPL", day(1), 1.0), ("AAPL", day(2), 1.0)))
    objects = {one.name for one in store.list()}
    with pytest.raises(error, match=message):
        upsert_table(store, rows, base=base, key=key)
    assert {one.name for one in store.list()} == objects


def test_refusal_counts_the_rows_of_the_key_that_it_shows():
    store = memory_store()
    base = write_table(store, pa.table({"k": [1, 1, 2, 2, 2]}))
    with pytest.raises(InvalidInput, match="holds 2 rows with the key k=1:"):
        upsert_table(store, pa.table({"k": [1, 2]}), base=base, key=["k"])


def test_upsert_by_a_column_of_lists_is_refused():
    with pytest.raises(InvalidInput, match=r"'k' of type list<.*cannot be part of a key"):
        upsert_table(memory_store(), pa.table({"k": [[1]]}), base=None, key=["k"])


def test_upsert_into_a_table_whose_fragment_is_gone_names_it():
    store = memory_store()
    base = write_table(store, prices(("AAPL", day(1), 1.0)))
    store.delete(base.fragments[0].name)
    with pytest.raises(ObjectMissing, match=base.fragments[0].name):
        upsert_table(store, prices(("AAPL", day(1), 2.0)), base=base, key=KEY)
