"""A higher fence means newer inputs, also when two runs of one deployment are claimed at the same moment."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event, get_ident

import pytest

from freshline.runs.execution import RunExecution
from freshline.runs.result import Read, Result
from freshline.runs.service import RunExecutionService
from freshline.storage.faults import watched
from tests.factories import Graph, declared
from tests.faults.acts import content
from tests.faults.contention import await_blocked
from tests.oracle import stored

SOURCE, READER = "refresh/prices", "refresh/momentum"


class Worker:
    """Claims and completes runs."""

    def __init__(self, database):
        self.service, self.execution = RunExecutionService(database), RunExecution(database)

    def claim(self, key):
        return self.execution.claim(self.service.submit(key, on_stale="force").id, worker="one")

    def complete(self, claim, text):
        reads = [Read(pin.role, pin.upstream_id, pin.version_id) for pin in claim.pins]
        result = Result(artifacts=[content(text)], reads=reads)
        return self.execution.complete(claim.run.id, claim.run.fence, result)


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_run_that_looked_before_another_one_does_not_draw_the_higher_fence(database, database_url):
    Graph(database, declared(SOURCE), declared(READER, [SOURCE]))
    worker = Worker(database)
    worker.complete(worker.claim(SOURCE), "first")
    has_looked, go_on, slow = Event(), Event(), []

    def hold_back(point):
        """The first one that has asked the gate stands still before it draws its fence."""
        if point == "claim.gated" and get_ident() in slow:
            has_looked.set()
            assert go_on.wait(30)

    def claim_slowly():
        slow.append(get_ident())
        return worker.claim(READER)

    def move_and_claim():
        worker.complete(worker.claim(SOURCE), "second")
        return worker.claim(READER)

    with watched(hold_back), ThreadPoolExecutor(2) as threads:
        older = threads.submit(claim_slowly)
        assert has_looked.wait(30)
        newer = threads.submit(move_and_claim)
        await_blocked(database_url, unless=newer.done)  # to wait for the other one keeps their order too
        go_on.set()
        claims = [older.result(30), newer.result(30)]
    for claim in sorted(claims, key=lambda one: one.run.fence):
        worker.complete(claim, f"of {claim.pins}")
    assert stored.judgements(database)[0][READER].freshness == "ready"
