"""Tables written and read back: exactly, from any source, appended to, cut and scanned."""

from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freshline.storage import encoding, fragments
from freshline.storage.deleting import delete_rows
from freshline.storage.digest import BLOCK_ROWS, table_digest
from freshline.storage.errors import InvalidInput
from freshline.storage.filesystem import ObjectStore
from freshline.storage.forms import Form, read_as
from freshline.storage.ids import new_id
from freshline.storage.parquet import index_columns, read_table, scan, to_pandas, write_table
from freshline.storage.stored import StoredTable
from tests.unit.storage.tables import arrow_tables, rechunked, shown

QUICK = settings(max_examples=60, deadline=None)


@pytest.fixture
def store(tmp_path) -> ObjectStore:
    return ObjectStore((tmp_path / "objects root").as_uri())


def memory_store() -> ObjectStore:
    return ObjectStore(f"memory://test-{new_id()}")


def prices(days: int, *, start: str = "2020-01-01") -> pd.DataFrame:
    index = pd.date_range(start, periods=days, name="date")
    return pd.DataFrame({"AAPL": np.arange(days, dtype=float), "MSFT": -np.arange(days, dtype=float)}, index=index)


class Exporter:
    """A table of another library, as Arrow sees it: only the PyCapsule method."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


@QUICK
@given(arrow_tables())
def test_table_of_any_types_comes_back_as_it_was(table):
    store = memory_store()
    stored = write_table(store, table)
    read = read_table(store, stored)
    assert read.schema.equals(table.schema)
    assert shown(read) == shown(table)
    assert stored.digest == table_digest(table.schema, [table]).sha256
    assert StoredTable.from_json(stored.to_json()) == stored


@QUICK
@given(arrow_tables(min_rows=1), st.data())
def test_table_read_in_part_has_the_same_values(table, data):
    store = memory_store()
    columns = data.draw(st.lists(st.sampled_from(table.column_names), unique=True, min_size=1))
    read = read_table(store, write_table(store, table), columns=columns)
    assert shown(read) == shown(table.select(columns))
    assert read.schema.equals(table.select(columns).schema)


@QUICK
@given(arrow_tables(), st.lists(st.integers(0, 12), max_size=3))
def test_table_written_in_appended_parts_is_that_written_at_once(table, cuts):
    store = memory_store()
    whole = write_table(store, table)
    stored = write_table(store, table.slice(0, 0))
    for part in rechunked(table, cuts):
        stored = write_table(store, part, base=stored)
    assert (stored.digest, stored.blocks, stored.rows) == (whole.digest, whole.blocks, whole.rows)
    assert shown(read_table(store, stored)) == shown(table)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda table: table,
        lambda table: table.to_pandas(),
        lambda table: table.to_reader(),
        pa.dataset.dataset,
        Exporter,
        lambda table: table.combine_chunks().to_batches()[0],
        lambda table: iter(table.to_batches(max_chunksize=2)),
        lambda table: [table.slice(0, 2).to_pandas(), table.slice(2).to_pandas()],
        lambda table: (Exporter(part) for part in (table.slice(0, 1), table.slice(1))),
    ],
    ids=["table", "pandas", "reader", "dataset", "capsule", "batch", "batches", "frames", "capsules"],
)
def test_table_of_each_source_is_the_same_table(store, wrap):
    table = pa.table({"n": [1, 2, 3], "who": pa.array(["a", "b", None], pa.large_string())})
    stored = write_table(store, wrap(table))
    assert stored.digest == table_digest(table.schema, [table]).sha256
    assert read_table(store, stored).to_pydict() == table.to_pydict()


@pytest.mark.parametrize(
    "index",
    [
        pd.date_range("2020-01-01", periods=3, name="date"),
        pd.date_range("2020-01-01", periods=3, name="date", tz="America/New_York"),
        pd.date_range("2020-01-01", periods=3),
        pd.RangeIndex(3),
        pd.RangeIndex(3, name="row"),
        pd.RangeIndex(5, 11, 2),
        pd.Index(["a", "b", "c"], name="asset"),
        pd.MultiIndex.from_product([["x"], [1, 2, 3]], names=["asset", "day"]),
        pd.CategoricalIndex(["a", "b", "a"], name="kind"),
    ],
    ids=["dates", "zoned", "unnamed", "range", "named-range", "stepped-range", "text", "multi", "categorical"],
)
def test_pandas_index_comes_back(store, index):
    frame = pd.DataFrame({"x": [1.0, np.nan, 3.0]}, index=index)
    stored = write_table(store, frame)
    pd.testing.assert_frame_equal(to_pandas(store, stored), frame, check_freq=False)


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([1, 2, 3], dtype="int8"),
        pd.Series([1, None, 3], dtype="Int64"),
        pd.Series([True, None, False], dtype="boolean"),
        pd.Series(["a", None, ""], dtype="str"),
        pd.Series(["a", "b", "a"], dtype=pd.CategoricalDtype(["z", "b", "a"], ordered=True)),
        pd.Series(["a", None, "a"], dtype=pd.CategoricalDtype(["unused", "a"])),
        pd.Series([3, 1, 3], dtype=pd.CategoricalDtype([3, 2, 1])),
        pd.Series(pd.to_datetime(["2020-01-01", None, "2020-01-03"])),
        pd.Series(pd.to_datetime(["2020-01-01", None, "2020-01-03"])).dt.as_unit("s"),
        pd.Series(pd.to_timedelta(["1h", None, "3h"])),
        pd.Series([Decimal("1.10"), None, Decimal("3.30")], dtype=object),
        pd.Series([date(2020, 1, 1), None, date(2020, 1, 3)], dtype=object),
        pd.Series([np.inf, -np.inf, np.nan], dtype="float32"),
        pd.Series([b"a", b"", None], dtype=object),
    ],
    ids=lambda series: str(series.dtype),
)
def test_pandas_column_comes_back(store, column):
    frame = pd.DataFrame({"x": column})
    stored = write_table(store, frame)
    pd.testing.assert_frame_equal(to_pandas(store, stored), frame)


def test_pandas_attributes_are_left_out(store):
    frame = prices(2)
    frame.attrs["anything"] = object()
    assert to_pandas(store, write_table(store, frame)).attrs == {}
    assert frame.attrs


@pytest.mark.parametrize(
    "frame", [prices(0), prices(3).iloc[:0], pd.DataFrame(), pd.DataFrame({"a": pd.Series(dtype=float)})]
)
def test_table_without_rows_comes_back_with_its_columns(store, frame):
    stored = write_table(store, frame)
    assert (stored.rows, stored.fragments, stored.size_bytes) == (0, (), 0)
    pd.testing.assert_frame_equal(
        to_pandas(store, stored), frame, check_index_type=False, check_column_type=False, check_freq=False
    )
    assert scan(store, stored).count_rows() == 0


def test_table_without_rows_still_answers_projections(store):
    stored = write_table(store, prices(0), data_date="date")
    read = read_table(store, stored, columns=["MSFT"], where=[("AAPL", ">", 1)], until=date(2020, 1, 1))
    assert (read.num_rows, read.column_names) == (0, ["MSFT"])


def test_appended_table_shares_its_base_s_fragments(store):
    base = write_table(store, prices(30), data_date="date")
    stored = write_table(store, prices(5, start="2020-01-31"), base=base)
    assert stored.fragments[:1] == base.fragments
    assert len(stored.fragments) == len(list(store.list())) == 2
    assert stored.size_bytes == sum(fragment.size_bytes for fragment in stored.fragments)
    assert (stored.data_date, stored.first_data_date, stored.last_data_date) == (
        "date",
        date(2020, 1, 1),
        date(2020, 2, 4),
    )
    expected = pd.concat([prices(30), prices(5, start="2020-01-31")])
    pd.testing.assert_frame_equal(to_pandas(store, stored), expected, check_freq=False)
    assert stored.digest == write_table(store, expected).digest


def test_append_of_no_rows_is_the_base(store):
    base = write_table(store, prices(3), data_date="date")
    assert write_table(store, prices(0), base=base) == base


def test_append_of_nothing_but_nulls_takes_the_base_s_types(store):
    base = write_table(store, pa.table({"x": [1.0], "who": ["a"]}))
    stored = write_table(store, pa.table({"x": [2.0], "who": pa.nulls(1)}), base=base)
    assert read_table(store, stored).to_pydict() == {"x": [1.0, 2.0], "who": ["a", None]}


def test_append_of_a_slice_of_pandas_does_not_add_an_index(store):
    frame = pd.DataFrame({"x": [1, 2, 3]})
    stored = write_table(store, frame.iloc[1:], base=write_table(store, frame.iloc[:1]))
    pd.testing.assert_frame_equal(to_pandas(store, stored), frame)


def test_append_of_new_categories_adds_them_at_the_end(store):
    base = write_table(store, pd.DataFrame({"x": pd.Categorical(["b"], categories=["b", "unused"])}))
    stored = write_table(store, pd.DataFrame({"x": pd.Categorical(["a"])}), base=base)
    read = to_pandas(store, stored)["x"]
    assert (list(read), list(read.cat.categories)) == (["b", "a"], ["b", "unused", "a"])


def test_append_of_more_categories_than_the_index_type_counts_widens_it(store):
    base = write_table(store, pd.DataFrame({"x": pd.Categorical(["start"])}))
    many = [f"c{number}" for number in range(300)]
    stored = write_table(store, pd.DataFrame({"x": pd.Categorical(many)}), base=base)
    assert list(to_pandas(store, stored)["x"]) == ["start", *many]


def test_unordered_categories_too_long_to_record_come_back_in_order_of_appearance(store):
    values = [f"{number:030}" for number in range(5_000, 0, -1)]
    read = to_pandas(store, write_table(store, pd.DataFrame({"x": pd.Categorical(values)})))["x"]
    assert (list(read), list(read.cat.categories)) == (values, values)


@pytest.mark.parametrize("base_rows", [1, BLOCK_ROWS - 1, BLOCK_ROWS, BLOCK_ROWS + 1, 150_000])
def test_append_across_blocks_and_row_groups_has_the_digest_of_the_whole(base_rows):
    store = memory_store()
    table = pa.table({"n": pa.array(range(200_000), pa.int32())})
    parts = [table.slice(0, base_rows), table.slice(base_rows, 7), table.slice(base_rows + 7)]
    stored = write_table(store, parts[0])
    for part in parts[1:]:
        stored = write_table(store, part, base=stored)
    assert stored.digest == table_digest(table.schema, [table]).sha256
    assert len(stored.fragments) == 3
    assert read_table(store, stored).equals(table)


def test_rows_keep_their_order_over_many_fragments_and_row_groups(store, monkeypatch):
    monkeypatch.setattr(encoding, "ROW_GROUP_ROWS", 10)
    monkeypatch.setattr(encoding, "_FRAGMENT_BYTES", 1_000)
    table = pa.table({"n": list(range(1_000))})
    stored = write_table(store, table)
    assert len(stored.fragments) > 5
    assert read_table(store, stored).equals(table)
    assert read_table(store, stored, where=pc.field("n") >= 0).equals(table)
    assert stored.digest == table_digest(table.schema, [table]).sha256


def test_same_rows_written_again_upload_nothing(store):
    first = write_table(store, prices(3))
    path = Path(store.path_of(first.fragments[0].name))
    written = path.stat().st_mtime_ns
    assert write_table(store, prices(3)) == first
    assert path.stat().st_mtime_ns == written


def test_writing_leaves_nothing_but_objects(store):
    stored = write_table(store, prices(3))
    files = [str(path.relative_to(store.local_root)) for path in store.local_root.rglob("*") if path.is_file()]
    assert files == [stored.fragments[0].name]


def test_read_with_columns_keeps_their_order_and_the_index(store):
    stored = write_table(store, prices(3))
    frame = to_pandas(store, stored, columns=["MSFT"])
    pd.testing.assert_frame_equal(frame, prices(3)[["MSFT"]], check_freq=False)
    assert index_columns(stored) == ("date",)
    assert read_table(store, stored, columns=["MSFT", "AAPL"]).column_names == ["MSFT", "AAPL"]


@pytest.mark.parametrize(
    "where", [pc.field("AAPL") > 1, [("AAPL", ">", 1)], [[("AAPL", "==", 2)], [("MSFT", "<=", -3)]]]
)
def test_read_with_a_condition_gives_those_rows(store, where):
    stored = write_table(store, prices(5))
    pd.testing.assert_frame_equal(to_pandas(store, stored, where=where), prices(5).iloc[2:], check_freq=False)


@pytest.mark.parametrize("form", get_args(Form))
@pytest.mark.parametrize("where", [pc.field("MSFT"), [("MSFT", ">", "x")], [("GOOG", ">", 1)]])
def test_condition_that_does_not_fit_the_columns_is_refused_in_every_form(store, form, where):
    stored = write_table(store, prices(5))
    with pytest.raises(InvalidInput, match="the condition does not fit the table's columns"):
        read_as(store, stored, form, where=where)
    with pytest.raises(InvalidInput, match="the condition does not fit the table's columns"):
        delete_rows(store, stored, where)


def test_column_asked_for_twice_is_refused(store):
    with pytest.raises(InvalidInput, match="names 'MSFT' twice"):
        read_as(store, write_table(store, prices(5)), "arrow", columns=["MSFT", "AAPL", "MSFT"])


DAYS = {
    "date": pa.array([date(2020, 1, day) for day in (1, 2, 3)], pa.date32()),
    "seconds": pa.array([datetime(2020, 1, day, 23, 59) for day in (1, 2, 3)], pa.timestamp("s")),
    "nanoseconds": pa.array([datetime(2020, 1, day, 23, 59) for day in (1, 2, 3)], pa.timestamp("ns")),
    # 04:30 in UTC: still the evening before in New York.
    "zoned": pa.array([datetime(2020, 1, day, 4, 30) for day in (2, 3, 4)], pa.timestamp("us", "America/New_York")),
}


@pytest.mark.parametrize("kind", DAYS)
def test_read_until_a_date_includes_that_day(store, kind):
    table = pa.table({"day": DAYS[kind], "n": [1, 2, 3]})
    stored = write_table(store, table, data_date="day")
    assert (stored.first_data_date, stored.last_data_date) == (date(2020, 1, 1), date(2020, 1, 3))
    assert read_table(store, stored, until=date(2020, 1, 2))["n"].to_pylist() == [1, 2]
    assert read_table(store, stored, until=date(2019, 12, 31)).num_rows == 0
    assert read_table(store, stored, until=date(2020, 1, 2), where=[("n", ">", 1)])["n"].to_pylist() == [2]


def test_scan_reaches_the_fragments_in_batches(store):
    base = write_table(store, prices(3), data_date="date")
    stored = write_table(store, prices(3, start="2020-01-04"), base=base)
    dataset = scan(store, stored, where=[("AAPL", ">", 0)], until=date(2020, 1, 5))
    assert sum(batch.num_rows for batch in dataset.to_batches(columns=["AAPL"])) == 3


def test_objects_are_ordinary_parquet_with_page_checksums(store):
    stored = write_table(store, prices(3))
    path = Path(store.path_of(stored.fragments[0].name))
    read = pq.read_table(path, page_checksum_verification=True)
    assert read.column_names == ["AAPL", "MSFT", "date"]


def test_columns_are_encoded_by_what_their_values_are_like(store):
    rows = 1_000
    columns = {
        "unique": np.random.default_rng(1).normal(size=rows),
        "rounded": np.arange(rows) % 7 / 4,
        "id": np.arange(rows),
        "day": np.array(["2020-01-01"], "datetime64[us]").repeat(rows),
        "who": np.array(["a", "b"])[np.arange(rows) % 2],
        "lists": pa.array([[1]] * rows),
    }
    stored = write_table(store, pa.table(columns))
    group = pq.read_metadata(store.path_of(stored.fragments[0].name)).row_group(0)
    found = {group.column(at).path_in_schema: group.column(at) for at in range(group.num_columns)}
    dictionaries = [name for name, column in found.items() if "RLE_DICTIONARY" in column.encodings]
    assert dictionaries == ["rounded", "day", "who"]
    assert "BYTE_STREAM_SPLIT" in found["unique"].encodings
    assert "DELTA_BINARY_PACKED" in found["id"].encodings
    assert (found["who"].compression, found["id"].compression) == ("ZSTD", "SNAPPY")


def test_column_named_like_the_field_of_another_one_comes_back(store):
    numbers = np.random.default_rng(1).normal(size=1_000)
    table = pa.table({"a.b": numbers, "a": pa.array([{"b": True}] * 1_000), "c.d": np.arange(1_000)})
    assert read_table(store, write_table(store, table)).equals(table)


def test_stored_table_says_what_it_holds(store):
    stored = write_table(store, prices(3), data_date="date")
    assert stored.schema == (("AAPL", "float64"), ("MSFT", "float64"), ("date", "timestamp[us]"))
    assert stored.columns == ("AAPL", "MSFT", "date")
    assert stored.to_arrow_schema().names == ["AAPL", "MSFT", "date"]
    assert stored.fragments[0].rows == 3


def test_append_to_a_long_fragment_decodes_only_its_last_row_groups(monkeypatch):
    monkeypatch.setattr(encoding, "ROW_GROUP_ROWS", 10_000)
    monkeypatch.setattr(fragments, "_SMALL_BYTES", 0)
    store = memory_store()
    table = pa.table({"n": pa.array(range(150_000), pa.int32())})
    stored = write_table(store, table.slice(145_000), base=write_table(store, table.slice(0, 145_000)))
    assert stored.digest == table_digest(table.schema, [table]).sha256


def test_row_groups_hold_fewer_rows_when_they_are_wide(monkeypatch):
    monkeypatch.setattr(encoding, "_ROW_GROUP_BYTES", 10_000)
    table = pa.table({"text": ["x" * 1_000] * 50})
    groups = list(encoding.row_groups(table.to_batches(), table.schema))
    assert all(group.nbytes < 20_000 for group in groups)
    assert pa.concat_tables(groups).equals(table)


def test_writing_a_stream_keeps_memory_small(store):
    rows, parts = 131_072, 80
    pool = pa.proxy_memory_pool(pa.default_memory_pool())

    def batches():
        for number in range(parts):
            values = np.random.default_rng(number).normal(size=rows)
            yield pa.record_batch({"n": pa.array(values, memory_pool=pool).cast("float32", memory_pool=pool)})

    default = pa.default_memory_pool()
    pa.set_memory_pool(pool)
    try:
        stored = write_table(store, batches())
    finally:
        pa.set_memory_pool(default)
    assert stored.rows == parts * rows
    assert pool.max_memory() < 30 * 4 * rows  # bytes: three lots of four row groups, and what is still digested
