"""The key of a table: the columns that tell its rows apart, and finding rows by it.

Rows are found by number: each distinct value of a column gets one, and the numbers of a row's columns together get one
again, so that any number of columns costs what one column costs. Knows no file.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from .errors import InvalidInput, NotFound
from .plain import can_be_found

Numbers: TypeAlias = npt.NDArray[np.int64]

_NOWHERE = -1
_MOST_VALUES = 10_000
"""A list that is longer costs more to compare with than it saves."""


def check_key(key: Sequence[str], schema: pa.Schema) -> tuple[str, ...]:
    """Return the key when rows of this schema can be told apart by it.

    Raises:
        InvalidInput: no or a repeated column, or one whose values cannot be compared.
        NotFound: the table has no such column.
    """
    if isinstance(key, str) or not key:
        raise InvalidInput(
            f"key={key!r}: give the names of the columns that tell rows apart, such as ['asset', 'date']"
        )
    for name in key:
        if name not in schema.names:
            raise NotFound("column (named in the key)", name, known=schema.names)
        if list(key).count(name) > 1:
            raise InvalidInput(f"the key names {name!r} twice")
        kind = schema.field(name).type
        stored = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
        if pa.types.is_nested(stored) or pa.types.is_null(stored) or not can_be_found(stored):
            raise InvalidInput(f"{name!r} of type {kind} cannot be part of a key: name columns of single values")
    return tuple(key)


class KeyIndex:
    """Rows by their key.

    Raises:
        InvalidInput: a key is null (or not a number), or two rows have the same one; the message shows it.
    """

    def __init__(self, rows: pa.Table, key: Sequence[str]) -> None:
        self.key = tuple(key)
        self._values: list[pa.Array] = []
        """Of each column of the key: its distinct values, numbered by their place."""
        self._pairs: list[Numbers] = []
        """For each column after the first: the combinations with those before, sorted, numbered by their place."""
        self._extensions = {name for name in key if isinstance(rows.schema.field(name).type, pa.BaseExtensionType)}
        columns = [_comparable(rows.column(name)) for name in key]
        for name, column in zip(key, columns, strict=True):
            missing = column.null_count or (pa.types.is_floating(column.type) and pc.any(pc.is_nan(column)).as_py())
            if missing:
                raise InvalidInput(f"the key column {name!r} is null in some rows: fill them in or drop them")
            self._values.append(column.unique())
        numbers = self._numbers(columns, learn=True)
        order = np.argsort(numbers, kind="stable")
        twice = np.flatnonzero(np.diff(numbers[order]) == 0)
        if len(twice):
            first, second = order[twice[0]], order[twice[0] + 1]
            raise InvalidInput(
                f"{len(twice):,} of the new rows have the key of another one, first rows {first:,} and {second:,} with "
                f"{self.shown(rows, int(first))}: give each key once"
            )
        self._order, self._sorted = order.astype(np.int64), numbers[order]

    def find(self, rows: pa.Table) -> Numbers:
        """Return for each of these rows which row of the index has its key; -1: none."""
        numbers = self._numbers([_comparable(rows.column(name)) for name in self.key], learn=False)
        places = _places(numbers, self._sorted)
        return np.where(places == _NOWHERE, _NOWHERE, self._order[places])

    def condition(self) -> pc.Expression:
        """Return a condition that holds for each row whose key is here, and for few others: what to look at at all."""
        found = pc.scalar(True)  # noqa: FBT003 - an Arrow literal
        for name, values in zip(self.key, self._values, strict=True):
            if name in self._extensions:
                continue  # Arrow compares none
            if len(values) <= _MOST_VALUES:
                found &= pc.field(name).isin(values)
            elif not (pa.types.is_fixed_size_binary(values.type) or pa.types.is_duration(values.type)):
                extremes = pc.min_max(values)
                found &= (pc.field(name) >= extremes["min"]) & (pc.field(name) <= extremes["max"])
        return found

    def shown(self, rows: pa.Table, row: int) -> str:
        """Return the key of a row for people."""
        return ", ".join(f"{name}={rows.column(name)[row]}" for name in self.key)

    def _numbers(self, columns: Sequence[pa.ChunkedArray], *, learn: bool) -> Numbers:
        numbers = _numbers_in(columns[0], self._values[0])
        for level, (column, values) in enumerate(zip(columns[1:], self._values[1:], strict=True)):
            other = _numbers_in(column, values)
            paired = np.where((numbers < 0) | (other < 0), _NOWHERE, numbers * len(values) + other)
            if learn:
                self._pairs.append(np.unique(paired))
            numbers = _places(paired, self._pairs[level])
        return numbers


def _numbers_in(column: pa.ChunkedArray, values: pa.Array) -> Numbers:
    found = pc.fill_null(pc.index_in(column, value_set=values), _NOWHERE)
    return np.asarray(found, dtype=np.int64)


def _places(numbers: Numbers, known: Numbers) -> Numbers:
    """Return where each number stands among those known, which are sorted; -1: nowhere."""
    if not len(known):
        return np.full(len(numbers), _NOWHERE, dtype=np.int64)
    places = np.minimum(np.searchsorted(known, numbers), len(known) - 1).astype(np.int64)
    return np.where((known[places] == numbers) & (numbers >= 0), places, _NOWHERE)


def _comparable(column: Any) -> pa.ChunkedArray:
    """Return the column in a form that Arrow compares: extensions as what they are stored as, -0.0 as 0.0."""
    if isinstance(column.type, pa.BaseExtensionType):
        chunks = [chunk.storage for chunk in column.chunks]
        column = pa.chunked_array(chunks, type=column.type.storage_type)
    if pa.types.is_floating(column.type):
        column = pc.add(column, pa.scalar(0.0, column.type))
    return column
