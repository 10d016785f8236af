"""The categories of dictionary columns, which Parquet alone would not bring back.

A dictionary column (a pandas Categorical) is stored as its plain values. What would be lost, the list of categories
with its order and those that no row uses, is collected here while writing and put back when reading.
"""

import base64
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from .errors import InvalidInput, NotStorable
from .plain import plain_schema

_MAX_BYTES = 64 * 1024


class Categories:
    """The categories of each dictionary column of a table, over all its batches."""

    def __init__(self, schema: pa.Schema, known: Mapping[str, str] | None = None) -> None:
        self._types = {field.name: field.type for field in schema if pa.types.is_dictionary(field.type)}
        self._plain = {field.name: field.type for field in plain_schema(schema)}
        # A column that took the type of new rows may have no categories any more.
        self._values = {
            name: _widened(name, _decode(text), self._plain[name])
            for name, text in (known or {}).items()
            if name in self._types
        }

    def observe(self, batch: pa.RecordBatch) -> None:
        """Take the categories of the next batch; new ones come after those known.

        Raises:
            InvalidInput: an ordered column's categories differ from those before, so their order is not known.
        """
        for name, kind in self._types.items():
            column = batch.column(name)
            values = column.dictionary if isinstance(column, pa.DictionaryArray) else column.unique().drop_null()
            values = values.cast(self._plain[name])
            known = self._values.get(name)
            if known is None:
                self._values[name] = values
            elif known.equals(values):
                continue
            elif kind.ordered and isinstance(column, pa.DictionaryArray):
                raise InvalidInput(
                    f"column {name!r} is an ordered categorical with other categories than the rows before: "
                    "set the same categories on all of it"
                )
            else:
                self._values[name] = pa.concat_arrays([known, values]).unique()

    def to_record(self) -> dict[str, str]:
        """Return the categories as a record holds them; long lists of unordered ones are left out.

        Raises:
            NotStorable: an ordered column has more than 64 KiB of categories.
        """
        record = {}
        for name, values in self._values.items():
            text = _encode(values)
            if len(text) <= _MAX_BYTES:
                record[name] = text
            elif self._types[name].ordered:
                raise NotStorable(
                    f"column {name!r}: an ordered categorical may have {_MAX_BYTES // 1024} KiB of categories, "
                    f"not {len(text) // 1024} KiB: store a number that gives the order beside the values"
                )
        return record


def restore_columns(table: pa.Table, schema: pa.Schema, categories: Mapping[str, str]) -> pa.Table:
    """Return a table in plain form with the types of `schema`, whose columns are those of the table in their order."""
    columns, fields = [], []
    for field in schema:
        column = table.column(field.name)
        if pa.types.is_dictionary(field.type):
            column = _encoded(column, field.type, categories.get(field.name))
        elif pa.types.is_run_end_encoded(field.type):
            column = _runs(column, field.type)
        elif column.type != field.type:
            column = column.cast(field.type)
        columns.append(column)
        fields.append(field.with_type(column.type))
    return pa.Table.from_arrays(columns, schema=pa.schema(fields, metadata=schema.metadata))


def _encoded(column: pa.ChunkedArray, kind: pa.DictionaryType, text: str | None) -> pa.ChunkedArray:
    values = column.unique().drop_null() if text is None else _decode(text)
    values = values.cast(column.type)
    indices = pc.index_in(column, value_set=values)
    try:
        indices = indices.cast(kind.index_type)
    except pa.ArrowInvalid:  # appended rows brought more categories than the first index type counts
        kind = pa.dictionary(indices.type, kind.value_type, kind.ordered)
    values = values.cast(kind.value_type)
    chunks = [pa.DictionaryArray.from_arrays(chunk, values, ordered=kind.ordered) for chunk in indices.chunks]
    return pa.chunked_array(chunks, type=kind)


def _runs(column: pa.ChunkedArray, kind: pa.RunEndEncodedType) -> pa.ChunkedArray:
    most = 2 ** (kind.run_end_type.bit_width - 1) - 1  # what the type of the ends counts in one chunk
    chunks = []
    for chunk in column.chunks:
        for start in range(0, len(chunk), most):
            encoded = pc.run_end_encode(chunk.slice(start, most), run_end_type=kind.run_end_type)
            values = encoded.values.cast(kind.value_type)
            chunks.append(pa.RunEndEncodedArray.from_arrays(encoded.run_ends, values))
    return pa.chunked_array(chunks, type=kind)


def _widened(column: str, values: pa.Array, kind: pa.DataType) -> pa.Array:
    try:
        return values.cast(kind)
    except pa.ArrowException as error:
        raise InvalidInput(
            f"the categories of {column!r} cannot become {kind}: {error}; write the whole table"
        ) from None


def _encode(values: pa.Array) -> str:
    sink = pa.BufferOutputStream()
    batch = pa.record_batch([values], names=["values"])
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return base64.b64encode(sink.getvalue()).decode("ascii")


def _decode(text: str) -> pa.Array:
    with pa.ipc.open_stream(base64.b64decode(text)) as stream:
        return pa.concat_arrays([batch.column(0) for batch in stream])
