"""Whether everything that Freshline needs is there and works: what `freshline doctor` asks.

Owns the questions to the settings, the database and Prefect; those to the object store are `storage.probe`'s. Changes
nothing: a database that does not exist is not made, and what is written to the object store is removed.
"""

import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ..storage.connections import shown_url
from ..storage.database import Database
from ..storage.errors import FreshlineError, StoreError
from ..storage.probe import Check, Outcome, probe
from ..storage.settings import Settings, is_secret, load_settings
from . import migrate
from .composition import open_objects
from .logs import without_secrets
from .models import Store

_SLOW_S = 0.25
_SKEW_S = 5.0
_SHOWN_VARIABLES = ("AWS_", "PREFECT_API_URL", "PREFECT_PROFILE")
_HIDDEN = "set"
_DATABASE_FIX = "See whether the server runs, and correct FRESHLINE_DATABASE_URL"


def shown_settings(settings: Settings) -> dict[str, str | None]:
    """Return every setting as it may be shown: no secret, no key, and of a URL not the password."""
    shown: dict[str, str | None] = {}
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if name == "database_url":
            text: str | None = _shown_database(settings.resolved_database_url())
        elif name == "artifacts_url":
            text = settings.resolved_artifacts_url()
        elif value is None:
            text = None
        else:
            text = _HIDDEN if is_secret(name) or name == "s3_access_key_id" else str(value)
        shown[f"FRESHLINE_{name.upper()}"] = None if text is None else without_secrets(text)
    for name in sorted(os.environ):
        if name.startswith(_SHOWN_VARIABLES):
            shown[name] = _HIDDEN  # which, not what: some are secrets
    return shown


def _shown_database(url: str) -> str:
    try:
        return shown_url(sa.make_url(url))
    except (sa.exc.ArgumentError, ValueError):
        return _HIDDEN  # nobody knows where in it a password stands


def check_up(settings: Settings | None = None) -> Iterator[Check]:
    """Try everything out, and yield what came of it, one by one. Never raises on what is broken.

    Raises:
        InvalidInput: a setting cannot be read at all.
    """
    settings = settings or load_settings()
    yield from _database(settings)
    yield from _objects(settings)
    yield from _prefect()


def is_sound(checks: list[Check]) -> bool:
    """Return whether nothing is broken."""
    return all(check.outcome in (Outcome.OK, Outcome.NOTE) for check in checks)


def _objects(settings: Settings) -> Iterator[Check]:
    try:
        store = open_objects(settings, retry_s=0)
    except FreshlineError as error:
        yield _broken("objects", "open", error)
        return
    yield from probe(store)


def _database(settings: Settings) -> Iterator[Check]:
    url = settings.resolved_database_url()
    missing = _missing_file(url)
    if missing is not None:
        yield missing
        return
    try:
        database = Database(url, sqlite_synchronous=settings.sqlite_synchronous)
    except FreshlineError as error:
        yield Check("database", "connect", Outcome.BROKEN, f"{error}. {_DATABASE_FIX}")
        return
    try:
        asked, connected = _timed("database", "connect", lambda: _ask(database))
        yield connected
        if asked is None:
            return
        revision, store_id, now, local = asked
        yield _latency(database)
        yield _schema(revision)
        yield _identity(settings, store_id)
        yield _clock(now, local)
    finally:
        database.dispose()


def _missing_file(url: str) -> Check | None:
    """Say that a SQLite file is not there yet: looking at it would make it."""
    try:
        parts = sa.make_url(url)
    except sa.exc.ArgumentError:
        return None  # whoever opens it says what is wrong with it
    file = parts.database
    if parts.get_backend_name() != "sqlite" or not file or Path(file).exists():
        return None
    nearest = next(parent for parent in Path(file).absolute().parents if parent.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        advice = "Make it a directory that this user can write, or set FRESHLINE_DATABASE_URL or FRESHLINE_HOME"
        return Check("database", "connect", Outcome.BROKEN, f"{file} cannot be made in {nearest}. {advice}")
    return Check("database", "connect", Outcome.OK, f"{file} is not there yet: the first command makes it")


def _ask(database: Database) -> tuple[str | None, str | None, datetime, datetime]:
    with database.read() as connection:
        now, local = database.now(connection), datetime.now(UTC)
        revision = migrate.current_revision(connection)
        store_id = None
        if revision is not None:
            table = Store.__table__  # type: ignore[attr-defined]
            found = connection.execute(sa.select(table.c.id)).scalar_one_or_none()
            store_id = None if found is None else str(found)
    return revision, store_id, now, local


def _latency(database: Database) -> Check:
    def ask() -> None:
        with database.read() as connection:
            connection.execute(sa.text("SELECT 1"))

    _, check = _timed("database", "latency", ask)
    if check.outcome == Outcome.OK and (check.took_s or 0) > _SLOW_S:
        detail = "a question takes long: run workers and reconciler nearer to the database"
        return Check("database", "latency", Outcome.NOTE, detail, check.took_s)
    return check


def _schema(revision: str | None) -> Check:
    if revision == migrate.HEAD:
        return Check("database", "schema", Outcome.OK, revision)
    if revision is None:
        return Check("database", "schema", Outcome.OK, "empty: the first command makes it ready")
    if revision in migrate.known_revisions():
        return Check("database", "schema", Outcome.BROKEN, f"{revision} is older: run `freshline db upgrade`")
    return Check("database", "schema", Outcome.BROKEN, f"{revision} is of a newer Freshline: install that")


def _identity(settings: Settings, store_id: str | None) -> Check:
    asked = settings.store_id
    if asked is None or store_id is None or asked == store_id:
        return Check("database", "store", Outcome.OK, store_id or "none yet")
    fix = "correct FRESHLINE_DATABASE_URL, or deploy again from here with `freshline deploy`"
    return Check("database", "store", Outcome.BROKEN, f"it is {store_id}, and FRESHLINE_STORE_ID is {asked}: {fix}")


def _clock(now: datetime, local: datetime) -> Check:
    difference = (local - now).total_seconds()
    detail = f"this machine's clock differs by {difference:+.1f} s"
    if abs(difference) > _SKEW_S:
        return Check("database", "clock", Outcome.NOTE, f"{detail}: set it; Freshline goes by the database's")
    return Check("database", "clock", Outcome.OK, detail)


def _prefect() -> Iterator[Check]:
    from ..deployments.connection import versions

    found, answered = _timed("prefect", "API", versions)
    if found is None:
        yield answered
        return
    server, here = found
    detail, outcome = f"version {server}, and {here} here", Outcome.OK
    if server.split(".")[:2] != here.split(".")[:2]:
        detail, outcome = f"{detail}: use one version for the server and for what talks to it", Outcome.NOTE
    yield Check("prefect", "API", outcome, detail, answered.took_s)


def _timed(area: str, name: str, question: Callable[[], Any]) -> tuple[Any, Check]:
    began = time.perf_counter()
    try:
        answer = question()
    except StoreError as error:
        return None, Check(area, name, Outcome.BROKEN, f"{error}. {_DATABASE_FIX}")
    except FreshlineError as error:
        return None, _broken(area, name, error)
    except sa.exc.SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        return None, Check(area, name, Outcome.BROKEN, f"{reason}. {_DATABASE_FIX}")
    return answer, Check(area, name, Outcome.OK, "", time.perf_counter() - began)


def _broken(area: str, name: str, error: FreshlineError) -> Check:
    return Check(area, name, Outcome.BROKEN, str(error))
