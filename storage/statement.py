"""Statements that are written once, compiled once per database, and handed to the driver as they are.

The life of a run is some forty small statements. Built anew each time, most of that life would go into building them;
a `Statement` keeps the compiled text and the conversions of its parameters and columns. What it is made of is ordinary
SQLAlchemy, so that both databases and the declared types stay in one place. One that is rarely run is as well given to
`connection.execute`.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from .prepared import Prepared, Session

Convert = Callable[[Any], Any]

SESSION = "freshline_session"
"""Where a connection to Postgres keeps its `Session`."""

_ROWS_AT_ONCE = 32


class Sql:
    """What the two databases write differently; a statement is built with the one that it is for."""

    def __init__(self, dialect: sa.Dialect, count: int = 1) -> None:
        self._is_postgres = dialect.name == "postgresql"
        self._count = count

    def values(self, columns: Iterable[sa.Column[Any]]) -> list[dict[str, Any]]:
        """Return the VALUES of an insertion: a parameter for each column, for as many rows as there are."""
        types = {column.name: column.type for column in columns}
        return [
            {name: sa.bindparam(f"{name}{_numbered(at)}", type_=type_) for name, type_ in types.items()}
            for at in range(self._count)
        ]

    def insert(self, table: sa.Table) -> Any:
        """Return an INSERT that knows ON CONFLICT and RETURNING."""
        return postgresql.insert(table) if self._is_postgres else sqlite.insert(table)

    def among(self, column: sa.ColumnElement[Any], name: str) -> sa.ColumnElement[bool]:
        """Return the condition that the column's id is one of the parameter `name`, a list of ids of any length."""
        if self._is_postgres:
            return column == sa.func.any(sa.bindparam(name, type_=postgresql.ARRAY(sa.Uuid())))
        listed = sa.func.json_each(sa.bindparam(name, type_=_IdList())).table_valued("value")
        return column.in_(sa.select(listed.c.value))


class _IdList(sa.types.TypeDecorator[Any]):
    """Ids as a JSON array of the text that SQLite keeps them in."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Iterable[UUID] | None, _dialect: sa.Dialect) -> str:
        return json.dumps([one.hex for one in value or ()])


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
            on_driver = _OnPostgres if dialect.name == "postgresql" else _OnSqlite
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


def _numbered(at: int) -> str:
    return f"__{at}" if at else ""


def _parts(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield how many rows go into one statement, and their parameters by the names that `Sql.values` gives them."""
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = rows[start : start + _ROWS_AT_ONCE]
        yield (
            len(part),
            {f"{name}{_numbered(at)}": value for at, row in enumerate(part) for name, value in row.items()},
        )


class _Row:
    """One row: its columns are attributes, converted from what the driver gave when they are asked for.

    The row of a run has sixty columns, and whoever reads it wants six: the conversions would be most of the work.
    """

    __slots__ = ("_given",)
    _fields: tuple[str, ...] = ()

    def __init__(self, given: Sequence[Any]) -> None:
        self._given = given

    def __getitem__(self, position: int) -> Any:
        return getattr(self, self._fields[position])

    def __iter__(self) -> Iterator[Any]:
        return (getattr(self, name) for name in self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Row) and self._asdict() == other._asdict()

    __hash__ = None  # type: ignore[assignment]  # a row may hold what has no hash

    def __repr__(self) -> str:
        return f"Row({', '.join(f'{name}={value!r}' for name, value in self._asdict().items())})"

    def _asdict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._fields}


def row_type(names: Iterable[str], converts: Mapping[int, Convert] | None = None) -> Any:
    """Return the class of rows with these columns, made of a sequence of values.

    `converts` maps positions to what makes the value out of the driver's.
    """
    fields = tuple(names)
    made = converts or {}
    columns = {name: _column(position, made.get(position)) for position, name in enumerate(fields)}
    return type("Row", (_Row,), {"__slots__": (), "_fields": fields, **columns})


def _column(position: int, convert: Convert | None) -> property:
    if convert is None:
        return property(lambda row: row._given[position])

    def value(row: _Row) -> Any:
        given = row._given[position]
        return None if given is None else convert(given)

    return property(value)


class _Compiled:
    """A statement's text for one database, and the conversions of its parameters and columns."""

    def __init__(self, compiled: Any, dialect: sa.Dialect) -> None:
        self.text = str(compiled)
        self._fixed = {name: bind.value for bind, name in compiled.bind_names.items() if not bind.required}
        self._binds: dict[str, Convert] = dict(compiled._bind_processors)
        self._dialect = dialect
        self._columns: Sequence[Any] = compiled._result_columns or ()
        self._row: Any = None

    def _made(self, given: Sequence[Sequence[Any]], codes: Iterable[Any]) -> list[Any]:
        """Return the driver's rows as ours; `codes` is how the driver calls the types of the columns."""
        row = self._row
        if row is None:
            # Only a result says how the driver gives it: some conversions depend on that.
            converts = {
                position: convert
                for position, (column, code) in enumerate(zip(self._columns, codes, strict=True))
                if (convert := column.type._cached_result_processor(self._dialect, code)) is not None
            }
            row = self._row = row_type((column.keyname for column in self._columns), converts)
        return [row(one) for one in given]


class _OnSqlite(_Compiled):
    def __init__(self, compiled: Any, dialect: sa.Dialect) -> None:
        super().__init__(compiled, dialect)
        self._order = [(name, self._binds.get(name)) for name in compiled.positiontup]

    def fetch(self, connection: Connection, parameters: Mapping[str, Any]) -> list[Any]:
        cursor = self._execute(connection, parameters)
        rows = cursor.fetchall()
        return self._made(rows, (about[1] for about in cursor.description)) if rows else []

    def run(self, connection: Connection, parameters: Mapping[str, Any]) -> int:
        changed: int = self._execute(connection, parameters).rowcount
        return changed

    def run_many(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        raw: Any = connection.connection.driver_connection
        try:
            raw.executemany(self.text, [self._bound(row) for row in rows])
        except Exception as error:
            raise translated(error, connection, self.text) from error

    def _execute(self, connection: Connection, parameters: Mapping[str, Any]) -> Any:
        raw: Any = connection.connection.driver_connection
        try:
            return raw.execute(self.text, self._bound(parameters))
        except Exception as error:
            raise translated(error, connection, self.text) from error

    def _bound(self, parameters: Mapping[str, Any]) -> list[Any]:
        if self._fixed:
            parameters = {**self._fixed, **parameters}
        return [
            value if (value := parameters[name]) is None or convert is None else convert(value)
            for name, convert in self._order
        ]


class _OnPostgres(_Compiled):
    def __init__(self, compiled: Any, dialect: sa.Dialect) -> None:
        super().__init__(compiled, dialect)
        self._prepared = Prepared(self.text)
        self._converts = list(self._binds.items())

    def fetch(self, connection: Connection, parameters: Mapping[str, Any]) -> list[Any]:
        session: Session = connection.info[SESSION]
        result = self._execute(session, connection, parameters)
        if not result.ntuples:
            return []
        return self._made(session.rows(result), (result.ftype(position) for position in range(result.nfields)))

    def run(self, connection: Connection, parameters: Mapping[str, Any]) -> int:
        return self._execute(connection.info[SESSION], connection, parameters).command_tuples or 0

    def _execute(self, session: Session, connection: Connection, parameters: Mapping[str, Any]) -> Any:
        bound = {**self._fixed, **parameters}
        for name, convert in self._converts:
            bound[name] = convert(bound[name])
        try:
            return session.run(self._prepared, bound)
        except Exception as error:
            raise translated(error, connection, self.text) from error


def translated(error: Exception, connection: Connection, text: str) -> Exception:
    """Return the driver's error as SQLAlchemy's own, which says whether the connection is lost."""
    dialect: Any = connection.dialect
    if not isinstance(error, dialect.dbapi.Error):
        return error
    lost = dialect.is_disconnect(error, connection.connection.driver_connection, None)
    if lost:
        connection.invalidate(error)
    made: Exception = exc.DBAPIError.instance(
        text, None, error, dialect.dbapi.Error, connection_invalidated=lost, dialect=dialect
    )
    return made
