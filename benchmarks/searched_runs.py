"""Stores with many runs to search through, on SQLite and Postgres: ended runs with ten metrics and one input each.

The same runs on both, the same every time; a smaller store is the beginning of a larger one.
"""

import json
import math
import random
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import sqlalchemy as sa

from freshline.lineage import registry
from freshline.lineage.models import Version
from freshline.runs.models import Metric, Run, RunInput
from freshline.storage.database import Database
from freshline.storage.words import DeploymentKind, ResourceKind

METRICS = (
    *("sharpe_ratio", "max_drawdown", "total_return", "volatility", "hit_rate"),
    *("turnover", "val_ic", "num_trades", "train_loss", "val_loss"),
)
DEPLOYMENTS = 200
BEGAN_AT = datetime(2026, 1, 1, tzinfo=UTC)
APART = timedelta(seconds=20)
"""Between the starts of two runs."""

_SOURCE = "refresh/prices"
_VERSIONS = 1_000


def fill(database: Database, size: int) -> None:
    """Write so many runs to a migrated, empty store, and leave it as one at rest: analysed, written to disk."""
    keys = [_SOURCE, *(f"{DeploymentKind.BACKTEST}/book{number}" for number in range(DEPLOYMENTS))]
    declared = [
        registry.Declared(
            key=key,
            kind=DeploymentKind(key.partition("/")[0]),
            resource=key.partition("/")[2],
            resource_kind=ResourceKind.DATASET if key == _SOURCE else ResourceKind.BACKTEST,
            declaration_digest="declared",
        )
        for key in keys
    ]
    with database.transaction() as connection:
        registry.register(connection, declared, tenant_id="default", project="default", now=BEGAN_AT)
        ids = {row.key: row.id for row in registry.deployments(connection, tenant_id="default")}
    deployments = [ids[key] for key in keys]
    tables: Mapping[Any, Iterator[dict[str, Any]]] = {
        Version: (_version(number, deployments[0]) for number in range(_VERSIONS)),
        Run: (_run(number, deployments) for number in range(size)),
        Metric: (row for number in range(size) for row in _metrics(number)),
        RunInput: (_input(number, deployments[0]) for number in range(size)),
    }
    (_fill_sqlite if database.dialect == "sqlite" else _fill_postgres)(database, tables)


def run_id(number: int) -> UUID:
    """Return the id of a run by its number, from 0: in rising order and of version 7, as real ones are."""
    milliseconds = int((BEGAN_AT + number * APART).timestamp() * 1000)
    return UUID(int=(milliseconds << 80) | (0x7 << 76) | (0b10 << 62) | number)


def _version_id(number: int) -> UUID:
    return UUID(int=(0x01900000_0000_7000_9000 << 48) + number)


def _version(number: int, deployment_id: UUID) -> dict[str, Any]:
    return {
        "id": _version_id(number),
        "deployment_id": deployment_id,
        "partition": "",
        "number": number + 1,
        "run_id": UUID(int=(0x01900000_0000_7000_A000 << 48) + number),
        "fence": number + 1,
        "digest": str(number),
        "declaration_digest": "declared",
        "created_at": BEGAN_AT,
    }


def _run(number: int, deployments: list[UUID]) -> dict[str, Any]:
    chance = random.Random(number)
    status = chance.choices(("completed", "failed", "cancelled"), (90, 8, 2))[0]
    began = BEGAN_AT + number * APART
    took = timedelta(seconds=round(chance.uniform(1, 600), 3))
    return {
        "id": run_id(number),
        "tenant_id": "default",
        "project": "default",
        "deployment_id": deployments[1 + chance.randrange(DEPLOYMENTS)],
        "partition": "",
        "type": "BacktestRun",
        "kind": str(DeploymentKind.BACKTEST),
        "trigger": chance.choice(("submitted", "schedule")),
        "actor": chance.choice(("desk", "research")),
        "generation": 0,
        "status": status,
        "stop_reason": {"completed": "completed", "failed": "error"}.get(status, "cancelled_by_user"),
        "parameters": json.dumps({"days": chance.randrange(1000), "name": f"p{number % 50}"}),
        "request": "{}",
        "tags": '["nightly"]' if number % 10 == 0 else "[]",
        "attempt": 1,
        "created_at": began,
        "started_at": began,
        "ended_at": began + took,
        "duration_ns": took // timedelta(microseconds=1) * 1000,
        "last_seq": 3,
    }


def _metrics(number: int) -> Iterator[dict[str, Any]]:
    chance = random.Random(-number - 1)
    for place, name in enumerate(METRICS):
        value = chance.gauss(0.5, 1.0 + place / 10)
        # Some training runs diverge: NaN is null.
        stored = None if name == "val_loss" and math.fabs(value) > 3 else value
        yield {"run_id": run_id(number), "name": name, "value": stored, "at": BEGAN_AT + number * APART}


def _input(number: int, source: UUID) -> dict[str, Any]:
    version = _version_id(min(number // 100, _VERSIONS - 1))
    return {
        "run_id": run_id(number),
        "role": "prices",
        "upstream_id": source,
        "version_id": version,
        "pinned": True,
        "read": True,
    }


def _fill_postgres(database: Database, tables: Mapping[Any, Iterable[dict[str, Any]]]) -> None:
    url = database.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as connection:
        with connection.transaction():
            # What is written refers to what is written here: it need not be looked up row by row.
            connection.execute("SET LOCAL session_replication_role = replica")
            for model, rows in tables.items():
                names: list[str] = []
                with connection.cursor() as cursor:
                    first = next(iter(rows))
                    names = list(first)
                    statement = f"COPY {model.__tablename__} ({', '.join(_quoted(names))}) FROM STDIN"
                    with cursor.copy(statement.encode()) as copy:
                        copy.write_row(list(first.values()))
                        for row in rows:
                            copy.write_row(list(row.values()))
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("CHECKPOINT")


def _fill_sqlite(database: Database, tables: Mapping[Any, Iterable[dict[str, Any]]]) -> None:
    connection = sqlite3.connect(str(database.engine.url.database), isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        for model, rows in tables.items():
            first = next(iter(rows))
            marks = ", ".join("?" for _ in first)
            statement = f"INSERT INTO {model.__tablename__} ({', '.join(_quoted(first))}) VALUES ({marks})"
            connection.execute(statement, _for_sqlite(first))
            connection.executemany(statement, map(_for_sqlite, rows))
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()


def _quoted(names: Iterable[str]) -> list[str]:
    return [f'"{name}"' for name in names]


def _for_sqlite(row: Mapping[str, Any]) -> list[Any]:
    def written(value: Any) -> Any:
        if isinstance(value, UUID):
            return value.hex
        if isinstance(value, datetime):
            return value.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
        return value

    return [written(value) for value in row.values()]


def count(database: Database) -> int:
    """Return how many runs are stored."""
    with database.read() as connection:
        counted: int = connection.execute(sa.select(sa.func.count()).select_from(Run.__table__)).scalar_one()  # type: ignore[attr-defined]
        return counted
