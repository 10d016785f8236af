"""The logical digest: the same for the same content, another for any other content."""

import struct

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from freshline.storage.digest import BLOCK_ROWS, TableDigest, schema_types, table_digest
from freshline.storage.errors import NotStorable
from tests.unit.storage.tables import VALUES, arrow_array, arrow_tables, rechunked, shown

QUICK = settings(max_examples=80, deadline=None)


def digest_of(*tables: pa.Table) -> str:
    return table_digest(tables[0].schema, tables).sha256


def digest_of_column(values, kind=None) -> str:
    return digest_of(pa.table({"a": values if kind is None else pa.array(values, kind)}))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (pa.dense_union([pa.field("x", pa.int8())]), "union"),
        (pa.month_day_nano_interval(), "interval"),
        (pa.date64(), "date32"),
        (pa.struct([]), "without fields"),
        (pa.list_view(pa.int8()), "ordinary list"),
        (pa.list_(pa.large_list_view(pa.int8())), "ordinary list"),
        (pa.list_(pa.dictionary(pa.int8(), pa.string())), "decode"),
    ],
)
def test_digest_of_a_type_without_a_plain_form_names_the_column(kind, reason):
    with pytest.raises(NotStorable, match=f"'odd'.*{reason}"):
        TableDigest(pa.schema({"odd": kind}))


def test_digest_of_two_columns_with_one_name_is_refused():
    with pytest.raises(NotStorable, match="two columns are named 'a'"):
        TableDigest(pa.schema([("a", pa.int8()), ("a", pa.int8())]))


def test_digest_of_a_second_that_overflows_names_the_column():
    with pytest.raises(NotStorable, match="'a'"):
        digest_of(pa.table({"a": pa.array([2**62], pa.timestamp("s"))}))


def test_digest_is_the_documented_one():
    """The definition, spelled out by hand: whoever changes it must give the format another name."""
    import hashlib

    table = pa.table({"a": pa.array([1, None, -1], pa.int16()), "t": ["ü", "", None]})
    block = hashlib.sha256()
    block.update(struct.pack("<qq", 3, 1) + bytes([0b010]) + struct.pack("<hh", 1, -1))
    block.update(struct.pack("<qq", 3, 1) + bytes([0b100]) + struct.pack("<qq", 2, 0) + "ü".encode())
    text = f'freshline-table-1\n[["a","int16"],["t","string"]]\n3\n{block.hexdigest()}\n'
    assert digest_of(table) == hashlib.sha256(text.encode()).hexdigest()


@QUICK
@given(arrow_tables(), st.lists(st.integers(0, 12), max_size=4))
def test_digest_of_the_same_rows_in_other_batches_is_equal(table, cuts):
    assert table_digest(table.schema, rechunked(table, cuts)) == table_digest(table.schema, [table])


@QUICK
@given(arrow_tables())
def test_digest_of_a_slice_is_that_of_a_copy(table):
    padded = pa.concat_tables([table, table, table]).combine_chunks()
    assert digest_of(padded.slice(table.num_rows, table.num_rows)) == digest_of(table)


@QUICK
@given(arrow_tables(min_rows=1), st.data())
def test_digest_after_one_changed_value_differs(table, data):
    column = data.draw(st.integers(0, table.num_columns - 1))
    row = data.draw(st.integers(0, table.num_rows - 1))
    kind = table.schema.field(column).type
    values = table.column(column).to_pylist()
    values[row] = data.draw(st.none() | VALUES[kind])
    changed = table.set_column(column, table.schema.field(column), arrow_array(values, kind))
    assume(shown(changed) != shown(table))
    assert digest_of(changed) != digest_of(table)


@QUICK
@given(arrow_tables(min_rows=2), st.data())
def test_digest_after_another_order_of_rows_differs(table, data):
    order = data.draw(st.permutations(range(table.num_rows)))
    shuffled = pa.table(
        {n: arrow_array([table[n][i].as_py() for i in order], table[n].type) for n in table.column_names}
    )
    assume(shown(shuffled) != shown(table))
    assert digest_of(shuffled) != digest_of(table)


def test_digest_depends_on_names_types_and_order_of_columns():
    tables = [
        pa.table({"a": pa.array([1], pa.int64()), "b": pa.array([1], pa.int64())}),
        pa.table({"b": pa.array([1], pa.int64()), "a": pa.array([1], pa.int64())}),
        pa.table({"a": pa.array([1], pa.int64()), "c": pa.array([1], pa.int64())}),
        pa.table({"a": pa.array([1], pa.int64()), "b": pa.array([1], pa.uint64())}),
        pa.table({"a": pa.array([1], pa.int64()), "b": pa.array([1], pa.int32())}),
        pa.table({"a": pa.array([1], pa.int64()), "b": pa.array([1], pa.timestamp("us"))}),
        pa.table({"a": pa.array([1], pa.int64()), "b": pa.array([1], pa.timestamp("ns"))}),
        pa.table({"a": pa.array([1], pa.int64()), "b": pa.array([1], pa.timestamp("us", "UTC"))}),
        pa.table({"a": pa.array([1], pa.int64())}),
        pa.table({}),
    ]
    assert len({digest_of(table) for table in tables}) == len(tables)


def test_digest_of_empty_tables_depends_on_their_columns():
    assert digest_of(pa.table({"a": pa.array([], pa.int8())})) != digest_of(pa.table({"b": pa.array([], pa.int8())}))


@pytest.mark.parametrize(
    "other",
    [
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int8(), pa.string()),
        pa.dictionary(pa.int32(), pa.large_string()),
    ],
)
def test_digest_of_text_does_not_depend_on_how_arrow_holds_it(other):
    values = ["x", None, "", "x"]
    table = pa.table({"a": arrow_array(values, other)})
    assert digest_of(table) == digest_of_column(values, pa.string())


def test_digest_of_lists_does_not_depend_on_how_arrow_holds_them():
    values = [[1, 2], None, [], [None]]
    assert digest_of_column(values, pa.list_(pa.int8())) == digest_of_column(values, pa.large_list(pa.int8()))


def test_digest_of_runs_is_that_of_their_values():
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), pa.array([5, 6]))
    assert digest_of_column(runs) == digest_of_column([5, 5, 6], pa.int64())


def test_digest_of_seconds_is_that_of_milliseconds():
    assert digest_of_column([1], pa.timestamp("s")) == digest_of_column([1000], pa.timestamp("ms"))


def test_digest_does_not_depend_on_metadata_or_nullability():
    bare = pa.schema([pa.field("a", pa.int8())])
    noted = pa.schema([pa.field("a", pa.int8(), nullable=False, metadata={"k": "v"})], metadata={"k": "v"})
    tables = [pa.table({"a": pa.array([1], pa.int8())}, schema=schema) for schema in (bare, noted)]
    assert digest_of(tables[0]) == digest_of(tables[1])


def test_digest_through_pandas_is_that_of_arrow():
    frame = pd.DataFrame({"day": pd.to_datetime(["2020-01-01"]).as_unit("us"), "x": [1.5], "who": ["AAPL"]})
    table = pa.table({"day": pa.array([frame["day"][0]], pa.timestamp("us")), "x": [1.5], "who": ["AAPL"]})
    assert digest_of(pa.Table.from_pandas(frame)) == digest_of(table)


def test_digest_ignores_bytes_beneath_nulls():
    def hidden(value):
        validity = pa.py_buffer(bytes([0b01]))
        return pa.Array.from_buffers(pa.int32(), 2, [validity, pa.py_buffer(struct.pack("<ii", 7, value))])

    assert digest_of_column(hidden(1)) == digest_of_column(hidden(2))


def test_digest_ignores_text_beneath_nulls():
    def hidden(text):
        offsets = pa.py_buffer(struct.pack("<iii", 0, 1, 1 + len(text)))
        return pa.Array.from_buffers(pa.string(), 2, [pa.py_buffer(bytes([0b01])), offsets, pa.py_buffer(b"x" + text)])

    assert digest_of_column(hidden(b"abc")) == digest_of_column(hidden(b""))


def test_digest_knows_one_nan_but_two_zeros():
    payload = np.frombuffer(struct.pack("<Qd", 0x7FF8_0000_0000_0001, 0.0))
    assert digest_of_column(payload) == digest_of_column(np.array([-np.nan, 0.0]))
    assert digest_of_column([0.0]) != digest_of_column([-0.0])
    assert digest_of_column([np.nan]) != digest_of_column([None], pa.float64())


def test_digest_tells_null_from_empty_and_from_zero():
    assert digest_of_column([None], pa.string()) != digest_of_column([""], pa.string())
    assert digest_of_column([None], pa.int64()) != digest_of_column([0], pa.int64())
    assert digest_of_column([[None]], pa.list_(pa.int8())) != digest_of_column([[]], pa.list_(pa.int8()))
    assert digest_of_column([{"x": None}], pa.struct({"x": pa.int8()})) != digest_of_column(
        [None], pa.struct({"x": pa.int8()})
    )


def test_digest_tells_where_one_text_ends_and_the_next_begins():
    assert digest_of_column(["ab", "c"]) != digest_of_column(["a", "bc"])
    assert digest_of_column([["a"], ["b", "c"]]) != digest_of_column([["a", "b"], ["c"]])


@pytest.fixture(scope="module")
def prices() -> pd.DataFrame:
    rows = 2 * BLOCK_ROWS + 1_000
    generator = np.random.default_rng(7)
    return pd.DataFrame(
        {
            "date": pd.date_range("1990-01-01", periods=rows, freq="min"),
            "asset": np.array(["AAPL", "MSFT"])[np.arange(rows) % 2],
            "close": generator.normal(size=rows),
        }
    )


def test_digest_after_a_change_beyond_the_first_10_000_rows_differs(prices):
    changed = prices.copy()
    changed.loc[10_001:, "close"] *= 2
    assert digest_of(pa.Table.from_pandas(changed)) != digest_of(pa.Table.from_pandas(prices))


def test_digest_after_a_change_of_the_very_last_row_differs(prices):
    changed = prices.copy()
    changed.loc[len(changed) - 1, "asset"] = "GOOG"
    assert digest_of(pa.Table.from_pandas(changed)) != digest_of(pa.Table.from_pandas(prices))


def test_digest_after_every_date_is_shifted_differs(prices):
    shifted = prices.assign(date=prices["date"] + pd.Timedelta(days=1))
    assert digest_of(pa.Table.from_pandas(shifted)) != digest_of(pa.Table.from_pandas(prices))


@pytest.mark.parametrize("cuts", [[1], [BLOCK_ROWS], [BLOCK_ROWS - 1, BLOCK_ROWS + 1], [100, 70_000, 131_072]])
def test_digest_of_blocks_does_not_depend_on_batches(prices, cuts):
    table = pa.Table.from_pandas(prices, preserve_index=False)
    whole = table_digest(table.schema, [table])
    assert len(whole.blocks) == 3
    assert table_digest(table.schema, rechunked(table, cuts)) == whole


@pytest.mark.parametrize("base_rows", [0, 1, BLOCK_ROWS - 1, BLOCK_ROWS, BLOCK_ROWS + 1, 2 * BLOCK_ROWS])
def test_digest_resumed_from_full_blocks_is_that_of_the_whole(prices, base_rows):
    table = pa.Table.from_pandas(prices, preserve_index=False)
    base = table_digest(table.schema, [table.slice(0, base_rows)])
    full, rest = divmod(base_rows, BLOCK_ROWS)
    resumed = TableDigest(table.schema)
    resumed.take(base.blocks[:full])
    resumed.update(table.slice(base_rows - rest, rest))
    resumed.update(table.slice(base_rows))
    assert resumed.result() == table_digest(table.schema, [table])


def test_digest_can_be_asked_for_more_than_once():
    digest = TableDigest(pa.schema({"a": pa.int64()}))
    digest.update(pa.table({"a": [1]}))
    assert digest.result() == digest.result()
    digest.update(pa.table({"a": [2]}))
    assert digest.result().sha256 == digest_of(pa.table({"a": [1, 2]}))


def test_schema_types_are_named_without_arrow_s_words():
    schema = pa.schema(
        {
            "a": pa.large_list(pa.struct({"x y": pa.decimal128(10, 2)})),
            "b": pa.map_(pa.string(), pa.float16()),
            "c": pa.dictionary(pa.int8(), pa.timestamp("s", "UTC")),
            "d": pa.uuid(),
        }
    )
    assert [kind for _, kind in schema_types(schema)] == [
        'list<struct<"x y": decimal128(10, 2)>>',
        "map<string, float16>",
        "timestamp[ms, UTC]",
        "arrow.uuid<binary[16]>",
    ]
