"""A table made from another one: which fragments it shares, which rows are written anew, and the digest of it all.

Walks over the base from its first row to its last. What is kept is shared and not read, but for the rows of blocks
that are not kept whole; what is written is digested while it is encoded. Memory holds a few row groups.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import pyarrow as pa

from .data_dates import DataDates
from .digest import BLOCK_ROWS, LogicalDigest, TableDigest
from .encoding import is_small, row_groups, write_fragments
from .errors import InvalidInput
from .filesystem import ObjectStore
from .fragments import open_dataset, reading, stream_rows
from .stored import Fragment, StoredTable

_GROUPS_AHEAD = 4
"""Row groups that may be encoded before they are digested: they are in memory for as long."""


class Revision:
    """The next state of a table; without a base, a new one.

    Rows that are kept have the columns and types of `plain`: an evolved table keeps none.
    """

    def __init__(self, store: ObjectStore, base: StoredTable | None, plain: pa.Schema) -> None:
        self.fragments: list[Fragment] = []
        self._store = store
        self._base = base
        self._plain = plain
        self._digest = TableDigest(plain)
        self._next = 0
        self._passed = self._digested = 0
        """Rows of the base that lie behind, and how many of them the digest has seen."""

    def keep(self, until: int) -> None:
        """Share the fragments of the base up to this number, not included."""
        for fragment in self._taken(until):
            self.fragments.append(fragment)

    def write(self, batches: Iterable[pa.RecordBatch], *, until: int) -> None:
        """Write rows in the place of the next fragments of the base, up to this number; none: insert them.

        The rows are in plain form (`plain_batch`): what they are is not checked again.

        Raises:
            NotStorable: Parquet refuses a value.
            ArtifactError: the object store cannot be written, or a fragment of the base cannot be read.
        """
        self._catch_up()
        list(self._taken(until))
        self._digested = self._passed
        with ThreadPoolExecutor(1) as executor:
            digested = self._digesting(row_groups(batches, self._plain), executor)
            self.fragments += write_fragments(self._store, digested, self._plain)

    def result(self) -> LogicalDigest:
        """Return the digest of all rows; what is left of the base must have been kept."""
        self._catch_up()
        return self._digest.result()

    def _taken(self, until: int) -> Iterator[Fragment]:
        for fragment in self._base.fragments[self._next : until] if self._base else ():
            self._passed += fragment.rows
            yield fragment
        self._next = max(self._next, until)

    def _digesting(self, groups: Iterable[pa.Table], executor: ThreadPoolExecutor) -> Iterator[pa.Table]:
        # sha256 and the Parquet encoder leave Python's lock: one core hashes a row group while another encodes it.
        hashing: deque[Future[None]] = deque()
        for group in groups:
            if is_small(group) and not hashing:
                self._digest.update_plain(group)
            else:
                hashing.append(executor.submit(self._digest.update_plain, group))
            yield group
            if len(hashing) > _GROUPS_AHEAD:
                hashing.popleft().result()
        for last in hashing:
            last.result()

    def _catch_up(self) -> None:
        """Digest the rows that were kept: whole blocks that are known are not read."""
        start, stop = self._digested, self._passed
        if self._base is not None and self._digest.rows == start:
            edge = min(stop, -(-start // BLOCK_ROWS) * BLOCK_ROWS)
            self._feed(start, edge)
            start = edge
            if start % BLOCK_ROWS == 0:
                self._digest.take(self._base.blocks[start // BLOCK_ROWS : stop // BLOCK_ROWS])
                start = max(start, stop // BLOCK_ROWS * BLOCK_ROWS)
        self._feed(start, stop)
        self._digested = stop

    def _feed(self, start: int, stop: int) -> None:
        for table in stream_rows(self._store, self._base.fragments, start, stop) if self._base else ():
            self._digest.update(table.cast(self._plain))


def base_rows(store: ObjectStore, fragments: Sequence[Fragment], plain: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield the rows of fragments with the columns and types of `plain`, which may be more and wider.

    Raises:
        InvalidInput: a value does not fit the wider type, such as a year 9999 counted in nanoseconds.
    """
    for table in stream_rows(store, fragments, 0, sum(fragment.rows for fragment in fragments)):
        columns = [widened_column(table, field) for field in plain]
        yield from pa.Table.from_arrays(columns, schema=plain).to_batches()


def widened_column(table: pa.Table, field: pa.Field) -> pa.ChunkedArray:
    """Return a column in the type of `field`: nulls when the table does not have it. Errors as `base_rows`."""
    if field.name not in table.column_names:
        return pa.chunked_array([pa.nulls(table.num_rows, field.type)], type=field.type)
    column = table.column(field.name)
    try:
        return column if column.type == field.type else column.cast(field.type)
    except pa.ArrowException as error:
        raise InvalidInput(
            f"column {field.name!r} cannot become {field.type}: {error}; write the whole table"
        ) from None


def with_data_dates(store: ObjectStore, stored: StoredTable, plain: pa.Schema) -> StoredTable:
    """Return the record with the data dates of the rows that are there now: one that went may have had any."""
    if stored.data_date is None:
        return stored
    days = DataDates(plain, stored.data_date)
    with reading(store, stored.fragments):
        for batch in open_dataset(store, stored.fragments, plain).to_batches(columns=[stored.data_date]):
            days.observe(batch)
    return replace(stored, first_data_date=days.first, last_data_date=days.last)
