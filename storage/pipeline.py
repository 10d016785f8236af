"""Postgres without waiting for every answer: a write transaction is sent as a pipeline.

BEGIN travels with the first statement and COMMIT with the last ones, and a statement whose answer nobody asks for is
not waited for. An error of such a statement comes with the next answer that is, at the latest with COMMIT: nothing is
committed that failed. Statements that SQLAlchemy runs itself are waited for as ever.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg
from sqlalchemy import exc
from sqlalchemy.engine import Connection

_PIPELINE = "freshline_pipeline"
_CLOCK = "freshline_clock"


class WaitingCursor(psycopg.Cursor[Any]):
    """What SQLAlchemy uses: it looks at the answer as soon as it has executed a statement."""

    def execute(self, *args: Any, **kwargs: Any) -> "WaitingCursor":
        """Execute, and wait for the answer."""
        super().execute(*args, **kwargs)
        wait(self.connection)
        return self

    def executemany(self, *args: Any, **kwargs: Any) -> None:
        """Execute for each set of parameters, and wait for the answers."""
        super().executemany(*args, **kwargs)
        wait(self.connection)


def cursor_of(raw: Any) -> Any:
    """Return a cursor that does not wait, where there is such a thing."""
    return psycopg.Cursor(raw) if isinstance(raw, psycopg.Connection) else raw.cursor()


def wait(raw: Any) -> None:
    """Have everything answered that was sent on this connection."""
    pipeline = getattr(raw, _PIPELINE, None)
    if pipeline is not None:
        pipeline.sync()


@contextmanager
def pipelined(connection: Connection, *first: str) -> Iterator[None]:
    """Send the transaction that has begun as a pipeline, these statements first, and commit it at the end."""
    raw: Any = connection.connection.driver_connection
    try:
        with raw.pipeline() as pipeline:
            setattr(raw, _PIPELINE, pipeline)
            for statement in first:
                psycopg.Cursor(raw).execute(statement)
            setattr(raw, _CLOCK, psycopg.Cursor(raw).execute("SELECT clock_timestamp()"))
            yield
            psycopg.Cursor(raw).execute("COMMIT")
    except psycopg.Error as error:
        raise translated(error, connection, "COMMIT") from error
    finally:
        setattr(raw, _PIPELINE, None)
        setattr(raw, _CLOCK, None)


def clock_of(connection: Connection) -> datetime:
    """Return the server's time when the transaction began: it was asked for with BEGIN."""
    raw: Any = connection.connection.driver_connection
    asked = getattr(raw, _CLOCK)
    if isinstance(asked, datetime):
        return asked
    try:
        (answer,) = asked.fetchone()
    except psycopg.Error as error:
        raise translated(error, connection, "SELECT clock_timestamp()") from error
    now: datetime = answer.astimezone(UTC)
    setattr(raw, _CLOCK, now)
    return now


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
