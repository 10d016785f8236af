"""Names that a store knows, for whoever is in the middle of typing one: fast, and without the records' types.

Reads only: opens no more than a connection, waits two seconds at most, and makes no store where there is none.
"""

from uuid import UUID

import sqlalchemy as sa

from ..storage.errors import StoreUnavailable
from ..storage.ids import show_run_id
from ..storage.settings import Settings

_PATIENCE_S = 2
_NEWEST = 500
"""Runs that are looked at: whoever wants an older one has its id from elsewhere."""

_KEYS = sa.text(
    "SELECT key FROM deployment WHERE tenant_id = :tenant_id AND retired_at IS NULL"
    " AND substr(key, 1, length(:begin)) = :begin ORDER BY key LIMIT :most"
)
_RUNS = sa.text(
    "SELECT run.id, deployment.key, run.status FROM run JOIN deployment ON deployment.id = run.deployment_id"
    " WHERE run.tenant_id = :tenant_id AND run.deleted_at IS NULL ORDER BY run.id DESC LIMIT :most"
)


def deployment_keys(settings: Settings, begin: str, *, most: int) -> list[str]:
    """Return keys of deployments that begin so, by name."""
    with _connected(settings) as connection:
        given = {"tenant_id": settings.tenant_id, "begin": begin, "most": most}
        return list(connection.execute(_KEYS, given).scalars())


def newest_runs(settings: Settings, begin: str, *, most: int) -> list[tuple[str, str, str]]:
    """Return (id, deployment, status) of the newest runs whose ids begin so, as they are shown."""
    with _connected(settings) as connection:
        rows = connection.execute(_RUNS, {"tenant_id": settings.tenant_id, "most": _NEWEST}).all()
    found = [(show_run_id(UUID(str(row.id))), row.key, row.status) for row in rows]
    return [one for one in found if one[0].startswith(begin)][:most]


def _connected(settings: Settings) -> sa.Connection:
    url = sa.make_url(settings.resolved_database_url())
    options: dict[str, object]
    if url.get_backend_name() == "sqlite":
        # `mode=ro`: a file that is not there is an error, and not made.
        url = url.set(database=f"file:{url.database}", query={"mode": "ro", "uri": "true"})
        options = {"timeout": _PATIENCE_S}
    else:
        options = {"connect_timeout": _PATIENCE_S, "options": f"-c statement_timeout={_PATIENCE_S * 1000}"}
    engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args=options)
    try:
        return engine.connect()
    except sa.exc.DBAPIError as error:
        raise StoreUnavailable(f"there is no store that answers: {error.orig}") from error
