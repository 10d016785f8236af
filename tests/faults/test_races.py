"""Cancel against complete between two processes: exactly one of them ends the run."""

from collections import Counter
from contextlib import closing

import pytest
import sqlalchemy as sa

from freshline.runs.execution import RunExecution
from freshline.runs.service import RunExecutionService
from tests.factories import Graph, declared
from tests.faults import checker
from tests.faults.racing import Racers
from tests.faults.tables import RUN

_LAP = 50
_AGREED = {
    ("cancelled", "fenced"): "cancelled",
    ("too late", "completed"): "completed",
    ("completed meanwhile", "completed"): "completed",
}
"""What (the canceller, the completer) was told -> how the run has ended. Nothing else may be told."""


def race(database, url, races, *, seed):
    """Race this often; return how often each status won."""
    Graph(database, declared("refresh/prices"))
    service, execution = RunExecutionService(database), RunExecution(database)
    told = {}
    with closing(Racers(url, seed)) as racers:
        for begin in range(0, races, _LAP):
            lap = []
            for _ in range(min(_LAP, races - begin)):
                claimed = execution.claim(service.submit("refresh/prices").id, worker="one").run
                lap.append((claimed.id, claimed.fence))
            told |= zip((run_id for run_id, _ in lap), racers.run(lap), strict=True)
    with database.read() as connection:
        runs = connection.execute(sa.select(RUN).order_by(RUN.c.id)).all()
        found = checker.wrong_records(connection, runs)
    assert found == []
    assert {run.id: run.status for run in runs} == {run_id: _AGREED[pair] for run_id, pair in told.items()}
    return Counter(run.status for run in runs)


def test_three_hundred_races_of_cancel_against_complete_have_one_end_each(database, database_url):
    won = race(database, database_url, 300, seed=1)
    assert won.total() == 300
    assert min(won["cancelled"], won["completed"]) >= 0.05 * 300, won


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_races_of_cancel_against_complete_have_one_end_each(database, database_url):
    won = race(database, database_url, 10_000, seed=2)
    assert won.total() == 10_000
    assert min(won["cancelled"], won["completed"]) >= 0.05 * 10_000, won
