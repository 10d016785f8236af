"""What a run's life costs in ways to Postgres and back, and what becomes of a change that nobody waits for."""

from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy import exc

from benchmarks.lives import KEY, Lives
from freshline.runs import outbox, store
from freshline.runs import run_events as events
from freshline.runs.dispatcher import Dispatcher
from freshline.runs.ending import end_run
from freshline.runs.execution import RunExecution
from freshline.runs.recording import RunRecording
from freshline.runs.result import Result
from freshline.runs.service import RunExecutionService
from freshline.runs.status import RunStatus, StopReason
from freshline.runs.submission import Submission
from freshline.storage.compiled import SESSION
from tests.factories import START

on_postgres = pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
_MOST_FLIGHTS = 14
"""Submit 3, outbox claimed 1 and settled 2, claim 3, metrics 2, complete 3."""


@pytest.fixture
def lives(database, tmp_path):
    return Lives.open(database, tmp_path)


def flights_of(database, act):
    """How often `act` waits for Postgres."""
    by_hand = []
    sa.event.listen(database.engine, "before_cursor_execute", lambda *_: by_hand.append(True))
    with database.read() as connection:
        session = connection.info[SESSION]
        before = session.flights
    act()
    with database.read() as connection:
        assert connection.info[SESSION] is session, "one connection is enough"
        after = session.flights
    return after - before - 2 + len(by_hand)  # each of these two reads has waited for its BEGIN or its COMMIT


@on_postgres
def test_life_of_a_run_takes_few_ways_to_postgres(database, lives):
    lives.live(1)  # the first version has more to say
    assert flights_of(database, lambda: lives.live(1)) <= _MOST_FLIGHTS


@on_postgres
def test_heartbeat_takes_two_ways_to_postgres(database, lives):
    run = RunExecution(database).claim(RunExecutionService(database).submit(KEY).id, worker="one").run
    assert flights_of(database, lambda: RunExecution(database).heartbeat(run.id, run.fence)) <= 2


@on_postgres
def test_report_of_progress_and_a_look_at_an_empty_outbox_take_one_way_to_postgres(database, lives):
    dispatcher, recording = Dispatcher(database, lives.gateway), RunRecording(database)
    run = RunExecution(database).claim(RunExecutionService(database).submit(KEY).id, worker="one").run
    dispatcher.pass_once()
    report = [events.ProgressReported(progress=0.5)]
    for act in (dispatcher.pass_once, lambda: recording.record(run.id, run.fence, report, progress=0.5)):
        act()  # a connection prepares a statement when it first runs it
        assert flights_of(database, act) == 1


def test_what_nobody_waited_for_has_the_databases_time(database, lives):
    minute = timedelta(minutes=1)
    run = RunExecution(database).claim(RunExecutionService(database).submit(KEY).id, worker="one").run
    began = moment_of(database)
    RunRecording(database).record(run.id, run.fence, [events.ProgressReported(progress=0.5)])
    (entry,) = database.write(lambda c: outbox.claim(c, now=database.known_now(c))).entries()
    ended = moment_of(database)
    with database.read() as connection:
        reported = store.events_of(connection, run.id)[-1]
    assert (reported.kind, began <= reported.at <= ended) == ("progress_reported", True)
    assert began + minute <= entry.due_at <= ended + minute


def moment_of(database):
    with database.read() as connection:
        return database.now(connection)


def rows_read(connection, table):
    """How many rows of a table this connection has read."""
    read = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = :name"
    return connection.execute(sa.text(read), {"name": table}).scalar_one()


@on_postgres
@pytest.mark.parametrize("is_known", [False, True])
def test_what_is_done_with_one_run_reads_no_other_one_however_many_wait(database, lives, is_known):
    # Several pages of them: two may as well be read as a whole.
    runs = RunExecutionService(database).submit_many([Submission(deployment=KEY)] * 90)
    with database.transaction() as connection:
        if is_known:  # to Postgres: that the tables are small enough to be read as a whole
            connection.execute(sa.text("ANALYZE run, outbox"))
        before = rows_read(connection, "run")
        store.change(connection, runs[7].id, actor="one", now=START, progress=0.5)
        fail = {"stop_reason": StopReason.ERROR, "error_message": "no"}
        assert store.transition(connection, runs[8].id, RunStatus.FAILED, [_FAILED], actor="one", now=START, **fail)
        assert rows_read(connection, "run") - before <= 4  # with those that references are checked by
        before = rows_read(connection, "outbox")
        assert len(outbox.claim(connection, now=None, limit=1).entries()) == 1
        assert rows_read(connection, "outbox") - before <= 4 * 90  # each that is due, but not each for each


@on_postgres
def test_end_of_a_run_reads_none_of_those_that_wait_for_their_turn(database, lives):
    service = RunExecutionService(database)
    run = RunExecution(database).claim(service.submit(KEY).id, worker="one").run
    service.submit_many([Submission(deployment=KEY)] * 100)
    with database.transaction() as connection:
        before = rows_read(connection, "run")
        assert end_run(connection, run.id, RunStatus.FAILED, StopReason.ERROR, _FAILED, actor="one", now=START)
        assert rows_read(connection, "run") - before <= 10


def test_change_of_a_locked_run_that_the_database_refuses_leaves_nothing(database, lives):
    execution, submitted = RunExecution(database), RunExecutionService(database).submit(KEY)
    run = execution.claim(submitted.id, worker="one").run
    execution.complete(run.id, run.fence, Result())

    def reopen(connection):
        ended = store.get_run(connection, run.id, lock=True)
        store.move(connection, ended, RunStatus.FAILED, [_FAILED], actor="one", now=START, error_message="no")

    with database.read() as connection:
        before = store.events_of(connection, run.id)
    said = "nothing was changed" if database.dialect == "postgresql" else "the run is locked, in a status that allows"
    with pytest.raises((exc.DBAPIError, AssertionError), match=said):
        database.write(reopen)
    with database.read() as connection:
        assert store.get_run(connection, run.id).status == RunStatus.COMPLETED
        assert store.events_of(connection, run.id) == before


_FAILED = events.RunFailed(stop_reason=StopReason.ERROR, error_type="ValueError", message="no")


def test_row_of_a_locked_run_is_as_the_database_has_it_after_a_change(database, lives):
    submitted = RunExecutionService(database).submit(KEY)

    def fail(connection):
        locked = store.get_run(connection, submitted.id, lock=True)
        given = {"stop_reason": StopReason.ERROR, "error_message": "no", "outputs": {"a": [1, None]}}
        return store.move(connection, locked, RunStatus.FAILED, [_FAILED], actor="one", now=START, **given)

    told = database.write(fail)
    with database.read() as connection:
        stored = store.get_run(connection, submitted.id)
        assert told._asdict() == stored._asdict()
        assert [event.kind for event in store.events_of(connection, submitted.id)][-1] == _FAILED.kind


@pytest.mark.parametrize("count", [1, 4, 5, 40])
def test_events_of_one_change_are_numbered_in_order_however_many_they_are(database, lives, count):
    submitted = RunExecutionService(database).submit(KEY)
    said = [events.RunFailed(stop_reason=StopReason.ERROR, error_type="E", message=str(at)) for at in range(count)]

    def note(connection):
        before = store.get_run(connection, submitted.id, lock=True).last_seq
        changed = store.change(connection, submitted.id, said, actor="one", now=START, error_message="noted")
        return before, changed.last_seq

    before, last = database.write(note)
    assert last == before + count
    with database.read() as connection:
        written = store.events_of(connection, submitted.id, after=before)
    assert [(event.seq, event.payload["message"]) for event in written] == [
        (before + 1 + at, str(at)) for at in range(count)
    ]
