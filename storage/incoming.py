"""Rows that come in to be stored: streamed in plain form, while what a record says of them is noted.

Owns what is noted of all rows of a table: categories and data dates. Knows no file.
"""

import base64
from collections.abc import Iterator, Sequence

import pyarrow as pa

from .batches import TableLike, check_schema, open_batches
from .categories import Categories
from .data_dates import DataDates
from .declared import DeclaredTable
from .digest import LogicalDigest, schema_types
from .errors import InvalidInput
from .evolution import evolved_schema
from .plain import plain_batch, plain_schema
from .stored import Fragment, StoredTable, schema_difference


class Incoming:
    """A table, or the rows that it gains, as a stream that can be read once.

    Raises:
        NotStorable: a name or type that would not come back; the message names the column.
        InvalidInput: no table, columns that do not continue those of `base` or are not those declared, or a data date
            that is no column of dates.
    """

    def __init__(
        self,
        data: TableLike,
        *,
        base: StoredTable | None = None,
        data_date: str | None = None,
        evolve: bool = False,
        declared: DeclaredTable | None = None,
    ) -> None:
        if base and base.root is not None:
            raise InvalidInput(f"{base.root} is only referenced: nothing can be added to it; write the whole table")
        if base and data_date not in (None, base.data_date):
            raise InvalidInput(
                f"the table's data date is {base.data_date!r} and stays so; {data_date!r} cannot replace it"
            )
        self._stream = open_batches(data, keep_range_index=base is None)
        plain_schema(self._stream.schema)
        self._evolves = evolve and base is not None
        self.schema = self._stream.schema if base is None else base.to_arrow_schema()
        if self._evolves:
            self.schema = evolved_schema(self.schema, self._stream.schema)
        self.plain = plain_schema(self.schema)
        if declared is not None:
            declared.check(schema_types(self.plain))
        self.is_evolved = base is not None and schema_types(self.schema) != base.schema
        """The rows of the base have other columns, or narrower ones."""
        self._check(self._stream.schema)
        self.days = DataDates(self.plain, base.data_date if base else data_date, base)
        self._categories = Categories(self.schema, base.categories if base else None)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows in plain form.

        Raises:
            NotStorable: a value that would not come back, or a row without its data date.
            InvalidInput: a batch has another schema than the first one.
        """
        for given in self._stream.batches:
            self._check(given.schema)
            batch = given.select(self.plain.names) if self._evolves else given
            self._categories.observe(batch)
            plain = plain_batch(batch, self.plain)
            self.days.observe(plain)
            yield plain

    def record(self, logical: LogicalDigest, fragments: Sequence[Fragment], *, key: Sequence[str] = ()) -> StoredTable:
        """Return the record of the table, when its rows have been read to their end."""
        return StoredTable(
            digest=logical.sha256,
            rows=logical.rows,
            size_bytes=sum(fragment.size_bytes for fragment in fragments),
            schema=logical.schema,
            arrow_schema=base64.b64encode(self.schema.serialize()).decode("ascii"),
            fragments=tuple(fragments),
            blocks=logical.blocks,
            categories=self._categories.to_record(),
            data_date=self.days.column,
            first_data_date=self.days.first,
            last_data_date=self.days.last,
            key=tuple(key),
        )

    def _check(self, given: pa.Schema) -> None:
        if not self._evolves:
            check_schema(self.plain, given)
        elif given is not self._stream.schema and not given.equals(self._stream.schema):
            types = schema_types(self.plain)
            difference = schema_difference(types, schema_types(evolved_schema(self.plain, given)))
            if difference is not None:
                raise InvalidInput(f"a later batch has other columns than the first: {difference}")
