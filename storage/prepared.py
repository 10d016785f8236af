"""Postgres through psycopg's wrapper of libpq: statements prepared once per connection, and nothing in between.

psycopg's cursor looks at each query anew: which parameters it has, how they are sent, whether to prepare it. For
statements that never change, that is more work than the statement. Here a statement is prepared under a name of its
own when a connection first runs it, and afterwards only its values travel. Parameters are sent as text and take their
types from the statement; values are converted by psycopg's adapters, as its cursor would.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

import psycopg
from psycopg import errors, generators, pq
from psycopg.adapt import PyFormat, Transformer

_PARAMETER = re.compile(r"%(?:%|\((?P<name>\w+)\)s)")
_SUCCEEDED = frozenset({pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK})
_numbers = count(1)


class Prepared:
    """The text of a statement, written for SQLAlchemy's dialect of psycopg, and the name that servers know it by."""

    __slots__ = ("formats", "name", "parameters", "query")

    def __init__(self, text: str) -> None:
        places: dict[str, int] = {}

        def place(match: re.Match[str]) -> str:
            name = match["name"]
            return "%" if name is None else f"${places.setdefault(name, len(places) + 1)}"

        self.query = _PARAMETER.sub(place, text).encode()
        self.parameters = tuple(places)
        self.formats = [PyFormat.TEXT] * len(places)
        self.name = b"freshline_%d" % next(_numbers)


class Session:
    """One connection, and what it has prepared. For one thread at a time."""

    __slots__ = ("_adapters", "_connection", "_known", "_pgconn", "_prepares")

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        # Whoever switched preparing off has something between here and the server that does not bear it.
        self._prepares = connection.prepare_threshold is not None
        # After a rollback psycopg deallocates all that is prepared, ours too, if it has prepared anything itself.
        connection.prepare_threshold = None
        self._pgconn = connection.pgconn
        self._adapters = Transformer.from_context(connection)
        self._known: set[bytes] = set()

    def query(self, text: bytes) -> pq.abc.PGresult:
        """Run statements without parameters in one round trip; return the result of the last one."""
        self._pgconn.send_query(text)
        results: list[pq.abc.PGresult] = self._connection.wait(generators.execute(self._pgconn))
        for result in results:
            self._check(result)
        return results[-1]

    def run(self, statement: Prepared, parameters: Mapping[str, Any]) -> pq.abc.PGresult:
        """Run a statement; return its result.

        Raises:
            psycopg.Error: as psycopg's cursor would.
        """
        values = self._adapters.dump_sequence([parameters[name] for name in statement.parameters], statement.formats)
        if not self._prepares:
            self._pgconn.send_query_params(statement.query, values)
            return self._answer()
        if statement.name not in self._known:
            self._pgconn.send_prepare(statement.name, statement.query)
            self._answer()
            self._known.add(statement.name)
        self._pgconn.send_query_prepared(statement.name, values)
        return self._answer()

    def rows(self, result: pq.abc.PGresult) -> Sequence[tuple[Any, ...]]:
        """Return the rows of a result, as psycopg's loaders read them."""
        self._adapters.set_pgresult(result)
        return self._adapters.load_rows(0, result.ntuples, tuple)

    def _answer(self) -> pq.abc.PGresult:
        result: pq.abc.PGresult = self._connection.wait(generators.execute(self._pgconn))[-1]
        self._check(result)
        return result

    def _check(self, result: pq.abc.PGresult) -> None:
        if result.status not in _SUCCEEDED:
            raise errors.error_from_result(result, encoding=self._connection.info.encoding)
