"""The database of records: db upgrade."""

import click

from .output import json_option, print_json, say


@click.group()
def db() -> None:
    """Look after the database of records."""


@db.command()
@json_option
def upgrade(*, as_json: bool) -> None:
    """Bring the schema of the database to the one that this version of Freshline needs."""
    from ...storage.connections import shown_url
    from ...storage.database import Database
    from ...storage.settings import load_settings
    from .. import migrate

    database = Database(load_settings().resolved_database_url())
    try:
        with database.read() as connection:
            before = migrate.current_revision(connection)
        migrate.refuse_unknown(database, before)
        migrate.upgrade(database)
    finally:
        database.dispose()
    shown = shown_url(database.engine.url)
    if as_json:
        print_json({"database": shown, "before": before, "after": migrate.HEAD})
    else:
        say(f"{shown}: {before or 'empty'} -> {migrate.HEAD}")
