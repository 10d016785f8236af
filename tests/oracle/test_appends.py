"""Runs that append to one table, or upsert into it, at the same time lose no row: a body's own calls, real objects."""

import pandas as pd
import pytest

from freshline.flows.context import RunContext
from freshline.flows.identity import RunIdentity
from freshline.flows.lease import Lease
from freshline.runs.execution import RunExecution
from freshline.runs.port import DirectPort
from freshline.runs.service import RunExecutionService
from freshline.storage import parquet
from freshline.storage.filesystem import ObjectStore
from freshline.storage.words import DeploymentKind
from tests.factories import Graph, declared
from tests.fakes import FakeGateway

KEY, NAME = "refresh/log", "log"


class Appender:
    """A body that adds rows to the table of the version that was current when its run was claimed."""

    def __init__(self, database, port):
        self.execution = RunExecution(database)
        self.port = port
        self.run = self.execution.claim(RunExecutionService(database).submit(KEY).id, worker="one").run

    def append(self, *rows, mode="append"):
        """Add the rows, complete, and return how the run ended."""
        identity = RunIdentity(
            id=self.run.id,
            fence=self.run.fence,
            deployment_id=self.run.deployment_id,
            deployment=KEY,
            kind=DeploymentKind.REFRESH,
            base_version_id=self.run.base_version_id,
        )
        context = RunContext(identity, self.port, Lease(lambda: None, interval_s=3600))
        key = ["row"] if mode == "upsert" else None
        context.write(NAME, pd.DataFrame({"row": pd.Series(rows, dtype="str")}), mode=mode, key=key)
        return self.execution.complete(self.run.id, self.run.fence, context.result(None)).stop_reason


@pytest.fixture
def port(database, tmp_path):
    Graph(database, declared(KEY))
    return DirectPort(database, ObjectStore(f"file://{tmp_path}"), FakeGateway())


def rows_of(port, reference):
    table = port.resolve(reference).artifacts[NAME].stored_table()
    return parquet.to_pandas(port.objects, table)["row"].tolist()


@pytest.mark.parametrize("mode", ["append", "upsert"])
@pytest.mark.parametrize("first_claimed_completes_first", [True, False])
def test_two_appends_to_one_base_lose_no_row(database, port, first_claimed_completes_first, mode):
    assert Appender(database, port).append("base", mode=mode) == "completed"
    two = [Appender(database, port), Appender(database, port)]
    first, second = two if first_claimed_completes_first else reversed(two)
    assert (first.append("a", mode=mode), second.append("b", mode=mode)) == ("completed", "superseded")
    # What came second stands beside it, and says so: its own rows are there to be read.
    assert rows_of(port, KEY) == ["base", "a"]
    assert rows_of(port, f"{KEY}@v3") == ["base", "b"]
    # Done again, it continues what is current now.
    assert Appender(database, port).append("b", mode=mode) == "completed"
    assert rows_of(port, KEY) == ["base", "a", "b"]


def test_append_to_a_base_that_was_replaced_by_equal_rows_is_superseded_too(database, port):
    """Equal rows are in other files, perhaps: what continues a version continues that one."""
    assert Appender(database, port).append("base") == "completed"
    late, same = Appender(database, port), Appender(database, port)
    assert same.append() == "completed"
    assert rows_of(port, f"{KEY}@v2") == rows_of(port, f"{KEY}@v1")
    assert late.append("a") == "superseded"
    assert rows_of(port, KEY) == ["base"]


@pytest.mark.parametrize("mode", ["append", "upsert"])
def test_two_first_appends_lose_no_row(database, port, mode):
    two = [Appender(database, port), Appender(database, port)]
    assert [one.append(row, mode=mode) for one, row in zip(two, "ab", strict=True)] == ["completed", "superseded"]
