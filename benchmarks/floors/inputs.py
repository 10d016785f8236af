"""The floors of "what went into this run?": one recursive query, handed to psycopg as it is.

The plain one gives every version that went in, each once, by deployment and number: no roles, no depths, no word on
whether it still holds. The other one gives the same facts as ours. It is what one writes by hand: the depth goes along
with the walk, and the least one counts.
"""

import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import psycopg

NAMES = """
WITH RECURSIVE reached (id) AS (
    SELECT version_input.input_version_id
    FROM version_input JOIN version ON version.id = version_input.version_id WHERE version.run_id = %s
    UNION
    SELECT version_input.input_version_id FROM version_input JOIN reached ON version_input.version_id = reached.id
)
SELECT deployment.key, version.number FROM reached
JOIN version ON version.id = reached.id JOIN deployment ON deployment.id = version.deployment_id
"""
SAME_FACTS = """
WITH RECURSIVE reached (id, role, depth) AS (
    SELECT version_input.input_version_id, version_input.role, 1
    FROM version_input JOIN version ON version.id = version_input.version_id WHERE version.run_id = %s
    UNION
    SELECT version_input.input_version_id, version_input.role, reached.depth + 1
    FROM version_input JOIN reached ON version_input.version_id = reached.id
), nearest AS (SELECT id, role, min(depth) AS depth FROM reached GROUP BY id, role)
SELECT deployment.key, version.number, nearest.depth, nearest.role, version.id, version.run_id, version.digest,
    version.data_end, version.created_at, current.digest = version.digest, version.withdrawn_at IS NOT NULL
FROM nearest JOIN version ON version.id = nearest.id JOIN deployment ON deployment.id = version.deployment_id
LEFT JOIN deployment_state AS state
    ON state.deployment_id = version.deployment_id AND state.partition = version.partition
LEFT JOIN version AS current ON current.id = state.version_id
ORDER BY nearest.depth, deployment.key, nearest.role
"""


class RawInputs:
    """One of the queries, through one connection."""

    def __init__(self, conninfo: str, query: str) -> None:
        self.connection = psycopg.connect(conninfo, autocommit=True)
        self._query = query.encode()

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def versions(self, run_id: UUID) -> list[tuple[Any, ...]]:
        """Return (deployment, number, …) of all that went into the run."""
        return self.connection.execute(self._query, (run_id,)).fetchall()

    def per_question(self, runs: Sequence[UUID]) -> float:
        """Return the milliseconds that one of these questions takes."""
        began = time.perf_counter()
        for run_id in runs:
            self.versions(run_id)
        return (time.perf_counter() - began) / len(runs) * 1000
