"""The data dates of a table, noted while its rows pass: which day does a row speak of?"""

from datetime import date, datetime

import pyarrow as pa
import pyarrow.compute as pc

from .errors import InvalidInput, NotFound, NotStorable
from .stored import StoredTable


class DataDates:
    """The smallest and the largest data date, over all batches of a table and those of the one that it continues.

    Raises:
        NotFound: there is no such column.
        InvalidInput: it holds no dates.
    """

    def __init__(self, schema: pa.Schema, column: str | None, base: StoredTable | None = None) -> None:
        self.column = column
        self.first: date | None = base.first_data_date if base else None
        self.last: date | None = base.last_data_date if base else None
        if column is not None:
            _check(schema, column)

    def observe(self, batch: pa.RecordBatch) -> None:
        """Take the next rows.

        Raises:
            NotStorable: a row has no data date.
        """
        if self.column is None or not batch.num_rows:
            return
        values = batch.column(self.column)
        if values.null_count:
            raise NotStorable(
                f"the data date {self.column!r} is null in {values.null_count:,} rows: fill them in or drop them"
            )
        try:
            extremes = pc.min_max(values).as_py()
        except (OverflowError, ValueError):
            raise NotStorable(
                f"the data date {self.column!r} holds a moment outside of the years 1 to 9999: correct it, or name "
                "another column, or none"
            ) from None
        first, last = (value.date() if isinstance(value, datetime) else value for value in extremes.values())
        self.first = first if self.first is None else min(self.first, first)
        self.last = last if self.last is None else max(self.last, last)


def holds_dates(kind: pa.DataType) -> bool:
    """Return whether a column of this type can say which day a row speaks of."""
    return bool(pa.types.is_date32(kind) or pa.types.is_timestamp(kind))


def _check(schema: pa.Schema, column: str) -> None:
    if column not in schema.names:
        raise NotFound("column (named as the data date)", column, known=schema.names)
    kind = schema.field(column).type
    if not holds_dates(kind):
        raise InvalidInput(f"the data date {column!r} is of type {kind}: make it a date or a timestamp")
