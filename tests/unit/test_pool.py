"""A database that another test had is as good as a new one, or no test gets it."""

import psycopg
import pytest

from freshline.storage.ids import new_id
from tests.pool import Pool

TEMPLATE = "template_of_items"


@pytest.fixture(scope="session")
def template(postgres_url):
    """A template with a guarded table, a counter, and a row that belongs to the schema."""
    with connected(f"{postgres_url}/postgres") as server:
        server.execute(f"CREATE DATABASE {TEMPLATE}")
    with connected(f"{postgres_url}/{TEMPLATE}") as connection:
        connection.execute("CREATE TABLE revision (number int)")
        connection.execute("INSERT INTO revision VALUES (1)")
        connection.execute("CREATE TABLE item (id bigserial PRIMARY KEY, parent bigint REFERENCES item, text text)")
        connection.execute("CREATE TABLE label (item bigint NOT NULL REFERENCES item)")
        connection.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'items stay'; END $$"
        )
        connection.execute("CREATE TRIGGER item_stays BEFORE DELETE ON item FOR EACH ROW EXECUTE FUNCTION refuse()")


@pytest.fixture
def pool(postgres_url, template):
    made = Pool(postgres_url, TEMPLATE, prefix=f"pooled_{new_id().hex}")
    yield made
    made.close()


def connected(url):
    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True)


def identity(connection):
    """What a database keeps under whatever name."""
    return connection.execute("SELECT oid FROM pg_database WHERE datname = current_database()").fetchone()


def use(pool, *statements):
    """Do what a test does; return which database it had."""
    url = pool.take()
    with connected(url) as connection:
        found = identity(connection)
        for statement in statements:
            connection.execute(statement)
    pool.give_back(url)
    wait_until_nobody_is_connected(pool, url)
    return found


def wait_until_nobody_is_connected(pool, url):
    """A server ends a session a moment after its client has gone."""
    name = url.rpartition("/")[2]
    with connected(f"{url.rpartition('/')[0]}/postgres") as server:
        for _ in range(10_000):
            if server.execute("SELECT 1 FROM pg_stat_activity WHERE datname = %s", [name]).fetchone() is None:
                return
    raise AssertionError(f"{name} is still connected to")


@pytest.mark.parametrize("rows", [1, 30_000])  # few are deleted, many are truncated
def test_database_given_back_is_empty_for_the_next_with_its_guards(pool, rows):
    """Otherwise a test sees what another wrote, or runs without the triggers."""
    first = use(
        pool,
        f"INSERT INTO item (text) SELECT 'x' FROM generate_series(1, {rows})",
        "INSERT INTO item (parent, text) VALUES (1, 'child')",
        "INSERT INTO label VALUES (1)",
    )
    with connected(pool.take()) as connection:
        assert identity(connection) == first
        assert connection.execute("SELECT (SELECT count(*) FROM item), (SELECT count(*) FROM label)").fetchone() == (
            0,
            0,
        )
        assert connection.execute("SELECT number FROM revision").fetchall() == [(1,)]
        assert connection.execute("INSERT INTO item (text) VALUES ('y') RETURNING id").fetchone() == (1,)
        with pytest.raises(psycopg.errors.RaiseException, match="items stay"):
            connection.execute("DELETE FROM item")
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            connection.execute("INSERT INTO label VALUES (7)")


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TABLE another (n int)",
        "ALTER TABLE item ADD COLUMN more int",
        "ALTER TABLE item ALTER COLUMN text SET DEFAULT 'x'",
        "ALTER TABLE item DISABLE TRIGGER item_stays",
        "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
        "CREATE INDEX ON item (text)",
        "CREATE SCHEMA elsewhere",
        "GRANT SELECT ON item TO PUBLIC",
        "ANALYZE item",
        "UPDATE revision SET number = 2",
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET timezone = ''Asia/Tokyo''', current_database()); END $$",
    ],
)
def test_database_that_was_changed_is_not_used_again(pool, change):
    """Otherwise a test runs on a schema that no user has."""
    first = use(pool, "INSERT INTO item (text) VALUES ('x')", change)
    with connected(pool.take()) as connection:
        assert identity(connection) != first
        assert connection.execute("SELECT number FROM revision").fetchall() == [(1,)]


def test_database_whose_change_was_undone_is_not_used_again(pool):
    first = use(pool, "ALTER TABLE item DISABLE TRIGGER item_stays", "ALTER TABLE item ENABLE TRIGGER item_stays")
    with connected(pool.take()) as connection:
        assert identity(connection) != first


def test_database_with_an_open_transaction_is_not_used_until_it_ends(pool):
    """Otherwise the next test waits for a lock of a test that has ended, or the transaction writes into it."""
    url = pool.take()
    with connected(url) as left_open:
        first = identity(left_open)
        left_open.execute("BEGIN")
        left_open.execute("INSERT INTO item (text) VALUES ('late')")
        pool.give_back(url)
        with connected(pool.take()) as connection:
            assert identity(connection) != first
        left_open.execute("COMMIT")
    wait_until_nobody_is_connected(pool, url)
    with connected(pool.take()) as connection:
        assert identity(connection) == first
        assert connection.execute("SELECT count(*) FROM item").fetchone() == (0,)


def test_test_that_has_ended_does_not_reach_the_database_of_the_next(pool):
    """A thread that it left behind opens its next connection by the name that it knows."""
    url = pool.take()
    pool.give_back(url)
    assert pool.take() != url
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        connected(url)


def test_databases_taken_at_the_same_time_are_different(pool):
    with connected(pool.take()) as one, connected(pool.take()) as other:
        assert identity(one) != identity(other)
