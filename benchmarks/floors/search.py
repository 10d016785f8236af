"""The floor of `search`: SQL written by hand that an index answers, through a bare driver, for the same facts."""

import sqlite3
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import psycopg

_RUNS = """
SELECT run.*, deployment.key, version.number FROM {source}
JOIN deployment ON deployment.id = run.deployment_id LEFT JOIN version ON version.id = run.version_id
WHERE run.deleted_at IS NULL {condition} ORDER BY {order} LIMIT 50
"""
_OF_METRIC = "metric JOIN run ON run.id = metric.run_id"

NEWEST = _RUNS.format(source="run", condition="", order="run.id DESC")
METRIC = _RUNS.format(
    source=_OF_METRIC,
    condition="AND metric.name = ? AND metric.value > ?",
    order="metric.value DESC, metric.run_id DESC",
)
BEHIND = _RUNS.format(
    source=_OF_METRIC,
    condition="AND metric.name = ? AND metric.value > ? AND (metric.value, metric.run_id) < (?, ?)",
    order="metric.value DESC, metric.run_id DESC",
)


class RawSearch:
    """Asks through one connection."""

    def __init__(self, dialect: str, address: str) -> None:
        """`address` is a file's path for SQLite, a URL for Postgres."""
        self._is_sqlite = dialect == "sqlite"
        self.connection: Any = (
            sqlite3.connect(address, isolation_level=None)
            if self._is_sqlite
            else psycopg.connect(address, autocommit=True)
        )

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def page(
        self, query: str, values: Sequence[Any] = ()
    ) -> list[tuple[UUID, str, int | None, dict[str, float | None]]]:
        """Return (run id, deployment, number of its version, metrics) of the runs that a query gives, in its order."""
        rows = self._rows(query, values)
        ids = [row[0] for row in rows]
        metrics: dict[Any, dict[str, float | None]] = {run_id: {} for run_id in ids}
        if self._is_sqlite:
            marks = ", ".join("?" * len(ids))
            found = self._rows(f"SELECT run_id, name, value FROM metric WHERE run_id IN ({marks})", ids)
        else:
            found = self._rows("SELECT run_id, name, value FROM metric WHERE run_id = ANY(?)", [ids])
        for run_id, name, value in found:
            metrics[run_id][name] = value
        return [(UUID(str(row[0])), row[-2], row[-1], metrics[row[0]]) for row in rows]

    def _rows(self, query: str, values: Sequence[Any]) -> list[Any]:
        if self._is_sqlite:
            written = [value.hex if isinstance(value, UUID) else value for value in values]
            rows: list[Any] = self.connection.execute(query, written).fetchall()
        else:
            rows = self.connection.execute(query.replace("?", "%s").encode(), list(values)).fetchall()
        return rows
