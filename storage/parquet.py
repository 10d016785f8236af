"""Tables as Parquet: write once, share fragments, read back exactly.

A table is a list of immutable fragments, named by the sha256 of their bytes. Appending writes new fragments and shares
those of the base. Owns how rows become fragments and how they become the table again; knows no run and no database.
"""

import base64
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.parquet as pq

from .batches import TableLike, check_schema, open_batches
from .categories import Categories, restore_columns
from .data_dates import DataDates
from .digest import BLOCK_ROWS, LogicalDigest, TableDigest
from .errors import InvalidInput, NotFound
from .filesystem import ObjectStore
from .fragments import open_dataset, read_tail, read_whole, reading, row_groups, write_fragments
from .plain import plain_batch, plain_schema
from .referenced import store_of
from .stored import REFERENCED_FORMAT, Fragment, StoredTable

if TYPE_CHECKING:
    import pandas as pd

Where: TypeAlias = pc.Expression | Sequence[Any]
"""Which rows: an Arrow expression, or tuples such as `[("asset", "==", "AAPL"), ("close", ">", 10)]` (all must hold;
a list of lists: any of them)."""


def write_table(
    store: ObjectStore, data: TableLike, *, base: StoredTable | None = None, data_date: str | None = None
) -> StoredTable:
    """Store a table, or the rows that follow those of `base`, and return what a record needs.

    Rows are streamed: memory holds a few row groups (131,072 rows or 64 MiB each), however long the table. Nothing is
    visible to anyone until a record names it; writing the same rows again uploads nothing new.

    Args:
        store: where the fragments go.
        data: see `TableLike`. pandas: the index becomes a column and comes back as the index; NaN becomes null.
        base: the result is this table followed by the new rows; its fragments are shared, not copied.
        data_date: name of the date or timestamp column that says which day a row speaks of; taken from `base` if there.

    Raises:
        NotStorable: a name, type or value that would not come back; the message names the column.
        InvalidInput: no table, columns other than the base's, or a data date that is no column of dates.
        ArtifactError: the object store cannot be written, or a fragment of the base cannot be read.
    """
    stream = open_batches(data, keep_range_index=base is None)
    schema = base.to_arrow_schema() if base else stream.schema
    plain = plain_schema(schema)
    check_schema(plain, stream.schema)
    if base and base.root is not None:
        raise InvalidInput(f"{base.root} is only referenced: nothing can be appended to it; write the whole table")
    if base and data_date not in (None, base.data_date):
        raise InvalidInput(f"the table's data date is {base.data_date!r} and stays so; {data_date!r} cannot replace it")
    days = DataDates(plain, base.data_date if base else data_date, base)
    categories = Categories(schema, base.categories if base else None)
    digest = _resume_digest(store, plain, base)

    def digested(executor: ThreadPoolExecutor) -> Iterator[pa.Table]:
        # sha256 and the Parquet encoder leave Python's lock: one core hashes a row group while another encodes it.
        for group in row_groups(_observed(stream.batches, plain, categories, days), plain):
            hashing = executor.submit(digest.update, group)
            yield group
            hashing.result()

    with store.staging() as directory, ThreadPoolExecutor(1) as executor:
        added = tuple(write_fragments(store, digested(executor), plain, directory))
    fragments = (*(base.fragments if base else ()), *added)
    return _record(schema, digest.result(), fragments, categories, days)


def refer_to_table(
    data: TableLike, fragments: Iterable[Fragment], *, root: str, data_date: str | None = None
) -> StoredTable:
    """Return the record of a table whose Parquet files lie elsewhere, below `root`: nothing is written.

    Args:
        data: its rows, as in `write_table`, from these files in their order; read once, in a stream.
        fragments: the files; looked at when the rows have been read.
        root: URL of the file, or of the folder that the names of the fragments are relative to.
        data_date: name of the date or timestamp column that says which day a row speaks of.

    Raises:
        NotStorable: a name, type or value that Freshline cannot read back; the message names the column.
        InvalidInput: the data date is no column of dates.
    """
    stream = open_batches(data)
    plain = plain_schema(stream.schema)
    days, categories, digest = DataDates(plain, data_date), Categories(stream.schema), TableDigest(plain)
    for batch in _observed(stream.batches, plain, categories, days):
        digest.update(batch)
    stored = _record(stream.schema, digest.result(), tuple(fragments), categories, days)
    return replace(stored, root=root, format=REFERENCED_FORMAT)


def read_table(
    store: ObjectStore,
    stored: StoredTable,
    *,
    columns: Sequence[str] | None = None,
    where: Where | None = None,
    until: date | None = None,
) -> pa.Table:
    """Return the rows of a table in their order, with the types that were written.

    Without options every byte is read and checked against its sha256. With any of them only what is needed is read,
    and checked page by page (see `fragments`).

    Args:
        store: where the fragments are.
        stored: which table.
        columns: only these, in this order.
        where: only rows for which this holds.
        until: only rows whose data date is not later.

    Raises:
        NotFound: a column that the table does not have.
        InvalidInput: a condition that the table's types do not allow, or `until` on a table without a data date.
        ObjectMissing: an object is gone.
        ObjectCorrupt: an object's bytes are not those that were written.
    """
    store = store_of(store, stored)
    schema = _projected(stored, columns)
    plain = plain_schema(stored.to_arrow_schema())
    if columns is None and where is None and until is None:
        tables = [table.cast(plain) for table in read_whole(store, stored.fragments)]
        table = pa.concat_tables(tables) if tables else plain.empty_table()
    else:
        table = _read_part(store, stored, plain, columns=columns, where=_condition(stored, where, until))
    return restore_columns(table, schema, stored.categories)


def to_pandas(
    store: ObjectStore,
    stored: StoredTable,
    *,
    columns: Sequence[str] | None = None,
    where: Where | None = None,
    until: date | None = None,
) -> "pd.DataFrame":
    """Return the table as pandas, with the index that it was written with; otherwise as `read_table`.

    An index level is kept when `columns` does not name it.
    """
    if columns is not None:
        columns = [*columns, *(name for name in index_columns(stored) if name not in columns)]
    frame: pd.DataFrame = read_table(store, stored, columns=columns, where=where, until=until).to_pandas()
    return frame


def scan(
    store: ObjectStore, stored: StoredTable, *, where: Where | None = None, until: date | None = None
) -> pyarrow.dataset.Dataset:
    """Return the table as an Arrow dataset, for what reads in streams: batches, DuckDB, polars.

    The columns are in plain form (dictionaries decoded). Each object's presence, size and number of rows is checked
    now, each page's checksum when it is read; damage found then is an Arrow error. Errors otherwise as `read_table`.
    """
    store = store_of(store, stored)
    dataset = open_dataset(store, stored.fragments, plain_schema(stored.to_arrow_schema()))
    condition = _condition(stored, where, until)
    return dataset if condition is None else dataset.filter(condition)


def index_columns(stored: StoredTable) -> tuple[str, ...]:
    """Return the columns that pandas gets back as its index, none when the table did not come from there."""
    notes = stored.to_arrow_schema().pandas_metadata or {}
    return tuple(name for name in notes.get("index_columns", ()) if isinstance(name, str))


def _observed(
    batches: Iterable[pa.RecordBatch], plain: pa.Schema, categories: Categories, days: DataDates
) -> Iterator[pa.RecordBatch]:
    """Yield the batches in plain form, when their categories and data dates have been noted."""
    for batch in batches:
        check_schema(plain, batch.schema)
        categories.observe(batch)
        converted = plain_batch(batch, plain)
        days.observe(converted)
        yield converted


def _record(
    schema: pa.Schema,
    logical: LogicalDigest,
    fragments: tuple[Fragment, ...],
    categories: Categories,
    days: DataDates,
) -> StoredTable:
    return StoredTable(
        digest=logical.sha256,
        rows=logical.rows,
        size_bytes=sum(fragment.size_bytes for fragment in fragments),
        schema=logical.schema,
        arrow_schema=base64.b64encode(schema.serialize()).decode("ascii"),
        fragments=fragments,
        blocks=logical.blocks,
        categories=categories.to_record(),
        data_date=days.column,
        first_data_date=days.first,
        last_data_date=days.last,
    )


def _resume_digest(store: ObjectStore, plain: pa.Schema, base: StoredTable | None) -> TableDigest:
    if base is None:
        return TableDigest(plain)
    full, rest = divmod(base.rows, BLOCK_ROWS)
    digest = TableDigest.resume(plain, base.blocks[:full])
    for table in read_tail(store, base.fragments, rest):
        digest.update(table.cast(plain))
    return digest


def _projected(stored: StoredTable, columns: Sequence[str] | None) -> pa.Schema:
    schema = stored.to_arrow_schema()
    if columns is None:
        return schema
    for name in columns:
        if name not in stored.columns:
            raise NotFound("column", name, known=stored.columns)
    return pa.schema([schema.field(name) for name in columns], metadata=schema.metadata)


def _condition(stored: StoredTable, where: Where | None, until: date | None) -> pc.Expression | None:
    condition = where
    if where is not None and not isinstance(where, pc.Expression):
        try:
            condition = pq.filters_to_expression(where)
        except (TypeError, ValueError) as error:
            raise InvalidInput(
                f"where={where!r} is no condition: {error}; write [('column', '>', value)] or an Arrow expression"
            ) from None
    if until is None:
        return condition
    if stored.data_date is None:
        raise InvalidInput(
            f"until={until} was asked of a table without a data date: name its column when it is written (data_date=…)"
        )
    not_later = _not_later(stored.to_arrow_schema().field(stored.data_date), until)
    return not_later if condition is None else condition & not_later


def _not_later(field: pa.Field, until: date) -> pc.Expression:
    column = pc.field(field.name)
    if pa.types.is_date32(field.type):
        return column <= pa.scalar(until, field.type)
    zone = ZoneInfo(field.type.tz) if field.type.tz else None
    midnight = datetime.combine(until + timedelta(days=1), time(), zone)
    return column < pa.scalar(midnight, pa.timestamp("us" if field.type.unit != "ns" else "ns", field.type.tz))


def _read_part(
    store: ObjectStore,
    stored: StoredTable,
    plain: pa.Schema,
    *,
    columns: Sequence[str] | None,
    where: pc.Expression | None,
) -> pa.Table:
    dataset = open_dataset(store, stored.fragments, plain)
    try:
        scanner = dataset.scanner(columns=None if columns is None else list(columns), filter=where)
    except (pa.ArrowException, TypeError) as error:
        raise InvalidInput(f"the condition does not fit the table's columns: {error}") from None
    with reading(store, stored.fragments):
        return scanner.to_table()
