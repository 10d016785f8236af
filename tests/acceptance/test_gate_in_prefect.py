"""What people see in Prefect of the gate: the state's sentence and the table, on a real server and from real flows."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from freshline.deployments.activation import without_prefect
from freshline.deployments.client import PrefectGateway
from freshline.deployments.gateway import FlowRunFacts, FlowRunState
from freshline.runs.composition import open_freshline
from freshline.runs.gate_artifacts import PREFIX, GateArtifacts
from freshline.runs.models import Run
from freshline.runs.queries import Queries
from freshline.storage.database import Database
from freshline.storage.ids import show_run_id
from freshline.storage.settings import Settings
from tests.factories import Graph, declared
from tests.stack import RunningStack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

SCRIPT = """
from prefect import flow

from freshline.flows import RunContext, track


@flow
@track.refresh
def gated(run: RunContext):
    pass


gated(return_state=True)
gated(on_stale="force")
"""


@dataclass(frozen=True)
class Called:
    """A tracked flow that a script called twice, with an upstream that has no version."""

    database: Database
    gateway: PrefectGateway
    refused: Run
    forced: Run

    def flow_run(self, run: Run) -> FlowRunFacts:
        assert run.flow_run_id is not None
        found = self.gateway.read_flow_run(run.flow_run_id)
        assert found is not None
        return found


@pytest.fixture(scope="module")
def called(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Called]:
    home = tmp_path_factory.mktemp("gated")
    settings = Settings(home=home)
    database = open_freshline(settings).database
    gated = replace(declared("refresh/gated", ["refresh/vendor"]), prefect_name="gated/gated")
    Graph(database, declared("refresh/vendor", external=True), gated)
    (home / "script.py").write_text(SCRIPT)
    environment = without_prefect(os.environ) | stack.local.environment() | {"FRESHLINE_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, str(home / "script.py")],
        cwd=home, env=environment, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    forced, refused = (run for _, run in Queries(database).runs())
    yield Called(database, stack.gateway, refused, forced)
    database.dispose()


def test_refused_flow_run_says_why_in_its_state(called: Called) -> None:
    flow_run = called.flow_run(called.refused)
    assert (flow_run.state_type, flow_run.state_name) == (FlowRunState.CANCELLED, "Refused")
    assert flow_run.state_message == f"{show_run_id(called.refused.id)}: refresh/vendor has no version yet"


def test_forced_flow_run_completes(called: Called) -> None:
    flow_run = called.flow_run(called.forced)
    assert (flow_run.state_type, called.forced.status) == (FlowRunState.COMPLETED, "completed")


def test_table_is_shown_on_each_flow_run_once(called: Called) -> None:
    flow_run_ids = [run.flow_run_id for run in (called.refused, called.forced) if run.flow_run_id is not None]
    # No flow has written anything; whoever dispatches and reconciles does, and looks at what is there first.
    assert called.gateway.read_artifacts(flow_run_ids, prefix=PREFIX) == []
    passes = [GateArtifacts(called.database, called.gateway).pass_once() for _ in range(2)]
    assert passes == [2, 0]
    artifacts = called.gateway.read_artifacts(flow_run_ids, prefix=PREFIX)
    assert {artifact.key for artifact in artifacts} == {"freshline-gate-refresh-gated"}
    text = {artifact.flow_run_id: artifact.data for artifact in artifacts}
    row = "| vendor | refresh/vendor |  |  | not_initialized | refresh/vendor has no version yet |  |  |"
    refused, forced = (text[flow_run_id] for flow_run_id in flow_run_ids)
    assert refused.startswith("### The gate: refuse\n\nrefresh/vendor has no version yet\n")
    assert forced.startswith("### The gate: run\n\nforced by prefect although refresh/vendor has no version yet\n")
    assert row in refused
    assert row in forced
