"""Each guard is needed: with it all is well, without it the same scenario goes wrong.

Three are shown by the kill harness and its checker. The other two keep writers of one moment apart. They are shown on
Postgres alone: on SQLite every transaction that writes has the file to itself from its first statement on, so there
are no two writers to keep apart.
"""

from contextlib import closing, nullcontext
from datetime import timedelta
from functools import partial
from threading import Barrier, get_ident

import pytest
import sqlalchemy as sa

from freshline.runs.author_events import AuthorEvent
from freshline.runs.execution import RunExecution
from freshline.runs.port import DirectPort
from freshline.runs.result import Result
from freshline.runs.run_statements import LOGGED_AT_ONCE
from freshline.runs.service import RunExecutionService
from freshline.storage.database import Database
from freshline.storage.faults import Guard, switched_off, watched
from freshline.storage.filesystem import ObjectStore
from tests.factories import Graph, declared
from tests.fakes import FakeGateway
from tests.faults import checker
from tests.faults.acts import content
from tests.faults.contention import at_once, await_blocked
from tests.faults.harness import Harness
from tests.faults.tables import EVENT

on_and_off = pytest.mark.parametrize("is_on", [True, False], ids=["on", "off"])
on_postgres = pytest.mark.parametrize("database_url", ["postgres"], indirect=True)


def dispatch_is_sent_twice(harness):
    """The dispatcher dies when Prefect has answered: the next one sends the same entry again."""
    harness.submit("refresh/prices")
    assert harness.do("dispatch", fate={"kill_at": "dispatch.called"})[0] == "killed"
    harness.now += timedelta(minutes=2)  # the claim of the dead one runs out
    harness.do("dispatch")


def older_holder_meets_a_newer_fence(harness):
    """A worker stands still while the infrastructure starts its flow run again elsewhere; then it goes on."""
    flow_run = harness.dispatched()
    for _ in ("the older", "the newer"):
        assert harness.work_on(flow_run, fate={"park_at": "record.committed"})[0] == "parked"
    harness.go_on()


def worker_is_lost_and_nobody_notices(harness):
    """The worker dies; Prefect goes on saying that its flow run runs."""
    harness.noticed_share = 0.0
    assert harness.work_on(harness.dispatched(), fate={"kill_at": "record.committed"})[0] == "killed"


@on_and_off
@pytest.mark.parametrize(
    ("guard", "scenario", "complaint"),
    [
        (Guard.DISPATCH_KEY, dispatch_is_sent_twice, "2 flow runs were created"),
        (Guard.FENCE, older_holder_meets_a_newer_fence, "was not published by the holder of its run"),
        (Guard.LEASE, worker_is_lost_and_nobody_notices, "is running, its flow run Running"),
    ],
)
def test_guard_that_is_off_is_missed_by_the_kill_harness(database_url, guard, scenario, complaint, is_on):
    with closing(Harness(database_url, seed=1, guards_off=() if is_on else (guard,))) as harness:
        harness.prefect.loses_answers = False
        scenario(harness)
        harness.come_to_rest()
        faults = harness.faults()
    if is_on:
        assert faults == []
    else:
        assert any(complaint in fault for fault in faults), faults


@on_postgres
@on_and_off
def test_event_counter_that_is_off_gives_one_number_twice(database, database_url, is_on):
    Graph(database, declared("refresh/prices"))
    run = RunExecutionService(database).submit("refresh/prices")
    claim = RunExecution(database).claim(run.id, worker="one")
    port = DirectPort(database, ObjectStore("memory://guards"), FakeGateway())
    first = []

    def hold_back(point):
        """Whoever comes first commits only when the other one waits for it."""
        if point == "record.before_commit" and not first:
            first.append(get_ident())
            await_blocked(database_url)

    # So many that they are waited for before the commit: fewer are one flight with it, and nobody can be held back.
    number = LOGGED_AT_ONCE + 1

    def record():
        port.record(run.id, claim.run.fence, [AuthorEvent(name=str(at)) for at in range(number)])

    with nullcontext() if is_on else switched_off(Guard.EVENT_COUNTER), watched(hold_back):
        outcomes = at_once(record, record)
    assert first, "both recorded, one of them first"
    ended = RunExecution(database).fail(run.id, claim.run.fence, ValueError("end"), "")
    with database.read() as connection:
        wrong = checker.wrong_records(connection, [ended])
        recorded = [row.kind for row in connection.execute(sa.select(EVENT))].count("author_event")
    if is_on:
        assert (outcomes, wrong, recorded) == ([None, None], [], 2 * number)
    else:
        assert [one for one in outcomes if one is not None] or wrong


@pytest.fixture
def impatient(database_url):
    """A database that looks for deadlocks at once, instead of after a second."""
    url = sa.make_url(database_url).update_query_dict({"options": "-c deadlock_timeout=20ms"})
    database = Database(url.render_as_string(hide_password=False))
    yield database
    database.dispose()


def completions_at_once(database, keys, *, number, meeting):
    """Complete a run of each of these deployments from one moment on; return (the runs, completions done again).

    `meeting` is the point where they wait for each other.
    """
    execution = RunExecution(database)
    claims = [execution.claim(RunExecutionService(database).submit(key).id, worker="one") for key in keys]
    start, met, again = Barrier(len(claims)), set(), []

    def meet(point):
        if point == "complete.begun":
            if get_ident() in met:
                again.append(get_ident())  # the database broke a deadlock: nothing else makes it come here twice
            met.add(get_ident())
        if point == meeting and get_ident() not in again:
            start.wait(30)

    def completed(claim):
        result = Result(artifacts=[content(f"{claim.deployment.key} {number}")])
        return execution.complete(claim.run.id, claim.run.fence, result)

    with watched(meet):
        return at_once(*(partial(completed, claim) for claim in claims)), again


@on_postgres
@on_and_off
def test_lock_order_that_is_off_lets_completions_deadlock(impatient, is_on):
    sources = ["refresh/prices", "refresh/rates"]
    readers = [declared(f"backtest/book{number}", sources) for number in range(6)]
    graph = Graph(impatient, *map(declared, sources), *readers)
    deadlocks = []
    # In order, the states are locked on the way of the guard: whoever came first would wait there for the other.
    meeting = "complete.begun" if is_on else "complete.guarded"
    with nullcontext() if is_on else switched_off(Guard.LOCK_ORDER):
        for number in range(15 if is_on else 60):
            ended, deadlocks = completions_at_once(impatient, sources, number=number, meeting=meeting)
            assert [run.status for run in ended] == ["completed", "completed"], ended
            if deadlocks:
                break
    assert bool(deadlocks) is not is_on
    assert checker.wrong_freshness(impatient, now=graph.now) == []
