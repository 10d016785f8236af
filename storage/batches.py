"""Anything that looks like a table, as a schema and a stream of Arrow batches.

Owns what is accepted as a table and how pandas is understood, its index included. Knows no file and no digest.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa

from .digest import schema_types
from .errors import InvalidInput, NotStorable
from .stored import schema_difference

if TYPE_CHECKING:
    import pandas as pd

TableLike: TypeAlias = Any
"""A pandas DataFrame; an Arrow table, batch, reader or dataset; anything with `__arrow_c_stream__` (polars, DuckDB); or
an iterable of these with one schema, such as a generator that makes a table larger than memory."""

_PANDAS_NOTES = b"pandas"
_PANDAS_ERRORS = (pa.ArrowException, TypeError, ValueError, OverflowError)
_NO_TABLES = (str, bytes, dict, pa.Array, pa.ChunkedArray)


@dataclass(frozen=True)
class BatchStream:
    """A table that arrives batch after batch; it can be read once."""

    schema: pa.Schema
    """With pandas' notes on the index, when it came from there, and no other metadata."""
    batches: Iterator[pa.RecordBatch]


def open_batches(data: TableLike, *, keep_range_index: bool = True) -> BatchStream:
    """Return the schema and the batches of a table.

    A pandas index is kept as a column, except one that only counts rows from 0; with `keep_range_index=False` any
    unnamed RangeIndex is dropped, as in a chunk of a longer table.

    Raises:
        NotStorable: the data cannot become Arrow without loss; the message names the column.
        InvalidInput: the data is no table, or its batches do not have one schema.
    """
    import pandas as pd
    import pyarrow.dataset

    rows = len(data) if isinstance(data, (pd.DataFrame, pa.Table, pa.RecordBatch)) else 0
    if isinstance(data, pd.DataFrame):
        data = _from_pandas(data, keep_range_index=keep_range_index)
    if rows and not data.num_columns:
        raise NotStorable(f"a table of {rows:,} rows without a column cannot be stored: give it a column")
    if isinstance(data, (pa.Table, pyarrow.dataset.Dataset)):
        return BatchStream(_kept(data.schema), _read(data.to_batches()))
    if isinstance(data, pa.RecordBatch):
        return BatchStream(_kept(data.schema), iter([data]))
    if hasattr(data, "__arrow_c_stream__"):
        with suppress(pa.ArrowInvalid):  # a stream of one column, such as a pandas Series
            reader = pa.RecordBatchReader.from_stream(data)
            return BatchStream(_kept(reader.schema), _read(reader))
    elif isinstance(data, Iterable) and not isinstance(data, _NO_TABLES):
        return _chained(iter(data))
    raise InvalidInput(
        f"a {type(data).__name__} is not a table: give a pandas or polars DataFrame, an Arrow table, reader or "
        "dataset, or an iterator of them"
    )


def check_schema(expected: pa.Schema, got: pa.Schema) -> None:
    """Refuse columns that are not those expected.

    Raises:
        InvalidInput: the message names the columns that differ.
    """
    if expected.equals(got, check_metadata=False):
        return
    types = dict(schema_types(expected))
    given = tuple((name, types.get(name, kind) if kind == "null" else kind) for name, kind in schema_types(got))
    difference = schema_difference(schema_types(expected), given)
    if difference is not None:
        raise InvalidInput(f"the columns are not those of the table: {difference}")


def _chained(parts: Iterator[TableLike]) -> BatchStream:
    first = next(parts, None)
    if first is None:
        raise InvalidInput("the iterator gave no batch, so the table has no schema: give a pyarrow.RecordBatchReader")
    opened = open_batches(first, keep_range_index=False)

    def batches() -> Iterator[pa.RecordBatch]:
        yield from opened.batches
        for part in parts:
            yield from open_batches(part, keep_range_index=False).batches

    return BatchStream(opened.schema, batches())


def _read(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    try:
        yield from batches
    except pa.ArrowException as error:
        raise NotStorable(f"the table could not be read to its end: {error}") from error


def _from_pandas(frame: "pd.DataFrame", *, keep_range_index: bool) -> pa.Table:
    names = [*frame.columns, *(name for name in frame.index.names if name is not None)]
    for name in names:
        if not isinstance(name, str):
            raise NotStorable(f"column {name!r} has no text as its name: rename it, e.g. with df.rename(columns=str)")
        if names.count(name) > 1:
            raise NotStorable(f"two columns (or index levels) are named {name!r}: rename one")
    if frame.attrs:
        frame = frame.copy(deep=False)
        frame.attrs = {}
    try:
        return pa.Table.from_pandas(frame, preserve_index=_has_index(frame, keep_range_index=keep_range_index))
    except _PANDAS_ERRORS as error:
        column, reason = _culprit(frame) or (None, error)
        raise NotStorable(
            f"column {column!r} cannot be stored: {'; '.join(map(str, reason.args))}. "
            "A column holds one type of value: convert it first"
        ) from None


def _culprit(frame: "pd.DataFrame") -> tuple[str, Exception] | None:
    for name, column in frame.items():
        try:
            pa.array(column, from_pandas=True)
        except _PANDAS_ERRORS as error:
            return str(name), error
    return None


def _has_index(frame: "pd.DataFrame", *, keep_range_index: bool) -> bool:
    import pandas as pd

    index = frame.index
    if not isinstance(index, pd.RangeIndex) or index.name is not None:
        # The index of a frame without rows is an empty RangeIndex or an empty object Index: neither says a thing.
        return len(index) > 0 or index.name is not None or index.nlevels > 1 or index.dtype != object
    return keep_range_index and not (index.start == 0 and index.step == 1)


def _kept(schema: pa.Schema) -> pa.Schema:
    notes = (schema.metadata or {}).get(_PANDAS_NOTES)
    bare = pa.schema([field.remove_metadata() for field in schema])
    return bare.with_metadata({_PANDAS_NOTES: notes}) if notes else bare
