"""Statements that are written once, compiled once per database, and handed to the driver as they are.

The life of a run is some forty small statements. Built anew each time, most of that life would go into building them;
a `Statement` keeps the compiled text and the conversions of its parameters and columns. What it is made of is ordinary
SQLAlchemy, so that both databases and the declared types stay in one place. One that is rarely run is as well given to
`connection.execute`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from .compiled import Answer, OnPostgres, OnSqlite

_ROWS_AT_ONCE = 32
_MARKS = ("", *(f"__{at}" for at in range(1, _ROWS_AT_ONCE)))
"""What tells the parameters of one row of a statement from those of the next."""
ONE_OR_AN_ERROR: sa.ColumnElement[int] = sa.literal_column(
    "CAST(CASE count(*) WHEN 0 THEN 'nothing was changed: what the change depends on is not as it was read' "
    "ELSE '1' END AS integer)",
    sa.Integer(),
)
"""What a change selects from the rows that it gave, on Postgres: without one it fails, with these words."""


class Sql:
    """What the two databases write differently; a statement is built with the one that it is for."""

    def __init__(self, dialect: sa.Dialect, count: int = 1) -> None:
        self._is_postgres = dialect.name == "postgresql"
        self._count = count

    def values(self, columns: Iterable[sa.Column[Any]]) -> list[dict[str, Any]]:
        """Return the VALUES of an insertion: a parameter for each column, for as many rows as there are."""
        types = {column.name: column.type for column in columns}
        return [
            {name: sa.bindparam(f"{name}{mark}", type_=type_) for name, type_ in types.items()}
            for mark in _MARKS[: self._count]
        ]

    def insert(self, table: sa.Table) -> Any:
        """Return an INSERT that knows ON CONFLICT and RETURNING."""
        return postgresql.insert(table) if self._is_postgres else sqlite.insert(table)

    def among(self, column: sa.ColumnElement[Any], name: str) -> sa.ColumnElement[bool]:
        """Return the condition that the column's id is one of the parameter `name`, a list of ids of any length."""
        if self._is_postgres:
            return column == sa.func.any(sa.bindparam(name, type_=_IdList()))
        listed = sa.func.json_each(sa.bindparam(name, type_=_IdList())).table_valued("value")
        return column.in_(sa.select(listed.c.value))

    def within(self, column: sa.ColumnElement[Any], ids: sa.Select[tuple[UUID]]) -> sa.ColumnElement[bool]:
        """Return the condition that the column's id is one of those that a query gives, which is run once."""
        if self._is_postgres:
            return column == sa.func.any(sa.func.array(ids.scalar_subquery()))
        return column.in_(ids)

    def each_once(self, reached: sa.CTE, *columns: str) -> sa.FromClause:
        """Return the newest rows of a recursive query as far as these columns go, each once.

        SQLite takes its rows one by one: there they are what they are.
        """
        if not self._is_postgres:
            return reached
        return sa.select(*(reached.c[name] for name in columns)).distinct().subquery()

    def moment(self, name: str, column: sa.Column[Any], *, after: timedelta = timedelta()) -> sa.ColumnElement[Any]:
        """Return the parameter `name`, a moment as `column` has it, or null where `Database.known_now` gives that.

        For null Postgres takes the moment at which the transaction began, or that long `after` it: nobody waits to be
        told it.
        """
        given = sa.bindparam(name, type_=column.type)
        if not self._is_postgres:
            return given
        began: sa.ColumnElement[Any] = sa.func.now()
        if after:
            began = began + sa.literal_column(f"interval '{after.total_seconds()} s'", sa.Interval())
        return sa.func.coalesce(given, began)

    def certain(self, change: Any) -> sa.Executable:
        """Return a change that has to change something: on Postgres it fails if it does not, without being waited for.

        On SQLite it is the change itself: nothing comes between what was read and what is written.
        """
        if not self._is_postgres:
            return change  # type: ignore[no-any-return]
        changed = change.returning(sa.literal_column("1", sa.Integer()).label("one")).cte("changed")
        return sa.select(ONE_OR_AN_ERROR).select_from(changed)


class _IdList(sa.types.TypeDecorator[Any]):
    """Ids as one text: an array of Postgres, and for SQLite a JSON array of the text that it keeps them in.

    The drivers would go through a list element by element, which takes many times longer.
    """

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        return postgresql.ARRAY(sa.Uuid()) if dialect.name == "postgresql" else sa.Text()

    def bind_processor(self, dialect: sa.Dialect) -> Callable[[Any], str]:
        if dialect.name == "postgresql":
            return lambda ids: f"{{{','.join([one.hex for one in ids])}}}"
        return lambda ids: orjson.dumps([one.hex for one in ids]).decode()


class Statement:
    """One statement with named parameters.

    `build` gets what the database writes in its own way, and returns the statement as SQLAlchemy has it.
    """

    __slots__ = ("_build", "_compiled")

    def __init__(self, build: Callable[[Sql], sa.Executable]) -> None:
        self._build = build
        self._compiled: dict[tuple[str, int], Any] = {}

    def rows(self, connection: Connection, **parameters: Any) -> list[Any]:
        """Run it and return its rows, in the database's order; their columns are attributes."""
        found: list[Any] = self._for(connection).fetch(connection, parameters)
        return found

    def plain_rows(self, connection: Connection, **parameters: Any) -> list[Any]:
        """Run it and return its rows as tuples of what the driver gives: for many of which little is read.

        No type converts them: an id is text on SQLite.
        """
        found: list[Any] = self._for(connection).fetch_plain(connection, parameters)
        return found

    def first(self, connection: Connection, **parameters: Any) -> Any | None:
        """Run it and return its first row, or None."""
        rows = self._for(connection).fetch(connection, parameters)
        return rows[0] if rows else None

    def scalar(self, connection: Connection, **parameters: Any) -> Any | None:
        """Run it and return the first column of its first row, or None."""
        row = self.first(connection, **parameters)
        return None if row is None else row[0]

    def run(self, connection: Connection, **parameters: Any) -> int:
        """Run it and return how many rows it changed."""
        changed: int = self._for(connection).run(connection, parameters)
        return changed

    def ask(self, connection: Connection, **parameters: Any) -> Answer:
        """Run it; whoever looks at the answer waits for it.

        On Postgres, what is asked leaves together with the next statement that is waited for: several questions cost
        one way to the server. An error of it is raised there, and names this statement.
        """
        answer: Answer = self._for(connection).ask(connection, parameters)
        return answer

    def post(self, connection: Connection, **parameters: Any) -> None:
        """Run it without an answer: on Postgres, with the next statement that is waited for, or with the COMMIT.

        An error of it is raised there, names this statement, and nothing is committed. Whoever has to know whether it
        changed anything must `run` it.
        """
        self._for(connection).post(connection, parameters)

    def post_many(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run an insertion, built with `Sql.values`, once for each set of parameters; on Postgres as `post` does."""
        if connection.dialect.name == "sqlite":
            self.run_many(connection, rows)
            return
        for count, numbered in _parts(rows):
            self._for(connection, count).post(connection, numbered)

    def run_many(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run an insertion, built with `Sql.values`, once for each set of parameters."""
        if connection.dialect.name == "sqlite":
            if rows:
                self._for(connection).run_many(connection, rows)
            return
        # On Postgres many rows in one statement: each way to the server costs more than the rows.
        for count, numbered in _parts(rows):
            self._for(connection, count).run(connection, numbered)

    def rows_of_many(self, connection: Connection, rows: Sequence[Mapping[str, Any]], **shared: Any) -> list[Any]:
        """Run an insertion as `run_many` does, and return the rows that it gives; `shared` are parameters of all."""
        found = []
        for count, numbered in _parts(rows):
            found += self._for(connection, count).fetch(connection, numbered | shared)
        return found

    def _for(self, connection: Connection, count: int = 1) -> Any:
        dialect = connection.dialect
        found = self._compiled.get((dialect.name, count))
        if found is None:
            source: Any = self._build(Sql(dialect, count))
            compiled = source.compile(dialect=dialect)
            on_driver = OnPostgres if dialect.name == "postgresql" else OnSqlite
            found = self._compiled[dialect.name, count] = on_driver(compiled, dialect)
        return found


def insert_all(table: sa.Table, *, without: Iterable[str] = ()) -> Statement:
    """Return the insertion of one whole row: a parameter for every column, but for those that the database fills."""
    left_out = set(without)
    return Statement(
        lambda sql: sa.insert(table).values(sql.values(column for column in table.c if column.name not in left_out))
    )


def one_of(column: sa.ColumnElement[Any], words: Iterable[str]) -> sa.ColumnElement[bool]:
    """Return `column IN ('a', 'b')` with the words in the text: partial indexes match, and nothing is expanded."""
    listed = ", ".join(f"'{word}'" for word in sorted(words))
    return column.op("IN", is_comparison=True)(sa.literal_column(f"({listed})"))


def unindexed(column: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    """Return the text of a column in a form that no partial index is matched by.

    For a condition on rows that others find. A partial index that was nearly empty when the planner last looked seems
    the cheapest way to any of its rows, and is gone through from end to end when it has grown.
    """
    return column.op("||")(sa.literal_column("''"))


def _parts(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield how many rows go into one statement, and their parameters by the names that `Sql.values` gives them."""
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = rows[start : start + _ROWS_AT_ONCE]
        yield (
            len(part),
            {f"{name}{mark}": value for mark, row in zip(_MARKS, part, strict=False) for name, value in row.items()},
        )
