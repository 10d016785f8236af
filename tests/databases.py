"""The fixture `database`: an empty, migrated store, once on SQLite and once on a real Postgres."""

import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest

from freshline.runs.migrate import ensure_schema
from freshline.storage.database import Database
from tests.postgres import running_postgres

_numbers = count(1)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a server with a migrated database `template_freshline`."""
    with running_postgres() as url:
        _execute(url, "CREATE DATABASE template_freshline")
        template = Database(f"{url}/template_freshline")
        ensure_schema(template)
        template.dispose()
        yield url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file."""
    path = tmp_path_factory.mktemp("template") / "freshline.db"
    template = Database(f"sqlite:///{path}")
    ensure_schema(template)
    template.dispose()
    return path


def new_database_url(request: pytest.FixtureRequest, directory: Path) -> str:
    """Make a migrated, empty store on the database that the fixture's parameter names; return its URL."""
    if request.param == "sqlite":
        target = directory / "freshline.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), target)
        return f"sqlite:///{target}"
    url: str = request.getfixturevalue("postgres_url")
    name = f"test_{next(_numbers)}"
    _execute(url, f"CREATE DATABASE {name} TEMPLATE template_freshline")
    return f"{url}/{name}"


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a store of its own, migrated and empty."""
    return new_database_url(request, tmp_path)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A store of its own, migrated and empty."""
    opened = Database(database_url, sqlite_synchronous="OFF")
    yield opened
    opened.dispose()


def _execute(url: str, statement: str) -> None:
    conninfo = url.replace("postgresql+psycopg", "postgresql") + "/postgres"
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(statement)  # type: ignore[arg-type]  # the names are made here
