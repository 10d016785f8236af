"""The floor of a run's life: a bare driver, five commits, a row per parameter and per metric.

Five commits are what a client needs that must survive a crash between the steps. It keeps no events, no versions, no
outbox, and checks nothing.
"""

import sqlite3
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg

_TABLES = (
    "CREATE TABLE run (id TEXT PRIMARY KEY, name TEXT, status TEXT, started_at FLOAT8, ended_at FLOAT8)",
    "CREATE TABLE parameter (run_id TEXT, name TEXT, value TEXT, PRIMARY KEY (run_id, name))",
    "CREATE TABLE metric (run_id TEXT, name TEXT, value FLOAT8, at FLOAT8, PRIMARY KEY (run_id, name))",
)


class RawRuns:
    """Runs in three bare tables, through a connection of Python's database API."""

    def __init__(self, connection: Any, *, mark: str) -> None:
        self._connection = connection
        self._cursor = connection.cursor()
        self._mark = mark
        for table in _TABLES:
            self._cursor.execute(table)
        connection.commit()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def live(self) -> None:
        """Lead one run through its life."""
        commit, run_id = self._connection.commit, str(uuid.uuid4())
        self._execute("INSERT INTO run (id, name, status) VALUES (?, 'bench', 'pending')", (run_id,))
        commit()
        self._execute("UPDATE run SET status = 'running', started_at = ? WHERE id = ?", (time.time(), run_id))
        commit()
        parameters = [(run_id, f"p{number}", str(number)) for number in range(10)]
        self._execute_many("INSERT INTO parameter VALUES (?, ?, ?)", parameters)
        commit()
        metrics = [(run_id, f"m{number}", number * 0.5, time.time()) for number in range(10)]
        self._execute_many("INSERT INTO metric VALUES (?, ?, ?, ?)", metrics)
        commit()
        self._execute("UPDATE run SET status = 'completed', ended_at = ? WHERE id = ?", (time.time(), run_id))
        commit()

    def rate(self, runs: int) -> float:
        """Return runs per second over this many runs."""
        began = time.perf_counter()
        for _ in range(runs):
            self.live()
        return runs / (time.perf_counter() - began)

    def _execute(self, statement: str, values: Sequence[object]) -> None:
        self._cursor.execute(statement.replace("?", self._mark), values)

    def _execute_many(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        self._cursor.executemany(statement.replace("?", self._mark), rows)


class SqliteRuns(RawRuns):
    """sqlite3 alone."""

    def __init__(self, path: Path, *, journal: str, synchronous: str) -> None:
        connection = sqlite3.connect(path)
        connection.execute(f"PRAGMA journal_mode = {journal}")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        super().__init__(connection, mark="?")

    def ask(self, statement: str) -> object:
        """Return the one value that a statement gives."""
        return self._connection.execute(statement).fetchone()[0]


class PostgresRuns(RawRuns):
    """psycopg alone."""

    def __init__(self, conninfo: str) -> None:
        self.connection = psycopg.connect(conninfo)
        super().__init__(self.connection, mark="%s")
