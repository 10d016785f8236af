"""What a commit survives, in words that can be compared: settings that the database itself told."""

from collections.abc import Callable

import psycopg
import sqlalchemy as sa

from freshline.storage.database import Database

SYNCHRONOUS = ("OFF", "NORMAL", "FULL", "EXTRA")
"""What SQLite's numbers mean."""


def of_database(database: Database) -> str:
    """Ask through one of the database's own connections."""
    with database.read() as connection:

        def ask(statement: str) -> object:
            return connection.execute(sa.text(statement)).scalar_one()

        return in_words(ask, dialect=database.dialect)


def of_psycopg(connection: psycopg.Connection) -> str:
    """Ask through this connection, and leave no transaction open on it."""

    def ask(statement: str) -> object:
        row = connection.execute(statement).fetchone()
        assert row is not None
        return row[0]

    said = in_words(ask, dialect="postgresql")
    connection.rollback()
    return said


def in_words(ask: Callable[[str], object], *, dialect: str) -> str:
    """Return the settings that decide what a commit survives; `ask` runs a statement and returns its one value."""
    if dialect == "sqlite":
        journal, synchronous = str(ask("PRAGMA journal_mode")), int(str(ask("PRAGMA synchronous")))
        return f"SQLite journal_mode={journal.upper()}, synchronous={SYNCHRONOUS[synchronous]}"
    settings = [f"{name}={ask('SHOW ' + name)}" for name in ("fsync", "synchronous_commit", "full_page_writes")]
    return f"Postgres {', '.join(settings)}"
