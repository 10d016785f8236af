"""The floor of metric values: psycopg's COPY into one bare table without an index, one commit."""

import time
import uuid
from datetime import UTC, datetime

import psycopg

_TABLE = "CREATE TABLE point (run_id uuid, name text, step bigint, value float8, at timestamptz)"


class CopiedPoints:
    """Values in a table, a row each."""

    def __init__(self, conninfo: str) -> None:
        self.connection = psycopg.connect(conninfo)
        self.connection.execute(_TABLE)
        self.connection.commit()

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def rate(self, names: int, steps: int) -> float:
        """Return how many values a second are stored that lie ready as rows."""
        run_id, at = uuid.uuid4(), datetime.now(UTC)
        rows = [(run_id, f"m{number}", step, number * 0.5, at) for step in range(steps) for number in range(names)]
        began = time.perf_counter()
        with (
            self.connection.cursor() as cursor,
            cursor.copy("COPY point (run_id, name, step, value, at) FROM STDIN") as copy,
        ):
            for row in rows:
                copy.write_row(row)
        self.connection.commit()
        took_s = time.perf_counter() - began
        found = self.connection.execute("SELECT count(*) FROM point WHERE run_id = %s", [run_id]).fetchone()
        self.connection.rollback()
        assert found == (len(rows),), "not all values are readable"
        return len(rows) / took_s
