"""Many ended runs in a Postgres store, made by the database itself out of one that really ran.

Copied are the run, its events, its typed details and what it sent; not its metrics and its version, which a submission
does not look at. The columns are those that the tables have: nothing here must follow when the schema grows.
"""

from uuid import UUID

import psycopg
from psycopg import sql

from freshline.runs.details import TABLE_OF

from .lives import KIND

TABLES = ("run", "run_event", str(TABLE_OF[KIND].__tablename__), "outbox")
"""What a submission writes to, in the order in which rows refer to one another."""

# Older than any id that is made today, in rising order and of version 7, as those of real runs are.
_RUN_ID = "('01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid"
_ROW_ID = "('01900000-0000-7000-9000-' || lpad(to_hex(row_number() OVER ()), 12, '0'))::uuid"
_EARLIER = "template.{column} - n * interval '1 minute'"

_REPLACED = {
    ("run", "id"): _RUN_ID,
    ("run", "flow_run_id"): "('01900000-0000-7000-a000-' || lpad(to_hex(n), 12, '0'))::uuid",
    ("run", "created_at"): _EARLIER,
    ("run", "started_at"): _EARLIER,
    ("run", "ended_at"): _EARLIER,
    ("run_event", "at"): _EARLIER,
    ("outbox", "id"): _ROW_ID,
    ("outbox", "dedupe_key"): f"replace(template.{{column}}, %(template)s::text, {_RUN_ID}::text)",
}
"""(table, column) -> what a copy has instead; every `run_id` is the copy's."""


def fill(conninfo: str, template: UUID, *, copies: int) -> None:
    """Add copies of an ended run, and leave the tables as a database at rest has them: analysed, written to disk."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        with connection.transaction():
            # What the copies refer to is what the template refers to: it need not be looked up for each of them.
            connection.execute("SET LOCAL session_replication_role = replica")
            for table in TABLES:
                _copy(connection, table, template, copies)
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("CHECKPOINT")


def count(conninfo: str) -> int:
    """Return how many runs are stored."""
    with psycopg.connect(conninfo) as connection:
        row = connection.execute("SELECT count(*) FROM run").fetchone()
        assert row is not None
        return int(row[0])


def _copy(connection: psycopg.Connection, table: str, template: UUID, copies: int) -> None:
    columns = [
        row[0]
        for row in connection.execute(
            "SELECT column_name FROM information_schema.columns"
            " WHERE table_schema = current_schema() AND table_name = %s AND is_generated = 'NEVER'",
            (table,),
        )
    ]
    chosen = [sql.SQL(_chosen(table, column).format(column=f'"{column}"')) for column in columns]
    statement = sql.SQL(
        "INSERT INTO {table} ({columns}) SELECT {chosen} FROM generate_series(1, %(copies)s) AS n"
        " CROSS JOIN (SELECT * FROM {table} WHERE {key} = %(template)s) AS template"
    ).format(
        table=sql.Identifier(table),
        columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
        chosen=sql.SQL(", ").join(chosen),
        key=sql.Identifier("id" if table == "run" else "run_id"),
    )
    connection.execute(statement, {"copies": copies, "template": template})


def _chosen(table: str, column: str) -> str:
    return _RUN_ID if column == "run_id" else _REPLACED.get((table, column), "template.{column}")
