"""The floor of a propagation: a publication by hand-written SQL, with psycopg alone, in one commit.

It takes the locks that we take and leaves the rows that we leave. It knows beforehand that everything downstream
becomes stale: it asks nobody what was read, compares no digest, and looks at no cause that is stored.
"""

import time
from uuid import UUID

import psycopg

from freshline.storage.ids import new_id

_LOCK = """
CREATE TEMPORARY TABLE affected ON COMMIT DROP AS
WITH RECURSIVE down AS (
    SELECT deployment_id AS id FROM edge WHERE upstream_id = %(root)s
    UNION SELECT edge.deployment_id FROM edge JOIN down ON edge.upstream_id = down.id
)
SELECT deployment_id AS id FROM deployment_state
WHERE deployment_id = %(root)s OR deployment_id IN (SELECT id FROM down)
ORDER BY deployment_id FOR NO KEY UPDATE
"""
_PUBLISH = """
INSERT INTO version (id, deployment_id, partition, number, run_id, fence, digest, declaration_digest, created_at)
SELECT %(version)s, deployment_id, '', next_number + 1, %(run)s, fence + 1, %(digest)s, 'declared', now()
FROM deployment_state WHERE deployment_id = %(root)s
"""
_MOVE = """
UPDATE deployment_state SET version_id = %(version)s, fence = fence + 1, next_number = next_number + 1
WHERE deployment_id = %(root)s
"""
_INPUT_CHANGED = """
INSERT INTO cause (deployment_id, partition, kind, role, upstream_id, origin_run_id, origin_version_id, since)
SELECT deployment_id, '', 'input_changed', role, upstream_id, %(run)s, %(version)s, now()
FROM edge WHERE upstream_id = %(root)s
"""
_UPSTREAM_STALE = """
INSERT INTO cause (deployment_id, partition, kind, role, upstream_id, origin_run_id, origin_version_id, since)
SELECT edge.deployment_id, '', 'upstream_stale', edge.role, edge.upstream_id, version.run_id, version.id, now()
FROM affected
JOIN edge ON edge.upstream_id = affected.id
JOIN deployment_state AS state ON state.deployment_id = affected.id
JOIN version ON version.id = state.version_id
WHERE affected.id <> %(root)s
"""
_STALE = """
UPDATE deployment_state SET freshness = 'stale' FROM affected
WHERE deployment_state.deployment_id = affected.id AND affected.id <> %(root)s
"""


class RawPropagations:
    """Publications of one source, through a connection of psycopg."""

    def __init__(self, conninfo: str, root: UUID) -> None:
        self.connection = psycopg.connect(conninfo)
        self._root = root

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def publish(self) -> float:
        """Publish other content, and store what follows; return the seconds that it took."""
        values = {"root": self._root, "version": new_id(), "run": new_id(), "digest": "f" * 64}
        began = time.perf_counter()
        for statement in (_LOCK, _PUBLISH, _MOVE, _INPUT_CHANGED, _UPSTREAM_STALE, _STALE):
            self.connection.execute(statement, values)
        self.connection.commit()
        return time.perf_counter() - began
