"""A flow under a real Prefect whose worker has no database: everything that it records goes through a server."""

import pandas as pd
import pytest
from prefect import flow

from freshline.flows import RunContext, run_as, track
from freshline.runs import composition
from freshline.runs.composition import Freshline
from freshline.runs.queries import Queries
from freshline.storage.filesystem import ObjectStore
from freshline.storage.settings import Settings
from tests.asking import TOKEN
from tests.contracts.servers import serving_store
from tests.unit.flows.records import graph_of, talking_to

pytestmark = [
    pytest.mark.stack,
    # What differs here is the way to the database; the databases are told apart in tests/contracts/test_run_port.py.
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
    # Prefect's asynchronous client (3.8) leaves a connection to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


@flow
@track.refresh
def load(run: RunContext, days: int = 2) -> None:
    run.log(loss=0.25, step=1)
    run.write("data", pd.DataFrame({"day": range(days)}))


@flow
@track.refresh
def fails(run: RunContext) -> None:
    raise LookupError("no such vendor")


@pytest.fixture
def over_http(stack, database, tmp_path, monkeypatch):
    """This process may reach the server alone: its database is nowhere."""
    graph_of(database, stack)
    artifacts = (tmp_path / "artifacts").as_uri()
    monkeypatch.setattr(composition, "_opened", {})
    store = Freshline(Settings(home=tmp_path / "server", api_token=TOKEN), database, ObjectStore(artifacts))
    with serving_store(store) as url, talking_to(stack):
        monkeypatch.setenv("FRESHLINE_HOME", str(tmp_path / "worker"))
        monkeypatch.setenv("FRESHLINE_DATABASE_URL", "postgresql+psycopg://nobody@127.0.0.1:9/nowhere")
        monkeypatch.setenv("FRESHLINE_ARTIFACTS_URL", artifacts)
        monkeypatch.setenv("FRESHLINE_API_URL", url)
        monkeypatch.setenv("FRESHLINE_API_TOKEN", TOKEN)
        yield Queries(database)
        (port,) = composition._opened.values()
        port.close()


def test_flow_records_everything_through_the_server(over_http):
    with run_as("refresh/prices"):
        load(days=3)
    ((key, run),) = over_http.runs()
    report = over_http.report(run.id)
    assert (key, run.status, report.version) == ("refresh/prices", "completed", 1)
    assert report.metrics == {"loss": 0.25}
    assert {one.name: one.rows for one in report.artifacts} == {"data": 3, "metrics": 1}
    assert run.lease_owner is None


def test_flow_that_fails_says_so_through_the_server(over_http):
    with run_as("refresh/prices"), pytest.raises(LookupError):
        fails()
    ((_, run),) = over_http.runs()
    assert (run.status, run.error_type, run.error_message) == ("failed", "LookupError", "no such vendor")
