"""The floor of a claim: the statements that ours sends, by hand through psycopg, in one commit.

The run and its deployment are found, the graph above is walked, what has lapsed is looked for, the state is locked, the
gate's facts are read; the fence, the pins, the run and its event are written. It decides nothing and checks nothing
but that the run could be started.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg

_DEPLOYMENT = """
SELECT id, tenant_id, key, kind, resource_id, project, prefect_name, prefect_deployment_id, external, declaration,
    declaration_digest, policy, auto_refresh, created_at, registered_at, retired_at
FROM deployment WHERE prefect_deployment_id = %s ORDER BY retired_at IS NOT NULL, registered_at DESC LIMIT 1
"""
_RUN = "SELECT * FROM run WHERE flow_run_id = %s OR id = %s ORDER BY id FOR UPDATE"
_UPSTREAM = """
WITH RECURSIVE reached (id) AS (
    SELECT upstream_id FROM edge WHERE deployment_id = %s
    UNION SELECT edge.upstream_id FROM edge JOIN reached ON edge.deployment_id = reached.id
) SELECT id FROM reached
"""
_LAPSED = """
SELECT deployment_id FROM deployment_state WHERE deployment_id = ANY(%s) AND lapses_at <= %s AND freshness <> 'stale'
"""
_LOCK = "SELECT deployment_id FROM deployment_state WHERE deployment_id = %s FOR NO KEY UPDATE"
_LOOK = """
SELECT edge.role, deployment.id, version.id, deployment.key, deployment.retired_at, deployment.policy, state.freshness,
    state.lapses_at, version.number, version.digest, version.data_end
FROM edge JOIN deployment ON deployment.id = edge.upstream_id
JOIN deployment_state AS state ON state.deployment_id = deployment.id AND state.partition = ''
LEFT JOIN version ON version.id = state.version_id WHERE edge.deployment_id = %s ORDER BY edge.role
"""
_DRAW_FENCE = """
UPDATE deployment_state SET activity = 'running', next_fence = next_fence + 1
WHERE deployment_id = %s AND partition = '' RETURNING next_fence, version_id
"""
_PINS = "INSERT INTO run_input (run_id, role, upstream_id, version_id, pinned, read) VALUES "
_PIN = "(%s, %s, %s, %s, true, false)"
_START = """
UPDATE run SET status = 'running', attempt = attempt + 1, fence = %s, declaration_digest = %s, base_version_id = %s,
    lease_owner = 'floor', lease_until = %s::timestamptz + interval '60 s', heartbeat_at = %s, resume_due_at = NULL,
    started_at = %s, last_seq = last_seq + 1
WHERE id = %s AND ended_at IS NULL AND status IN ('paused', 'pending', 'retrying') RETURNING attempt, last_seq
"""
_EVENT = """
INSERT INTO run_event (run_id, seq, kind, payload, actor, at) VALUES (%s, %s, 'run_started', %s::jsonb, 'floor', %s)
"""


@dataclass(frozen=True)
class Started:
    """A flow run that a worker has started."""

    flow_run_id: UUID
    prefect_deployment_id: UUID
    run_id: UUID
    """As its label says."""


class RawClaims:
    """Claims through one connection, on a store of ours."""

    def __init__(self, conninfo: str) -> None:
        self.connection = psycopg.connect(conninfo)

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def claim(self, started: Started) -> None:
        """Claim the run of a flow run."""
        execute = self.connection.execute
        now = _first(execute("SELECT clock_timestamp()"))[0]
        deployment = _first(execute(_DEPLOYMENT, (started.prefect_deployment_id,)))
        deployment_id, declaration_digest = deployment[0], deployment[10]
        execute(_RUN, (started.flow_run_id, started.run_id)).fetchall()
        upstream = [row[0] for row in execute(_UPSTREAM, (deployment_id,)).fetchall()]
        execute(_LAPSED, (upstream, now)).fetchall()
        execute(_LOCK, (deployment_id,)).fetchall()
        seen = execute(_LOOK, (deployment_id,)).fetchall()
        fence, base = _first(execute(_DRAW_FENCE, (deployment_id,)))
        pins = [value for role, upstream_id, version_id, *_ in seen for value in (role, upstream_id, version_id)]
        values = [value for at in range(0, len(pins), 3) for value in (started.run_id, *pins[at : at + 3])]
        execute((_PINS + ", ".join([_PIN] * len(seen))).encode(), values)
        started_at = (fence, declaration_digest, base, now, now, now, started.run_id)
        attempt, seq = _first(execute(_START, started_at))
        payload = json.dumps({"attempt": attempt, "fence": fence, "worker": "floor"})
        execute(_EVENT, (started.run_id, seq, payload, now))
        self.connection.commit()

    def per_claim(self, started: Sequence[Started]) -> float:
        """Return the milliseconds that one of these claims takes."""
        began = time.perf_counter()
        for one in started:
            self.claim(one)
        return (time.perf_counter() - began) / len(started) * 1000


def _first(cursor: psycopg.Cursor[Any]) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = cursor.fetchone()
    assert row is not None, "there is a row"
    return row
