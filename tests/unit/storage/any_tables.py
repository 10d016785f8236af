"""Tables of every type that Arrow has, as hypothesis builds them: nested, and with what no file holds."""

from decimal import Decimal

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from tests.unit.storage.tables import VALUES, arrow_array

_NAMES = st.sampled_from(["a", "b", "a", "", "x y", "ü", "date"])
_WHOLE = st.integers(0, 100)


class Period(pa.ExtensionType):
    """An extension that only this program knows."""

    def __init__(self) -> None:
        super().__init__(pa.int64(), "test.period")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type, serialized):
        return cls()


_LEAVES = {
    **{
        kind: values
        for kind, values in VALUES.items()
        if not pa.types.is_nested(kind) and not pa.types.is_dictionary(kind)
    },
    pa.int16(): _WHOLE, pa.int32(): _WHOLE, pa.uint8(): _WHOLE, pa.uint16(): _WHOLE, pa.uint32(): _WHOLE,
    pa.float16(): st.floats(width=16).map(np.float16),
    pa.decimal64(12, 3): _WHOLE.map(Decimal), pa.decimal256(50, 5): _WHOLE.map(Decimal),
    pa.decimal128(6, -2): _WHOLE.map(lambda number: Decimal(number * 100)),
    pa.date64(): VALUES[pa.date32()],
    pa.time32("ms"): VALUES[pa.time32("s")], pa.time64("ns"): VALUES[pa.time64("us")],
    pa.timestamp("ns"): _WHOLE, pa.timestamp("ms", "+05:30"): _WHOLE, pa.timestamp("s", "UTC"): _WHOLE,
    pa.duration("s"): _WHOLE, pa.duration("ns"): _WHOLE,
    pa.large_binary(): st.binary(max_size=4), pa.binary_view(): st.binary(max_size=4), pa.binary(0): st.just(b""),
    pa.month_day_nano_interval(): st.just((1, 2, 3)),
}  # fmt: skip
_EXTENSIONS = [
    (pa.uuid(), st.binary(min_size=16, max_size=16)),
    (pa.bool8(), st.sampled_from([0, 1, -3])),
    (pa.json_(), st.just('{"a": 1}')),
    (pa.opaque(pa.binary(), "t", "v"), st.binary(max_size=3)),
    (pa.fixed_shape_tensor(pa.int8(), (2,)), st.lists(st.integers(-9, 9), min_size=2, max_size=2)),
    (Period(), _WHOLE),
]


@st.composite
def any_tables(draw, max_rows: int = 6):
    """A table of up to three columns of any type that Arrow has, some of which nothing can store."""
    rows = draw(st.integers(0, max_rows))
    columns = draw(st.integers(0, 3))
    arrays = [draw(_arrays(rows)) for _ in range(columns)]
    return pa.Table.from_arrays(arrays, names=[draw(_NAMES) for _ in range(columns)])


@st.composite
def _arrays(draw, rows: int):  # noqa: PLR0911 - one form after the other
    form = draw(st.sampled_from(["plain"] * 6 + ["dictionary", "runs", "union", "extension", "list view", "null"]))
    if form == "extension":
        kind, one = draw(st.sampled_from(_EXTENSIONS))
        values = draw(st.lists(st.none() | one, min_size=rows, max_size=rows))
        return pa.ExtensionArray.from_storage(kind, pa.array(values, kind.storage_type))
    if form == "null":
        return pa.nulls(rows)
    kind, values = draw(_kinds(0 if form in ("dictionary", "runs") else 2))
    held = draw(st.lists(st.none() | values, min_size=rows, max_size=rows))
    if form == "list view":
        lists = [None if draw(st.booleans()) else [value] for value in held]
        return pa.array(lists, draw(st.sampled_from([pa.list_view(kind), pa.large_list_view(kind)])))
    array = arrow_array(held, kind)
    if form == "dictionary":
        indices = pa.array([draw(st.none() | st.integers(0, rows - 1)) for _ in range(rows)], pa.int16())
        return pa.DictionaryArray.from_arrays(indices, array)
    if form == "runs":
        return pa.RunEndEncodedArray.from_arrays(pa.array(range(1, rows + 1), pa.int32()), array)
    if form == "union":
        return pa.UnionArray.from_sparse(pa.array([0] * rows, pa.int8()), [array])
    return array


@st.composite
def _kinds(draw, depth: int):
    """A type and its values; lists, structs and maps contain others, up to this depth."""
    form = draw(st.sampled_from(["leaf"] if depth == 0 else ["leaf"] * 4 + ["list", "large", "fixed", "struct", "map"]))
    if form == "leaf":
        kind = draw(st.sampled_from(sorted(_LEAVES, key=str)))
        return kind, _LEAVES[kind]
    kind, values = draw(_kinds(depth - 1))
    inner = st.none() | values
    if form in ("list", "large"):
        return (pa.list_ if form == "list" else pa.large_list)(kind), st.lists(inner, max_size=2)
    if form == "fixed":
        size = draw(st.integers(0, 2))
        return pa.list_(kind, size), st.lists(inner, min_size=size, max_size=size)
    if form == "map":
        return pa.map_(pa.string(), kind), st.lists(st.tuples(st.text("ab", max_size=2), inner), max_size=2)
    other, others = draw(_kinds(depth - 1))
    fields = draw(st.sampled_from([(), ("x",), ("x", "y")]))
    parts = dict(zip(fields, ((kind, inner), (other, st.none() | others)), strict=False))
    return (
        pa.struct([(name, part[0]) for name, part in parts.items()]),
        st.fixed_dictionaries({name: part[1] for name, part in parts.items()}),
    )
