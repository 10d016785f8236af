"""The fixture `database`: an empty, migrated store, once on SQLite and once on a real Postgres."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import Dialect, Engine
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.util import LRUCache

from freshline.runs.migrate import ensure_schema
from freshline.storage.database import Database
from tests.pool import Pool
from tests.postgres import running_postgres

_TEMPLATE = "template_freshline"
_STATEMENTS = 1_000
"""So many are kept for each kind of database."""


def pytest_configure() -> None:
    """Let all stores of this process that are of one kind share what SQLAlchemy has compiled, as those of a server do.

    It keeps that per engine and dialect. A test has a store of its own, and would compile each of its statements again:
    a third of its time.
    """
    kept: dict[type[Dialect], LRUCache[object, object]] = {}
    make = Engine.__init__

    def make_sharing(self: Engine, *arguments: object, **options: object) -> None:
        make(self, *arguments, **options)
        self._compiled_cache = kept.setdefault(type(self.dialect), LRUCache(_STATEMENTS))

    Engine.__init__ = make_sharing
    DefaultDialect.__eq__ = lambda self, other: type(self) is type(other)
    DefaultDialect.__hash__ = lambda self: hash(type(self))


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a server with a migrated database `template_freshline`."""
    with running_postgres() as url:
        conninfo = url.replace("+psycopg", "") + "/postgres"
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {_TEMPLATE}")
        template = Database(f"{url}/{_TEMPLATE}")
        ensure_schema(template)
        template.dispose()
        yield url


@pytest.fixture(scope="session")
def postgres_pool(postgres_url: str) -> Iterator[Pool]:
    """Migrated, empty databases on the session's server."""
    pool = Pool(postgres_url, _TEMPLATE)
    yield pool
    pool.close()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file."""
    path = tmp_path_factory.mktemp("template") / "freshline.db"
    template = Database(f"sqlite:///{path}")
    ensure_schema(template)
    template.dispose()
    return path


def new_database_url(request: pytest.FixtureRequest, directory: Path) -> str:
    """Return the URL of a migrated, empty store on the database that the fixture's parameter names, for as long as the
    fixture lives.
    """
    if request.param == "sqlite":
        target = directory / "freshline.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), target)
        return f"sqlite:///{target}"
    pool: Pool = request.getfixturevalue("postgres_pool")
    url = pool.take()
    request.addfinalizer(lambda: pool.give_back(url))
    return url


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
