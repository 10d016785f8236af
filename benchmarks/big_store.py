"""A store with very many runs of many deployments, filled by the database itself, on SQLite or Postgres.

The deployments are a layered graph of all seven kinds. The runs go round the deployments, each a step of time after
the one before; the newest began just now. Each has ten metrics and the row of its type; completed ones have published
a version; some have their inputs, events and artifacts. What is fresh and what is stale follows by the program's own
rule. The same size gives the same store every time, but for its times.

    python -m benchmarks.big_store --home DIRECTORY --runs 100000 --deployments 2000

makes one to look at: `FRESHLINE_HOME=DIRECTORY freshline runs`.
"""

import argparse
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from freshline.deployments.blocks import RESOURCE_KINDS
from freshline.lineage import staleness
from freshline.lineage.models import Deployment, DeploymentState, Edge, Resource
from freshline.runs.migrate import ensure_schema
from freshline.storage.artifacts import ArtifactRecord, replace_artifacts
from freshline.storage.database import Database
from freshline.storage.files import save_file
from freshline.storage.filesystem import ObjectStore
from freshline.storage.parquet import write_table
from freshline.storage.words import DeploymentKind, EdgeKind

from .big_rows import DEPLOYMENT, LAYERS, RESOURCE, RUN, SPAN, Rows, Size, made_id
from .layered_graphs import WIDTH, upstreams


def key_of(node: int) -> str:
    """Return the key of a deployment by its number."""
    return f"{LAYERS[node // WIDTH % len(LAYERS)]}/{'prices' if node == 0 else f'node-{node:04d}'}"


def id_of_deployment(node: int) -> UUID:
    """Return the id of a deployment by its number."""
    return made_id(DEPLOYMENT, node)


def id_of_run(number: int) -> UUID:
    """Return the id of a run by its number, from 0 on."""
    return made_id(RUN, number)


def fill(database: Database, size: Size, *, objects: ObjectStore | None = None, until: datetime | None = None) -> None:
    """Write all of it to a migrated, empty store, and have the database look at what it has."""
    until = (until or datetime.now(UTC)).replace(microsecond=0)
    with database.transaction() as connection:
        if database.dialect == "postgresql":
            # What is written refers to what is written here: it need not be looked up row by row.
            connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
            connection.exec_driver_sql("SET LOCAL maintenance_work_mem = '512MB'")
        else:
            connection.exec_driver_sql("PRAGMA cache_size = -200000")
        _write_graph(connection, size, now=until)
        Rows(connection, size, until).write()
        if objects is not None and size.artifacts:
            _write_artifacts(connection, objects, size, now=until)
    with database.transaction() as connection:
        # By the newest versions some are out of date.
        staleness.propagate(connection, [id_of_deployment(node) for node in range(size.deployments)], now=until)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")


def _write_graph(connection: Connection, size: Size, *, now: datetime) -> None:
    registered_at = now - SPAN
    resources, deployments, states, edges = [], [], [], []
    for node, read in enumerate(upstreams(size.deployments)):
        key = key_of(node)
        kind = DeploymentKind(key.partition("/")[0])
        resources.append(
            Resource(
                id=made_id(RESOURCE, node),
                tenant_id="default",
                name=key.partition("/")[2],
                kind=RESOURCE_KINDS[kind][0],
                created_at=registered_at,
            )
        )
        deployments.append(
            Deployment(
                id=id_of_deployment(node),
                tenant_id="default",
                key=key,
                kind=kind,
                resource_id=made_id(RESOURCE, node),
                project="default",
                prefect_name=f"flow/{key.replace('/', '-')}",
                prefect_deployment_id=id_of_deployment(node),
                declaration={},
                declaration_digest="declared",
                parameter_schema={"type": "object", "properties": {"lookback_d": {"type": "integer"}}},
                created_at=registered_at,
                registered_at=registered_at,
            )
        )
        states.append(DeploymentState(deployment_id=id_of_deployment(node)))
        edges += [
            Edge(
                deployment_id=id_of_deployment(node),
                role=f"in{place}",
                upstream_id=id_of_deployment(upstream),
                kind=EdgeKind.DATA,
            )
            for place, upstream in enumerate(read)
        ]
    for rows in (resources, deployments, states, edges):
        if rows:
            table = type(rows[0]).__table__  # type: ignore[attr-defined]
            connection.execute(sa.insert(table), [row.model_dump() for row in rows])


def _write_artifacts(connection: Connection, objects: ObjectStore, size: Size, *, now: datetime) -> None:
    days = pd.date_range(end=now.date(), periods=500, freq="B")
    curve = pd.DataFrame({"date": days, "equity": [1 + day * 0.001 + (day % 7) * 0.002 for day in range(len(days))]})
    report = save_file(objects, b"<h1>Report</h1><p>As in every run.</p>", media_type="text/html")
    records = [
        ArtifactRecord.of_table("equity_curve", write_table(objects, curve, data_date="date")),
        ArtifactRecord.of_file("report.html", report, publish=False),
    ]
    run = sa.table("run", sa.column("id", sa.Uuid()), sa.column("status"))
    query = sa.select(run.c.id).where(run.c.status == "completed").order_by(run.c.id.desc()).limit(size.artifacts)
    for run_id in connection.execute(query).scalars().all():
        replace_artifacts(connection, run_id, records, now=now, since=now)


def main(arguments: list[str] | None = None) -> None:
    """Make a store below a directory."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.big_store", description=main.__doc__)
    parser.add_argument("--home", type=Path, required=True, help="where: its freshline.db and artifacts")
    parser.add_argument("--runs", type=int, default=Size.runs)
    parser.add_argument("--deployments", type=int, default=Size.deployments)
    given: Any = parser.parse_args(arguments)
    given.home.mkdir(parents=True, exist_ok=True)
    database = Database(f"sqlite:///{given.home / 'freshline.db'}")
    ensure_schema(database)
    began = time.perf_counter()
    objects = ObjectStore((given.home / "artifacts").absolute().as_uri())
    fill(database, Size(runs=given.runs, deployments=given.deployments), objects=objects)
    database.dispose()
    print(f"{given.runs:,} runs of {given.deployments:,} deployments in {time.perf_counter() - began:.1f} s")


if __name__ == "__main__":
    main()
