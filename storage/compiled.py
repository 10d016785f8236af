"""What a statement is compiled to for one database, and its answer: rows whose columns are converted when asked for.

Hands the text and the values to the driver as they are, and returns the driver's errors as SQLAlchemy's. On Postgres
an answer may be waited for later than it was asked for: see `prepared`. On SQLite it is there at once.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any
from uuid import UUID

import psycopg
import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import Connection

from .prepared import Failed, Prepared, Sent, Session

Convert = Callable[[Any], Any]

_uuid = lru_cache(maxsize=4096)(UUID)
"""An id is read many times in the life that it is the id of."""
_JSONB = psycopg.postgres.types["jsonb"].oid

SESSION = "freshline_session"
"""Where a connection to Postgres keeps its `Session`."""
DRIVER = "freshline_driver"
"""The option of a connection that holds what runs its statements: the `Session`, or Python's own connection."""


def driver_of(connection: Connection) -> Any:
    """Return what runs the statements of a connection of `Database`."""
    return connection.get_execution_options()[DRIVER]


class _Row:
    """One row: its columns are attributes, converted from what the driver gave when they are first asked for.

    The row of a run has sixty columns, and whoever reads it wants six: the conversions would be most of the work.
    """

    __slots__ = ("__dict__", "_given")
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
    columns = {name: _column(name, position, made.get(position)) for position, name in enumerate(fields)}
    return type("Row", (_Row,), {"__slots__": (), "_fields": fields, "_converts": tuple(made.items()), **columns})


class _Converted:
    """A column that is converted: the value is kept in the row's dictionary, where the next access finds it."""

    __slots__ = ("_convert", "_name", "_position")

    def __init__(self, name: str, position: int, convert: Convert) -> None:
        self._name, self._position, self._convert = name, position, convert

    def __get__(self, row: _Row, owner: type[_Row] | None = None) -> Any:
        given = row._given[self._position]
        value = row.__dict__[self._name] = None if given is None else self._convert(given)
        return value


def _column(name: str, position: int, convert: Convert | None) -> Any:
    if convert is None:
        return property(lambda row: row._given[position])
    return _Converted(name, position, convert)


class Compiled:
    """A statement's text for one database, and the conversions of its parameters and columns."""

    def __init__(self, compiled: Any, dialect: sa.Dialect, text: str, order: Sequence[str]) -> None:
        self.text = text
        self._fixed = {name: bind.value for bind, name in compiled.bind_names.items() if not bind.required}
        self._given = _values_of(order)
        processors = compiled._bind_processors
        types = {name: bind.type for bind, name in compiled.bind_names.items()}
        self._converts = [
            (position, _writing(types[name], dialect, processors[name]))
            for position, name in enumerate(order)
            if name in processors
        ]
        self._dialect = dialect
        self._columns: Sequence[Any] = compiled._result_columns or ()
        self._row: Any = None

    def _bound(self, parameters: Mapping[str, Any]) -> list[Any]:
        """Return the values in the order in which the driver wants them."""
        if self._fixed:
            parameters = {**self._fixed, **parameters}
        values = [*self._given(parameters)]
        for position, convert in self._converts:
            value = values[position]
            if value is not None:
                values[position] = convert(value)
        return values

    def _made(self, given: Sequence[Sequence[Any]], codes: Iterable[Any]) -> list[Any]:
        """Return the driver's rows as ours; `codes` is how the driver calls the types of the columns."""
        row = self._row
        if row is None:
            # Only a result says how the driver gives it: some conversions depend on that.
            converts = {
                position: convert
                for position, (column, code) in enumerate(zip(self._columns, codes, strict=True))
                if (convert := self._reading(column.type, code)) is not None
            }
            row = self._row = row_type((column.keyname for column in self._columns), converts)
        return [row(one) for one in given]

    def _reading(self, type_: Any, code: Any) -> Convert | None:
        """Return what makes a value of this type out of the driver's, which has this code for it."""
        convert: Convert | None = type_._cached_result_processor(self._dialect, code)
        if convert is not None and isinstance(type_, sa.Uuid):
            return _uuid
        if convert is not None and isinstance(type_, sa.JSON):
            return self._dialect._json_deserializer  # type: ignore[attr-defined,no-any-return]
        return convert


def _hex(id_: UUID) -> str:
    return id_.int.to_bytes(16, "big").hex()  # a third of the work of its property


def _writing(type_: Any, dialect: Any, processor: Convert) -> Convert:
    """Return what does to a value that is not None what SQLAlchemy's `processor` does, as directly as possible."""
    if isinstance(type_, sa.Uuid):
        return _hex
    if isinstance(type_, sa.JSON):
        return dialect._json_serializer  # type: ignore[no-any-return]
    return processor


def _values_of(names: Sequence[str]) -> Callable[[Mapping[str, Any]], Iterable[Any]]:
    """Return what takes the values of these names out of a mapping."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda parameters: [parameters[name] for name in names]


class OnSqlite(Compiled):
    """For SQLite: through Python's sqlite3."""

    def __init__(self, compiled: Any, dialect: sa.Dialect) -> None:
        super().__init__(compiled, dialect, str(compiled), compiled.positiontup)

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
        raw: Any = driver_of(connection)
        try:
            raw.executemany(self.text, [self._bound(row) for row in rows])
        except Exception as error:
            raise translated(error, connection, self.text) from error

    def _read(self, cursor: Any) -> list[Any]:
        rows = cursor.fetchall()
        return self._made(rows, (about[1] for about in cursor.description)) if rows else []

    def _execute(self, connection: Connection, parameters: Mapping[str, Any]) -> Any:
        raw: Any = driver_of(connection)
        try:
            return raw.execute(self.text, self._bound(parameters))
        except Exception as error:
            raise translated(error, connection, self.text) from error


class OnPostgres(Compiled):
    """For Postgres: through the connection's `Session`."""

    def __init__(self, compiled: Any, dialect: sa.Dialect) -> None:
        self._prepared = Prepared(str(compiled))
        super().__init__(compiled, dialect, self._prepared.text, self._prepared.parameters)

    def fetch(self, connection: Connection, parameters: Mapping[str, Any]) -> list[Any]:
        """Run it, wait, and return its rows."""
        session: Session = driver_of(connection)
        result = self._execute(session, connection, parameters)
        return self._shaped(result, session.rows(result)) if result.ntuples else []

    def fetch_plain(self, connection: Connection, parameters: Mapping[str, Any]) -> list[Any]:
        """Run it, wait, and return its rows as the driver gives them."""
        session: Session = driver_of(connection)
        return list(session.rows(self._execute(session, connection, parameters)))

    def run(self, connection: Connection, parameters: Mapping[str, Any]) -> int:
        """Run it, wait, and return how many rows it changed."""
        return self._execute(driver_of(connection), connection, parameters).command_tuples or 0

    def post(self, connection: Connection, parameters: Mapping[str, Any]) -> None:
        """Take it along; nobody waits."""
        self._send(driver_of(connection), connection, parameters)

    def ask(self, connection: Connection, parameters: Mapping[str, Any]) -> "Answer":
        """Take it along; whoever looks at the answer waits."""
        sent = self._send(driver_of(connection), connection, parameters, is_asked=True)
        return Answer(self, connection, sent)

    def _reading(self, type_: Any, code: Any) -> Convert | None:
        # The session gives it as text, whatever the statement's type says.
        if code == _JSONB:
            return self._dialect._json_deserializer  # type: ignore[attr-defined,no-any-return]
        return super()._reading(type_, code)

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
    session = connection.get_execution_options().get(DRIVER)
    if isinstance(session, Session):
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
