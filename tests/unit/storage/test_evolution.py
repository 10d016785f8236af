"""Tables that gain columns and wider types: the rows before keep what they said, and what cannot be kept is refused."""

from datetime import date, datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from freshline.storage.digest import schema_types
from freshline.storage.errors import InvalidInput
from freshline.storage.filesystem import ObjectStore
from freshline.storage.ids import new_id
from freshline.storage.parquet import read_table, scan, to_pandas, write_table
from freshline.storage.schema_changes import is_widening, schema_diff, schema_diffs
from freshline.storage.upserting import upsert_table


@pytest.fixture
def store() -> ObjectStore:
    return ObjectStore(f"memory://test-{new_id()}")


def append(store, base, rows):
    return write_table(store, rows, base=base, evolve=True)


def upsert(store, base, rows):
    return upsert_table(store, rows, base=base, key=["k"], evolve=True)


@pytest.mark.parametrize("add", [append, upsert])
def test_rows_with_more_and_wider_columns_become_the_table_that_is_written_at_once(store, add):
    base = write_table(store, pa.table({"k": pa.array([1, 2], pa.int32()), "x": pa.array([1.5, 2.5], pa.float32())}))
    base = write_table(store, pa.table({"k": pa.array([3], pa.int32()), "x": pa.array([3.5], pa.float32())}), base=base)
    rows = pa.table({"new": ["a"], "k": pa.array([2**40], pa.int64()), "x": [4.1]})
    stored = add(store, base, rows)
    whole = pa.table({"k": [1, 2, 3, 2**40], "x": [1.5, 2.5, 3.5, 4.1], "new": [None, None, None, "a"]})
    assert stored.digest == write_table(store, whole).digest
    assert read_table(store, stored).equals(whole)
    # Whoever reads the objects themselves finds one schema in all of them.
    assert scan(store, stored).to_table().equals(whole)
    assert read_table(store, base).num_rows == 3


def test_upsert_of_more_columns_replaces_in_place(store):
    base = write_table(store, pa.table({"k": [1, 2], "x": [1.0, 2.0]}))
    stored = upsert(store, base, pa.table({"k": [1], "x": [9.0], "y": ["new"]}))
    assert read_table(store, stored).to_pydict() == {"k": [1, 2], "x": [9.0, 2.0], "y": ["new", None]}


def test_upsert_by_a_column_that_is_new_replaces_nothing(store):
    base = write_table(store, pa.table({"x": [1.0]}))
    stored = upsert_table(store, pa.table({"x": [1.0], "k": [1]}), base=base, key=["k"], evolve=True)
    assert read_table(store, stored).to_pydict() == {"x": [1.0, 1.0], "k": [None, 1]}


@pytest.mark.parametrize("add", [append, upsert])
def test_rows_of_narrower_types_and_another_order_take_the_table_s(store, add):
    base = write_table(store, pa.table({"k": [1], "x": [1.5]}))
    rows = pa.table({"x": pa.array([2], pa.int16()), "k": pa.array([2], pa.int8())})
    stored = add(store, base, rows)
    assert stored.fragments[0] == base.fragments[0]
    assert (stored.schema, read_table(store, stored).to_pydict()) == (base.schema, {"k": [1, 2], "x": [1.5, 2.0]})


def test_append_of_no_rows_with_a_new_column_adds_the_column(store):
    base = write_table(store, pa.table({"k": [1]}))
    stored = append(store, base, pa.table({"k": pa.array([], pa.int64()), "y": pa.array([], pa.string())}))
    assert read_table(store, stored).to_pydict() == {"k": [1], "y": [None]}


def test_column_of_nothing_but_nulls_takes_the_type_of_the_first_values(store):
    base = write_table(store, pa.table({"k": [1], "who": pa.nulls(1)}))
    stored = append(store, base, pa.table({"k": [2], "who": pa.array(["a"]).dictionary_encode()}))
    assert read_table(store, stored)["who"].to_pylist() == [None, "a"]


def test_pandas_with_wider_columns_comes_back_with_its_index(store):
    def frame(day, **columns):
        return pd.DataFrame(columns, index=pd.DatetimeIndex([day], name="date"))

    base = write_table(store, frame("2020-01-01", n=pd.array([1], "Int32"), gone=["a"]), data_date="date")
    rows = frame("2020-01-02", n=pd.array([2**40], "Int64"), gone=["b"], y=pd.Categorical(["c"]))
    read = to_pandas(store, append(store, base, rows))
    assert (read.index.name, list(read["n"]), read["n"].dtype) == ("date", [1, 2**40], pd.Int64Dtype())
    assert read["y"].isna().tolist() == [True, False]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"k": [1], "x": ["a"]}, "'x' is string instead of float64"),
        ({"k": [1], "y": [1.0]}, "missing 'x'; new 'y'"),
        ({"k": [1], "x": [1]}, "'x' is int64 instead of float64"),
    ],
)
@pytest.mark.parametrize("add", [append, upsert])
def test_rows_whose_columns_do_not_continue_the_table_are_refused_naming_them(store, add, rows, message):
    base = write_table(store, pa.table({"k": [1], "x": [1.0]}))
    with pytest.raises(InvalidInput, match=message):
        add(store, base, pa.table(rows))


@pytest.mark.parametrize("add", [append, upsert])
def test_rows_that_pandas_left_over_do_not_bring_their_index_as_a_column(store, add):
    base = write_table(store, pd.DataFrame({"k": [1], "x": [1.5]}))
    rows = pd.DataFrame({"k": [2, 3, 4, 5], "x": [0.5, 1.5, 0.5, 0.5]})
    with pytest.raises(InvalidInput, match=r"an index without a name.*reset_index\(drop=True\)"):
        add(store, base, rows[[True, True, False, True]])


def test_index_without_a_name_that_the_table_has_goes_on(store):
    base = write_table(store, pd.DataFrame({"k": [1, 2]}, index=[7, 9]))
    stored = append(store, base, pd.DataFrame({"k": [3, 4], "x": [0.5, 1.5]}, index=[8, 3]))
    assert to_pandas(store, stored).index.tolist() == [7, 9, 8, 3]


@pytest.mark.parametrize(("first", "later"), [("int32", "int64"), ("int64", "int32")])
def test_categories_of_a_wider_type_follow_those_known(store, first, later):
    base = write_table(store, pd.DataFrame({"k": pd.Categorical(np.array([1, 2], first))}))
    stored = append(store, base, pd.DataFrame({"k": pd.Categorical(np.array([2, 3], later))}))
    read = to_pandas(store, stored)["k"]
    assert read.tolist() == [1, 2, 2, 3]
    assert read.cat.categories.tolist() == [1, 2, 3]
    assert read.cat.categories.dtype == "int64"


def test_category_that_does_not_fit_the_wider_type_is_refused_naming_the_column(store):
    far = pd.DataFrame({"k": pd.Categorical(np.array(["2026-01-01", "9000-01-01"], "datetime64[us]"))})
    near = pd.DataFrame({"k": pd.Categorical(np.array(["2026-01-01"], "datetime64[ns]"))})
    with pytest.raises(InvalidInput, match="categories of 'k' cannot become"):
        append(store, write_table(store, far[:1]), near)


def test_batches_that_gain_columns_later_are_refused(store):
    base = write_table(store, pa.table({"k": [1]}))
    with pytest.raises(InvalidInput, match="a later batch has other columns than the first: unknown 'y'"):
        append(store, base, iter([pa.table({"k": [2]}), pa.table({"k": [3], "y": [1]})]))


def test_value_that_does_not_fit_the_wider_type_is_refused_naming_the_column(store):
    far = pa.array([datetime(9999, 1, 1)], pa.timestamp("us"))
    base = write_table(store, pa.table({"at": far}))
    with pytest.raises(InvalidInput, match="'at' cannot become timestamp"):
        append(store, base, pa.table({"at": pa.array([0], pa.timestamp("ns"))}))


TYPES = [pa.null(), pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(),
         pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.decimal128(5, 2), pa.decimal128(7, 2),
         pa.decimal128(7, 4), pa.decimal128(20, 0), pa.date32(), pa.timestamp("ms"), pa.timestamp("us"),
         pa.timestamp("us", "UTC"), pa.time32("ms"), pa.time64("us"), pa.duration("ms"), pa.duration("ns"),
         pa.string(), pa.binary(), pa.list_(pa.int8())]  # fmt: skip
_EXTREMES = {
    pa.bool_(): [True, False], pa.float16(): [np.float16(65504), np.float16(0.1)], pa.float32(): [3.4e38, 0.1],
    pa.float64(): [1.7e308, 0.1], pa.string(): ["a", ""], pa.binary(): [b"a", b""], pa.list_(pa.int8()): [[1], []],
    pa.date32(): [date(1, 1, 1), date(2020, 1, 1)],
}  # fmt: skip


def _values(kind):
    if pa.types.is_null(kind):
        return pa.nulls(1)
    if pa.types.is_integer(kind):
        low, high = (-(2 ** (kind.bit_width - 1)), 2 ** (kind.bit_width - 1) - 1)
        return pa.array([low, high] if pa.types.is_signed_integer(kind) else [0, 2 * high + 1], kind)
    if pa.types.is_decimal(kind):
        return pa.array(["9" * (kind.precision - kind.scale) + "." + "9" * kind.scale]).cast(kind)
    if kind in _EXTREMES:
        return pa.array(_EXTREMES[kind], kind)
    return pa.array(
        [1, -1 if not pa.types.is_time(kind) else 2], pa.int64() if kind.bit_width == 64 else pa.int32()
    ).cast(kind)


@pytest.mark.parametrize("before", TYPES, ids=str)
def test_widening_keeps_every_value(before):
    """The extremes of a type, in each type that is called wider, and back: nothing is lost and no two become one."""
    name = schema_types(pa.schema({"a": before}))[0][1]
    values = _values(before)
    wider = [kind for kind in TYPES if is_widening(name, schema_types(pa.schema({"a": kind}))[0][1])]
    for kind in wider:
        if not pa.types.is_null(before):
            assert values.cast(kind).cast(before).equals(values)
    assert is_widening(name, name) is False


def test_widening_is_what_people_mean_by_it():
    assert is_widening("int32", "int64")
    assert is_widening("float32", "float64")
    assert is_widening("uint32", "int64")
    assert is_widening("timestamp[ms, UTC]", "timestamp[us, UTC]")
    assert is_widening("decimal128(5, 2)", "decimal128(7, 4)")
    lossy = [("int64", "int32"), ("int64", "float64"), ("uint64", "int64"), ("timestamp[us]", "timestamp[us, UTC]"),
             ("decimal128(7, 2)", "decimal128(7, 4)"), ("string", "binary"), ("date", "timestamp[us]")]  # fmt: skip
    assert not any(is_widening(before, after) for before, after in lossy)


def test_schema_diff_names_each_kind_of_difference():
    before = [["a", "int32"], ["b", "string"], ["c", "float64"], ["gone", "date"]]
    after = [["b", "string"], ["a", "int64"], ["c", "float32"], ["new", "bool"]]
    assert schema_diff(before, after).to_json() == {
        "added": [["new", "bool"]],
        "removed": [["gone", "date"]],
        "widened": [["a", "int32", "int64"]],
        "changed": [["c", "float64", "float32"]],
        "reordered": True,
    }
    assert not schema_diff(before, before)


def test_schema_diffs_show_tables_that_came_and_went():
    found = schema_diffs(
        {"old": [["a", "int32"]], "same": [["a", "bool"]]}, {"same": [["a", "bool"]], "new": [["b", "date"]]}
    )
    assert found == {"old": {"removed": [["a", "int32"]]}, "new": {"added": [["b", "date"]]}}
