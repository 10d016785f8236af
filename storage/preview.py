"""A look into a table: its first rows, or one of every so many.

Owns how little of it is read: of the fragments that have a row that is shown, the row groups that have one, of the
columns that are shown, and each not beyond its last such row. A look that would read a lot all the same is refused.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .errors import InvalidInput
from .filesystem import ObjectStore
from .fragments import opened
from .plain import plain_schema
from .referenced import store_of
from .stored import StoredTable

MOST_BYTES = 256 * 1024 * 1024
"""That one look decodes."""
_BATCH_ROWS = 16_384


def rows_of(
    objects: ObjectStore, stored: StoredTable, *, columns: Sequence[str], limit: int, every: int = 1
) -> Iterator[pa.Table]:
    """Yield the first row, the one `every` rows behind it, and so on, `limit` in all, as tables in their order.

    The columns, at least one, are in plain form (dictionaries decoded).

    Raises:
        InvalidInput: more than 256 MiB would be decoded, after compression was undone.
        ObjectMissing: a fragment is not there.
        ObjectCorrupt: its bytes are not those that were written.
    """
    store = store_of(objects, stored)
    plain = plain_schema(stored.to_arrow_schema())
    shown = pa.schema([plain.field(name) for name in columns])
    wanted = range(0, stored.rows, every)[:limit]
    first, left_bytes = 0, float(MOST_BYTES)
    for fragment in stored.fragments:
        here = _within(wanted, first, fragment.rows)
        first += fragment.rows
        if not here:
            continue
        with opened(store, fragment) as file:
            begin = 0
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                places = _within(here, begin, rows)
                begin += rows
                if places:
                    left_bytes -= _size_bytes(file, group, columns) * (places[-1] + 1) / rows
                    if left_bytes < 0:
                        raise InvalidInput(
                            f"{len(wanted)} rows, one of every {every:,}, lie so far apart that more than "
                            f"{MOST_BYTES:,} bytes of the table would be read: ask for fewer, or take the table home"
                        )
                    yield from _taken(file, group, shown, places)


def _within(rows: range, first: int, count: int) -> range:
    """Return which of these rows lie among `count` from `first` on, as numbers from there."""
    start = -(-(first - rows.start) // rows.step)
    stop = -(-(first + count - rows.start) // rows.step)
    found = rows[max(start, 0) : max(stop, 0)]
    return range(found.start - first, found.stop - first, found.step)


def _size_bytes(file: pq.ParquetFile, group: int, columns: Sequence[str]) -> int:
    """Return how many bytes the columns have in a row group, after compression is undone."""
    names = set(columns)
    about = file.metadata.row_group(group)
    parts = [about.column(number) for number in range(about.num_columns)]
    return sum(
        part.total_uncompressed_size
        for part in parts
        # A nested column is several here, and a name may have dots of its own.
        if part.path_in_schema in names or part.path_in_schema.partition(".")[0] in names
    )


def _taken(file: pq.ParquetFile, group: int, shown: pa.Schema, places: range) -> Iterator[pa.Table]:
    batch_rows = min(_BATCH_ROWS, places[-1] + 1)
    first = 0
    batches: Iterator[Any] = file.iter_batches(batch_size=batch_rows, row_groups=[group], columns=shown.names)
    for batch in batches:
        if here := _within(places, first, batch.num_rows):
            table = pa.Table.from_batches([batch]).select(shown.names)
            yield table.take(pa.array(here, pa.int64())).cast(shown)
        first += batch.num_rows
        if first > places[-1]:
            return
