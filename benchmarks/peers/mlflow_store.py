"""MLflow's store, opened with settings that were asked for, and what its own connections say about them.

MLflow has no setting for SQLite's journal: its engine gets them where SQLAlchemy makes a connection, and every
connection of it is asked.
"""

import json
import logging
from typing import Any

import sqlalchemy as sa
from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient
from sqlalchemy.engine import Engine

_SYNCHRONOUS = ("OFF", "NORMAL", "FULL", "EXTRA")


def use_sqlite_settings(journal: str, synchronous: str) -> None:
    """Have every SQLite connection that this process makes from now on take these settings. Call it first."""

    @sa.event.listens_for(Engine, "connect")
    def set_pragmas(raw: Any, _record: object) -> None:
        cursor = raw.cursor()
        cursor.execute(f"PRAGMA journal_mode = {journal}")
        cursor.execute(f"PRAGMA synchronous = {synchronous}")
        cursor.close()


def open_client(url: str) -> tuple[MlflowClient, str]:
    """Return a client of the store, whose tables are made now, and the id of an experiment in it."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    client = MlflowClient(tracking_uri=url)
    return client, client.create_experiment("bench")


def durability(client: MlflowClient) -> str:
    """Ask a connection of the engine that the client works with."""
    with client._tracking_client.store.engine.connect() as connection:

        def ask(statement: str) -> Any:
            return connection.execute(sa.text(statement)).scalar_one()

        if connection.dialect.name == "sqlite":
            journal, synchronous = ask("PRAGMA journal_mode"), _SYNCHRONOUS[ask("PRAGMA synchronous")]
            return f"SQLite journal_mode={journal.upper()}, synchronous={synchronous}"
        settings = [f"{name}={ask('SHOW ' + name)}" for name in ("fsync", "synchronous_commit", "full_page_writes")]
        return f"Postgres {', '.join(settings)}"


def log_values(client: MlflowClient, run_id: str, *, at_ms: int) -> None:
    """Log 10 parameters and 10 metrics in one call, the cheapest way that MLflow has."""
    metrics = [Metric(f"m{number}", number * 0.5, at_ms, 0) for number in range(10)]
    client.log_batch(run_id, metrics=metrics, params=[Param(f"p{number}", str(number)) for number in range(10)])


def say(message: dict[str, object]) -> None:
    """Answer with one line."""
    print(json.dumps(message), flush=True)
