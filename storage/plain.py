"""The plain form of Arrow data: what is digested and what a Parquet file holds.

Arrow has several ways to hold the same values (dictionaries, views, runs). The plain form keeps the values and drops
the way: dictionaries and runs are decoded, views become ordinary strings, and seconds, which Parquet does not have,
become milliseconds. Owns this mapping and the refusal of types that would not come back; knows no file.
"""

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from .errors import NotStorable


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema of the plain form, without metadata.

    Raises:
        NotStorable: a column's name or type cannot be stored; the message names the column.
    """
    seen: set[str] = set()
    for name in schema.names:
        if name in seen:
            raise NotStorable(f"two columns are named {name!r}: rename one")
        seen.add(name)
        if any("\ud800" <= character <= "\udfff" or character == "\0" for character in name):
            raise NotStorable(f"column {name!r}: a name may contain no NUL character or lone surrogate")
    return pa.schema([field.with_type(_plain(field.type, field.name)).remove_metadata() for field in schema])


def plain_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return the batch in the plain form `schema`; columns that have it already are not copied.

    Raises:
        NotStorable: a value is not what its type says, such as text that is not UTF-8, or has no plain form, such as
            a second that overflows when counted in milliseconds.
    """
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid as error:
        raise NotStorable(f"the table's values are not what its types say: {error}") from None
    if batch.schema.equals(schema, check_metadata=False):
        return batch
    columns = []
    for name, column, field in zip(batch.schema.names, batch.columns, schema, strict=True):
        try:
            columns.append(_plain_array(column, field.type))
        except pa.ArrowException as error:
            raise NotStorable(f"column {name!r} of type {column.type} cannot be stored: {error}") from None
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _plain_array(array: pa.Array, plain_type: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(array.type):
        # Arrow cannot decode a dictionary of views (polars): give it plain values first.
        values = _plain_array(array.dictionary, plain_type)
        array = pa.DictionaryArray.from_arrays(array.indices, values).dictionary_decode()
    elif pa.types.is_run_end_encoded(array.type):
        array = pc.run_end_decode(array)
    return array if array.type == plain_type else array.cast(plain_type)


def _plain(kind: pa.DataType, column: str) -> pa.DataType:
    if kind in _PLAIN:
        return kind
    types = pa.types
    replaced: list[tuple[Callable[[pa.DataType], bool], Callable[[], pa.DataType]]] = [
        (types.is_dictionary, lambda: _plain(kind.value_type, column)),
        (types.is_run_end_encoded, lambda: _plain(kind.value_type, column)),
        (types.is_string_view, pa.large_string),
        (types.is_binary_view, pa.large_binary),
        (lambda t: types.is_timestamp(t) and t.unit == "s", lambda: pa.timestamp("ms", kind.tz)),
        (lambda t: types.is_time32(t) and t.unit == "s", lambda: pa.time32("ms")),
        (types.is_list, lambda: pa.list_(_plain_field(kind.value_field, column))),
        (types.is_large_list, lambda: pa.large_list(_plain_field(kind.value_field, column))),
        (
            types.is_fixed_size_list,
            lambda: pa.list_(_plain_field(kind.value_field, column), kind.list_size),
        ),
        (types.is_struct, lambda: pa.struct([_plain_field(field, column) for field in kind])),
        (
            types.is_map,
            lambda: pa.map_(_plain_field(kind.key_field, column), _plain_field(kind.item_field, column)),
        ),
    ]
    _refuse(kind, column)
    for is_kind, replacement in replaced:
        if is_kind(kind):
            return replacement()
    return kind


def _plain_field(field: pa.Field, column: str) -> pa.Field:
    if pa.types.is_dictionary(field.type) or pa.types.is_run_end_encoded(field.type):
        raise NotStorable(f"column {column!r}: {field.type} inside another type; decode it first")
    return field.with_type(_plain(field.type, column)).remove_metadata()


def _refuse(kind: pa.DataType, column: str) -> None:
    reason = next((reason for is_kind, reason in _REFUSED if is_kind(kind)), None)
    if (
        reason is None
        and isinstance(kind, pa.BaseExtensionType)
        and _plain(kind.storage_type, column) != kind.storage_type
    ):
        reason = f"it is kept as {kind.storage_type}, which is stored in another form; convert it first"
    if reason is not None:
        raise NotStorable(f"column {column!r} of type {kind} cannot be stored: {reason}")


def can_be_found(kind: pa.DataType) -> bool:
    """Return whether Arrow can look up values of a type in plain form among others."""
    try:
        pc.index_in(pa.array([], kind), value_set=pa.array([], kind).unique())
    except pa.ArrowNotImplementedError:
        return False
    return True


def _can_be_runs(kind: pa.DataType) -> bool:
    try:
        pc.run_end_encode(pa.array([], kind))
    except pa.ArrowNotImplementedError:
        return False
    return True


def _is_foreign(kind: pa.DataType) -> bool:
    return isinstance(kind, pa.BaseExtensionType) and not kind.extension_name.startswith("arrow.")


_PLAIN = frozenset(
    [pa.bool_(), pa.date32(), pa.float32(), pa.float64(), pa.string(), pa.large_string(), pa.binary()]
    + [kind() for kind in (pa.int8, pa.int16, pa.int32, pa.int64, pa.uint8, pa.uint16, pa.uint32, pa.uint64)]
    + [pa.timestamp(unit, zone) for unit in ("ms", "us", "ns") for zone in (None, "UTC")]
)
"""The types of most columns, which are as they are: nothing of them need be asked."""
_REFUSED: list[tuple[Callable[[pa.DataType], bool], str]] = [
    (pa.types.is_union, "a union has no Parquet type; give each kind of value a column of its own"),
    (
        pa.types.is_interval,
        "a calendar interval has no Parquet type; store months, days and nanoseconds as numbers",
    ),
    (pa.types.is_date64, "Parquet keeps days only; cast it to date32 or to a timestamp"),
    (
        lambda t: pa.types.is_list_view(t) or pa.types.is_large_list_view(t),
        "Arrow cannot turn a list view into a list reliably; build an ordinary list",
    ),
    (lambda t: pa.types.is_struct(t) and not t.num_fields, "a struct without fields has no Parquet type"),
    (
        lambda t: pa.types.is_fixed_size_list(t) and not t.list_size,
        "Arrow's Parquet writer fails on lists of 0 items; drop the column",
    ),
    (lambda t: pa.types.is_fixed_size_binary(t) and not t.byte_width, "Parquet has no values of 0 bytes"),
    (
        lambda t: pa.types.is_decimal(t) and t.scale < 0,
        "Parquet has no negative scale; cast it to one of 0 or more",
    ),
    (
        lambda t: pa.types.is_run_end_encoded(t) and not _can_be_runs(_plain(t.value_type, "")),
        "Arrow cannot make runs of such values again; decode it first",
    ),
    (
        lambda t: pa.types.is_dictionary(t) and not can_be_found(_plain(t.value_type, "")),
        "Arrow cannot make a dictionary of such values again; decode it first",
    ),
    (
        _is_foreign,
        "readers without this extension would see another type; convert it to timestamps, numbers or text",
    ),
]
"""Types that would not come back, and why."""
