"""The floor of a submission: the rows that one leaves, inserted again under new ids by psycopg alone, in one commit.

Into the same tables, with their indexes and references; it looks nothing up, decides nothing and checks nothing. The
tables are asked for their columns, so that the floor does not fall behind the schema.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from freshline.storage.ids import new_id

_JSONB_OID = 3802


@dataclass(frozen=True)
class Row:
    """A row of the example, ready to be inserted again."""

    statement: sql.Composed
    values: dict[str, Any]


class RawSubmissions:
    """Submissions by the example of one that the product made."""

    def __init__(self, conninfo: str, example: UUID, tables: Sequence[str]) -> None:
        self.connection = psycopg.connect(conninfo)
        self._example = example
        self._rows = [row for table in tables for row in self._rows_of(table)]
        self.connection.rollback()

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def submit(self) -> None:
        """Insert the rows of one run."""
        run_id = new_id()
        for row in self._rows:
            values = {name: self._renewed(name, value, run_id) for name, value in row.values.items()}
            self.connection.execute(row.statement, values)
        self.connection.commit()

    def rate(self, runs: int) -> float:
        """Return runs per second over this many submissions."""
        began = time.perf_counter()
        for _ in range(runs):
            self.submit()
        return runs / (time.perf_counter() - began)

    def _rows_of(self, table: str) -> Iterator[Row]:
        cursor = self.connection.cursor(row_factory=dict_row)
        key = sql.Identifier("id" if table == "run" else "run_id")
        cursor.execute(sql.SQL("SELECT * FROM {} WHERE {} = %s").format(sql.Identifier(table), key), (self._example,))
        assert cursor.description is not None
        json_columns = {column.name for column in cursor.description if column.type_code == _JSONB_OID}
        for found in cursor:
            present = {
                name: Jsonb(value) if name in json_columns else value
                for name, value in found.items()
                if value is not None
            }
            yield Row(
                sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
                    sql.Identifier(table),
                    sql.SQL(", ").join(map(sql.Identifier, present)),
                    sql.SQL(", ").join(map(sql.Placeholder, present)),
                ),
                present,
            )

    def _renewed(self, name: str, value: Any, run_id: UUID) -> Any:
        """The run's own id becomes the new one, wherever it stands; a row's own id becomes a new one."""
        if value == self._example:
            return run_id
        if isinstance(value, str):
            return value.replace(str(self._example), str(run_id))
        return new_id() if name == "id" else value
