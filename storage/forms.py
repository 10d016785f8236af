"""The forms in which a stored table is given to its reader: pandas, Arrow, polars, a stream of batches, a dataset.

Owns the choice among them; how fragments become rows is in `parquet`.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from typing import Any, Literal, get_args

import pyarrow as pa

from . import parquet
from .errors import InvalidInput, MissingExtra
from .filesystem import ObjectStore
from .fragments import reading
from .parquet import Where
from .referenced import store_of
from .stored import StoredTable

Form = Literal["pandas", "arrow", "polars", "batches", "scan"]
"""pandas (with the index that was written), an Arrow table, polars, a reader of record batches, an Arrow dataset."""


def read_as(
    objects: ObjectStore,
    stored: StoredTable,
    form: Form,
    *,
    columns: Iterable[str] | None = None,
    where: Where | None = None,
    until: date | None = None,
) -> Any:
    """Return a table in one of the forms; `columns`, `where` and `until` as in `parquet.read_table`.

    Raises:
        InvalidInput: there is no such form, or it has no choice of columns; or as `read_table`.
        MissingExtra: polars is not installed.
        NotFound, ObjectMissing, ObjectCorrupt, ArtifactError: as `read_table`.
    """
    if form not in get_args(Form):
        raise InvalidInput(f"as_={form!r}: a table is read as {', '.join(get_args(Form)[:-1])} or {get_args(Form)[-1]}")
    if isinstance(columns, str):
        raise InvalidInput(f"columns={columns!r}: give a list of names, such as [{columns!r}]")
    wanted = list(columns) if columns is not None else None
    if wanted is not None and (twice := [name for name in wanted if wanted.count(name) > 1]):
        raise InvalidInput(f"columns= names {twice[0]!r} twice: name each column once")
    if form == "pandas":
        return parquet.to_pandas(objects, stored, columns=wanted, where=where, until=until)
    if form == "scan":
        if wanted is not None:
            raise InvalidInput("as_='scan' gives a dataset of all columns: choose columns when you read from it")
        return parquet.scan(objects, stored, where=where, until=until)
    if form == "batches":
        return read_batches(objects, stored, columns=wanted, where=where, until=until)
    polars = _polars() if form == "polars" else None
    table = parquet.read_table(objects, stored, columns=wanted, where=where, until=until)
    return table if polars is None else polars.from_arrow(table)


def read_batches(
    objects: ObjectStore,
    stored: StoredTable,
    *,
    columns: Sequence[str] | None = None,
    where: Where | None = None,
    until: date | None = None,
) -> pa.RecordBatchReader:
    """Return the rows as a stream of batches in their order, of which memory holds a few.

    The columns are in plain form (dictionaries decoded). Each object's presence, size and footer is checked now, each
    page's checksum when it is read; damage found then is an `ObjectCorrupt` out of the stream. Errors otherwise as
    `parquet.read_table`.
    """
    parquet.check_columns(stored, columns or ())
    dataset = parquet.scan(objects, stored, where=where, until=until)
    scanner = _scanner(dataset, columns)

    def checked() -> Iterator[pa.RecordBatch]:
        with reading(store_of(objects, stored), stored.fragments):
            yield from scanner.to_batches()

    return pa.RecordBatchReader.from_batches(scanner.projected_schema, checked())


def _scanner(dataset: Any, columns: Sequence[str] | None) -> Any:
    import pyarrow.dataset  # which imports pandas

    # Of what is read ahead nothing is let go before its fragment ends: 256 MiB. A column of a row group at a time
    # takes more requests and a few megabytes.
    options = pyarrow.dataset.ParquetFragmentScanOptions(pre_buffer=False, page_checksum_verification=True)
    return dataset.scanner(columns=columns, batch_readahead=1, fragment_readahead=1, fragment_scan_options=options)


def _polars() -> Any:
    try:
        import polars
    except ImportError:
        raise MissingExtra("polars is not installed: pip install polars, or read the table as pandas") from None
    return polars
