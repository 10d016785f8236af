"""The database of records: db upgrade."""

import click


@click.group()
def db() -> None:
    """Look after the database of records."""


@db.command()
def upgrade() -> None:
    """Bring the schema of the database to the one that this version of Freshline needs."""
    from ...storage.connections import shown_url
    from ...storage.database import Database
    from ...storage.settings import load_settings
    from .. import migrate

    database = Database(load_settings().resolved_database_url())
    with database.read() as connection:
        before = migrate.current_revision(connection)
    migrate.refuse_unknown(database, before)
    migrate.upgrade(database)
    shown = shown_url(database.engine.url)
    click.echo(f"{shown}: {before or 'empty'} -> {migrate.HEAD}")
