"""Tables as Parquet: write once, share fragments, read back exactly.

A table is a list of immutable fragments, named by the sha256 of their bytes. Appending writes new fragments and shares
those of the base. Owns how rows become fragments and how they become the table again; knows no run and no database.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .batches import TableLike
from .categories import restore_columns
from .compaction import num_gathered
from .declared import DeclaredTable
from .digest import TableDigest
from .errors import InvalidInput, NotFound
from .filesystem import ObjectStore
from .fragments import open_dataset, read_whole, reading
from .incoming import Incoming
from .plain import plain_schema
from .referenced import store_of
from .revision import Revision, base_rows
from .stored import REFERENCED_FORMAT, Fragment, StoredTable

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow.dataset

Where: TypeAlias = pc.Expression | Sequence[Any]
"""Which rows: an Arrow expression, or tuples such as `[("asset", "==", "AAPL"), ("close", ">", 10)]` (all must hold;
a list of lists: any of them)."""


def write_table(
    store: ObjectStore,
    data: TableLike,
    *,
    base: StoredTable | None = None,
    data_date: str | None = None,
    evolve: bool = False,
    declared: DeclaredTable | None = None,
) -> StoredTable:
    """Store a table, or the rows that follow those of `base`, and return what a record needs.

    Rows are streamed: memory holds up to three lots of four row groups (131,072 rows each) or 64 MiB, however long the
    table. Nothing is visible to anyone until a record names it; writing the same rows again uploads nothing new.

    Args:
        store: where the fragments go.
        data: see `TableLike`. pandas: the index becomes a column and comes back as the index; NaN becomes null.
        base: the result is this table followed by the new rows; its fragments are shared, not copied. When small ones
            have gathered at its end, they are written again as one.
        data_date: name of the date or timestamp column that says which day a row speaks of; taken from `base` if there.
        evolve: new rows may have columns that the base does not have, at the end, and wider types: then all of the
            base is written again, with nulls and in the wider types.
        declared: the columns that the result must have.

    Raises:
        NotStorable: a name, type or value that would not come back; the message names the column.
        InvalidInput: no table, columns other than the base's or those declared, or a data date that is no column of
            dates.
        ArtifactError: the object store cannot be written, or a fragment of the base cannot be read.
    """
    incoming = Incoming(data, base=base, data_date=data_date, evolve=evolve, declared=declared)
    revision = Revision(store, base, incoming.plain)
    batches = incoming.batches()
    if base is None:
        revision.write(batches, until=0)
        return incoming.record(revision.result(), revision.fragments)
    first = next((batch for batch in batches if batch.num_rows), None)
    if first is None and not incoming.is_evolved:
        return base
    old = 0 if incoming.is_evolved else len(base.fragments) - num_gathered(base.fragments)
    revision.keep(old)
    merged = base_rows(store, base.fragments[old:], incoming.plain)
    revision.write(chain(merged, [] if first is None else [first], batches), until=len(base.fragments))
    return incoming.record(revision.result(), revision.fragments, key=base.key)


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
    incoming = Incoming(data, data_date=data_date)
    digest = TableDigest(incoming.plain)
    for batch in incoming.batches():
        digest.update(batch)
    stored = incoming.record(digest.result(), tuple(fragments))
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
        table = _read_part(store, stored, plain, columns=columns, where=condition_of(stored, where, until))
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
) -> "pyarrow.dataset.Dataset":
    """Return the table as an Arrow dataset, for what reads in streams: batches, DuckDB, polars.

    The columns are in plain form (dictionaries decoded). Each object's presence, size and number of rows is checked
    now, each page's checksum when it is read; damage found then is an Arrow error. Errors otherwise as `read_table`.
    """
    store = store_of(store, stored)
    dataset = open_dataset(store, stored.fragments, plain_schema(stored.to_arrow_schema()))
    condition = condition_of(stored, where, until)
    return dataset if condition is None else dataset.filter(condition)


def index_columns(stored: StoredTable) -> tuple[str, ...]:
    """Return the columns that pandas gets back as its index, none when the table did not come from there."""
    notes = stored.to_arrow_schema().pandas_metadata or {}
    return tuple(name for name in notes.get("index_columns", ()) if isinstance(name, str))


def check_columns(stored: StoredTable, names: Sequence[str]) -> None:
    """Refuse names that are no columns of the table.

    Raises:
        NotFound: the message has the nearest names.
    """
    for name in names:
        if name not in stored.columns:
            raise NotFound("column", name, known=stored.columns)


def _projected(stored: StoredTable, columns: Sequence[str] | None) -> pa.Schema:
    schema = stored.to_arrow_schema()
    if columns is None:
        return schema
    check_columns(stored, columns)
    return pa.schema([schema.field(name) for name in columns], metadata=schema.metadata)


def condition_of(stored: StoredTable, where: Where | None, until: date | None) -> pc.Expression | None:
    """Return the rows that are asked for as an Arrow expression; none: all of them.

    Raises:
        InvalidInput: `where` is no condition on the table's columns, or `until` was asked of a table without a data
            date.
    """
    condition = where
    if where is not None and not isinstance(where, pc.Expression):
        try:
            condition = pq.filters_to_expression(where)
        except (TypeError, ValueError) as error:
            raise InvalidInput(
                f"where={where!r} is no condition: {error}; write [('column', '>', value)] or an Arrow expression"
            ) from None
    if condition is not None:
        try:
            plain_schema(stored.to_arrow_schema()).empty_table().filter(condition)
        except (pa.ArrowException, TypeError) as error:
            raise InvalidInput(f"the condition does not fit the table's columns: {error}") from None
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
    with reading(store, stored.fragments):
        return dataset.to_table(columns=None if columns is None else list(columns), filter=where)
