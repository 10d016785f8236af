"""The real servers that works need, started for one work and ended with it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql

from freshline.storage.database import Database
from tests.postgres import running_postgres

_DRIVER = "psycopg"


@dataclass(frozen=True)
class Postgres:
    """A server that is up."""

    root: str
    """Its URL without a database's name, for SQLAlchemy with psycopg."""

    def url(self, name: str, *, driver: str = _DRIVER) -> str:
        """Return the URL of a database for SQLAlchemy with this driver."""
        return f"{self.root.replace(f'+{_DRIVER}', f'+{driver}')}/{name}"

    def conninfo(self, name: str) -> str:
        """Return the URL of a database for a bare driver."""
        return f"{self.root.replace(f'+{_DRIVER}', '')}/{name}"

    def make_database(self, name: str) -> str:
        """Make an empty database; return its URL for SQLAlchemy."""
        with psycopg.connect(self.conninfo("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name)

    def analyze(self, name: str) -> None:
        """Have a database look at its tables, as autovacuum does within a minute of their use."""
        with psycopg.connect(self.conninfo(name), autocommit=True) as connection:
            connection.execute("ANALYZE")

    def mlflow_url(self) -> str:
        """Make an empty database for MLflow; return its URL with the driver that MLflow has."""
        self.make_database("mlflow")
        return self.url("mlflow", driver="psycopg2")


@contextmanager
def durable_postgres() -> Iterator[Postgres]:
    """Run a Postgres with its own defaults, fsync on; everything is removed when the block ends."""
    with running_postgres(durable=True) as root:
        yield Postgres(root)


@contextmanager
def postgres_with_ours() -> Iterator[tuple[Postgres, Database]]:
    """Run such a server with an empty database `ours`, which is open."""
    with durable_postgres() as server:
        database = Database(server.make_database("ours"))
        try:
            yield server, database
        finally:
            database.dispose()
