"""Tracked flows that call one another under a real Prefect server: each call has exactly one run."""

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from prefect import flow, task
from prefect.deployments import run_deployment
from prefect.exceptions import CancelledRun
from prefect.task_runners import ProcessPoolTaskRunner

from freshline.flows import RunContext, run_as, track, tracking
from freshline.runs.intake import FlowCall
from freshline.runs.service import RunExecutionService
from freshline.storage.database import Database
from freshline.storage.errors import Conflict, InvalidInput, UpstreamNotReady
from freshline.storage.words import Trigger
from tests.pages import code, read
from tests.stack import RunningStack
from tests.unit.flows.records import Records, assert_is_child, assert_was_left_alone, graph_of, talking_to

pytestmark = [
    pytest.mark.stack,
    # What differs here is Prefect; the databases are told apart in tests/unit/runs/test_intake.py.
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
    # Prefect's asynchronous client (3.8) leaves a connection to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def records(stack: RunningStack, database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Records]:
    """This process talks to the stack's Prefect and to a store of its own."""
    graph_of(database, stack)
    records = Records(database, stack)
    with talking_to(stack):
        monkeypatch.setattr(tracking, "flow_port", lambda: (records.port, stack.gateway.current_execution()))
        yield records


@flow
@track.training
def train(run: RunContext, days: int = 3) -> dict[str, float]:
    return {"val_ic": float(days)}


@flow
@track.inference
async def infer(run: RunContext, scale: float = 1.0) -> dict[str, float]:
    await asyncio.sleep(0)
    return {"coverage": scale}


@flow
@track.refresh
def load(run: RunContext, table: Any = None): ...


@track.monitoring
def watch(run: RunContext, depth: int = 0) -> None:
    if depth:
        watch(depth=depth - 1)


@flow
@track.backtest
def simulate(run: RunContext): ...


def calling(body, **options):
    """Return a tracked flow `caller` with this body."""

    @flow(name="caller", **options)
    @track.refresh
    def caller(run: RunContext):
        body(run)

    return caller


def test_flow_in_a_script_has_one_manual_run(records: Records):
    assert train(days=2) == {"val_ic": 2.0}
    run = records.only("training/alpha")
    assert (run.trigger, run.parent_id, run.status, run.parameters) == ("manual", None, "completed", {"days": 2})
    assert records.stack.gateway.read_flow_run(run.flow_run_id).state_type == "COMPLETED"


def test_flow_of_several_deployments_in_a_script_needs_to_be_told_which(records: Records):
    with pytest.raises(InvalidInput, match="several deployments run the flow 'load': refresh/bonds, refresh/stocks"):
        load()
    with run_as("refresh/stocks"):
        load(table=pd.DataFrame({"x": [1, 2]}))
    assert records.of("refresh/bonds") == []
    assert records.only("refresh/stocks").parameters["table"]["type"].endswith("DataFrame")


def test_subflow_has_a_child_run_and_its_own_flow_run(records: Records):
    calling(lambda run: train(days=5))()
    caller, child = records.only("refresh/caller"), records.only("training/alpha")
    assert_is_child(child, caller)
    assert_was_left_alone(caller)
    assert child.flow_run_id not in (None, caller.flow_run_id)


def test_plain_calls_have_child_runs_and_leave_the_flow_run_to_the_caller(records: Records):
    left = []
    calling(lambda run: left.append(train.fn(days=5)) or watch(depth=1))()
    caller, child = records.only("refresh/caller"), records.only("training/alpha")
    assert left == [{"val_ic": 5.0}]
    assert_was_left_alone(caller)
    assert_is_child(child, caller)
    outer, inner = records.of("monitoring/alpha")
    assert_is_child(outer, caller)
    assert_is_child(inner, outer)
    assert {run.flow_run_id for run in (child, outer, inner)} == {None}
    assert {run.status for run in (child, outer, inner)} == {"completed"}


def test_async_flows_have_child_runs_of_each_kind_when_awaited_together(records: Records):
    @flow(name="caller-async")
    @track.refresh
    async def caller(run: RunContext):
        await asyncio.gather(infer(scale=1.0), infer.fn(scale=2.0), infer.fn(scale=3.0))
        train(days=1)

    asyncio.run(caller())
    parent, trained = records.only("refresh/later"), records.only("training/alpha")
    assert_was_left_alone(parent)
    assert_is_child(trained, parent)
    inferred = sorted(records.of("inference/alpha"), key=lambda run: run.parameters["scale"])
    for child in inferred:
        assert_is_child(child, parent)
    assert [run.flow_run_id is None for run in inferred] == [False, True, True]


def test_calls_in_submitted_tasks_are_children_of_the_run(records: Records):
    @task
    def fit(days):
        return train.fn(days=days)

    @task
    def fit_as_flow():
        return train(days=3)

    def body(run):
        for future in [fit.submit(1), fit.submit(2), fit_as_flow.submit()]:
            future.result()

    calling(body)()
    caller = records.only("refresh/caller")
    assert_was_left_alone(caller)
    children = sorted(records.of("training/alpha"), key=lambda run: run.parameters["days"])
    for child in children:
        assert_is_child(child, caller)
    assert [run.flow_run_id is None for run in children] == [True, True, False]


@task
def fit_elsewhere(days):
    return os.getpid(), train.fn(days=days), train(days=days + 1)


LEFT_ELSEWHERE: list[tuple[Any, ...]] = []


@flow(name="caller", task_runner=ProcessPoolTaskRunner(max_workers=1))
@track.refresh
def spread(run: RunContext):
    LEFT_ELSEWHERE.append(fit_elsewhere.submit(1).result())


def test_calls_in_a_task_of_another_process_are_children_of_the_run(
    records: Records, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("FRESHLINE_DATABASE_URL", records.database.engine.url.render_as_string(hide_password=False))
    monkeypatch.setenv("FRESHLINE_ARTIFACTS_URL", (tmp_path / "objects").as_uri())
    spread()
    ((pid, *results),) = LEFT_ELSEWHERE
    assert pid != os.getpid()
    assert results == [{"val_ic": 1.0}, {"val_ic": 2.0}]
    plain, subflow = records.of("training/alpha")
    caller = records.only("refresh/caller")
    assert_was_left_alone(caller)
    for child in (plain, subflow):
        assert_is_child(child, caller)
    assert plain.flow_run_id is None
    assert subflow.flow_run_id not in (None, caller.flow_run_id)


def test_calls_within_an_untracked_flow_are_children_of_the_run_around_it(records: Records):
    @flow
    def untracked():
        train(days=1)
        train.fn(days=2)

    calling(lambda run: untracked())()
    for child in records.of("training/alpha"):
        assert_is_child(child, records.only("refresh/caller"))
    untracked()
    assert [run.parent_id for run in records.of("training/alpha")[2:]] == [None, None]


def test_plain_call_that_raises_fails_its_own_run_alone(records: Records):
    @track.monitoring
    def watch(run: RunContext):
        raise ValueError("no luck")

    def body(run):
        with pytest.raises(ValueError, match="no luck"):
            watch()

    calling(body)()
    assert_was_left_alone(records.only("refresh/caller"))
    child = records.only("monitoring/alpha")
    assert (child.status, child.error_message) == ("failed", "no luck")


def test_refused_calls_raise_and_leave_a_refused_run(records: Records):
    def body(run):
        with pytest.raises(UpstreamNotReady, match="refresh/never has no version yet"):
            simulate.fn()
        with pytest.raises(
            UpstreamNotReady, match="a subflow cannot wait for upstreams: submit its deployment instead"
        ):
            simulate.fn(on_stale="refresh")
        with pytest.raises(CancelledRun):
            simulate()

    calling(body)()
    assert_was_left_alone(records.only("refresh/caller"))
    assert [run.status for run in records.of("backtest/book")] == ["refused"] * 3
    assert records.of("refresh/never") == []


def test_skipped_calls_return_nothing(records: Records):
    left = []

    def body(run):
        train.fn()
        left.append(train.fn(if_ready="skip"))
        left.append(train(if_ready="skip"))

    calling(body)()
    assert left == [None, None]
    assert [run.status for run in records.of("training/alpha")] == ["completed", "skipped", "skipped"]


def test_plain_call_that_is_cancelled_raises_in_its_caller_which_goes_on(records: Records):
    @track.monitoring
    def watch(run: RunContext):
        RunExecutionService(records.database).cancel(run.id)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            run.note("still here")
            time.sleep(0.01)

    def body(run):
        with pytest.raises(Conflict, match="was cancelled"):
            watch()

    calling(body)()
    assert records.only("monitoring/alpha").status == "cancelled"
    assert_was_left_alone(records.only("refresh/caller"))


def test_flow_run_that_is_suspended_in_a_plain_call_fails_the_call_s_run(records: Records):
    from prefect.exceptions import Pause

    @track.monitoring
    def watch(run: RunContext):
        raise Pause

    def body(run):
        with suppress(Pause):
            watch()

    calling(body)()
    child = records.only("monitoring/alpha")
    assert (child.status, child.error_type) == ("failed", "Pause")


def test_retried_subflow_is_the_next_attempt_of_its_run(records: Records):
    known = []

    @flow(name="train", retries=1, retry_delay_seconds=1)
    @track.training
    def flaky(run: RunContext):
        known.append(records.stack.gateway.current_flow_run())
        if run.attempt == 1:
            raise ValueError("no luck")

    calling(lambda run: flaky())()
    child = records.only("training/alpha")
    assert (child.status, child.attempt) == ("completed", 2)
    assert (known[0].retries, known[0].retry_delay_s) == (1, 1.0), "by then Prefect has said it"
    assert_is_child(child, records.only("refresh/caller"))


@pytest.mark.parametrize("persist", [False, True])
@pytest.mark.parametrize("fails", ["before", "after"])
def test_retry_of_the_caller_calls_again_and_each_start_has_one_run(records: Records, fails: str, persist: bool):
    starts = []

    @flow(name="train", persist_result=persist)
    @track.training
    def part(run: RunContext):
        starts.append(run.id)
        if fails == "before" and len(starts) == 1:
            raise ValueError("the part fails")

    def body(run):
        part()
        train.fn(days=7)
        if fails == "after" and run.attempt == 1:
            raise ValueError("the caller fails")

    calling(body, retries=1)()
    caller, children = records.only("refresh/caller"), records.of("training/alpha")
    assert (caller.status, caller.attempt) == ("completed", 2)
    for child in children:
        assert_is_child(child, caller)
    parts = [run for run in children if run.flow_run_id is not None]
    plain = [run for run in children if run.flow_run_id is None]
    assert [run.id for run in parts] == starts, "exactly one run per start of the body"
    # Prefect keeps a stored result, and then does not start the subflow again.
    assert len(parts) == (1 if fails == "after" and persist else 2)
    assert len({run.flow_run_id for run in parts}) == len(parts)
    assert len(plain) == (2 if fails == "after" else 1)


def test_flow_run_of_a_deployment_that_a_flow_called_finds_its_parent_through_prefect(records: Records):
    made = []
    calling(lambda run: made.append(run_deployment("counting/idle", timeout=0)))()
    (flow_run,) = records.stack.gateway.read_flow_runs([made[0].id]).values()
    assert flow_run.parent_task_run_id is not None
    claim = records.port.claim(FlowCall.of_deployment(flow_run))
    caller = records.only("refresh/caller")
    assert (claim.run.trigger, claim.run.parent_id) == (Trigger.SUBFLOW, caller.id)
    assert not FlowCall.of_deployment(flow_run).can_wait


def test_guide_to_calling_shows_a_flow_whose_calls_are_recorded_as_it_says(records: Records):
    (text,) = code(read("how-to/call-a-flow-from-a-flow.md"), "python", "calling")
    made: dict[str, Any] = {"__name__": "shown"}
    exec(compile(text, "call-a-flow-from-a-flow.md", "exec"), made)
    made["study"]()
    caller, children = records.only("preview/lookbacks"), records.of("training/alpha")
    assert_was_left_alone(caller)
    for child in [*children, records.only("refresh/prices")]:
        assert_is_child(child, caller)
    assert [run.parameters["lookback_d"] for run in children] == [60, 252, 20]
    assert [run.flow_run_id is None for run in children] == [False, False, True]
    assert records.of("refresh/momentum") == []
