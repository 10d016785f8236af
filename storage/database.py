"""The database of records: engine, transactions, clock and column types, alike on SQLite and Postgres.

Owns how a transaction begins, commits and is tried again. Knows no table.

`read` gives a snapshot for queries. `write` runs a function in one transaction and repeats it when the
database asks for it (serialization failure, deadlock, busy file): the function must have no effect outside the
database, because it may run more than once.
"""

import json
import math
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection, Engine
from sqlmodel import SQLModel

from .errors import InvalidInput, NotStorable, StoreUnavailable
from .statement import translated

T = TypeVar("T")

# Constraints get the same names on both databases, so that migrations can speak of them.
SQLModel.metadata.naming_convention = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

_OPTION = "freshline_begin"
_BEGAN_AT = "freshline_began_at"
_WRITE_ATTEMPTS = 12
_OUTAGE_S = 60.0
_RETRIED_SQLSTATES = {"40001", "40P01"}  # serialization_failure, deadlock_detected
_WAL_ATTEMPTS = 100
_IDLE_S = 5.0
_SQLITE_BUSY_MS = 30_000
_ENCODER = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"))
_MAX_JSON_BYTES = 256 * 1024
_MAX_JSON_DEPTH = 32


class _Begin(StrEnum):
    """How a transaction begins."""

    READ = "read"
    WRITE = "write"
    WRITE_IN_PASSING = "write in passing"
    """What it writes may be lost with the server's power."""


_POSTGRES_BEGIN = {
    _Begin.READ: "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT clock_timestamp()",
    _Begin.WRITE: "BEGIN; SELECT clock_timestamp()",
    _Begin.WRITE_IN_PASSING: "BEGIN; SET LOCAL synchronous_commit = off; SELECT clock_timestamp()",
}


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """An aware UTC timestamp, to the microsecond, on both databases. A naive value is an error."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def bind_processor(self, dialect: sa.Dialect) -> Callable[[datetime | None], Any]:
        """Refuse naive values; SQLite keeps UTC as text without an offset."""
        is_sqlite = dialect.name == "sqlite"

        def bind(value: datetime | None) -> Any:
            if value is None:
                return None
            if value.tzinfo is None:
                raise NotStorable(f"the timestamp {value.isoformat()} has no time zone")
            value = value.astimezone(UTC)
            return value.replace(tzinfo=None).isoformat(" ", "microseconds") if is_sqlite else value

        return bind

    def result_processor(self, dialect: sa.Dialect, _coltype: object) -> Callable[[Any], datetime | None]:
        """Return an aware value."""
        is_sqlite = dialect.name == "sqlite"

        def read(value: Any) -> datetime | None:
            if value is None:
                return None
            return datetime.fromisoformat(value).replace(tzinfo=UTC) if is_sqlite else value.astimezone(UTC)

        return read


def json_type() -> sa.types.TypeEngine[Any]:
    """Return the column type for JSON: jsonb on Postgres, text on SQLite."""
    return sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


def dump_json(value: Any) -> str:
    """Return `value` as JSON that both databases accept, or refuse it for both.

    Raises:
        NotStorable: NaN or infinity, a NUL character, a lone surrogate, more than 256 KiB or 32 levels.
    """
    _check_json(value, depth=0)
    try:
        text = _ENCODER.encode(value)
        size_bytes = len(text.encode())
    except (TypeError, ValueError) as error:  # UnicodeEncodeError (a lone surrogate) is a ValueError
        raise NotStorable(f"not JSON that can be stored: {error}") from None
    if size_bytes > _MAX_JSON_BYTES:
        raise NotStorable(f"the JSON value has {size_bytes:,} bytes; the limit is {_MAX_JSON_BYTES:,}")
    return text


class Database:
    """One database of records. Makes no connection before the first use."""

    def __init__(
        self,
        url: str,
        *,
        clock: Callable[[], datetime] | None = None,
        sqlite_synchronous: str = "NORMAL",
        pool_size: int = 10,
    ) -> None:
        self.engine = _make_engine(url, sqlite_synchronous=sqlite_synchronous, pool_size=pool_size)
        self._writing = self.engine.execution_options(**{_OPTION: _Begin.WRITE})
        self._passing = self.engine.execution_options(**{_OPTION: _Begin.WRITE_IN_PASSING})
        self.dialect: str = self.engine.dialect.name
        self._clock = clock

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a transaction that only reads, all from one snapshot.

        Raises:
            StoreUnavailable: the database cannot be reached.
        """
        with _connected(self.engine) as connection, connection.begin():
            yield connection

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[Connection]:
        """Open a transaction that may write, once. Prefer `write`, which tries again when it must.

        Raises:
            StoreUnavailable: the database cannot be reached.
        """
        # Deferred BEGIN, read, then write fails at once on SQLite whatever the timeout: take the lock first.
        with _connected(self._writing if durable else self._passing) as connection, connection.begin():
            yield connection

    def write(self, work: Callable[[Connection], T], *, outlasts_outage: bool = False, durable: bool = True) -> T:
        """Run `work` in one transaction, again when the database asks for it, and return its result.

        With `outlasts_outage`, also again for up to a minute when the connection is lost: only for work that changes
        nothing the second time, because a connection that is lost at COMMIT leaves open whether it took place.

        Without `durable`, Postgres does not wait for its disk: a loss of its power may undo the transaction, as if it
        had never been. Only for what is void after a while anyway, such as a hold.

        Raises:
            StoreUnavailable: the database cannot be reached, or stayed busy.
        """
        give_up_at = time.monotonic() + (_OUTAGE_S if outlasts_outage else 0.0)
        busy = lost = 0
        while True:
            is_done = False
            try:
                with self.transaction(durable=durable) as connection:
                    result = work(connection)
                    is_done = True
                return result
            except (StoreUnavailable, exc.DBAPIError) as error:
                if isinstance(error, exc.DBAPIError) and _asks_for_retry(error):
                    busy += 1
                    if busy == _WRITE_ATTEMPTS:
                        raise StoreUnavailable(f"the database stayed busy for {busy} attempts") from error
                    time.sleep(random.uniform(0, min(0.5, 0.005 * 2**busy)))
                    continue
                if isinstance(error, exc.DBAPIError) and not error.connection_invalidated:
                    raise
                lost += 1
                # What was lost before its COMMIT was sent has not taken place: the pool may hold dead connections.
                is_undone = isinstance(error, exc.DBAPIError) and not is_done
                if is_undone and lost == 1:
                    continue
                if time.monotonic() > give_up_at:
                    raise
            time.sleep(random.uniform(0.2, 1.0))

    def now(self, connection: Connection) -> datetime:
        """Return the database's time: one clock for all workers, whatever theirs say.

        On Postgres that is when the transaction began.
        """
        if self._clock is not None:
            return self._clock()
        if self.dialect == "sqlite":
            return datetime.now(UTC)  # the file is local: its clock is this machine's
        began_at: datetime = connection.connection.info[_BEGAN_AT]
        return began_at

    def dispose(self) -> None:
        """Close all connections."""
        self.engine.dispose()


@contextmanager
def _connected(engine: Engine) -> Iterator[Connection]:
    try:
        connection = engine.connect()
    except exc.OperationalError as error:
        shown = engine.url.render_as_string(hide_password=True)
        raise StoreUnavailable(f"cannot open the database {shown}: {error.orig}") from None
    with connection:
        yield connection


def _make_engine(url: str, *, sqlite_synchronous: str, pool_size: int) -> Engine:
    try:
        parsed = sa.make_url(url)
    except exc.ArgumentError:
        raise InvalidInput(
            "FRESHLINE_DATABASE_URL is no database URL; write postgresql+psycopg://user@host/name or sqlite:///path"
        ) from None
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")  # the driver that we install
    if parsed.drivername not in ("sqlite", "postgresql+psycopg"):
        raise InvalidInput(f"FRESHLINE_DATABASE_URL: {parsed.drivername!r} is neither postgresql+psycopg nor sqlite")
    if parsed.get_backend_name() == "sqlite":
        if parsed.database not in (None, "", ":memory:"):
            directory = Path(str(parsed.database)).parent
            try:
                directory.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreUnavailable(f"cannot make the directory {directory}: {error.strerror}") from None
        engine = sa.create_engine(parsed, json_serializer=dump_json, pool_size=pool_size, max_overflow=20)
        _prepare_sqlite(engine, synchronous=sqlite_synchronous)
        return engine
    engine = sa.create_engine(
        parsed,
        json_serializer=dump_json,
        pool_size=pool_size,
        max_overflow=20,
    )
    _prepare_postgres(engine)
    return engine


def _prepare_postgres(engine: Engine) -> None:
    @sa.event.listens_for(engine, "connect")
    def leave_begin_to_us(raw: Any, _record: object) -> None:
        raw.autocommit = True  # the BEGIN below is the only one; COMMIT is psycopg's as ever

    @sa.event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        how = connection.get_execution_options().get(_OPTION, _Begin.READ)
        raw: Any = connection.connection.driver_connection
        text = _POSTGRES_BEGIN[how]
        try:
            # One way to the server: BEGIN, and the time by its clock.
            cursor = raw.execute(text)
            while cursor.nextset():
                pass
            (now,) = cursor.fetchone()
        except psycopg.Error as error:
            raise translated(error, connection, text) from error
        connection.connection.info[_BEGAN_AT] = now.astimezone(UTC)

    @sa.event.listens_for(engine, "checkin")
    def note(_raw: Any, record: Any) -> None:
        record.info["idle_since"] = time.monotonic()

    @sa.event.listens_for(engine, "checkout")
    def ping(raw: Any, record: Any, _proxy: object) -> None:
        """Try a connection that has been idle for a while: the server may have closed it meanwhile."""
        idle_since = record.info.get("idle_since", math.inf)
        if time.monotonic() - idle_since > _IDLE_S:
            try:
                raw.execute("SELECT 1")
            except psycopg.Error as error:
                raise exc.DisconnectionError from error  # the pool opens another one


def _prepare_sqlite(engine: Engine, *, synchronous: str) -> None:
    @sa.event.listens_for(engine, "connect")
    def set_pragmas(raw: Any, _record: object) -> None:
        raw.isolation_level = None  # SQLAlchemy's BEGIN below is the only one
        cursor = raw.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {_SQLITE_BUSY_MS}")
        _use_wal(cursor)
        cursor.execute(f"PRAGMA synchronous = {synchronous}")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        how = connection.get_execution_options().get(_OPTION, _Begin.READ)
        text = "BEGIN" if how == _Begin.READ else "BEGIN IMMEDIATE"
        raw: Any = connection.connection.driver_connection
        try:
            # Straight to the driver: this is the most frequent statement of all.
            raw.execute(text)
        except sqlite3.Error as error:
            raise translated(error, connection, text) from error


def _use_wal(cursor: Any) -> None:
    """Switch the file to WAL. SQLite does not wait when others open a new file at the same moment: wait here."""
    for attempt in range(_WAL_ATTEMPTS):
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or attempt == _WAL_ATTEMPTS - 1:
                raise
            time.sleep(random.uniform(0.01, 0.1))
        else:
            return


def _asks_for_retry(error: exc.DBAPIError) -> bool:
    original = error.orig
    if getattr(original, "sqlstate", None) in _RETRIED_SQLSTATES:
        return True
    return "database is locked" in str(original) or "database table is locked" in str(original)


def _check_json(value: Any, *, depth: int) -> None:
    if depth > _MAX_JSON_DEPTH:
        raise NotStorable(f"the JSON value is nested deeper than {_MAX_JSON_DEPTH} levels")
    if isinstance(value, str):
        if "\0" in value:
            raise NotStorable("text with a NUL character cannot be stored")
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise NotStorable(f"JSON keys are text; {key!r} is not")
            _check_json(key, depth=depth)
            _check_json(item, depth=depth + 1)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_json(item, depth=depth + 1)
