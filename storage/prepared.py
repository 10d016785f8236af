"""Postgres through psycopg's wrapper of libpq: statements prepared once per connection, sent many at a time.

psycopg's cursor looks at each query anew: which parameters it has, how they are sent, whether to prepare it. For
statements that never change, that is more work than the statement. Here a statement is prepared under a name of its
own when a connection first runs it, and afterwards only its values travel. Parameters are sent as text and take their
types from the statement; values are converted by psycopg's adapters, as its cursor would.

Statements whose answers nobody needs yet are kept back, and leave together with the next one that somebody waits for:
one flight to the server and back for all of them, in libpq's pipeline mode. The server runs them in order, and after
one that fails none of the flight any more, a COMMIT at its end included. Outside of a flight the connection is as
psycopg has it.
"""

import re
import select
from collections.abc import Generator, Iterable, Sequence
from itertools import count
from typing import Any

import psycopg
from psycopg import errors, pq, waiting
from psycopg.adapt import PyFormat, Transformer
from psycopg.types.string import TextLoader

_PARAMETER = re.compile(r"%(?:%|\((?P<name>\w+)\)s)")
_SUCCEEDED = frozenset({pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK})
_numbers = count(1)


class Failed(Exception):
    """A statement that the server refused, which need not be the one that was waited for."""

    def __init__(self, error: psycopg.Error, text: str) -> None:
        super().__init__(str(error))
        self.error = error
        self.text = text


class Prepared:
    """The text of a statement, written for SQLAlchemy's dialect of psycopg, and the name that servers know it by."""

    __slots__ = ("formats", "name", "parameters", "query", "text")

    def __init__(self, text: str) -> None:
        places: dict[str, int] = {}

        def place(match: re.Match[str]) -> str:
            name = match["name"]
            return "%" if name is None else f"${places.setdefault(name, len(places) + 1)}"

        self.text = text
        self.query = _PARAMETER.sub(place, text).encode()
        self.parameters = tuple(places)
        self.formats = [PyFormat.TEXT] * len(places)
        self.name = b"freshline_%d" % next(_numbers)


_COMMIT, _ROLLBACK = Prepared("COMMIT"), Prepared("ROLLBACK")


class Sent:
    """A statement on its way, and what the server says to it: None until its flight is back."""

    __slots__ = ("is_asked", "result", "rows", "statement", "values")

    def __init__(self, statement: Prepared, values: Sequence[Any], *, is_asked: bool) -> None:
        self.statement = statement
        self.values = values
        self.is_asked = is_asked
        self.result: pq.abc.PGresult | None = None
        self.rows: Sequence[tuple[Any, ...]] = ()
        """Those of the result, if they were asked for."""


class Session:
    """One connection, what it has prepared, and what is yet to be sent. For one thread at a time."""

    __slots__ = (
        "_adapters",
        "_connection",
        "_known",
        "_pending",
        "_pgconn",
        "_prepares",
        "_started",
        "began",
        "flights",
    )
    began: Sent
    """The last statement with which the transaction begins."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        # Whoever switched preparing off has something between here and the server that does not bear it.
        self._prepares = connection.prepare_threshold is not None
        # After a rollback psycopg deallocates all that is prepared, ours too, if it has prepared anything itself.
        connection.prepare_threshold = None
        self._pgconn = connection.pgconn
        reading = connection.cursor()  # its adapters are its own
        reading.adapters.register_loader("jsonb", TextLoader)  # most of it is never looked at
        self._adapters = Transformer.from_context(reading)
        self._known: set[bytes] = set()
        self._pending: list[Sent] = []
        self._started = 0
        self.flights = 0
        """How often somebody has waited for the server."""

    def begin(self, statements: Iterable[Prepared]) -> None:
        """Have a transaction begin with these statements, on the way of the first one in it.

        A transaction in which nothing else is sent never takes place.
        """
        assert not self._pending, "the transaction before has ended"
        for statement in statements:
            self.began = self.send(statement, ())
        self._started = len(self._pending)

    def send(self, statement: Prepared, values: Sequence[Any], *, is_asked: bool = False) -> Sent:
        """Take a statement along on the next flight, after those that were sent before.

        The rows of one that `is_asked` are read when the flight is back: whoever looks at them may do so when the
        transaction has ended, and the connection is somebody else's.
        """
        dumped = self._adapters.dump_sequence(values, statement.formats) if values else values
        sent = Sent(statement, dumped, is_asked=is_asked)
        self._pending.append(sent)
        return sent

    def run(self, statement: Prepared, values: Sequence[Any]) -> pq.abc.PGresult:
        """Run a statement, after what was sent before; return its result.

        Raises:
            Failed: the server refuses it, or one before it, with the error that psycopg's cursor would raise.
            psycopg.Error: the connection is lost.
        """
        sent = self.send(statement, values)
        self.land()
        assert sent.result is not None, "the flight is back"
        return sent.result

    def land(self) -> None:
        """Wait until all that was sent is answered; errors as of `run`."""
        flight, self._pending, self._started = self._pending, [], 0
        if not flight:
            return
        self.flights += 1
        try:
            answered = self._depart(flight)
            results = self._connection.wait(_exchange(self._pgconn))
            if self._pgconn.status == pq.ConnStatus.OK:
                self._pgconn.exit_pipeline_mode()
            if len(answered) > len(flight):
                self._learn(results, answered)
        except BaseException:
            # What the server has done and will still say is not known any more. The transaction is undone with it.
            self._connection.close()
            raise
        self._take(results, answered)

    def commit(self) -> None:
        """Commit, on the flight of what was sent before; errors as of `run`.

        Raises:
            Failed: a statement before it failed: nothing is committed.
        """
        if not self._has_begun():
            self._pending.clear()
            return
        sent = self.send(_COMMIT, ())
        self.land()
        assert sent.result is not None, "the flight is back"
        if sent.result.command_status != b"COMMIT":
            # The failure was raised before, and somebody has caught it: the server has rolled back instead.
            error = errors.InFailedSqlTransaction("nothing was committed: a statement of the transaction had failed")
            raise Failed(error, "COMMIT")

    def rollback(self) -> None:
        """Undo the transaction; what has not been sent yet is not sent any more."""
        self._pending.clear()
        if self._pgconn.transaction_status != pq.TransactionStatus.IDLE:
            self.run(_ROLLBACK, ())

    @property
    def is_at_rest(self) -> bool:
        """True between transactions, when nothing is under way: only so may somebody else have the connection."""
        return (
            not self._pending
            and self._pgconn.pipeline_status == pq.PipelineStatus.OFF
            and self._pgconn.transaction_status == pq.TransactionStatus.IDLE
        )

    def is_alive(self) -> bool:
        """Return False when the server has closed the connection while it was at rest, as far as this side knows."""
        pgconn = self._pgconn
        try:
            while _has_said_something(pgconn.socket):  # that is nearly always its farewell
                pgconn.consume_input()
        except psycopg.OperationalError:
            return False
        return pgconn.status == pq.ConnStatus.OK

    def rows(self, result: pq.abc.PGresult) -> Sequence[tuple[Any, ...]]:
        """Return the rows of a result, as psycopg's loaders read them."""
        self._adapters.set_pgresult(result)
        return self._adapters.load_rows(0, result.ntuples, tuple)

    def _has_begun(self) -> bool:
        """True when the server knows of the transaction, or has to."""
        is_idle = self._pgconn.transaction_status == pq.TransactionStatus.IDLE
        return not is_idle or len(self._pending) > self._started

    def _depart(self, flight: Iterable[Sent]) -> list[Sent | Prepared]:
        """Hand a flight to libpq; return what the results that come back are for: a preparation, or what was sent."""
        pgconn, new, answered = self._pgconn, set[bytes](), list[Sent | Prepared]()
        pgconn.enter_pipeline_mode()
        for sent in flight:
            statement = sent.statement
            if not self._prepares:
                pgconn.send_query_params(statement.query, sent.values)
            else:
                name = statement.name
                if name not in self._known and name not in new:
                    pgconn.send_prepare(name, statement.query)
                    new.add(name)
                    answered.append(statement)
                pgconn.send_query_prepared(name, sent.values)
            answered.append(sent)
        pgconn.pipeline_sync()
        return answered

    def _learn(self, results: Sequence[pq.abc.PGresult], answered: Sequence[Sent | Prepared]) -> None:
        """Note what the server has prepared: a name that it has, and that is prepared again, is an error for good."""
        for one, result in zip(answered, results, strict=False):
            if isinstance(one, Prepared) and result.status in _SUCCEEDED:
                self._known.add(one.name)

    def _take(self, results: Sequence[pq.abc.PGresult], answered: Sequence[Sent | Prepared]) -> None:
        """Give each statement its result."""
        for one, result in zip(answered, results, strict=False):
            if result.status not in _SUCCEEDED:
                # The first that failed; those after it were not run.
                error = errors.error_from_result(result, encoding=self._connection.info.encoding)
                raise Failed(error, one.text if isinstance(one, Prepared) else one.statement.text)
            if isinstance(one, Sent):
                one.result = result
                if one.is_asked and result.ntuples:
                    one.rows = self.rows(result)


def _has_said_something(socket: int) -> bool:
    if not hasattr(select, "poll"):  # Windows, whose select takes any socket
        return bool(select.select([socket], [], [], 0)[0])
    asked = select.poll()
    asked.register(socket, select.POLLIN)
    return bool(asked.poll(0))


def _exchange(pgconn: pq.abc.PGconn) -> Generator[Any, Any, list[pq.abc.PGresult]]:
    """Send what libpq holds, and return the results up to the end of the flight."""
    while pgconn.flush():
        if (yield waiting.Wait.RW) & waiting.Ready.R:
            pgconn.consume_input()  # the server may not take more before it has been heard
    results: list[pq.abc.PGresult] = []
    failure: psycopg.OperationalError | None = None
    is_between = False
    while True:
        try:
            while pgconn.is_busy():
                yield waiting.Wait.R
                pgconn.consume_input()
        except psycopg.OperationalError as error:
            failure = error
        result = None if failure is not None else pgconn.get_result()
        if result is None:
            if is_between or failure is not None:
                break
            is_between = True  # one statement ends here
            continue
        is_between = False
        if result.status == pq.ExecStatus.PIPELINE_SYNC:
            return results
        results.append(result)
    # The connection is lost. The server may have said why.
    if results and results[-1].status == pq.ExecStatus.FATAL_ERROR:
        return results
    raise failure or psycopg.OperationalError("the connection to the server was lost")
