"""Two stored tables, column by column: how many rows differ, and by how much.

Rows are compared in their order, in streams: memory holds a few batches, however long the tables. Knows no run.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from ...storage import parquet
from ...storage.filesystem import ObjectStore
from ...storage.fragments import reading
from ...storage.stored import StoredTable

_BATCH_ROWS = 65_536


@dataclass(frozen=True)
class ColumnComparison:
    """A column that both tables have."""

    name: str
    original_type: str
    replay_type: str
    rows_different: int
    """Of the rows that both tables have; null equals null, NaN equals NaN."""
    max_abs_difference: float | None
    """Of numbers; null where no two numbers differ."""


@dataclass(frozen=True)
class TableComparison:
    """Two tables that are not equal."""

    original_rows: int
    replay_rows: int
    """Rows beyond the shorter table are not compared."""
    only_original: Sequence[str]
    """Columns that only the original has."""
    only_replay: Sequence[str]
    """Columns that only the replay has."""
    columns: Sequence[ColumnComparison]
    """The columns that both have, in the original's order."""

    @property
    def different_columns(self) -> tuple[ColumnComparison, ...]:
        """The columns whose rows or types differ."""
        return tuple(one for one in self.columns if one.rows_different or one.original_type != one.replay_type)


def compare_tables(objects: ObjectStore, original: StoredTable, replay: StoredTable) -> TableComparison:
    """Compare two tables row by row.

    Raises:
        ArtifactError: an object of one of them is missing or damaged.
    """
    before, after = dict(original.schema), dict(replay.schema)
    shared = [name for name in before if name in after]
    counts = dict.fromkeys(shared, 0)
    largest: dict[str, float] = {}
    fragments = [*original.fragments, *replay.fragments]
    with reading(objects, fragments):
        for left, right in _in_step(_batches(objects, original, shared), _batches(objects, replay, shared)):
            for name in shared:
                one, other = left.column(name), right.column(name)
                different = _different(one, other)
                counts[name] += pc.sum(different).as_py() or 0
                distance = _largest_distance(one, other)
                if distance is not None:
                    largest[name] = max(distance, largest.get(name, 0.0))
    return TableComparison(
        original_rows=original.rows,
        replay_rows=replay.rows,
        only_original=tuple(name for name in before if name not in after),
        only_replay=tuple(name for name in after if name not in before),
        columns=tuple(
            ColumnComparison(name, before[name], after[name], counts[name], largest.get(name)) for name in shared
        ),
    )


def _batches(objects: ObjectStore, stored: StoredTable, columns: list[str]) -> Iterator[pa.RecordBatch]:
    if not stored.rows or not columns:
        return
    dataset = parquet.scan(objects, stored)
    for batch in dataset.to_batches(columns=columns, batch_size=_BATCH_ROWS):
        if batch.num_rows:
            yield batch


def _in_step(
    left: Iterator[pa.RecordBatch], right: Iterator[pa.RecordBatch]
) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
    """Yield batches of the same rows of both, until one of them ends."""
    one, other = next(left, None), next(right, None)
    while one is not None and other is not None:
        rows = min(one.num_rows, other.num_rows)
        yield one.slice(0, rows), other.slice(0, rows)
        one = one.slice(rows) if one.num_rows > rows else next(left, None)
        other = other.slice(rows) if other.num_rows > rows else next(right, None)


def _different(left: pa.Array, right: pa.Array) -> pa.Array:
    """Return, per row, whether the values differ."""
    if _are_numbers(left, right) and left.type != right.type:
        left, right = _as_float(left), _as_float(right)
    try:
        unequal = pc.not_equal(left, right)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        # Lists and structs, and types that have no common one.
        pairs = zip(left.to_pylist(), right.to_pylist(), strict=True)
        return pa.array([one != other for one, other in pairs], pa.bool_())
    if pa.types.is_floating(left.type) and pa.types.is_floating(right.type):
        unequal = pc.and_not(unequal, pc.and_(pc.is_nan(left), pc.is_nan(right)))
    return pc.or_(pc.fill_null(unequal, False), pc.xor(left.is_null(), right.is_null()))  # noqa: FBT003 - pyarrow's own


def _largest_distance(left: pa.Array, right: pa.Array) -> float | None:
    """Return the largest |left - right| above 0 of numbers; None when there is none."""
    if not _are_numbers(left, right):
        return None
    distance = pc.abs(pc.subtract(_as_float(left), _as_float(right)))
    # The distance from NaN, or between infinities, is no number.
    largest: float | None = pc.max(pc.filter(distance, pc.greater(distance, 0.0))).as_py()
    return largest


def _are_numbers(*columns: pa.Array) -> bool:
    return all(
        pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)
        for column in columns
    )


def _as_float(column: pa.Array) -> pa.Array:
    return pc.cast(column, pa.float64(), safe=False)
