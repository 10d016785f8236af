"""What a statement is compiled to for one database, and its answer: rows whose columns are converted when asked for.

Hands the text and the values to the driver as they are, and returns the driver's errors as SQLAlchemy's. On Postgres
an answer may be waited for later than it was asked for: see `prepared`. On SQLite it is there at once.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import Connection

from .prepared import Failed, Prepared, Sent, Session

Convert = Callable[[Any], Any]

SESSION = "freshline_session"
"""Where a connection to Postgres keeps its `Session`."""


class _Row:
    """One row: its columns are attributes, converted from what the driver gave when they are asked for.

    The row of a run has sixty columns, and whoever reads it wants six: the conversions would be most of the work.
    """

    __slots__ = ("_given",)
    _fields: tuple[str, ...] = ()
    _converts: tuple[tuple[int, Convert], ...] = ()

    def __init__(self, given: Sequence[Any]) -> None:
        self._given = given

    def __getitem__(self, position: int) -> Any:
        return getattr(self, self._fields[position])

    def __iter__(self) -> Iterator[Any]:
        return iter(self._converted())

    def __len__(self) -> int:
        return len(self._fields)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Row) and self._asdict() == other._asdict()

    __hash__ = None  # type: ignore[assignment]  # a row may hold what has no hash

    def __repr__(self) -> str:
        return f"Row({', '.join(f'{name}={value!r}' for name, value in self._asdict().items())})"

    def _asdict(self) -> dict[str, Any]:
        return dict(zip(self._fields, self._converted(), strict=True))

    def _converted(self) -> Sequence[Any]:
        """Return the values of all columns."""
        if not self._converts:
            return self._given
        made = list(self._given)
        for position, convert in self._converts:
            given = made[position]
            if given is not None:
                made[position] = convert(given)
        return made


def row_type(names: Iterable[str], converts: Mapping[int, Convert] | None = None) -> Any:
    """Return the class of rows with these columns, made of a sequence of values.

    `converts` maps positions to what makes the value out of the driver's.
    """
    fields = tuple(names)
    made = converts or {}
    columns = {name: _column(position, made.get(position)) for position, name in enumerate(fields)}
    return type("Row", (_Row,), {"__slots__": (), "_fields": fields, "_converts": tuple(made.items()), **columns})


def _column(position: int, convert: Convert | None) -> property:
    if convert is None:
        return property(lambda row: row._given[position])

    def value(row: _Row) -> Any:
        given = row._given[position]
        return None if given is None else convert(given)

    return property(value)


class Compiled:
    """A statement's text for one database, and the conversions of its parameters and columns."""

    def __init__(self, compiled: Any, dialect: sa.Dialect) -> None:
        self.text = str(compiled)
        self._fixed = {name: bind.value for bind, name in compiled.bind_names.items() if not bind.required}
        self._binds: dict[str, Convert] = dict(compiled._bind_processors)
        self._dialect = dialect
        self._columns: Sequence[Any] = compiled._result_columns or ()
        self._row: Any = None
        self._order: Sequence[tuple[str, Convert | None]] = ()

    def _bound(self, parameters: Mapping[str, Any]) -> list[Any]:
        """Return the values in the order in which the driver wants them."""
        if self._fixed:
            parameters = {**self._fixed, **parameters}
        return [
            value if (value := parameters[name]) is None or convert is None else convert(value)
            for name, convert in self._order
        ]

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


class OnSqlite(Compiled):
    """For SQLite: through Python's sqlite3."""

    def __init__(self, compiled: Any, dialect: sa.Dialect) -> None:
        super().__init__(compiled, dialect)
        self._order = [(name, self._binds.get(name)) for name in compiled.positiontup]

    def fetch(self, connection: Connection, parameters: Mapping[str, Any]) -> list[Any]:
        """Run it and return its rows."""
        return self._read(self._execute(connection, parameters))

    def fetch_plain(self, connection: Connection, parameters: Mapping[str, Any]) -> list[Any]:
        """Run it and return its rows as the driver gives them."""
        rows: list[Any] = self._execute(connection, parameters).fetchall()
        return rows

    def run(self, connection: Connection, parameters: Mapping[str, Any]) -> int:
        """Run it and return how many rows it changed."""
        changed: int = self._execute(connection, parameters).rowcount
        return changed

    def post(self, connection: Connection, parameters: Mapping[str, Any]) -> None:
        """Run it."""
        self._execute(connection, parameters)

    def ask(self, connection: Connection, parameters: Mapping[str, Any]) -> "Answer":
        """Run it; its answer is there."""
        cursor = self._execute(connection, parameters)
        return Answer(None, connection, self._read(cursor), cursor.rowcount)

    def run_many(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run it once for each set of parameters."""
        raw: Any = connection.connection.driver_connection
        try:
            raw.executemany(self.text, [self._bound(row) for row in rows])
        except Exception as error:
            raise translated(error, connection, self.text) from error

    def _read(self, cursor: Any) -> list[Any]:
        rows = cursor.fetchall()
        return self._made(rows, (about[1] for about in cursor.description)) if rows else []

    def _execute(self, connection: Connection, parameters: Mapping[str, Any]) -> Any:
        raw: Any = connection.connection.driver_connection
        try:
            return raw.execute(self.text, self._bound(parameters))
        except Exception as error:
            raise translated(error, connection, self.text) from error


class OnPostgres(Compiled):
    """For Postgres: through the connection's `Session`."""

    def __init__(self, compiled: Any, dialect: sa.Dialect) -> None:
        super().__init__(compiled, dialect)
        self._prepared = Prepared(self.text)
        self._order = [(name, self._binds.get(name)) for name in self._prepared.parameters]

    def fetch(self, connection: Connection, parameters: Mapping[str, Any]) -> list[Any]:
        """Run it, wait, and return its rows."""
        session: Session = connection.info[SESSION]
        result = self._execute(session, connection, parameters)
        return self._shaped(result, session.rows(result)) if result.ntuples else []

    def fetch_plain(self, connection: Connection, parameters: Mapping[str, Any]) -> list[Any]:
        """Run it, wait, and return its rows as the driver gives them."""
        session: Session = connection.info[SESSION]
        return list(session.rows(self._execute(session, connection, parameters)))

    def run(self, connection: Connection, parameters: Mapping[str, Any]) -> int:
        """Run it, wait, and return how many rows it changed."""
        return self._execute(connection.info[SESSION], connection, parameters).command_tuples or 0

    def post(self, connection: Connection, parameters: Mapping[str, Any]) -> None:
        """Take it along; nobody waits."""
        self._send(connection.info[SESSION], connection, parameters)

    def ask(self, connection: Connection, parameters: Mapping[str, Any]) -> "Answer":
        """Take it along; whoever looks at the answer waits."""
        sent = self._send(connection.info[SESSION], connection, parameters, is_asked=True)
        return Answer(self, connection, sent)

    def landed(self, connection: Connection, sent: Sent) -> list[Any]:
        """Wait for what was asked, and return its rows."""
        return self._shaped(self.result_of(connection, sent), sent.rows)

    def result_of(self, connection: Connection, sent: Sent) -> Any:
        """Wait for what was sent, and return the driver's result."""
        if sent.result is None:
            land(connection)
        if sent.result is None:
            error = psycopg.errors.InFailedSqlTransaction("it was not run: a statement before it failed")
            raise translated(error, connection, self.text)
        return sent.result

    def _shaped(self, result: Any, given: Sequence[Any]) -> list[Any]:
        return self._made(given, (result.ftype(position) for position in range(result.nfields))) if given else []

    def _execute(self, session: Session, connection: Connection, parameters: Mapping[str, Any]) -> Any:
        try:
            return session.run(self._prepared, self._bound(parameters))
        except Exception as error:
            raise translated(error, connection, self.text) from error

    def _send(
        self, session: Session, connection: Connection, parameters: Mapping[str, Any], *, is_asked: bool = False
    ) -> Sent:
        try:
            return session.send(self._prepared, self._bound(parameters), is_asked=is_asked)
        except Exception as error:
            raise translated(error, connection, self.text) from error


class Answer:
    """What the database says to a statement. Whoever looks at it first waits for it."""

    __slots__ = ("_changed", "_compiled", "_connection", "_rows", "_sent")

    def __init__(self, compiled: OnPostgres | None, connection: Connection, given: Any, changed: int = 0) -> None:
        self._compiled = compiled
        self._connection = connection
        self._sent: Sent = given
        self._rows: list[Any] | None = given if compiled is None else None
        self._changed = changed

    def rows(self) -> list[Any]:
        """Return the rows, in the database's order; their columns are attributes."""
        if self._rows is None:
            assert self._compiled is not None, "what has no rows yet is under way"
            self._rows = self._compiled.landed(self._connection, self._sent)
        return self._rows

    def first(self) -> Any | None:
        """Return the first row, or None."""
        rows = self.rows()
        return rows[0] if rows else None

    def scalar(self) -> Any | None:
        """Return the first column of the first row, or None."""
        row = self.first()
        return None if row is None else row[0]

    def changed(self) -> int:
        """Return how many rows it changed."""
        if self._compiled is None:
            return self._changed
        return self._compiled.result_of(self._connection, self._sent).command_tuples or 0


def land(connection: Connection) -> None:
    """Wait for all that was posted on this connection.

    Raises:
        sqlalchemy.exc.DBAPIError: a statement of it has failed, which the error names.
    """
    session: Session | None = connection.info.get(SESSION)
    if session is not None:
        try:
            session.land()
        except Exception as error:
            raise translated(error, connection, "") from error


def translated(error: Exception, connection: Connection, text: str) -> Exception:
    """Return the driver's error as SQLAlchemy's own: it names the statement, and says if the connection is lost."""
    dialect: Any = connection.dialect
    if isinstance(error, Failed):
        return translated(error.error, connection, error.text)
    if not isinstance(error, dialect.dbapi.Error):
        return error
    lost = dialect.is_disconnect(error, connection.connection.driver_connection, None)
    if lost:
        connection.invalidate(error)
    made: Exception = exc.DBAPIError.instance(
        text, None, error, dialect.dbapi.Error, connection_invalidated=lost, dialect=dialect
    )
    return made
