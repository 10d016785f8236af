"""Hypothesis strategies: Arrow types and tables of them, however odd."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pyarrow as pa
from hypothesis import strategies as st

_DAYS = st.dates(min_value=date(1900, 1, 1), max_value=date(2100, 1, 1))
_MOMENTS = st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2100, 1, 1))
_SECONDS = _MOMENTS.map(lambda moment: moment.replace(microsecond=0))
_TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=6)
_INT8 = st.integers(-128, 127)


def _cents(digits: int):
    return st.integers(-(10**digits) + 1, 10**digits - 1).map(lambda number: Decimal(number).scaleb(-2))


_SIMPLE = {
    pa.null(): st.none(),
    pa.bool_(): st.booleans(),
    pa.int8(): _INT8,
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.float32(): st.floats(width=32),
    pa.float64(): st.floats(),
    pa.decimal32(7, 2): _cents(7),
    pa.decimal128(20, 2): _cents(20),
    pa.date32(): _DAYS,
    pa.time32("s"): st.times().map(lambda moment: moment.replace(microsecond=0)),
    pa.time64("us"): st.times(),
    pa.timestamp("s"): _SECONDS,
    pa.timestamp("us"): _MOMENTS,
    pa.timestamp("ns", "Europe/Berlin"): _MOMENTS.map(lambda moment: moment.replace(tzinfo=UTC)),
    pa.duration("us"): st.timedeltas(min_value=timedelta(-10_000), max_value=timedelta(10_000)),
    pa.string(): _TEXT,
    pa.large_string(): _TEXT,
    pa.string_view(): _TEXT,
    pa.binary(): st.binary(max_size=6),
    pa.binary(3): st.binary(min_size=3, max_size=3),
    pa.dictionary(pa.int8(), pa.string()): st.sampled_from(["", "a", "b"]),
    pa.dictionary(pa.uint32(), pa.string_view()): st.sampled_from(["", "a", "b"]),
}
_LISTS = {
    pa.list_(pa.int8()): st.lists(st.none() | _INT8, max_size=3),
    pa.list_(pa.float64(), 2): st.lists(st.none() | st.floats(), min_size=2, max_size=2),
    pa.large_list(pa.string()): st.lists(st.none() | _TEXT, max_size=3),
    pa.map_(pa.string(), pa.int8()): st.lists(st.tuples(_TEXT, st.none() | _INT8), max_size=2),
    pa.struct({"x": pa.int8(), "y": pa.timestamp("s")}): st.fixed_dictionaries(
        {"x": st.none() | _INT8, "y": st.none() | _SECONDS}
    ),
    pa.list_(pa.struct({"x": pa.list_(pa.string())})): st.lists(
        st.none() | st.fixed_dictionaries({"x": st.none() | st.lists(_TEXT, max_size=2)}), max_size=2
    ),
}
VALUES = _SIMPLE | _LISTS
KINDS = st.sampled_from(sorted(VALUES, key=str))


@st.composite
def arrow_tables(draw, min_rows: int = 0, max_rows: int = 12, min_columns: int = 1):
    """A table of up to three columns of any type, with nulls."""
    rows = draw(st.integers(min_rows, max_rows))
    names = draw(st.lists(_TEXT.filter(lambda name: "\0" not in name), min_size=min_columns, max_size=3, unique=True))
    columns = {}
    for name in names:
        kind = draw(KINDS)
        columns[name] = arrow_array(draw(st.lists(st.none() | VALUES[kind], min_size=rows, max_size=rows)), kind)
    return pa.table(columns)


def arrow_array(values, kind):
    """An Arrow array of this type; Arrow itself builds no dictionary from values of a given type."""
    if pa.types.is_dictionary(kind):
        encoded = pa.array(values, pa.string()).dictionary_encode()
        return pa.DictionaryArray.from_arrays(
            encoded.indices.cast(kind.index_type), encoded.dictionary.cast(kind.value_type)
        )
    return pa.array(values, kind)


def rechunked(table: pa.Table, cuts) -> list[pa.RecordBatch]:
    """The same rows in other batches."""
    edges = [0, *sorted(cut for cut in cuts if 0 < cut < table.num_rows), table.num_rows]
    return [batch for first, last in pairwise(edges) for batch in table.slice(first, last - first).to_batches()]


def shown(table: pa.Table) -> str:
    """The values as text: NaN equals NaN there, and -0.0 differs from 0.0."""
    return repr(table.to_pylist())
