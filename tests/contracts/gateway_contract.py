"""What every gateway to Prefect must do; run against the real server and against our fake."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from freshline.deployments.gateway import (
    ENDED_STATES,
    DeploymentFacts,
    FlowRunFacts,
    FlowRunState,
    Gateway,
    TaskRunFacts,
)
from freshline.runs.steps import task_name
from freshline.storage.errors import Conflict, InvalidInput, NotFound

WAIT_S = 120.0


class World(ABC):
    """A Prefect server, and the hands that a worker or a person has on it."""

    gateway: Gateway
    idle: DeploymentFacts
    """Of a flow with the parameters `n: int` and `label: str`; nothing executes its runs."""
    other: DeploymentFacts
    """Another deployment of the same flow, with the job variable `env.KEPT`."""

    @abstractmethod
    def running(self) -> FlowRunFacts:
        """Return a flow run that has just begun and goes on until `release`."""

    @abstractmethod
    def release(self, flow_run: FlowRunFacts) -> None:
        """Let the flow run come to its end."""

    @abstractmethod
    def called(self) -> tuple[UUID, FlowRunFacts]:
        """Return a flow run and the one of a deployment that it called, which runs until `release`."""

    @abstractmethod
    def with_task_runs(self) -> FlowRunFacts:
        """Return a flow run that called the task `fit` (the run `fit-first`), the task `lose`, which raised "no luck"
        twice, and the flow `part`, and ended."""

    @abstractmethod
    def awaiting_retry(self) -> FlowRunFacts:
        """Return a flow run whose function raised and is to be called once more, 600 s later, by a process that is
        gone."""

    @abstractmethod
    def wait_for(self, flow_run_id: UUID, condition: Callable[[FlowRunFacts], bool]) -> FlowRunFacts:
        """Return the flow run as soon as the condition holds."""

    @abstractmethod
    def artifact(self, artifact_id: UUID) -> tuple[str, str, Any, UUID | None]:
        """Return kind, key, data and flow run of an artifact."""

    def create(self, deployment: DeploymentFacts | None = None, **options: Any) -> FlowRunFacts:
        """Create a flow run of the idle deployment with a key of its own."""
        given = {"parameters": {}, "idempotency_key": uuid4().hex, "labels": {}} | options
        return self.gateway.create_flow_run((deployment or self.idle).id, **given)


class GatewayContract:
    """Inherit from it, and provide the fixture `world`."""

    def test_gateway_that_is_reachable_is_healthy(self, world: World) -> None:
        assert world.gateway.is_healthy()
        assert world.gateway.api_url.startswith("http")

    # Deployments.

    def test_deployment_unknown_is_not_found(self, world: World) -> None:
        with pytest.raises(NotFound, match="no Prefect deployment 'counting/nowhere'"):
            world.gateway.read_deployment("counting/nowhere")

    def test_deployment_is_read_by_name_and_id(self, world: World) -> None:
        by_name = world.gateway.read_deployment("counting/idle")
        assert by_name == world.idle
        assert by_name.parameter_names == ("n", "label")
        assert by_name.parameter_schema["properties"]["n"]["type"] == "integer"
        assert by_name.work_pool_name == "idle"
        assert [one.description for one in by_name.schedules] == ["cron 0 18 * * 1-5 America/New_York"]

        found = world.gateway.read_deployments([world.idle.id, world.other.id, uuid4()])
        assert set(found) == {world.idle.id, world.other.id}
        assert found[world.idle.id].prefect_name == "counting/idle"
        assert found[world.other.id].flow_id == world.idle.flow_id

    def test_work_pools_are_listed(self, world: World) -> None:
        assert {"idle", "local"} <= set(world.gateway.read_work_pool_names())

    def test_job_variables_are_merged(self, world: World) -> None:
        world.gateway.write_job_variables(world.other.id, env={"FRESHLINE_STORE_ID": "1"})
        world.gateway.write_job_variables(world.other.id, env={"FRESHLINE_STORE_ID": "2"})
        facts = world.gateway.read_deployment(world.other.prefect_name)
        assert facts.job_variables["env"] == {"KEPT": "1", "FRESHLINE_STORE_ID": "2"}
        assert facts.parameter_names == world.other.parameter_names

    def test_schedules_are_paused_and_runs_still_possible(self, world: World) -> None:
        world.gateway.pause_schedules(world.other.id)
        world.gateway.pause_schedules(world.other.id)
        assert world.gateway.read_deployment(world.other.prefect_name).is_paused
        assert world.create(world.other).state_type == FlowRunState.SCHEDULED

    def test_change_of_an_unknown_deployment_is_not_found(self, world: World) -> None:
        with pytest.raises(NotFound):
            world.gateway.write_job_variables(uuid4(), env={})
        with pytest.raises(NotFound):
            world.gateway.pause_schedules(uuid4())

    # Creation.

    def test_flow_run_of_an_unknown_deployment_is_not_found(self, world: World) -> None:
        with pytest.raises(NotFound):
            world.gateway.create_flow_run(uuid4(), parameters={}, idempotency_key="k", labels={})

    def test_flow_run_with_a_parameter_of_the_wrong_type_is_refused(self, world: World) -> None:
        with pytest.raises(InvalidInput, match="refused the parameters"):
            world.create(parameters={"n": "many"})

    def test_flow_run_is_created_as_asked(self, world: World) -> None:
        key = uuid4().hex
        made = world.create(
            parameters={"n": 3}, idempotency_key=key, labels={"freshline.run": "r"}, tags=["a"], name="my-run"
        )
        assert made.deployment_id == world.idle.id
        assert made.idempotency_key == key
        assert made.labels["freshline.run"] == "r"
        assert "a" in made.tags
        assert made.name == "my-run"
        assert made.parameters["n"] == 3
        assert made.state_type == FlowRunState.SCHEDULED
        assert made.created_by_type is None
        assert not made.is_auto_scheduled
        assert not made.has_begun
        assert not made.has_ended
        assert made.created_at is not None
        assert made.created_at.utcoffset() == timedelta(0)
        assert world.gateway.read_flow_run(made.id) == made

    def test_same_key_returns_the_first_flow_run_whatever_else_is_asked(self, world: World) -> None:
        first = world.create(parameters={"n": 1}, idempotency_key="same", labels={"l": "1"})
        again = world.create(parameters={"n": 2}, idempotency_key="same", labels={"l": "2"})
        assert again.id == first.id
        assert again.parameters["n"] == 1
        assert again.labels["l"] == "1"

    def test_same_key_for_another_deployment_of_the_flow_is_a_conflict(self, world: World) -> None:
        world.create(idempotency_key="shared")
        with pytest.raises(Conflict, match="'shared' belongs to"):
            world.create(world.other, idempotency_key="shared")

    def test_same_key_from_many_threads_makes_one_flow_run(self, world: World) -> None:
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(lambda _: world.create(idempotency_key="raced").id, range(8)))
        assert len(set(made)) == 1

    # Reading.

    def test_flow_run_unknown_is_none(self, world: World) -> None:
        assert world.gateway.read_flow_run(uuid4()) is None

    def test_flow_runs_are_read_in_any_number_and_missing_ones_left_out(self, world: World) -> None:
        made = [world.create().id for _ in range(3)]
        asked = [*made, *(uuid4() for _ in range(450)), made[0]]
        assert set(world.gateway.read_flow_runs(asked)) == set(made)
        assert world.gateway.read_flow_runs([]) == {}

    def test_recent_flow_runs_are_those_of_the_deployments_within_the_window(self, world: World) -> None:
        first, second, elsewhere = world.create(), world.create(), world.create(world.other)
        assert first.expected_start_at is not None
        assert second.expected_start_at is not None

        def ids(*deployments: DeploymentFacts, **window: Any) -> list[UUID]:
            found = world.gateway.recent_flow_runs([one.id for one in deployments], **window)
            return [one.id for one in found]

        since = first.expected_start_at
        assert ids(world.idle, since=since) == [first.id, second.id]
        assert ids(world.idle, since=since, until=since) == [first.id]
        assert ids(world.idle, world.other, since=since) == [first.id, second.id, elsewhere.id]
        assert ids(world.idle, since=second.expected_start_at + timedelta(seconds=1)) == []
        assert world.gateway.recent_flow_runs([], since=since) == []

    def test_callers_of_unknown_task_runs_and_of_none_are_none(self, world: World) -> None:
        assert world.gateway.read_callers([uuid4() for _ in range(450)]) == {}
        assert world.gateway.read_callers([]) == {}

    def test_flow_run_that_was_called_leads_to_its_caller_and_cannot_be_suspended(self, world: World) -> None:
        caller_id, called = world.called()
        task_run_id = called.parent_task_run_id
        assert task_run_id is not None
        asked = [task_run_id, *(uuid4() for _ in range(450)), task_run_id]
        assert world.gateway.read_callers(asked) == {task_run_id: caller_id}
        with pytest.raises(Conflict, match="Cannot suspend subflows"):
            world.gateway.suspend(called.id, message="m", timeout_s=60)
        world.release(called)

    def test_task_runs_of_unknown_flow_runs_and_of_none_are_none(self, world: World) -> None:
        assert world.gateway.read_task_runs([uuid4() for _ in range(450)]) == []
        assert world.gateway.read_task_runs([]) == []

    def test_task_runs_of_a_flow_run_are_read_with_those_that_stand_for_flows(self, world: World) -> None:
        flow_run, other = world.with_task_runs(), world.create()
        found = self.task_runs(world, [flow_run.id, other.id, *(uuid4() for _ in range(450))])
        assert {one.flow_run_id for one in found.values()} == {flow_run.id}
        fit, lose, part = found["fit"], found["lose"], found["part"]

        assert (fit.name, fit.state_type, fit.state_name, fit.run_count) == ("fit-first", "COMPLETED", "Completed", 1)
        assert fit.started_at is not None
        assert fit.ended_at is not None
        assert fit.started_at.utcoffset() == timedelta(0)
        assert timedelta() < fit.total_run_time <= fit.ended_at - fit.started_at + timedelta(seconds=1)
        assert (lose.state_type, lose.run_count) == ("FAILED", 2)
        assert lose.state_message is not None
        assert "no luck" in lose.state_message
        assert part.name.startswith("part-")
        assert part.state_type == "COMPLETED"

    def task_runs(self, world: World, flow_run_ids: list[UUID]) -> dict[str, TaskRunFacts]:
        """The task runs by their task, as soon as Prefect has heard of the end of all three."""
        deadline = time.monotonic() + WAIT_S
        while True:
            found = {task_name(one.task_key): one for one in world.gateway.read_task_runs(flow_run_ids)}
            if set(found) == {"fit", "lose", "part"} and all(one.state_type in ENDED_STATES for one in found.values()):
                return found
            assert time.monotonic() < deadline, f"still {found}"
            time.sleep(0.1)

    def test_flow_run_between_two_attempts_says_which_process_makes_the_next_one(self, world: World) -> None:
        waiting = world.awaiting_retry()
        assert (waiting.state_type, waiting.state_name) == (FlowRunState.SCHEDULED, "AwaitingRetry")
        assert (waiting.retries, waiting.retry_delay_s, waiting.is_retried_in_process) == (1, 600.0, True)
        assert world.gateway.read_flow_run(waiting.id) == waiting, "nobody takes it up"
        ended = world.gateway.set_state(waiting.id, FlowRunState.CRASHED)
        assert (ended.retries, ended.is_retried_in_process) == (1, False)
        fresh = world.create()
        assert (fresh.retries, fresh.retry_delay_s, fresh.is_retried_in_process) == (0, 0.0, False)

    def test_flow_run_that_is_started_again_after_its_end_says_so(self, world: World) -> None:
        made = world.create()
        cancelled = world.gateway.cancel(made.id)
        assert (cancelled.state_type, cancelled.is_started_again) == (FlowRunState.CANCELLED, False)
        again = world.gateway.set_state(made.id, FlowRunState.SCHEDULED, name="AwaitingRetry", force=False)
        assert (again.is_started_again, again.is_retried_in_process) == (True, False)
        assert world.gateway.cancel(made.id).state_type == FlowRunState.CANCELLED

    # States.

    def test_state_is_set_by_force(self, world: World) -> None:
        made = world.create()
        changed = world.gateway.set_state(made.id, FlowRunState.CRASHED, name="Lost", message="no lease")
        assert (changed.state_type, changed.state_name, changed.state_message) == ("CRASHED", "Lost", "no lease")
        assert changed.has_ended

    def test_state_says_since_when_it_is(self, world: World) -> None:
        made = world.create()
        assert made.state_at is not None
        assert made.created_at is not None
        assert made.state_at.utcoffset() == timedelta(0)
        assert abs(made.state_at - made.created_at) < timedelta(seconds=10)
        # The fake's clock may stand still.
        forced = world.gateway.set_state(made.id, FlowRunState.CRASHED)
        assert forced.state_at is not None
        assert made.state_at <= forced.state_at
        assert world.gateway.read_flow_run(made.id) == forced, "it stays as it is while the state does"

        running = world.running()
        assert running.state_at is not None
        assert running.started_at is not None
        assert abs(running.state_at - running.started_at) < timedelta(seconds=10)
        world.release(running)
        ended = world.wait_for(running.id, lambda flow_run: flow_run.has_ended)
        assert ended.state_at is not None
        assert running.state_at <= ended.state_at

    def test_flow_run_unknown_cannot_change(self, world: World) -> None:
        for change in (
            lambda: world.gateway.set_state(uuid4(), FlowRunState.CRASHED),
            lambda: world.gateway.cancel(uuid4()),
            lambda: world.gateway.suspend(uuid4(), message="m", timeout_s=60),
            lambda: world.gateway.resume(uuid4()),
        ):
            with pytest.raises(NotFound, match="no flow run"):
                change()

    def test_flow_run_that_has_not_begun_is_cancelled_at_once(self, world: World) -> None:
        made = world.create()
        assert world.gateway.cancel(made.id).state_type == FlowRunState.CANCELLED
        assert world.gateway.cancel(made.id).state_type == FlowRunState.CANCELLED

    def test_flow_run_that_has_ended_is_not_cancelled(self, world: World) -> None:
        made = world.create()
        world.gateway.set_state(made.id, FlowRunState.COMPLETED)
        assert world.gateway.cancel(made.id).state_type == FlowRunState.COMPLETED

    def test_flow_run_that_runs_is_cancelled_by_its_worker(self, world: World) -> None:
        running = world.running()
        assert running.has_begun
        assert running.run_count == 1
        assert world.gateway.cancel(running.id).state_type in (FlowRunState.CANCELLING, FlowRunState.CANCELLED)
        ended = world.wait_for(running.id, lambda flow_run: flow_run.has_ended)
        assert ended.state_type == FlowRunState.CANCELLED

    def test_flow_run_that_does_not_run_is_not_suspended_or_resumed(self, world: World) -> None:
        made = world.create()
        with pytest.raises(Conflict, match="cannot be suspended"):
            world.gateway.suspend(made.id, message="m", timeout_s=60)
        with pytest.raises(Conflict, match="cannot be resumed: it is Scheduled"):
            world.gateway.resume(made.id)

    # Artifacts.

    def test_artifact_with_a_bad_key_is_refused(self, world: World) -> None:
        for key in ("Has Capitals", "under_score", "", "-x", "é"):
            with pytest.raises(InvalidInput, match="no key for a Prefect artifact"):
                world.gateway.write_markdown_artifact(key, "text")

    def test_artifacts_are_written_to_their_flow_run(self, world: World) -> None:
        made = world.create()
        table = world.gateway.write_table_artifact(
            "metrics",
            [{"name": "sharpe", "value": float("nan")}, {"name": "n", "value": 3, "when": made.created_at}],
            description="Metrics",
            flow_run_id=made.id,
        )
        text = world.gateway.write_markdown_artifact("link", "[page](http://x)", flow_run_id=made.id)

        kind, key, data, flow_run_id = world.artifact(table)
        assert (kind, key, flow_run_id) == ("table", "metrics", made.id)
        assert data[0] == {"name": "sharpe", "value": None}
        assert data[1]["when"] == str(made.created_at)
        assert world.artifact(text) == ("markdown", "link", "[page](http://x)", made.id)

    def test_artifacts_of_flow_runs_are_read_by_the_beginning_of_their_key(self, world: World) -> None:
        made, other, bare = world.create(), world.create(), world.create()
        world.gateway.write_markdown_artifact("gate-prices", "first", flow_run_id=made.id)
        world.gateway.write_markdown_artifact("gate-prices", "second", flow_run_id=made.id)
        world.gateway.write_markdown_artifact("gate-book", "third", flow_run_id=other.id)
        world.gateway.write_markdown_artifact("my-gate", "no", flow_run_id=made.id)
        found = world.gateway.read_artifacts([made.id, other.id, bare.id, uuid4()], prefix="gate-")
        assert sorted((one.key, one.data) for one in found) == [
            ("gate-book", "third"),
            ("gate-prices", "first"),
            ("gate-prices", "second"),
        ]
        assert {one.flow_run_id for one in found} == {made.id, other.id}
        assert world.gateway.read_artifacts([], prefix="gate-") == []

    def test_artifacts_are_not_read_by_a_pattern(self, world: World) -> None:
        with pytest.raises(InvalidInput, match="no key for a Prefect artifact"):
            world.gateway.read_artifacts([], prefix="%")

    def test_current_flow_run_outside_of_a_flow_is_none(self, world: World) -> None:
        assert world.gateway.current_flow_run() is None
        assert world.gateway.current_execution() is None
