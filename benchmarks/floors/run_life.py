"""The floor of a run's life: sqlite3 alone, five commits, a row per parameter and per metric.

Five commits are what a client needs that must survive a crash between the steps. It keeps no events, no versions, no
outbox, and checks nothing.
"""

import sqlite3
import time
import uuid
from pathlib import Path

_TABLES = """
CREATE TABLE run (id TEXT PRIMARY KEY, name TEXT, status TEXT, started_at REAL, ended_at REAL);
CREATE TABLE parameter (run_id TEXT, name TEXT, value TEXT, PRIMARY KEY (run_id, name));
CREATE TABLE metric (run_id TEXT, name TEXT, value REAL, at REAL, PRIMARY KEY (run_id, name));
"""
_SYNCHRONOUS = ("OFF", "NORMAL", "FULL", "EXTRA")


class RawRuns:
    """Runs in three bare tables."""

    def __init__(self, path: Path, *, journal: str, synchronous: str) -> None:
        self._connection = sqlite3.connect(path)
        self._connection.execute(f"PRAGMA journal_mode = {journal}")
        self._connection.execute(f"PRAGMA synchronous = {synchronous}")
        self._connection.executescript(_TABLES)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def pragmas(self) -> tuple[str, str]:
        """Return (journal_mode, synchronous) as the connection has them."""
        (journal,) = self._connection.execute("PRAGMA journal_mode").fetchone()
        (synchronous,) = self._connection.execute("PRAGMA synchronous").fetchone()
        return journal, _SYNCHRONOUS[synchronous]

    def live(self) -> None:
        """Lead one run through its life."""
        connection, run_id = self._connection, str(uuid.uuid4())
        connection.execute("INSERT INTO run (id, name, status) VALUES (?, 'bench', 'pending')", (run_id,))
        connection.commit()
        connection.execute("UPDATE run SET status = 'running', started_at = ? WHERE id = ?", (time.time(), run_id))
        connection.commit()
        parameters = [(run_id, f"p{number}", str(number)) for number in range(10)]
        connection.executemany("INSERT INTO parameter VALUES (?, ?, ?)", parameters)
        connection.commit()
        metrics = [(run_id, f"m{number}", number * 0.5, time.time()) for number in range(10)]
        connection.executemany("INSERT INTO metric VALUES (?, ?, ?, ?)", metrics)
        connection.commit()
        connection.execute("UPDATE run SET status = 'completed', ended_at = ? WHERE id = ?", (time.time(), run_id))
        connection.commit()

    def rate(self, runs: int) -> float:
        """Return runs per second over this many runs."""
        began = time.perf_counter()
        for _ in range(runs):
            self.live()
        return runs / (time.perf_counter() - began)
