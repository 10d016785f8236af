"""What a table may not be, and what happens when its objects are gone or damaged."""

from datetime import date
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from freshline.storage.errors import InvalidInput, NotFound, NotStorable, ObjectCorrupt, ObjectMissing
from freshline.storage.filesystem import ObjectStore
from freshline.storage.parquet import read_table, scan, write_table

FRAME = pd.DataFrame(
    {"x": [1.0, 2.0], "who": ["a", "b"]}, index=pd.DatetimeIndex(["2020-01-01", "2020-01-02"], name="date")
)


@pytest.fixture
def store(tmp_path) -> ObjectStore:
    return ObjectStore((tmp_path / "objects root").as_uri())


def frame_of(**columns) -> pd.DataFrame:
    return pd.DataFrame(columns)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (frame_of(w=[1, 2], x=[1, "a"]), "column 'x' cannot be stored"),
        (frame_of(x=[object()]), "column 'x' cannot be stored"),
        (frame_of(x=[2**70]), "column 'x' cannot be stored"),
        (pd.DataFrame({0: [1.0]}), "column 0 has no text as its name"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "named 'a'"),
        (pd.DataFrame({"a": [1]}, index=pd.Index([1], name="a")), "named 'a'"),
        (frame_of(x=pd.period_range("2020", periods=1, freq="M")), "'x'.*convert it to timestamps"),
        (pd.DataFrame({("a", "b"): [1]}), "no text as its name"),
        (frame_of(**{"a\0": [1]}), "NUL"),
        (pa.table([pa.array([1]), pa.array([1])], names=["a", "a"]), "named 'a'"),
        (pa.table({"a": pa.array([b"\xff\xff"]).view(pa.string())}), "In column 0.*UTF8"),
        (pd.DataFrame(index=range(3)), "3 rows without a column"),
    ],
)
def test_table_that_would_not_come_back_is_refused_naming_the_column(store, data, message):
    with pytest.raises(NotStorable, match=message):
        write_table(store, data)


@pytest.mark.parametrize(
    "data", ["rows.csv", b"PAR1", {"a": [1]}, pd.Series([1], name="a"), pa.array([1]), 3, None, [1]]
)
def test_table_of_another_kind_of_value_is_refused(store, data):
    with pytest.raises(InvalidInput, match="is not a table"):
        write_table(store, data)


def test_table_of_an_iterator_without_batches_is_refused(store):
    with pytest.raises(InvalidInput, match="RecordBatchReader"):
        write_table(store, iter(()))


def test_table_whose_later_batches_differ_names_the_columns(store):
    batches = [pa.table({"a": [1]}), pa.table({"a": ["x"], "b": [1]})]
    with pytest.raises(InvalidInput, match="'a' is string instead of int64; unknown 'b'"):
        write_table(store, batches)


def test_table_whose_reader_fails_midway_leaves_no_object(store):
    def batches():
        yield pa.table({"a": [1]})
        raise OSError("the source went away")

    with pytest.raises(OSError, match="went away"):
        write_table(store, batches())
    assert list(store.list()) == []
    assert list(store.local_root.glob("staging/*")) == []


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": "a"}, "'x' is string instead of float64"),
        ({"close": 1.0}, "missing 'x'; unknown 'close'"),
        ({"xx": 1.0}, r"did you mean 'x'\?"),
        ({}, "missing 'x'"),
        ({"x": 1.0, "y": 1.0}, "unknown 'y'"),
    ],
)
def test_append_of_other_columns_names_them(store, columns, message):
    base = write_table(store, pa.table({"x": [1.0], "n": [1]}))
    rows = pa.table({**{name: [value] for name, value in columns.items()}, "n": [2]})
    with pytest.raises(InvalidInput, match=message):
        write_table(store, rows, base=base)


def test_append_of_columns_in_another_order_says_so(store):
    base = write_table(store, pa.table({"x": [1.0], "n": [1]}))
    with pytest.raises(InvalidInput, match="order is 'n', 'x' instead of 'x', 'n'"):
        write_table(store, pa.table({"n": [1], "x": [1.0]}), base=base)


def test_append_of_other_ordered_categories_is_refused(store):
    ordered = pd.CategoricalDtype(["low", "high"], ordered=True)
    other = pd.CategoricalDtype(["low", "middle", "high"], ordered=True)
    base = write_table(store, frame_of(x=pd.Series(["low"], dtype=ordered)))
    with pytest.raises(InvalidInput, match="'x' is an ordered categorical"):
        write_table(store, frame_of(x=pd.Series(["middle"], dtype=other)), base=base)


def test_append_to_a_base_whose_last_fragment_is_gone_names_it(store):
    base = write_table(store, FRAME)
    store.delete(base.fragments[0].name)
    with pytest.raises(ObjectMissing, match=base.fragments[0].name):
        write_table(store, FRAME, base=base)


def test_append_with_another_data_date_is_refused(store):
    base = write_table(store, FRAME, data_date="date")
    with pytest.raises(InvalidInput, match="'date' and stays so"):
        write_table(store, FRAME, base=base, data_date="x")


def test_data_date_that_is_no_column_suggests_the_nearest(store):
    with pytest.raises(NotFound, match="Did you mean 'date'"):
        write_table(store, FRAME, data_date="dat")


def test_data_date_of_another_type_is_refused(store):
    with pytest.raises(InvalidInput, match="'x' is of type double"):
        write_table(store, FRAME, data_date="x")


def test_data_date_with_nulls_is_refused(store):
    with pytest.raises(NotStorable, match="'day' is null in 1 rows"):
        write_table(store, pa.table({"day": [date(2020, 1, 1), None]}), data_date="day")


@pytest.mark.parametrize(
    "day", [pa.array([3_000_000], pa.int32()).cast(pa.date32()), pa.array([-800_000], pa.int32()).cast(pa.date32()),
            pa.array([10**12], pa.int64()).cast(pa.timestamp("s"))],
)  # fmt: skip
def test_data_date_that_no_calendar_has_is_refused_naming_the_column(store, day):
    with pytest.raises(NotStorable, match="'day' holds a moment outside of the years 1 to 9999: correct it"):
        write_table(store, pa.table({"day": day}), data_date="day")


def test_ordered_categories_that_are_too_long_to_record_are_refused(store):
    kind = pd.CategoricalDtype([f"{number:030}" for number in range(5_000)], ordered=True)
    with pytest.raises(NotStorable, match="'x': an ordered categorical"):
        write_table(store, frame_of(x=pd.Series([f"{1:030}"], dtype=kind)))


def test_read_of_an_unknown_column_suggests_the_nearest(store):
    with pytest.raises(NotFound, match="Did you mean 'who'"):
        read_table(store, write_table(store, FRAME), columns=["whoo"])


@pytest.mark.parametrize("where", [[("x", "~~", 1)], [("nowhere", ">", 1)], [("who", ">", 1)], 7])
def test_read_with_a_condition_that_does_not_fit_is_refused(store, where):
    with pytest.raises(InvalidInput, match="condition"):
        read_table(store, write_table(store, FRAME), where=where)


def test_read_until_a_date_without_a_data_date_is_refused(store):
    with pytest.raises(InvalidInput, match="data_date="):
        read_table(store, write_table(store, FRAME), until=date(2020, 1, 1))


def read_all(store, stored):
    return read_table(store, stored)


def read_some(store, stored):
    return read_table(store, stored, columns=["x", "who", "date"])


@pytest.mark.parametrize("read", [read_all, read_some, scan])
def test_read_of_a_missing_object_names_it(store, read):
    stored = write_table(store, FRAME)
    store.delete(stored.fragments[0].name)
    with pytest.raises(ObjectMissing, match=stored.fragments[0].name):
        read(store, stored)


@pytest.mark.parametrize("read", [read_all, read_some, scan])
@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: content + b"x", lambda content: b""])
def test_read_of_an_object_of_another_length_names_it(store, read, damage):
    stored = write_table(store, FRAME)
    path = Path(store.path_of(stored.fragments[0].name))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ObjectCorrupt, match=stored.fragments[0].name):
        read(store, stored)


def outcome_of(read, store, stored):
    try:
        return read(store, stored)
    except ObjectCorrupt as error:
        return error


@pytest.mark.parametrize("read", [read_all, read_some])
def test_read_after_any_flipped_bit_is_an_error_or_the_same_data(store, read):
    """Every byte of the object in turn; where a byte may differ unseen, the data must be the same."""
    stored = write_table(store, FRAME)
    path = Path(store.path_of(stored.fragments[0].name))
    content, expected = path.read_bytes(), read(store, stored)
    unseen = 0
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        outcome = outcome_of(read, store, stored)
        if isinstance(outcome, ObjectCorrupt):
            assert stored.fragments[0].name in str(outcome)
        else:
            assert outcome.equals(expected)
            unseen += 1
    assert unseen == 0 if read is read_all else unseen < len(content) / 10
