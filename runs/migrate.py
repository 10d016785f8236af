"""The schema of the store: made when it is new, checked when it is opened, brought up to date when asked to.

Alembic is imported only when there is something to migrate: opening a store that is up to date is one query.
"""

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..storage.connections import shown_url
from ..storage.database import Database
from ..storage.errors import StoreVersion
from ..storage.ids import new_id
from .models import Store

HEAD = "0011"
"""The revision that this program was written for; a test compares it with the migrations."""

_STORE = Store.__table__  # type: ignore[attr-defined]


def ensure_schema(database: Database) -> None:
    """Make the schema of an empty database; accept one that is up to date.

    Raises:
        StoreVersion: the database is newer (install a newer Freshline) or older (run `freshline db upgrade`).
    """
    with database.read() as connection:
        revision = current_revision(connection)
    if revision == HEAD:
        return
    if revision is None:
        upgrade(database)
        return
    refuse_unknown(database, revision)
    shown = shown_url(database.engine.url)
    raise StoreVersion(f"the database {shown} has the older schema {revision}: run `freshline db upgrade`")


def refuse_unknown(database: Database, revision: str | None) -> None:
    """Refuse a database that this program does not know.

    Raises:
        StoreVersion: a newer Freshline made it.
    """
    if revision is not None and revision not in known_revisions():
        shown = shown_url(database.engine.url)
        raise StoreVersion(
            f"the database {shown} has the schema {revision}, which this version of Freshline does not know: "
            "it was made by a newer one; install that"
        )


def current_revision(connection: Connection) -> str | None:
    """Return the schema's revision; null when the database has none of our tables."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return revision


def upgrade(database: Database) -> None:
    """Bring the schema to the newest revision, and give a new store its identity. Safe to repeat and to race.

    Programs may run meanwhile: if a lock of theirs and one of ours wait for each other, all is done again.

    Raises:
        StoreUnavailable: the database cannot be reached, or stayed busy.
    """
    from alembic import command

    def work(connection: Connection) -> None:
        connection.begin()  # so that Alembic sees that it is in a transaction, and leaves it to us
        if database.dialect == "postgresql":
            # Two programs that start together: the second waits, and finds the work done.
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(7205759403792793601)"))
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        if connection.execute(sa.select(_STORE.c.id)).first() is None:
            connection.execute(sa.insert(_STORE).values(id=new_id(), created_at=database.now(connection)))

    database.write(work)


def known_revisions() -> list[str]:
    """Return the revisions that this program knows, newest first."""
    from alembic.script import ScriptDirectory

    return [script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()]


def _config() -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config
