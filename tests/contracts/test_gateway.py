import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from freshline.deployments.gateway import FlowRunFacts, FlowRunState
from tests.contracts.gateway_contract import GatewayContract, World
from tests.fakes import FakeGateway
from tests.stack import RunningStack

WITH_TASK_RUNS = """
import time
from prefect import flow, runtime, task

@task(task_run_name="fit-first")
def fit():
    time.sleep(0.01)

@task(retries=1)
def lose():
    raise ValueError("no luck")

@flow
def part():
    pass

@flow
def whole():
    fit()
    lose(return_state=True)
    part()
    return str(runtime.flow_run.id)

print(whole())
"""

RETRIED = """
from prefect import flow, runtime

@flow(retries=1, retry_delay_seconds=600)
def retried():
    print(runtime.flow_run.id, flush=True)
    raise ValueError("no luck")

retried()
"""

CALLING = """
import sys
from prefect import flow, runtime
from prefect.deployments import run_deployment

@flow
def calling():
    called = run_deployment("holding/holding", parameters={"release": sys.argv[1]}, timeout=0)
    return runtime.flow_run.id, called.id

print(*calling())
"""


class FakeWorld(World):
    def __init__(self) -> None:
        milliseconds = count()
        # Time passes from one call to the next, however fast they are.
        self.gateway: FakeGateway = FakeGateway(
            clock=lambda: datetime.now(UTC) + timedelta(milliseconds=next(milliseconds))
        )
        parameters = {"n": {"type": "integer"}, "label": {"type": "string"}}
        self.idle = self.gateway.add_deployment(
            "counting/idle",
            parameters=parameters,
            work_pool_name="idle",
            schedules=["cron 0 18 * * 1-5 America/New_York"],
        )
        self.other = self.gateway.add_deployment(
            "counting/other", parameters=parameters, job_variables={"env": {"KEPT": "1"}}, work_pool_name="idle"
        )

    def running(self) -> FlowRunFacts:
        return self.gateway.begin(self.create().id)

    def release(self, flow_run: FlowRunFacts) -> None:
        self.gateway.end(flow_run.id)

    def called(self) -> tuple[UUID, FlowRunFacts]:
        caller = self.running()
        return caller.id, self.gateway.begin(self.gateway.call(caller.id, self.other.id).id)

    def with_task_runs(self) -> FlowRunFacts:
        flow_run = self.running()
        fit = self.gateway.task(flow_run.id, "fit-first")
        lose = self.gateway.task(flow_run.id, "lose-0")
        part = self.gateway.task(flow_run.id, "part-0", FlowRunState.PENDING)
        self.gateway.task(flow_run.id, "fit-first", FlowRunState.COMPLETED, task_run_id=fit.id)
        self.gateway.task(flow_run.id, "lose-0", task_run_id=lose.id, state_name="Retrying")
        self.gateway.task(flow_run.id, "lose-0", FlowRunState.FAILED, task_run_id=lose.id, message="no luck")
        self.gateway.task(flow_run.id, "part-0", FlowRunState.COMPLETED, task_run_id=part.id)
        return self.gateway.end(flow_run.id)

    def awaiting_retry(self) -> FlowRunFacts:
        return self.gateway.retry(self.running().id, retries=1, delay_s=600.0)

    def wait_for(self, flow_run_id: UUID, condition: Callable[[FlowRunFacts], bool]) -> FlowRunFacts:
        flow_run = self.gateway.read_flow_run(flow_run_id)
        assert flow_run is not None
        if flow_run.state_type == FlowRunState.CANCELLING:
            flow_run = self.gateway.end(flow_run_id, FlowRunState.CANCELLED)
        assert condition(flow_run)
        return flow_run

    def artifact(self, artifact_id: UUID) -> tuple[str, str, Any, UUID | None]:
        found = self.gateway.artifacts[artifact_id]
        return found.kind, found.key, found.data, found.flow_run_id


class RealWorld(World):
    def __init__(self, stack: RunningStack, directory: Path) -> None:
        self.stack = stack
        self.gateway = stack.gateway
        self.idle = stack.deployments["refresh/idle"]
        self.other = stack.deployments["refresh/other"]
        self._release = directory / "release"

    def running(self, *, suspend: bool = False) -> FlowRunFacts:
        holding = self.stack.deployments["refresh/holding"]
        made = self.create(holding, parameters={"release": str(self._release), "suspend": suspend})
        return self.wait_for(
            made.id, lambda flow_run: flow_run.is_suspended if suspend else flow_run.state_type == "RUNNING"
        )

    def release(self, flow_run: FlowRunFacts) -> None:
        self._release.touch()

    def called(self) -> tuple[UUID, FlowRunFacts]:
        caller_id, called_id = self.script(CALLING, str(self._release))[-2:]
        return UUID(caller_id), self.wait_for(UUID(called_id), lambda flow_run: flow_run.state_type == "RUNNING")

    def with_task_runs(self) -> FlowRunFacts:
        flow_run_id = UUID(self.script(WITH_TASK_RUNS)[-1])
        return self.wait_for(flow_run_id, lambda flow_run: flow_run.has_ended)

    def awaiting_retry(self) -> FlowRunFacts:
        command = [sys.executable, "-c", RETRIED]
        with (
            self.stack.local.activated(),
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process,
        ):
            try:
                assert process.stdout is not None
                flow_run_id = UUID(process.stdout.readline().strip())
                return self.wait_for(flow_run_id, lambda flow_run: flow_run.state_name == "AwaitingRetry")
            finally:
                process.kill()

    def script(self, text: str, *arguments: str) -> list[str]:
        """Run it in a process of its own, and return the words that it prints."""
        # Prefect sends the last events of task runs when the process exits.
        command = [sys.executable, "-c", text, *arguments]
        with self.stack.local.activated():
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout.split()

    def wait_for(self, flow_run_id: UUID, condition: Callable[[FlowRunFacts], bool]) -> FlowRunFacts:
        return self.stack.wait_for(flow_run_id, condition)

    def artifact(self, artifact_id: UUID) -> tuple[str, str, Any, UUID | None]:
        found = self.client("GET", f"/artifacts/{artifact_id}")
        data = json.loads(found["data"]) if found["type"] == "table" else found["data"]
        return found["type"], found["key"], data, UUID(found["flow_run_id"]) if found["flow_run_id"] else None

    def client(self, method: str, path: str, body: Any = None) -> Any:
        # As the gateway asks: again, where the server's SQLite file is locked.
        answer = self.gateway._call(lambda client: client.request(method, path, json=body))
        return answer.json() if answer.content else None


class TestFakeGateway(GatewayContract):
    @pytest.fixture
    def world(self) -> FakeWorld:
        return FakeWorld()


@pytest.mark.stack
class TestPrefectGateway(GatewayContract):
    @pytest.fixture
    def world(self, stack: RunningStack, tmp_path: Path) -> RealWorld:
        return RealWorld(stack, tmp_path)

    def test_flow_run_that_suspends_itself_ends_its_process_and_goes_on_when_resumed(self, world: RealWorld) -> None:
        suspended = world.running(suspend=True)
        assert suspended.state_message == "waits for refresh/prices"
        assert suspended.run_count == 1
        with pytest.raises(Exception, match="cannot be suspended"):
            world.gateway.suspend(suspended.id, message="m", timeout_s=60)

        world.release(suspended)
        assert world.gateway.resume(suspended.id).state_type == FlowRunState.SCHEDULED
        ended = world.wait_for(suspended.id, lambda flow_run: flow_run.has_ended)
        assert (ended.state_type, ended.run_count, ended.was_suspended) == (FlowRunState.COMPLETED, 1, True)
        again = world.gateway.set_state(ended.id, FlowRunState.SCHEDULED, name="AwaitingRetry", force=False)
        assert (again.is_started_again, again.was_suspended) == (True, False)
        world.gateway.cancel(ended.id)

        (artifact,) = world.client(
            "POST", "/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [str(ended.id)]}}}
        )
        assert json.loads(artifact["data"]) == [{"id": str(ended.id)}]

    def test_flow_run_that_is_suspended_is_cancelled_at_once(self, world: RealWorld) -> None:
        suspended = world.running(suspend=True)
        assert world.gateway.cancel(suspended.id).state_type == FlowRunState.CANCELLED

    def test_flow_run_that_was_deleted_is_missing(self, world: RealWorld) -> None:
        made = world.create()
        world.client("DELETE", f"/flow_runs/{made.id}")
        assert world.gateway.read_flow_run(made.id) is None
        assert world.gateway.read_flow_runs([made.id]) == {}
