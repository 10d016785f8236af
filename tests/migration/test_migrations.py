"""The schema: what the migrations make is what the models declare, and no database is opened by the wrong program."""

import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from multiprocessing import get_context
from threading import Barrier

import psycopg
import pytest
import sqlalchemy as sa

from freshline.runs import migrate, views
from freshline.runs.migrate import HEAD, current_revision, ensure_schema, known_revisions, upgrade
from freshline.storage.database import Database
from freshline.storage.errors import StoreVersion

_numbers = count(1)


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request, tmp_path):
    """The URL of a database without any table."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'freshline.db'}"
    url = request.getfixturevalue("postgres_url")
    name = f"empty_{next(_numbers)}"
    conninfo = url.replace("postgresql+psycopg", "postgresql") + "/postgres"
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    return f"{url}/{name}"


@pytest.fixture
def empty(empty_url):
    with opened(empty_url) as database:
        yield database


@contextmanager
def opened(url):
    database = Database(url, sqlite_synchronous="OFF")
    try:
        yield database
    finally:
        database.dispose()


def set_revision(database, revision):
    """What a database looks like that another version of the program left."""
    with database.transaction() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})


def revision_of(database):
    with database.read() as connection:
        return current_revision(connection)


def tables_of(database):
    with database.read() as connection:
        return set(sa.inspect(connection).get_table_names())


def stores_of(database):
    with database.read() as connection:
        return connection.execute(sa.text("SELECT id FROM store")).scalars().all()


def triggers_of(database):
    """The names of the triggers: no comparison of models sees them."""
    query = {
        "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
        "postgresql": "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal",
    }[database.dialect]
    with database.read() as connection:
        return set(connection.execute(sa.text(query)).scalars())


def test_newer_database_is_refused_and_left_alone(database):
    set_revision(database, "9999")
    with pytest.raises(StoreVersion, match=r"schema 9999.*newer.*install") as caught:
        ensure_schema(database)
    assert "\n" not in str(caught.value)
    assert revision_of(database) == "9999"


def test_newer_database_is_refused_without_its_password(database, monkeypatch):
    set_revision(database, "9999")
    secret = database.engine.url.set(password="hunter2")
    monkeypatch.setattr(database.engine, "url", secret)
    with pytest.raises(StoreVersion) as caught:
        ensure_schema(database)
    assert "hunter2" not in str(caught.value)


def test_older_database_names_the_command_that_upgrades_it(database, monkeypatch):
    monkeypatch.setattr(migrate, "HEAD", "9999")  # as if this program were one revision ahead
    with pytest.raises(StoreVersion, match=rf"older schema {HEAD}: run `freshline db upgrade`"):
        ensure_schema(database)
    assert revision_of(database) == HEAD


def test_database_that_has_other_tables_keeps_them(empty):
    with empty.transaction() as connection:
        connection.execute(sa.text("CREATE TABLE somebody_elses (id INTEGER)"))
    ensure_schema(empty)
    assert "somebody_elses" in tables_of(empty)


def test_head_constant_is_the_newest_of_the_migrations():
    assert known_revisions()[0] == HEAD


def test_revisions_are_one_line_numbered_from_1():
    assert known_revisions() == [f"{number:04d}" for number in range(len(known_revisions()), 0, -1)]


def test_migrated_schema_equals_the_models(empty):
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext
    from sqlmodel import SQLModel

    import freshline.runs.background  # every table of the models must be known  # noqa: F401

    ensure_schema(empty)
    with empty.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, SQLModel.metadata) == []


def test_comparison_sees_a_difference(empty):
    # The guard of the test above: a comparison that knew no table would be equal too.
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext
    from sqlmodel import SQLModel

    import freshline.runs.background  # noqa: F401

    ensure_schema(empty)
    with empty.transaction() as connection:
        connection.execute(sa.text("ALTER TABLE run ADD COLUMN forgotten INTEGER"))
    with empty.read() as connection:
        context = MigrationContext.configure(connection)
        assert [difference[0] for difference in compare_metadata(context, SQLModel.metadata)] == ["remove_column"]


def test_constraints_have_names_that_a_migration_can_speak_of(empty):
    ensure_schema(empty)
    with empty.read() as connection:
        inspector = sa.inspect(connection)
        for table in sorted(tables_of(empty) - {"alembic_version"}):
            named = [inspector.get_pk_constraint(table), *inspector.get_foreign_keys(table)]
            named += [*inspector.get_unique_constraints(table), *inspector.get_check_constraints(table)]
            assert all(re.fullmatch(r"(pk|fk|uq|ck)_\w+", found["name"] or "") for found in named), table


def test_reserved_partition_is_in_the_keys_from_the_first_revision(empty):
    ensure_schema(empty)
    with empty.read() as connection:
        inspector = sa.inspect(connection)
        for table in ("run", "version", "deployment_state", "cause"):
            assert "partition" in {column["name"] for column in inspector.get_columns(table)}, table


def test_triggers_are_there_on_both_databases(empty):
    ensure_schema(empty)
    assert triggers_of(empty)


def test_new_store_gets_one_identity_which_stays(empty):
    ensure_schema(empty)
    before = stores_of(empty)
    assert len(before) == 1
    ensure_schema(empty)
    upgrade(empty)
    assert stores_of(empty) == before


def views_of(database):
    """View -> its query as the database has it."""
    query = {
        "sqlite": "SELECT name, sql FROM sqlite_master WHERE type = 'view'",
        "postgresql": "SELECT viewname, definition FROM pg_views WHERE schemaname = current_schema()",
    }[database.dialect]
    with database.read() as connection:
        return {row[0]: row[1] for row in connection.execute(sa.text(query))}


def test_views_of_a_migrated_store_are_those_that_the_program_declares(empty):
    ensure_schema(empty)
    found = views_of(empty)
    assert set(found) == set(views.NAMES)
    with empty.transaction() as connection:
        views.drop_views(connection)
        views.make_views(connection)
    assert views_of(empty) == found
    with empty.read() as connection:
        assert all(columns for columns in views.columns_of(connection).values())


def change_in_a_batch(connection):
    """What a later revision may do: on SQLite this copies the table, and gives the copy its name."""
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    operations = Operations(MigrationContext.configure(connection))
    with operations.batch_alter_table("metric") as batch:
        batch.alter_column("name", existing_type=sa.String(), type_=sa.String(250))


def test_table_that_views_show_is_changed_while_they_are_away(empty):
    ensure_schema(empty)
    with empty.transaction() as connection:
        views.drop_views(connection)
        change_in_a_batch(connection)
        views.make_views(connection)
    assert set(views_of(empty)) == set(views.NAMES)


def test_view_that_stays_stops_a_batch(empty):
    # Why the environment takes them away on SQLite, and a revision that changes a type does on Postgres.
    ensure_schema(empty)
    with pytest.raises(sa.exc.DBAPIError, match="view"), empty.transaction() as connection:
        change_in_a_batch(connection)


def test_upgrade_of_a_store_whose_views_are_old_makes_them_anew(empty):
    ensure_schema(empty)
    with empty.transaction() as connection:
        connection.execute(sa.text("DROP VIEW v_runs"))
        # The first columns as they are: Postgres lets a view grow, and keeps who may read it.
        connection.execute(sa.text("CREATE VIEW v_runs AS SELECT 'run-' AS run_id, id AS run_key FROM run"))
    with empty.read() as connection:
        assert views.columns_of(connection)["v_runs"] == ["run_id", "run_key"]
    upgrade(empty)
    with empty.read() as connection:
        assert "deployment" in views.columns_of(connection)["v_runs"]


@pytest.mark.parametrize("empty_url", ["postgres"], indirect=True)
def test_upgrade_keeps_who_may_read_the_views_and_what_stands_upon_them(empty):
    ensure_schema(empty)
    with empty.transaction() as connection:
        connection.execute(sa.text("CREATE VIEW mine AS SELECT run_id FROM v_runs"))
        connection.execute(sa.text("GRANT SELECT ON v_runs TO PUBLIC"))
    upgrade(empty)
    with empty.read() as connection:
        granted = "SELECT count(*) FROM information_schema.role_table_grants WHERE table_name = 'v_runs'"
        granted += " AND grantee = 'PUBLIC'"
        assert connection.execute(sa.text(granted)).scalar_one() == 1
    assert set(views_of(empty)) == {"mine", *views.NAMES}


def test_downgrade_below_the_views_leaves_none(empty):
    from alembic import command

    ensure_schema(empty)
    with empty.transaction() as connection:
        config = migrate._config()
        config.attributes["connection"] = connection
        command.downgrade(config, "0009")
    assert (revision_of(empty), views_of(empty)) == ("0009", {})


def test_upgrade_again_changes_nothing(empty):
    upgrade(empty)
    before = (tables_of(empty), triggers_of(empty), revision_of(empty))
    upgrade(empty)
    assert (tables_of(empty), triggers_of(empty), revision_of(empty)) == before


def test_threads_that_open_an_empty_store_at_once_all_succeed(empty_url):
    workers = 4
    barrier = Barrier(workers)

    def open_store(_):
        with opened(empty_url) as database:
            barrier.wait(timeout=30)
            ensure_schema(database)
            return stores_of(database)

    with ThreadPoolExecutor(workers) as pool:
        found = list(pool.map(open_store, range(workers)))
    assert len(found[0]) == 1
    assert all(stores == found[0] for stores in found)


def test_processes_that_open_an_empty_store_at_once_all_succeed(empty_url):
    context = get_context("spawn")
    with context.Manager() as manager:
        barrier, answers = manager.Barrier(2), manager.list()
        processes = [context.Process(target=_open_store, args=(empty_url, barrier, answers)) for _ in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(timeout=60)
        assert [process.exitcode for process in processes] == [0, 0]
        assert len(set(answers)) == 1
        assert len(answers) == 2


@pytest.mark.parametrize("statement", [1, 5, -1])
def test_upgrade_that_died_halfway_leaves_a_database_that_upgrades(empty, statement):
    with pytest.raises(InterruptedError), dying_at(empty, statement):
        upgrade(empty)
    assert revision_of(empty) is None
    assert tables_of(empty) == set(), "half a schema stayed behind"
    ensure_schema(empty)
    assert revision_of(empty) == HEAD
    assert len(stores_of(empty)) == 1


def test_upgrade_whose_process_was_killed_leaves_a_database_that_upgrades(empty_url):
    process = get_context("spawn").Process(target=_upgrade_until_killed, args=(empty_url,))
    process.start()
    process.join(timeout=60)
    assert process.exitcode == -9
    with opened(empty_url) as database:
        assert tables_of(database) == set()
        ensure_schema(database)
        assert revision_of(database) == HEAD


@contextmanager
def dying_at(database, statement):
    """Raise at this CREATE statement of the upgrade; at the insert of the store's identity, the last act, for -1."""
    seen = count(1)

    def die(_connection, _cursor, sql, *_rest):
        text = sql.lstrip().upper()
        if (statement == -1 and text.startswith("INSERT INTO STORE")) or (
            text.startswith("CREATE") and next(seen) == statement
        ):
            raise InterruptedError("the power of the test failed")

    sa.event.listen(database.engine, "after_cursor_execute", die)
    try:
        yield
    finally:
        sa.event.remove(database.engine, "after_cursor_execute", die)


def _open_store(url, barrier, answers):
    with opened(url) as database:
        barrier.wait(timeout=60)
        ensure_schema(database)
        answers.append(str(stores_of(database)))


def _upgrade_until_killed(url):
    import os
    import signal

    database = Database(url)
    seen = count(1)

    def die(_connection, _cursor, sql, *_rest):
        if sql.lstrip().upper().startswith("CREATE") and next(seen) == 5:
            os.kill(os.getpid(), signal.SIGKILL)

    sa.event.listen(database.engine, "after_cursor_execute", die)
    upgrade(database)
