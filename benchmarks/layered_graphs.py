"""Layered random graphs of deployments in a Postgres store, filled by the database itself; everything is ready.

The first layer are sources. Whoever is in a later layer reads 2 or 3 of the layer before, and every fourth one
something from any earlier layer besides. A smaller graph is the beginning of a larger one. Each deployment has one
version, which read those of its upstreams.
"""

import random
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import sqlalchemy as sa

from freshline.lineage.models import Deployment, DeploymentState, Edge, Freshness, Resource, Version, VersionInput
from freshline.storage.database import Database
from freshline.storage.words import DeploymentKind, EdgeKind, ResourceKind

WIDTH = 48
"""Deployments in a layer."""
_BUILT_AT = datetime(2026, 1, 5, 12, tzinfo=UTC)


def _id(group: int, node: object) -> str:
    """The expression of an id, in rising order and of version 7, as those of real rows are."""
    return f"('01900000-0000-7000-{group:04x}-' || lpad(to_hex({node}), 12, '0'))::uuid"


_DEPLOYMENT, _VERSION, _RUN = 0x8000, 0x9000, 0xA000
ROOT = UUID(int=0x01900000_0000_7000_8000_000000000000)
"""The first source: the one that changes."""

_COPIES: dict[Any, dict[str, str]] = {
    Deployment: {"id": _id(_DEPLOYMENT, "n"), "key": f"'{DeploymentKind.REFRESH}/node' || n"},
    Version: {
        "id": _id(_VERSION, "n"),
        "deployment_id": _id(_DEPLOYMENT, "n"),
        "run_id": _id(_RUN, "n"),
        "digest": "lpad(to_hex(n), 64, '0')",
    },
    DeploymentState: {"deployment_id": _id(_DEPLOYMENT, "n"), "version_id": _id(_VERSION, "n")},
}
"""What a copy of the first row has instead, in the order in which rows refer to one another; n is its number."""
_READS: dict[Any, dict[str, str]] = {
    Edge: {
        "deployment_id": _id(_DEPLOYMENT, "reader"),
        "role": "'in' || place",
        "upstream_id": _id(_DEPLOYMENT, "upstream"),
        "kind": f"'{EdgeKind.DATA}'",
        "observed": "false",
    },
    VersionInput: {
        "version_id": _id(_VERSION, "reader"),
        "role": "'in' || place",
        "upstream_id": _id(_DEPLOYMENT, "upstream"),
        "input_version_id": _id(_VERSION, "upstream"),
    },
}
"""What there is for each read: the columns of an edge, and of what a version read."""


def upstreams(size: int) -> list[list[int]]:
    """Return who reads whom in the graph of this many deployments, by number; the same every time."""
    chance = random.Random(1)
    found: list[list[int]] = []
    for node in range(size):
        begin = node // WIDTH * WIDTH
        read: list[int] = []
        if begin:
            read = chance.sample(range(begin - WIDTH, begin), chance.choice((2, 3)))
            if chance.random() < 0.25:
                earlier = chance.randrange(begin)
                read += [earlier] if earlier not in read else []
        found.append(read)
    return found


def fill(database: Database, conninfo: str, size: int) -> None:
    """Write the graph to a migrated, empty store, and leave it as a database at rest: analysed, written to disk."""
    database.write(_write_root)
    reads = [
        (reader, place, upstream) for reader, read in enumerate(upstreams(size)) for place, upstream in enumerate(read)
    ]
    columns = [list(column) for column in zip(*reads, strict=True)]
    given = "unnest(%s::int[], %s::int[], %s::int[]) AS given(reader, place, upstream)"
    with psycopg.connect(conninfo, autocommit=True) as connection:
        with connection.transaction():
            # What is written refers to what is written here: it need not be looked up row by row.
            connection.execute("SET LOCAL session_replication_role = replica")
            for model, replaced in _COPIES.items():
                source = f"{model.__tablename__} AS first CROSS JOIN generate_series(1, %s) AS n"
                _insert(connection, model, source, replaced, size - 1)
            for model, values in _READS.items():
                source = f"{given} CROSS JOIN (SELECT NULL::{model.__tablename__} AS first) AS empty"
                _insert(connection, model, source, values, *columns)
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("CHECKPOINT")


def _write_root(connection: sa.Connection) -> None:
    resource = Resource(
        id=UUID(int=1), tenant_id="default", name="all", kind=ResourceKind.DATASET, created_at=_BUILT_AT
    )
    version_id, run_id = (UUID(int=ROOT.int - (_DEPLOYMENT << 48) + (group << 48)) for group in (_VERSION, _RUN))
    deployment = Deployment(
        id=ROOT,
        tenant_id=resource.tenant_id,
        key=f"{DeploymentKind.REFRESH}/node0",
        kind=DeploymentKind.REFRESH,
        resource_id=resource.id,
        project="default",
        declaration={},
        declaration_digest="declared",
        parameter_schema={},
        created_at=_BUILT_AT,
        registered_at=_BUILT_AT,
    )
    version = Version(
        id=version_id,
        deployment_id=ROOT,
        number=1,
        run_id=run_id,
        fence=1,
        digest="0" * 64,
        declaration_digest=deployment.declaration_digest,
        created_at=_BUILT_AT,
    )
    state = DeploymentState(
        deployment_id=ROOT, freshness=Freshness.READY, version_id=version_id, fence=1, next_fence=1, next_number=1
    )
    for row in (resource, deployment, version, state):
        connection.execute(sa.insert(type(row).__table__).values(row.model_dump()))  # type: ignore[attr-defined]


def _insert(connection: psycopg.Connection, model: Any, source: str, replaced: dict[str, str], *values: object) -> None:
    """Insert a row for each one of the source: a copy of its column `first`, with some columns replaced."""
    pairs = ", ".join(f"'{name}', {expression}" for name, expression in replaced.items())
    statement = (
        f"INSERT INTO {model.__tablename__} SELECT made.* FROM {source}"
        f" CROSS JOIN LATERAL jsonb_populate_record(first, jsonb_build_object({pairs})) AS made"
    )
    connection.execute(statement.encode(), values)
