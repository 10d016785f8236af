"""Databases on the tests' Postgres that one test uses after another: emptied, which is quicker than made anew.

Owns what must hold before a test gets one that another test had: nobody is connected to it, its schema is still the
template's, its tables are empty, and its name is new. While others are connected it waits; with another schema it is
dropped. What is missing is made from the template.
"""

from collections import deque
from collections.abc import Sequence
from itertools import count

import psycopg

# Transaction numbers only grow: what was added or changed has a higher one than the template, what was removed is
# missing from the count.
_CATALOGUES = (
    *("pg_class", "pg_attribute", "pg_attrdef", "pg_constraint", "pg_index", "pg_trigger", "pg_rewrite", "pg_policy"),
    *("pg_proc", "pg_type", "pg_sequence", "pg_extension", "pg_event_trigger", "pg_largeobject_metadata"),
    "pg_statistic",  # ANALYZE changes plans
)
_SCHEMA = " UNION ALL ".join(
    [f"SELECT count(*), max(xmin::text::bigint)::text FROM {name}" for name in _CATALOGUES]
    # The first temporary table of a session makes a schema that stays, and says nothing.
    + ["SELECT count(*), '' FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp_'"]
    + [
        "SELECT count(*), '' FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase "
        "AND datname = current_database()"
    ]
)
_WRITTEN = """
SELECT c.oid::regclass::text, pg_relation_size(c.oid) / 8192
FROM pg_class c WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND pg_relation_size(c.oid) > 0
"""
_FEW_PAGES = 10
"""Deleted rows stay in the file until it is truncated, and scans pass over them."""

State = Sequence[tuple[object, ...]]


class Pool:
    """The databases of one server that are copies of one template."""

    def __init__(self, url: str, template: str, *, prefix: str = "test") -> None:
        """`url` is SQLAlchemy's, without the name of a database. The template must not change any more."""
        self._url = url
        self._prefix = prefix
        self._template = template
        self._server = self._connect("postgres")
        with self._connect(template) as connection:
            self._kept = [name for name, _ in connection.execute(_WRITTEN)]
            self._original = self._state(connection)
        self._idle: deque[tuple[str, State]] = deque()
        self._states: dict[str, State] = {}
        self._numbers = count(1)

    def take(self) -> str:
        """Return the URL of an empty database. Nobody who had it before reaches it by the URL that they know."""
        name = f"{self._prefix}_{next(self._numbers)}"
        while (idle := self._next_idle()) is not None:
            used, before = idle
            self._server.execute(f"ALTER DATABASE {used} RENAME TO {name}")
            with self._connect(name) as connection:
                state = self._emptied(connection, before)
            if state is not None:
                self._states[name] = state
                return f"{self._url}/{name}"
            self._server.execute(f"DROP DATABASE {name}")
        self._server.execute(f"CREATE DATABASE {name} TEMPLATE {self._template}")
        self._states[name] = self._original
        return f"{self._url}/{name}"

    def give_back(self, url: str) -> None:
        """Let another test have it as soon as nobody is connected to it."""
        name = url.rpartition("/")[2]
        self._idle.append((name, self._states.pop(name)))

    def close(self) -> None:
        """End the connection to the server."""
        self._server.close()

    def _connect(self, name: str) -> psycopg.Connection:
        return psycopg.connect(f"{self._url.replace('+psycopg', '')}/{name}", autocommit=True)

    def _next_idle(self) -> tuple[str, State] | None:
        found = self._server.execute("SELECT DISTINCT datname FROM pg_stat_activity WHERE datname IS NOT NULL")
        connected = {name for (name,) in found}
        for _ in range(len(self._idle)):
            idle = self._idle.popleft()
            if idle[0] not in connected:
                return idle
            self._idle.append(idle)
        return None

    def _emptied(self, connection: psycopg.Connection, before: State) -> State | None:
        """Empty the tables, and return the state after; none of that when the schema is not what it was."""
        if self._state(connection) != before:
            return None
        written = [(name, pages) for name, pages in connection.execute(_WRITTEN) if name not in self._kept]
        large = [name for name, pages in written if pages > _FEW_PAGES]
        statements = [
            "SET session_replication_role = replica",  # the triggers that guard records do not fire
            *(f"DELETE FROM {name}" for name, pages in written if pages <= _FEW_PAGES),
            *([f"TRUNCATE {', '.join(large)} CASCADE"] if large else []),
            "SELECT setval(seqrelid, seqstart, false) FROM pg_sequence",
        ]
        connection.execute("; ".join(statements))  # type: ignore[arg-type]  # the names are the schema's
        return self._state(connection) if large else before

    def _state(self, connection: psycopg.Connection) -> State:
        """Return what is as in the template as long as the schema is, and the rows that came with it."""
        rows = [f"SELECT count(*), md5(string_agg(r::text, ',')) FROM {name} r" for name in self._kept]
        return connection.execute(" UNION ALL ".join([_SCHEMA, *rows])).fetchall()
