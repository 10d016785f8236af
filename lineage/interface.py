"""What a notebook asks of the graph, on the store that the environment names or on a database that is given.

Owns how the store is found and opened for reading, once per process. Makes no store and changes none: a schema is made
and upgraded elsewhere.
"""

import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import Connection

from ..storage.database import Database
from ..storage.errors import StoreUnavailable, StoreVersion
from ..storage.ids import Identified, id_of
from ..storage.settings import load_settings
from . import lapse, questions, reasons, registry
from .lapse import Expiring
from .listing import Listing
from .questions import BuiltVersion, Impact, InputVersion, LinkedDeployment
from .reasons import Explanation

T = TypeVar("T")

Reference = str | UUID | Identified
"""A version, or the run that published it: by name, by id, or as its record."""

_NOT_THERE = {"42P01", "42703"}  # undefined_table, undefined_column
_lock = threading.Lock()
_opened: dict[str, Database] = {}


def inputs(
    reference: Reference,
    *,
    recursive: bool = True,
    database: Database | None = None,
    tenant_id: str | None = None,
) -> Listing[InputVersion]:
    """Return what went into a version, nearest first, down to the sources; with `recursive=False` what it read itself.

    `backtest/book` is the current version, `backtest/book@v2` and `backtest/book@champion` are those; `run-…`, or a
    run's record, is what that run has published.

    Raises:
        InvalidInput: the text is neither a version nor a run.
        NotFound: there is no such deployment or version; the message has what is near.
    """

    meant = id_of(reference)
    if recursive and questions.is_run(meant):
        run_id = questions.run_named(meant)
        return _told(
            lambda store, tenant: questions.inputs_of_run(store, run_id, tenant_id=tenant), database, tenant_id
        )

    def ask(connection: Connection, tenant: str) -> Listing[InputVersion]:
        version_id = questions.version_named(connection, meant, tenant_id=tenant)
        return questions.inputs_of(connection, version_id, recursive=recursive)

    return answer(ask, database, tenant_id)


def consumers(
    reference: Reference, *, database: Database | None = None, tenant_id: str | None = None
) -> Listing[BuiltVersion]:
    """Return the versions that read this one directly; references and errors as of `inputs`."""

    def ask(connection: Connection, tenant: str) -> Listing[BuiltVersion]:
        return questions.consumers_of(
            connection, questions.version_named(connection, id_of(reference), tenant_id=tenant)
        )

    return answer(ask, database, tenant_id)


def impact(reference: Reference, *, database: Database | None = None, tenant_id: str | None = None) -> Impact:
    """Return everything that was built from a version, directly or through others, nearest first.

    Its attribute `current` has what of it is in use: the current versions of their deployments. References and errors
    as of `inputs`.
    """

    def ask(connection: Connection, tenant: str) -> Impact:
        version_id = questions.version_named(connection, id_of(reference), tenant_id=tenant)
        return questions.impact_of(connection, version_id)

    return answer(ask, database, tenant_id)


def upstream(
    deployment: str, *, recursive: bool = True, database: Database | None = None, tenant_id: str | None = None
) -> Listing[LinkedDeployment]:
    """Return the deployments that this one reads, directly or through others, nearest first.

    Raises:
        NotFound: there is no such deployment; the message has the nearest keys.
    """

    def ask(connection: Connection, tenant: str) -> Listing[LinkedDeployment]:
        found = registry.deployment(connection, deployment, tenant_id=tenant)
        return questions.deployments_above(connection, found.id, recursive=recursive)

    return answer(ask, database, tenant_id)


def downstream(
    deployment: str, *, recursive: bool = True, database: Database | None = None, tenant_id: str | None = None
) -> Listing[LinkedDeployment]:
    """Return the deployments that read this one, directly or through others, nearest first; errors as of `upstream`."""

    def ask(connection: Connection, tenant: str) -> Listing[LinkedDeployment]:
        found = registry.deployment(connection, deployment, tenant_id=tenant)
        return questions.deployments_below(connection, found.id, recursive=recursive)

    return answer(ask, database, tenant_id)


def explain(deployment: str, *, database: Database | None = None, tenant_id: str | None = None) -> Explanation:
    """Return why a deployment is as fresh as it is, down to the runs and versions that started it.

    Raises:
        NotFound: there is no such deployment; the message has the nearest keys.
    """

    def ask(connection: Connection, tenant: str) -> Explanation:
        found = registry.deployment(connection, deployment, tenant_id=tenant)
        return reasons.explain(connection, found.id)

    return answer(ask, database, tenant_id)


def expiring(
    before: datetime | str,
    *,
    timezone: str | None = None,
    include_lapsed: bool = False,
    database: Database | None = None,
    tenant_id: str | None = None,
) -> Listing[Expiring]:
    """Return the deployments whose current version ceases to hold by a moment, the first one first.

    `2026-11-23T08:00` is that time in `timezone`, or where this machine is. With `include_lapsed`, also those that
    have ceased to hold.

    Raises:
        InvalidInput: the moment cannot be read, or has passed.
    """
    wanted = lapse.moment_named(before, timezone=timezone)
    store = opened(load_settings().resolved_database_url()) if database is None else database

    def ask(connection: Connection, tenant: str) -> Listing[Expiring]:
        now = store.now(connection)
        return lapse.expiring(connection, wanted, tenant_id=tenant, now=now, include_lapsed=include_lapsed)

    return answer(ask, store, tenant_id)


def answer(ask: Callable[[Connection, str], T], database: Database | None, tenant_id: str | None) -> T:
    """Ask in one snapshot of the store that the environment names, unless another one is given.

    Raises:
        StoreUnavailable: there is no store, or it cannot be reached.
        StoreVersion: the store has another schema than this program knows.
    """

    def read(store: Database, tenant: str) -> T:
        with store.read() as connection:
            return ask(connection, tenant)

    return _told(read, database, tenant_id)


def _told(ask: Callable[[Database, str], T], database: Database | None, tenant_id: str | None) -> T:
    """Ask the store that the environment names, unless another one is given; errors as of `answer`."""
    if database is None or tenant_id is None:
        settings = load_settings()
        tenant_id = settings.tenant_id if tenant_id is None else tenant_id
        database = opened(settings.resolved_database_url()) if database is None else database
    try:
        return ask(database, tenant_id)
    except (exc.OperationalError, exc.ProgrammingError) as error:
        if not _is_about_schema(error):
            raise
        shown = database.engine.url.render_as_string(hide_password=True)
        raise StoreVersion(
            f"the database {shown} has not the tables of this version of Freshline: run `freshline db upgrade`, "
            "or name another one with FRESHLINE_DATABASE_URL or FRESHLINE_HOME"
        ) from error


def _is_about_schema(error: exc.DBAPIError) -> bool:
    """Return whether a table or a column is not there."""
    if (sqlstate := getattr(error.orig, "sqlstate", None)) is not None:
        return sqlstate in _NOT_THERE
    return str(error.orig).startswith(("no such table", "no such column"))


def opened(url: str) -> Database:
    """Return the store of a URL, opened once per process.

    Raises:
        StoreUnavailable: there is none; none is made.
    """
    with _lock:
        if url not in _opened:
            path = sa.make_url(url).database if url.startswith("sqlite:") else None
            if path and not Path(path).exists():
                # Opening it would make an empty file, which answers nothing and looks like a store.
                raise StoreUnavailable(
                    f"there is no store at {path}: set FRESHLINE_HOME or FRESHLINE_DATABASE_URL to yours"
                )
            _opened[url] = Database(url)
        return _opened[url]
