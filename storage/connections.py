"""Connections and transactions: how one begins and ends, on SQLite and Postgres.

SQLAlchemy opens the connections and runs the rarer statements; BEGIN and COMMIT are ours, because they are the most
frequent statements of all, and because each database wants its own: on SQLite a transaction that may write takes the
lock at once (deferred, it would fail at its first write whatever the timeout), on Postgres BEGIN brings the server's
time along, and one that only reads sees one snapshot. There, BEGIN travels with the first statement of a transaction
that writes, and COMMIT with those that nobody has waited for; both travel with a question that is one statement.
"""

import os
import random
import sqlite3
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import Connection, Engine

from .compiled import DRIVER, SESSION, driver_of, land, translated
from .errors import InvalidInput, StoreUnavailable
from .prepared import Prepared, Session

_WAL_ATTEMPTS = 100
_SQLITE_BUSY_MS = 30_000
_WAIT_S = 30.0
_OVERFLOW = 20
"""Connections beyond the size asked for: a transaction inside of another one must not wait for itself."""
_PREPARING = "prepare_threshold"


def shown_url(url: sa.URL) -> str:
    """Return a database's URL without its password, which may stand before the host or among the parameters."""
    return url.difference_update_query(["password", "sslpassword"]).render_as_string(hide_password=True)


class Begin(StrEnum):
    """What a transaction is for."""

    READ = "read"
    READ_AT_ONCE = "read at once"
    """It has one statement, with which BEGIN and COMMIT travel; nobody asks it for the time."""
    WRITE = "write"
    WRITE_IN_PASSING = "write in passing"
    """What it writes may be lost with the server's power."""


_SQLITE = {
    Begin.READ: "BEGIN",
    Begin.READ_AT_ONCE: "BEGIN",
    Begin.WRITE: "BEGIN IMMEDIATE",
    Begin.WRITE_IN_PASSING: "BEGIN IMMEDIATE",
}
_CLOCK = "clock_timestamp()"
# A plan is kept for as long as the connection. One that was made when a table had a few pages would read all of it ever
# after: as if everything were on a slow disk, Postgres takes a look into an index for dearer than six pages in a row.
_PLAN_ONCE = "set_config('plan_cache_mode', 'force_generic_plan', true), set_config('random_page_cost', '1.1', true)"
_IN_PASSING = "set_config('synchronous_commit', 'off', true)"
# The clock first: it is the column that is read.
_TO_READ = Prepared("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
_POSTGRES = {
    Begin.READ: (_TO_READ, Prepared(f"SELECT {_CLOCK}")),
    Begin.READ_AT_ONCE: (_TO_READ,),
    Begin.WRITE: (Prepared("BEGIN"), Prepared(f"SELECT {_CLOCK}, {_PLAN_ONCE}")),
    Begin.WRITE_IN_PASSING: (Prepared("BEGIN"), Prepared(f"SELECT {_CLOCK}, {_PLAN_ONCE}, {_IN_PASSING}")),
}


class Connections:
    """The connections of one database, kept open between transactions: as many as were in use at once, bounded."""

    def __init__(self, engine: Engine, *, size: int) -> None:
        self._engine = engine
        self._size = size + _OVERFLOW
        self._is_sqlite = engine.dialect.name == "sqlite"
        self._free: SimpleQueue[None] = SimpleQueue()
        for _ in range(self._size):
            self._free.put(None)
        self._idle: deque[Connection] = deque()
        self._process = os.getpid()
        self._inherited: list[object] = []
        self._closings = 0

    def begun(self, how: Begin) -> "Transaction":
        """Return a transaction that begins with its block: committed when that ends, undone when it raises.

        Raises:
            StoreUnavailable: the database cannot be reached, or every connection has been in use for long.
        """
        return Transaction(self, how)

    def close(self) -> None:
        """Close all connections: those in use when their transactions end."""
        self._closings += 1
        self._close_idle()
        self._engine.dispose()

    def take_place(self) -> int:
        """Wait until one more connection may be in use; return what `give_place_back` wants with it."""
        try:
            self._free.get(timeout=_WAIT_S)
        except Empty:
            raise StoreUnavailable(
                f"all {self._size} connections to the database have been in use for {_WAIT_S:g} s"
            ) from None
        return self._closings

    def give_place_back(self, closings: int) -> None:
        """Let another connection be in use."""
        self._free.put(None)
        if closings != self._closings:
            self._close_idle()

    def _close_idle(self) -> None:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return
            connection.detach()  # else the engine's pool would keep it open, even one that it has disposed of
            connection.close()

    def begin(self, how: Begin) -> Connection:
        """Begin a transaction, on a connection that was kept or on a new one."""
        while True:
            connection, is_new = self._take()
            try:
                driver: Any = driver_of(connection)
                if self._is_sqlite:
                    driver.execute(_SQLITE[how])
                else:
                    driver.begin(_POSTGRES[how])
                    if how == Begin.READ:  # if the connection is dead, nobody but this loop tries another one
                        driver.land()
            except Exception as error:
                failure = translated(error, connection, f"BEGIN ({how})")
                connection.close()
                if not is_new and isinstance(failure, exc.DBAPIError) and failure.connection_invalidated:
                    continue  # the server had closed it meanwhile
                raise failure from error
            return connection

    def _take(self) -> tuple[Connection, bool]:
        """Return a connection, and whether it is a new one."""
        if self._process != os.getpid():
            # A child of fork: the sockets are its parent's. They are neither used nor closed here.
            self._inherited.append(self._idle)
            self._idle, self._process = deque(), os.getpid()
            self._engine.dispose(close=False)
        while True:
            try:
                kept = self._idle.pop()
            except IndexError:
                break
            if self._is_sqlite or driver_of(kept).is_alive():
                return kept, False
            self._discard(kept)
        while True:
            try:
                made = self._connect()
            except exc.OperationalError as error:
                raise StoreUnavailable(
                    f"cannot open the database {shown_url(self._engine.url)}: {error.orig}"
                ) from None
            if self._is_sqlite or driver_of(made).is_at_rest:
                return made, True
            self._discard(made)  # whoever had it was interrupted and let it fall: the engine has kept it as it was

    def _connect(self) -> Connection:
        connection = self._engine.connect()
        driver = connection.connection.driver_connection if self._is_sqlite else connection.info[SESSION]
        return connection.execution_options(**{DRIVER: driver})

    def commit(self, connection: Connection) -> None:
        """Commit its transaction, and keep the connection for the next one."""
        try:
            _end(connection, commit=True)
        except BaseException:
            self.undo(connection)
            raise
        self._keep(connection)

    def undo(self, connection: Connection) -> None:
        """Undo its transaction, and keep the connection if it is fit for the next one."""
        if not connection.invalidated:
            try:
                _end(connection, commit=False)
            except Exception:
                connection.invalidate()
        is_lost = connection.invalidated
        self._keep(connection)
        if is_lost and not self._is_sqlite:
            self._close_idle()  # what ended one has most likely ended all of them

    def _keep(self, connection: Connection) -> None:
        """Keep a connection for the next transaction, unless it is lost or in the middle of something."""
        if not connection.invalidated and (self._is_sqlite or driver_of(connection).is_at_rest):
            self._idle.append(connection)
        else:
            self._discard(connection)

    def _discard(self, connection: Connection) -> None:
        connection.invalidate()
        connection.close()


class Transaction:
    """A transaction that begins and ends with its block; the connection is the block's."""

    __slots__ = ("_closings", "_connection", "_connections", "_how")

    def __init__(self, connections: Connections, how: Begin) -> None:
        self._connections, self._how = connections, how

    def __enter__(self) -> Connection:
        self._closings = self._connections.take_place()
        try:
            self._connection = self._connections.begin(self._how)
        except BaseException:
            self._connections.give_place_back(self._closings)
            raise
        return self._connection

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._connections.commit(self._connection)
            else:
                self._connections.undo(self._connection)
        finally:
            self._connections.give_place_back(self._closings)


def began_at(connection: Connection) -> datetime:
    """Return when a transaction on Postgres began, by the server's clock: waits for its first statement."""
    session: Session = driver_of(connection)
    if session.began.result is None:
        land(connection)
    assert session.began.result is not None, "it comes first"
    moment: datetime = session.rows(session.began.result)[0][0]
    return moment.astimezone(UTC)


def has_begun(connection: Connection) -> bool:
    """Return whether a transaction on Postgres has had an answer to its first statement."""
    session: Session = driver_of(connection)
    return session.began.result is not None


def make_engine(
    url: str,
    *,
    dump_json: Callable[[Any], str],
    load_json: Callable[[str | bytes], Any],
    synchronous: str,
    size: int,
) -> Engine:
    """Return SQLAlchemy's engine of a database that we know; nothing is connected yet.

    Raises:
        InvalidInput: the URL is none, or of another database.
        StoreUnavailable: the directory of an SQLite file cannot be made.
    """
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
        engine = sa.create_engine(
            parsed,
            json_serializer=dump_json,
            json_deserializer=load_json,
            pool_size=size,
            max_overflow=_OVERFLOW,
        )
        _prepare_sqlite(engine, synchronous=synchronous)
        return engine
    parsed, prepares = _preparing(parsed)
    engine = sa.create_engine(
        parsed,
        connect_args=prepares,
        json_serializer=dump_json,
        json_deserializer=load_json,
        pool_size=size,
        max_overflow=_OVERFLOW,
    )

    @sa.event.listens_for(engine, "connect")
    def leave_begin_to_us(raw: Any, record: Any) -> None:
        raw.autocommit = True  # the BEGIN of `Connections` is the only one
        # Whatever the server's zone: psycopg reads moments of UTC in a fraction of the time, and they need no change.
        raw.execute("SET TimeZone = 'UTC'")
        record.info[SESSION] = Session(raw)

    @sa.event.listens_for(engine, "before_cursor_execute")
    def send_first_what_came_first(connection: Connection, *_: object) -> None:
        land(connection)

    return engine


def _end(connection: Connection, *, commit: bool) -> None:
    driver: Any = driver_of(connection)
    try:
        (driver.commit if commit else driver.rollback)()
    except Exception as error:
        raise translated(error, connection, "COMMIT" if commit else "ROLLBACK") from error
    if connection.in_transaction():  # SQLAlchemy has run a statement, and thinks that it has begun
        (connection.commit if commit else connection.rollback)()


def _preparing(url: sa.URL) -> tuple[sa.URL, dict[str, Any]]:
    """Take `prepare_threshold` out of a URL: psycopg wants None for `none`, and text is all that a URL can hold."""
    given = url.query.get(_PREPARING)
    if given is None:
        return url, {}
    if given != "none":
        raise InvalidInput(
            f"FRESHLINE_DATABASE_URL: {_PREPARING}={given} cannot be used; leave it out, or write {_PREPARING}=none "
            "when a pooler in between keeps no prepared statements"
        )
    return url.difference_update_query([_PREPARING]), {_PREPARING: None}


def _prepare_sqlite(engine: Engine, *, synchronous: str) -> None:
    @sa.event.listens_for(engine, "connect")
    def set_pragmas(raw: Any, _record: object) -> None:
        raw.isolation_level = None  # the BEGIN of `Connections` is the only one
        cursor = raw.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {_SQLITE_BUSY_MS}")
        _use_wal(cursor)
        cursor.execute(f"PRAGMA synchronous = {synchronous}")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()


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
