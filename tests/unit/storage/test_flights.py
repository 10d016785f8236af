"""Statements that nobody waits for travel with the next one that somebody does, and nothing is lost on the way."""

import _thread
import select
import sys
import threading
from itertools import count

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy import exc

from freshline.storage import compiled, connections, database, prepared, statement
from freshline.storage.compiled import SESSION, land
from freshline.storage.database import Database
from freshline.storage.prepared import Session
from freshline.storage.statement import Statement, insert_all

_NOTE = sa.Table("note", sa.MetaData(), sa.Column("number", sa.Integer), sa.Column("text", sa.String))
_INSERT = insert_all(_NOTE)
_NUMBERS = Statement(lambda _: sa.select(_NOTE.c.number).order_by(_NOTE.c.number))
_ONE = Statement(lambda _: sa.select(sa.literal_column("1", sa.Integer).label("one")))
_BROKEN = Statement(lambda _: sa.select(sa.literal_column("1 / 0").label("never")))
_FAIL_ONCE = Statement(lambda _: sa.select(sa.func.fail_once().label("never")))
_SLEEP = Statement(lambda _: sa.select(sa.func.pg_sleep(60).label("never")))
_ECHO = Statement(lambda _: sa.select(sa.bindparam("text", type_=sa.String).label("text")))
_CHANGE = Statement(
    lambda sql: sql.certain(sa.update(_NOTE).where(_NOTE.c.number == sa.bindparam("which")).values(text="changed"))
)
# A sequence forgets nothing when a transaction is undone.
_PREPARATIONS = (
    "CREATE TABLE note (number int PRIMARY KEY, text text)",
    "CREATE SEQUENCE tried",
    "CREATE FUNCTION fail_once() RETURNS int LANGUAGE plpgsql AS $$ BEGIN IF nextval('tried') = 1 THEN "
    "RAISE EXCEPTION 'caught in a circle' USING ERRCODE = '40P01'; END IF; RETURN 1; END $$",
)
_names = count()


@pytest.fixture(scope="module")
def url(postgres_url):
    name = f"flights_{next(_names)}"
    conninfo = postgres_url.replace("postgresql+psycopg", "postgresql")
    with psycopg.connect(f"{conninfo}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    with psycopg.connect(f"{conninfo}/{name}", autocommit=True) as connection:
        for statement in _PREPARATIONS:
            connection.execute(statement)
    return f"{postgres_url}/{name}"


@pytest.fixture
def postgres(url):
    opened = Database(url, pool_size=1)
    yield opened
    with opened.transaction() as connection:
        connection.execute(sa.text("TRUNCATE note"))
        connection.execute(sa.text("ALTER SEQUENCE tried RESTART"))
    opened.dispose()


def numbers(database):
    with database.read() as connection:
        return [row.number for row in _NUMBERS.rows(connection)]


def observe(url, statement):
    """Run a statement on a connection of somebody else's."""
    conninfo = url.replace("postgresql+psycopg", "postgresql")
    with psycopg.connect(conninfo, autocommit=True) as connection:
        return connection.execute(statement).fetchone()


def end_backend(connection):
    """The server closes this connection, whatever it is at."""
    pid = connection.connection.driver_connection.info.backend_pid
    url = connection.engine.url.render_as_string(hide_password=False)
    assert observe(url, f"SELECT pg_terminate_backend({pid}, 5000)") == (True,)


def test_transaction_of_posted_statements_waits_once(postgres):
    with postgres.transaction() as connection:
        session = connection.info[SESSION]
        before = session.flights
        _INSERT.post(connection, number=1, text="one")
        _INSERT.post(connection, number=2, text="two")
        answer = _NUMBERS.ask(connection)
        assert session.flights == before, "nobody has waited"
    assert session.flights == before + 1
    assert [row.number for row in answer.rows()] == [1, 2]


def test_transaction_in_which_nothing_is_sent_does_not_take_place(postgres):
    with postgres.transaction() as connection:
        session, before = connection.info[SESSION], connection.info[SESSION].flights
    assert session.flights == before


def test_posted_statement_that_is_refused_is_named_and_nothing_is_left(postgres):
    def work(connection):
        _INSERT.post(connection, number=1, text="one")
        _INSERT.post(connection, number=1, text="again")
        _INSERT.post(connection, number=2, text="two")

    with pytest.raises(exc.IntegrityError, match="note_pkey") as caught:
        postgres.write(work)
    assert caught.value.statement.startswith("INSERT INTO note")
    assert numbers(postgres) == []


def test_posted_statement_that_is_refused_is_raised_where_the_next_answer_is_looked_at(postgres):
    reached = []

    def work(connection):
        _BROKEN.post(connection)
        reached.append("posted")
        _ONE.rows(connection)
        reached.append("answered")

    with pytest.raises(exc.DataError, match="division by zero") as caught:
        postgres.write(work)
    assert caught.value.statement == "SELECT 1 / 0 AS never"
    assert reached == ["posted"]


def test_answer_to_what_was_behind_a_failure_is_an_error(postgres):
    answers = []

    def work(connection):
        _BROKEN.post(connection)
        answers.append(_ONE.ask(connection))

    with pytest.raises(exc.DataError):
        postgres.write(work)
    with pytest.raises(exc.InternalError, match="a statement before it failed"):
        answers[0].rows()


def test_answer_that_came_with_the_commit_is_there_when_its_connection_is_somebody_elses(postgres):
    asked = postgres.write(lambda connection: _ECHO.ask(connection, text="said"))
    with postgres.transaction() as connection:
        _INSERT.post(connection, number=1, text="one")
        session, before = connection.info[SESSION], connection.info[SESSION].flights
        assert asked.scalar() == "said"
        assert session.flights == before


def test_answer_that_came_with_the_commit_is_there_when_its_connection_is_closed(postgres):
    asked = postgres.write(lambda connection: _ECHO.ask(connection, text="said"))
    postgres.dispose()  # as when another thread finds that the server has gone
    assert asked.scalar() == "said"


def test_commit_after_a_failure_that_somebody_caught_is_an_error(postgres):
    def work(connection):
        _INSERT.run(connection, number=1, text="one")
        with pytest.raises(exc.DataError):
            _BROKEN.rows(connection)

    with pytest.raises(exc.DBAPIError, match="nothing was committed"):
        postgres.write(work)
    assert numbers(postgres) == []


def test_certain_change_of_nothing_fails_with_the_commit(postgres):
    postgres.write(lambda connection: _INSERT.post(connection, number=1, text="one"))
    postgres.write(lambda connection: _CHANGE.post(connection, which=1))

    def change_what_is_not_there(connection):
        _INSERT.post(connection, number=2, text="two")
        _CHANGE.post(connection, which=7)

    with pytest.raises(exc.DataError, match="nothing was changed: what the change depends on"):
        postgres.write(change_what_is_not_there)
    assert numbers(postgres) == [1]


def test_deadlock_in_a_posted_statement_is_tried_again(postgres):
    def work(connection):
        _INSERT.post(connection, number=1, text="one")
        _FAIL_ONCE.post(connection)

    postgres.write(work)
    assert numbers(postgres) == [1]


def test_statement_of_sqlalchemys_sees_what_was_posted_before_it(postgres):
    with postgres.transaction() as connection:
        _INSERT.post(connection, number=1, text="one")
        assert connection.execute(sa.text("SELECT count(*) FROM note")).scalar_one() == 1
        _INSERT.post(connection, number=2, text="two")
    assert numbers(postgres) == [1, 2]


def test_failure_of_what_was_posted_before_a_statement_of_sqlalchemys_names_the_right_one(postgres):
    def work(connection):
        _BROKEN.post(connection)
        connection.execute(sa.text("SELECT count(*) FROM note"))

    with pytest.raises(exc.DataError, match="division by zero") as caught:
        postgres.write(work)
    assert caught.value.statement == "SELECT 1 / 0 AS never"


def test_connection_lost_before_anybody_waited_gives_one_row(postgres):
    lost = []

    def work(connection):
        _ONE.rows(connection)
        _INSERT.post(connection, number=1, text="one")
        if not lost:
            lost.append(True)
            end_backend(connection)
        return _ONE.scalar(connection)

    assert postgres.write(work) == 1
    assert numbers(postgres) == [1]


def test_connection_lost_before_the_flight_of_the_commit_is_no_success(postgres):
    def work(connection):
        _ONE.rows(connection)
        _INSERT.post(connection, number=1, text="one")
        end_backend(connection)

    with pytest.raises(exc.DBAPIError) as caught:
        postgres.write(work)
    assert caught.value.connection_invalidated
    assert numbers(postgres) == []


@pytest.mark.parametrize("has_poll", [True, False], ids=["poll", "select, as on Windows"])
def test_connection_that_the_server_closed_meanwhile_is_not_used(postgres, monkeypatch, has_poll):
    if not has_poll:
        monkeypatch.delattr(select, "poll")
    with postgres.read() as connection:
        first = connection.connection.driver_connection
        pid = first.info.backend_pid
    url = postgres.engine.url.render_as_string(hide_password=False)
    assert observe(url, f"SELECT pg_terminate_backend({pid}, 5000)") == (True,)
    with postgres.transaction() as connection:  # nobody repeats this one
        assert connection.connection.driver_connection is not first
        assert _ONE.scalar(connection) == 1


def test_single_question_is_one_flight_with_its_transaction(postgres):
    with postgres.read() as connection:
        session = connection.info[SESSION]
    before = session.flights
    assert [row.text for row in postgres.ask(_ECHO, text="said")] == ["said"]
    assert session.flights == before + 1
    assert session.is_at_rest


def test_single_question_writes_nothing(postgres):
    with pytest.raises(exc.InternalError, match="read-only transaction"):
        postgres.ask(_INSERT, number=1, text="one")
    assert numbers(postgres) == []


def test_single_question_that_is_refused_names_the_statement(postgres):
    with pytest.raises(exc.DataError, match="division by zero") as caught:
        postgres.ask(_BROKEN)
    assert caught.value.statement == "SELECT 1 / 0 AS never"
    assert [row.one for row in postgres.ask(_ONE)] == [1]


def test_single_question_on_a_connection_that_is_lost_is_asked_again(postgres, monkeypatch):
    with postgres.read() as connection:
        lost = connection
    end_backend(lost)
    # It was closed just after somebody looked.
    monkeypatch.setattr(Session, "is_alive", lambda self: True)
    assert [row.one for row in postgres.ask(_ONE)] == [1]


def test_single_question_on_sqlite_is_answered(tmp_path):
    opened = Database(f"sqlite:///{tmp_path / 'records.db'}")
    assert [row.text for row in opened.ask(_ECHO, text="said")] == ["said"]
    opened.dispose()


def test_connection_is_given_back_at_rest_whatever_was_posted(postgres):
    def change_its_mind(connection):
        _INSERT.post(connection, number=1, text="one")
        raise ZeroDivisionError

    def fail(connection):
        _BROKEN.post(connection)
        land(connection)

    with pytest.raises(ZeroDivisionError):
        postgres.write(change_its_mind)
    with pytest.raises(exc.DataError):
        postgres.write(fail)
    with postgres.transaction() as connection:
        _ONE.rows(connection)
        kept = connection.connection.driver_connection
    assert kept.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    assert kept.info.pipeline_status == psycopg.pq.PipelineStatus.OFF
    assert numbers(postgres) == []


def test_interruption_while_somebody_waits_leaves_no_connection_behind(postgres, url):
    running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'"

    def interrupt():
        while observe(url, running) != (1,):
            pass
        _thread.interrupt_main()

    thread, used = threading.Thread(target=interrupt), []

    def work(connection):
        used.append(connection.connection.driver_connection)
        thread.start()
        _INSERT.post(connection, number=1, text="one")
        _SLEEP.rows(connection)

    with pytest.raises(KeyboardInterrupt):
        postgres.write(work)
    thread.join(timeout=60)
    assert observe(url, running) == (0,)
    with postgres.transaction() as connection:
        assert _ONE.scalar(connection) == 1
        assert connection.connection.driver_connection is not used[0]
    assert numbers(postgres) == []


def test_interruption_while_a_transaction_begins_costs_no_connection(postgres, monkeypatch):
    send = Session.send

    def interrupted(session, *arguments, **options):
        send(session, *arguments, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Session, "send", interrupted)
        with pytest.raises(KeyboardInterrupt):
            postgres.write(_ONE.rows)
    with postgres.transaction() as connection:  # it gets the connection that fell then
        assert _ONE.scalar(connection) == 1


def test_interruption_while_answers_are_read_leaves_every_statement_usable(postgres, monkeypatch):
    asked, behind = (Statement(lambda _: sa.select(sa.literal_column("1", sa.Integer).label("one"))) for _ in range(2))

    def work(connection):
        asked.ask(connection)
        return behind.scalar(connection)

    def interrupted(session, result):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Session, "rows", interrupted)
        with pytest.raises(KeyboardInterrupt):
            postgres.write(work)
    assert postgres.write(work) == 1


@pytest.mark.slow
def test_interruption_at_any_line_leaves_a_store_that_can_be_used(postgres):
    places = {module.__file__ for module in (compiled, connections, database, prepared, statement)}

    def interrupted_at(wanted, act):
        """Interrupt this act where it enters a line for the so manieth time; return whether it came so far."""
        left = wanted

        def enter(frame, event, _):
            nonlocal left
            left -= event == "line"
            if event == "line" and not left:
                sys.settrace(None)
                raise KeyboardInterrupt
            return enter

        sys.settrace(lambda frame, event, _: enter if frame.f_code.co_filename in places else None)
        try:
            act()
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(None)
        return False

    opened = Database(postgres.engine.url.render_as_string(hide_password=False), pool_size=100)
    try:
        for line in count(1):
            asked, behind = (Statement(lambda _: sa.select(sa.func.count()).select_from(_NOTE)) for _ in range(2))

            def work(connection, line=line, asked=asked, behind=behind):
                asked.ask(connection)
                _INSERT.post(connection, number=line, text="one")
                return behind.scalar(connection)

            def act(work=work, asked=asked):
                opened.write(work)
                opened.ask(asked)
                with opened.read() as connection:
                    connection.execute(sa.text("SELECT 1"))

            came_so_far = interrupted_at(line, act)
            was_written = line in numbers(opened)
            assert opened.write(lambda c, behind=behind: behind.scalar(c)) == len(numbers(opened))
            assert len(opened.ask(asked)) == 1
            if not came_so_far:
                assert was_written
                break
    finally:
        opened.dispose()


def test_flight_larger_than_what_the_two_sides_buffer_lands(postgres):
    text = "x" * 500_000
    with postgres.read() as connection:
        answers = [_ECHO.ask(connection, text=f"{number}{text}") for number in range(30)]
        assert [answer.scalar()[:1] for answer in answers] == [str(number)[:1] for number in range(30)]


def test_statements_are_posted_where_nothing_may_be_prepared(url):
    opened = Database(url, pool_size=1)
    sa.event.listen(opened.engine, "do_connect", lambda _d, _r, _a, given: given.update(prepare_threshold=None))
    try:
        with opened.transaction() as connection:
            _INSERT.post(connection, number=5, text="five")
            _INSERT.post(connection, number=6, text="six")
            assert _NUMBERS.ask(connection).scalar() == 5
            assert connection.execute(sa.text("SELECT count(*) FROM pg_prepared_statements")).scalar_one() == 0
            connection.execute(sa.text("TRUNCATE note"))
    finally:
        opened.dispose()
