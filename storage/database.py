"""The database of records: engine, transactions, clock and column types, alike on SQLite and Postgres.

Owns how a transaction begins, commits and is tried again. Knows no table.

`read` gives a snapshot for queries. `write` runs a function in one transaction and repeats it when the
database asks for it (serialization failure, deadlock, busy file): the function must have no effect outside the
database, because it may run more than once.
"""

import json
import math
import random
import time
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeVar

import orjson
import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection
from sqlmodel import SQLModel

from .connections import Begin, Connections, Transaction, began_at, has_begun, make_engine
from .errors import NotStorable, StoreUnavailable
from .statement import Statement

T = TypeVar("T")

# Constraints get the same names on both databases, so that migrations can speak of them.
SQLModel.metadata.naming_convention = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

_WRITE_ATTEMPTS = 12
_OUTAGE_S = 60.0
_RETRIED_SQLSTATES = {"40001", "40P01"}  # serialization_failure, deadlock_detected
_ENCODER = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"))
_MAX_JSON_BYTES = 256 * 1024
_MAX_JSON_DEPTH = 32
_ALWAYS_JSON = frozenset({str, int, bool, type(None)})
_TEXT = frozenset({str})
_NUL = r"\u0000"


class MomentNotStorable(NotStorable, exc.DontWrapMixin):
    """A moment that no database holds. SQLAlchemy passes it on as it is."""


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """An aware UTC timestamp, to the microsecond, on both databases. A naive value is an error."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def bind_processor(self, dialect: sa.Dialect) -> Callable[[datetime | None], Any]:
        """Refuse naive values; both databases get text, SQLite keeps it, in UTC without an offset."""
        kept = slice(-len("+00:00")) if dialect.name == "sqlite" else slice(None)

        def bind(value: datetime | None) -> Any:
            if value is None:
                return None
            if value.tzinfo is UTC:
                return _text(value)[kept]
            if value.tzinfo is None:
                raise MomentNotStorable(f"the timestamp {value.isoformat()} has no time zone")
            try:
                return _text(value.astimezone(UTC))[kept]
            except OverflowError:
                raise MomentNotStorable(
                    f"the timestamp {value.isoformat()} is not in the years 1 to 9999 of UTC"
                ) from None

        return bind

    def result_processor(self, dialect: sa.Dialect, _coltype: object) -> Callable[[Any], datetime | None]:
        """Return an aware value."""
        is_sqlite = dialect.name == "sqlite"

        def read(value: Any) -> datetime | None:
            if value is None:
                return None
            # Read with an offset, which is several times quicker than putting the zone in afterwards.
            return datetime.fromisoformat(f"{value}+00:00") if is_sqlite else value.astimezone(UTC)

        return read


@lru_cache(maxsize=256)
def _text(moment: datetime) -> str:
    """Return a moment of UTC as text: what a transaction writes has all the same one."""
    return moment.isoformat(" ", "microseconds")


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
        encoded = orjson.dumps(value)
    except TypeError:  # an integer of more than 64 bits, or what is no JSON at all
        _refuse_nul(value)
        encoded = _encoded_slowly(value)
    if len(encoded) > _MAX_JSON_BYTES:
        raise NotStorable(f"the JSON value has {len(encoded):,} bytes; the limit is {_MAX_JSON_BYTES:,}")
    text = encoded.decode()
    if _NUL in text:  # or a backslash before the same letters
        _refuse_nul(value)
    return text


def load_json(text: str | bytes | float) -> Any:
    """Return what a database has as JSON: a run has many of these, and most of them are empty."""
    if text == "{}":
        return {}
    if text == "[]":
        return []
    # SQLite makes a number of what is one.
    return text if isinstance(text, int | float) else json.loads(text)


def _encoded_slowly(value: Any) -> bytes:
    try:
        return _ENCODER.encode(value).encode()
    except (TypeError, ValueError) as error:  # UnicodeEncodeError (a lone surrogate) is a ValueError
        raise NotStorable(f"not JSON that can be stored: {error}") from None


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
        engine = make_engine(
            url, dump_json=dump_json, load_json=load_json, synchronous=sqlite_synchronous, size=pool_size
        )
        self.engine = engine
        self._connections = Connections(engine, size=pool_size)
        self.dialect: str = self.engine.dialect.name
        self._clock = clock

    def read(self) -> Transaction:
        """Open a transaction that only reads, all from one snapshot.

        Raises:
            StoreUnavailable: the database cannot be reached.
        """
        return self._connections.begun(Begin.READ)

    def ask(self, statement: Statement, **parameters: Any) -> list[Any]:
        """Run one statement that only reads, and return its rows: on Postgres in one way to the server and back.

        Raises:
            StoreUnavailable: the database cannot be reached.
        """
        try:
            return self._asked(statement, parameters)
        except exc.DBAPIError as error:
            if not error.connection_invalidated:
                raise
        # The server had closed the connection. It has closed those that were idle too: the next one is new.
        return self._asked(statement, parameters)

    def _asked(self, statement: Statement, parameters: Mapping[str, Any]) -> list[Any]:
        with self._connections.begun(Begin.READ_AT_ONCE) as connection:
            answer = statement.ask(connection, **parameters)
        return answer.rows()

    def transaction(self, *, durable: bool = True) -> Transaction:
        """Open a transaction that may write, once. Prefer `write`, which tries again when it must.

        Raises:
            StoreUnavailable: the database cannot be reached.
        """
        return self._connections.begun(Begin.WRITE if durable else Begin.WRITE_IN_PASSING)

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
                # What was lost before its COMMIT was sent has not taken place: connections at rest may be dead.
                is_undone = isinstance(error, exc.DBAPIError) and not is_done
                if is_undone and lost == 1:
                    continue
                if time.monotonic() > give_up_at:
                    raise
            time.sleep(random.uniform(0.2, 1.0))

    def now(self, connection: Connection) -> datetime:
        """Return the database's time: one clock for all workers, whatever theirs say.

        On Postgres that is when the transaction began. There it comes with the answer to the first statement: asked for
        before any other answer, it is waited for on its own.
        """
        if self._clock is not None:
            return self._clock()
        if self.dialect == "sqlite":
            return datetime.now(UTC)  # the file is local: its clock is this machine's
        return began_at(connection)

    def known_now(self, connection: Connection) -> datetime | None:
        """Return what `now` does where nobody has to wait for it, else None: `Sql.moment` puts it in."""
        if self._clock is None and self.dialect != "sqlite" and not has_begun(connection):
            return None
        return self.now(connection)

    def dispose(self) -> None:
        """Close all connections."""
        self._connections.close()


def _asks_for_retry(error: exc.DBAPIError) -> bool:
    original = error.orig
    if getattr(original, "sqlstate", None) in _RETRIED_SQLSTATES:
        return True
    return "database is locked" in str(original) or "database table is locked" in str(original)


def _check_json(value: Any, *, depth: int) -> None:
    """Refuse what is no JSON; of text only that it is text."""
    items: Collection[Any]
    if isinstance(value, dict):
        items = value.values()
    elif isinstance(value, list | tuple):
        items = value
    else:
        _check_single(value)
        return
    if depth == _MAX_JSON_DEPTH and value:
        raise NotStorable(f"the JSON value is nested deeper than {_MAX_JSON_DEPTH} levels")
    # Most of it is flat: all of its types at once.
    if isinstance(value, dict) and not _TEXT.issuperset(map(type, value)):
        _check_keys(value)
    if not _ALWAYS_JSON.issuperset(map(type, items)):
        for item in items:
            if type(item) not in _ALWAYS_JSON:
                _check_json(item, depth=depth + 1)


def _check_single(value: Any) -> None:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise NotStorable(f"not JSON that can be stored: {value} is no number in JSON")
    elif value is not None and not isinstance(value, int | str):
        raise NotStorable(f"not JSON that can be stored: a {type(value).__name__}")


def _check_keys(value: dict[Any, Any]) -> None:
    for key in value:
        if not isinstance(key, str):
            raise NotStorable(f"JSON keys are text; {key!r} is not")


def _refuse_nul(value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_nul(key)
            _refuse_nul(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _refuse_nul(item)
    elif isinstance(value, str) and "\0" in value:
        raise NotStorable("text with a NUL character cannot be stored")
