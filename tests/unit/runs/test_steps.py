"""Steps: Prefect's task runs in the record, late, shuffled or repeated, and what they add up to."""

import json
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import uuid4

import pytest

from freshline.deployments.gateway import FlowRunState, TaskRunFacts
from freshline.runs import interface, steps
from freshline.runs.cli import cli
from freshline.runs.models import RunUsage
from freshline.runs.repair.reconcile import Reconciler
from freshline.runs.status import StepStatus
from freshline.storage.errors import PrefectError
from tests.factories import START

MINUTE = timedelta(minutes=1)


def started(world):
    """A run that a worker executes."""
    return world.start(world.service.submit("refresh/prices")).run


def facts(run, **values):
    """One task run that runs."""
    given = {
        "id": uuid4(), "flow_run_id": run.flow_run_id, "name": "fit-0", "task_key": "fit-0a1b2c3d",
        "state_type": FlowRunState.RUNNING, "state_name": "Running", "state_message": None, "run_count": 1,
        "started_at": START, "ended_at": None, "total_run_time": timedelta(),
    }  # fmt: skip
    return TaskRunFacts(**given | values)


def record(world, run, *found):
    return world.database.write(lambda c: steps.record(c, run.id, found))


def count(world, run, counters, *step_counters):
    world.database.write(lambda c: steps.count(c, run.id, counters, step_counters))


def report(world, run):
    return world.queries.report(run.id)


def statuses(world, run):
    return {step.name: step.status for step in report(world, run).steps}


class Writes:
    """How many write transactions a database opens meanwhile."""

    def __init__(self, world):
        self._database = world.database
        self.begun = 0

    def __enter__(self):
        self._database.transaction = self._counted
        return self

    def __exit__(self, *_exc):
        del self._database.transaction

    def _counted(self, **options):
        self.begun += 1
        return type(self._database).transaction(self._database, **options)


# What Prefect's state means.


@pytest.mark.parametrize(
    ("state_type", "state_name", "status"),
    [
        (None, None, "pending"),
        ("SCHEDULED", "Scheduled", "pending"),
        ("SCHEDULED", "AwaitingRetry", "retrying"),
        ("PENDING", "Pending", "pending"),
        ("RUNNING", "Running", "running"),
        ("RUNNING", "Retrying", "running"),
        ("PAUSED", "Suspended", "running"),
        ("CANCELLING", "Cancelling", "running"),
        ("COMPLETED", "Completed", "completed"),
        ("COMPLETED", "Cached", "cached"),
        ("COMPLETED", "Skipped", "completed"),
        ("FAILED", "Failed", "failed"),
        ("FAILED", "TimedOut", "failed"),
        ("CRASHED", "Crashed", "crashed"),
        ("CANCELLED", "Refused", "cancelled"),
    ],
)
def test_step_status_follows_from_prefects_state(world, state_type, state_name, status):
    run = started(world)
    record(world, run, facts(run, state_type=state_type and FlowRunState(state_type), state_name=state_name))
    assert statuses(world, run) == {"fit-0": status}


def test_step_statuses_are_those_that_prefect_can_bring_about():
    assert {*steps._STATUS_OF.values(), *steps._STATUS_OF_NAME.values()} == set(StepStatus)


@pytest.mark.parametrize(
    ("task_key", "name"),
    [
        ("fit-0a1b2c3d", "fit"),
        ("fit_all-unknown", "fit_all"),
        ("my-own-key", "my-own-key"),
        ("key", "key"),
        ("prefect.deployments.flow_runs.run_deployment.refresh-prices", "refresh-prices"),
    ],
)
def test_task_name_is_what_the_author_calls_it(task_key, name):
    assert steps.task_name(task_key) == name


# The mirror's writes.


def test_step_is_recorded_with_all_that_prefect_says(world):
    run = started(world)
    found = facts(
        run, state_type=FlowRunState.FAILED, state_name="Failed", state_message="no luck", run_count=2,
        ended_at=START + timedelta(seconds=5), total_run_time=timedelta(seconds=3, microseconds=7),
    )  # fmt: skip
    assert record(world, run, found)
    (step,) = report(world, run).steps
    assert (step.task_run_id, step.name, step.status, step.attempt) == (found.id, "fit-0", "failed", 2)
    assert (step.started_at, step.ended_at, step.duration_ns) == (found.started_at, found.ended_at, 3_000_007_000)
    assert (step.message, step.counters) == ("no luck", {})


def test_step_that_stands_for_a_flow_run_takes_from_its_start_to_its_end(world):
    run = started(world)
    ended = {"state_type": FlowRunState.COMPLETED, "ended_at": START + timedelta(seconds=2)}
    record(world, run, facts(run, name="part-0", run_count=0, **ended))
    assert [step.duration_ns for step in report(world, run).steps] == [2_000_000_000]


def test_steps_are_summed_up_on_the_run(world):
    run = started(world)
    one_s = {"ended_at": START + timedelta(seconds=1), "total_run_time": timedelta(seconds=1)}
    record(
        world,
        run,
        facts(run, name="fit-0", state_type=FlowRunState.COMPLETED, **one_s),
        facts(run, name="fit-1", state_type=FlowRunState.FAILED, **one_s),
        facts(run, name="load-0", task_key="load-0a1b2c3d", state_type=FlowRunState.CRASHED, **one_s),
        facts(run, name="wait-0", task_key="wait-0a1b2c3d", state_type=FlowRunState.PENDING, started_at=None),
    )
    usage = report(world, run).usage
    assert (usage.num_steps, usage.num_failed_steps, usage.step_ns) == (4, 2, 3_000_000_000)
    assert (usage.step_names, usage.counters) == (["fit", "load", "wait"], {})


def test_run_without_steps_has_empty_usage(world):
    run = started(world)
    assert (report(world, run).steps, report(world, run).usage) == ([], RunUsage(run_id=run.id))


def test_same_facts_again_change_nothing(world):
    run = started(world)
    found = facts(run)
    assert record(world, run, found)
    before = report(world, run)
    assert not record(world, run, found)
    assert not record(world, run, found, found)
    assert report(world, run) == before


def test_facts_in_any_order_lead_to_the_same_end(world):
    run = started(world)
    task_run, later = uuid4(), START + MINUTE
    history = [
        facts(run, id=task_run, state_type=FlowRunState.PENDING, run_count=0, started_at=None),
        facts(run, id=task_run),
        facts(run, id=task_run, state_type=FlowRunState.SCHEDULED, state_name="AwaitingRetry"),
        facts(run, id=task_run, state_name="Retrying", run_count=2),
        facts(run, id=task_run, state_type=FlowRunState.FAILED, run_count=2, ended_at=later),
        # Started again by hand, without an attempt of its own.
        facts(run, id=task_run, state_type=FlowRunState.COMPLETED, run_count=2, ended_at=later + MINUTE),
    ]
    shuffled = history * 3
    random.Random(7).shuffle(shuffled)
    for one in [*shuffled, *reversed(history)]:
        record(world, run, one)
    (step,) = report(world, run).steps
    assert (step.status, step.attempt, step.ended_at) == ("completed", 2, later + MINUTE)
    assert report(world, run).usage.num_failed_steps == 0


def test_steps_of_a_run_that_has_ended_may_still_come(world):
    run = world.run_through("refresh/prices")
    assert record(world, run, facts(run, state_type=FlowRunState.COMPLETED))
    assert statuses(world, run) == {"fit-0": "completed"}
    assert world.service.get(run.id) == run


def test_step_whose_texts_no_database_takes_is_recorded_all_the_same(world):
    run = started(world)
    record(world, run, facts(run, name="a\0b\ud800", task_key="a\0b-0a1b2c3d", state_message="x" * 10_000 + "\0"))
    (step,) = report(world, run).steps
    assert (step.name, len(step.message)) == ("a\N{REPLACEMENT CHARACTER}b?", 2000)
    assert report(world, run).usage.step_names == ["a\N{REPLACEMENT CHARACTER}b"]


# Counters.


def test_counters_of_the_run_hold_those_of_its_steps(world):
    run = started(world)
    known, unseen = facts(run), uuid4()
    record(world, run, known)
    count(world, run, {"rows": 5}, steps.StepCount(known.id, "fit-0", {"rows": 2, "retries": 1}))
    count(world, run, {}, steps.StepCount(known.id, "fit-0", {"rows": 1.5}), steps.StepCount(unseen, "new-0", {"n": 1}))
    found = {step.task_run_id: step for step in report(world, run).steps}
    assert found[known.id].counters == {"rows": 3.5, "retries": 1}
    assert (found[unseen].name, found[unseen].status, found[unseen].counters) == ("new-0", "running", {"n": 1})
    usage = report(world, run).usage
    assert (usage.counters, usage.num_steps) == ({"rows": 8.5, "retries": 1, "n": 1}, 2)


def test_mirror_completes_a_step_that_was_counted_and_keeps_its_counters(world):
    run = started(world)
    found = facts(run, state_type=FlowRunState.COMPLETED, ended_at=START)
    count(world, run, {"rows": 5}, steps.StepCount(found.id, "fit-0", {"rows": 2}))
    record(world, run, found)
    (step,) = report(world, run).steps
    assert (step.status, step.attempt, step.counters) == ("completed", 1, {"rows": 2})
    assert (report(world, run).usage.counters, report(world, run).usage.step_names) == ({"rows": 7}, ["fit"])


def test_same_step_counted_twice_in_one_call_is_one_step(world):
    run, task_run = started(world), uuid4()
    twice = [steps.StepCount(task_run, "fit-0", {"n": 1})] * 2
    count(world, run, {}, *twice)
    assert [step.counters for step in report(world, run).steps] == [{"n": 2}]


def test_counter_that_no_json_can_hold_is_left_out(world, caplog):
    run = started(world)
    count(world, run, {"good": 1, "huge": 1e308, "bad": float("nan")})
    count(world, run, {"good": 1, "huge": 1e308, "bad": float("inf")})
    # Postgres gives a float without a fraction back as an integer.
    count(world, run, {"huge": 10**400})
    assert report(world, run).usage.counters == pytest.approx({"good": 2, "huge": 1e308})
    assert caplog.text.count("was not increased") == 4


def test_counting_nothing_writes_nothing(world):
    run = started(world)
    count(world, run, {})
    with world.database.read() as connection:
        assert steps.usage_of(connection, run.id) is None


def test_counters_and_mirror_at_once_lose_nothing(world):
    run = started(world)
    task_run = uuid4()

    def act(number):
        if number % 2:
            ended = {"state_type": FlowRunState.COMPLETED, "ended_at": START + number * MINUTE}
            record(world, run, facts(run, id=task_run, run_count=number, **ended))
        else:
            count(world, run, {"n": 1}, steps.StepCount(task_run, "fit-0", {"n": 1}))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(act, range(20)))
    (step,) = report(world, run).steps
    assert (step.attempt, step.counters) == (19, {"n": 10})
    assert report(world, run).usage.counters == {"n": 20}


# The reconciler's pass.


def test_reconcile_records_the_steps_of_a_run_that_goes_on_and_then_has_ended(world):
    run, reconciler = started(world), Reconciler(world.database, world.gateway)
    task = world.gateway.task(run.flow_run_id, "fit-0")
    assert reconciler.pass_once().mirrored == 1
    assert statuses(world, run) == {"fit-0": "running"}
    world.complete(world.port.claim(world.gateway.read_flow_run(run.flow_run_id)))
    world.gateway.task(run.flow_run_id, "fit-0", FlowRunState.COMPLETED, task_run_id=task.id)
    assert reconciler.pass_once().mirrored == 1
    assert statuses(world, run) == {"fit-0": "completed"}


def test_reconcile_with_nothing_new_writes_nothing_of_steps(world):
    run, reconciler = started(world), Reconciler(world.database, world.gateway)
    world.gateway.task(run.flow_run_id)
    assert reconciler.pass_once().mirrored == 1
    with Writes(world) as writes:
        assert reconciler.pass_once().mirrored == 0
    assert writes.begun == 1  # that it came through, for health


def test_reconcile_reads_the_steps_of_all_runs_at_once_and_writes_those_that_changed(world):
    runs = [world.claim(world.gateway.click(deployment(world)).id).run for _ in range(3)]
    for run in runs[:2]:
        world.gateway.task(run.flow_run_id)
    world.gateway.calls.clear()
    with Writes(world) as writes:
        assert world.reconcile().mirrored == 2
    assert world.gateway.calls.count("read_task_runs") == 1
    assert writes.begun == 2 + 1  # and that it came through, for health


def test_reconcile_does_not_ask_for_steps_of_runs_that_never_began(world):
    world.service.submit("refresh/prices")
    world.dispatch()
    world.service.submit("refresh/momentum", on_stale="wait")
    world.reconcile()
    assert "read_task_runs" not in world.gateway.calls


def test_reconcile_records_steps_that_prefect_hears_of_after_the_end_for_ten_minutes(world):
    run, reconciler = world.run_through("refresh/prices"), Reconciler(world.database, world.gateway)
    reconciler.pass_once()
    world.pass_time(9 * MINUTE)
    world.gateway.task(run.flow_run_id, "late-0", FlowRunState.COMPLETED)
    assert reconciler.pass_once().mirrored == 1
    assert statuses(world, run) == {"late-0": "completed"}
    for _ in range(2):  # the second look begins ten minutes before the first
        world.pass_time(11 * MINUTE)
        reconciler.pass_once()
    world.gateway.calls.clear()
    reconciler.pass_once()
    assert "read_task_runs" not in world.gateway.calls


def test_reconcile_cancels_a_step_that_prefect_never_ended_ten_minutes_after_the_end(world):
    run, reconciler = started(world), Reconciler(world.database, world.gateway)
    world.gateway.task(run.flow_run_id, "lost-0")
    world.gateway.end(run.flow_run_id, FlowRunState.CRASHED)
    reconciler.pass_once()
    world.pass_time(9 * MINUTE)
    reconciler.pass_once()
    assert statuses(world, run) == {"lost-0": "running"}
    world.pass_time(MINUTE)
    assert reconciler.pass_once().mirrored == 1
    assert statuses(world, run) == {"lost-0": "cancelled"}
    assert reconciler.pass_once().mirrored == 0, "Prefect still says that it runs"


def test_reconciler_that_was_away_asks_prefect_before_it_gives_a_step_up(world):
    run = started(world)
    task = world.gateway.task(run.flow_run_id, "fit-0")
    world.reconcile()
    world.complete(world.port.claim(world.gateway.read_flow_run(run.flow_run_id)))
    world.gateway.task(run.flow_run_id, "fit-0", FlowRunState.COMPLETED, task_run_id=task.id)
    world.pass_time(timedelta(days=3))
    assert world.reconcile().mirrored == 1
    assert statuses(world, run) == {"fit-0": "completed"}


def test_reconcile_shares_the_steps_of_a_flow_run_that_was_started_again_among_its_runs(world):
    first = started(world)
    world.gateway.task(first.flow_run_id, "before-0", FlowRunState.FAILED)
    late = world.gateway.task(first.flow_run_id, "late-0")
    world.gateway.end(first.flow_run_id, FlowRunState.FAILED)
    world.reconcile()
    world.pass_time(MINUTE)
    world.gateway.start_again(first.flow_run_id)
    second = world.claim(first.flow_run_id).run
    world.gateway.task(first.flow_run_id, "late-0", FlowRunState.COMPLETED, task_run_id=late.id)
    world.gateway.task(first.flow_run_id, "after-0")
    world.reconcile()
    assert second.generation == 1
    assert statuses(world, first) == {"before-0": "failed", "late-0": "completed"}
    assert statuses(world, second) == {"after-0": "running"}


def test_reconcile_with_prefect_down_gives_no_step_up(world):
    run, reconciler = started(world), Reconciler(world.database, world.gateway)
    world.gateway.task(run.flow_run_id)
    world.gateway.end(run.flow_run_id, FlowRunState.FAILED)
    reconciler.pass_once()
    world.pass_time(11 * MINUTE)
    world.gateway.fail_next("read_task_runs")
    with pytest.raises(PrefectError):
        reconciler.pass_once()
    assert statuses(world, run) == {"fit-0": "running"}


# What people see.


def test_show_prints_steps_and_counters(world, monkeypatch, capsys):
    run, other = started(world), started(world)
    monkeypatch.setattr(interface, "queries", lambda: world.queries)
    found = facts(run, state_type=FlowRunState.COMPLETED, total_run_time=timedelta(seconds=2))
    record(world, run, found, facts(run, name="[bold]load-0", state_type=FlowRunState.FAILED))
    count(world, run, {}, steps.StepCount(found.id, "fit-0", {"rows": 1200.0}))

    cli.main(["show", str(run.id)], standalone_mode=False)
    shown = capsys.readouterr().out
    assert "Steps: 2, 1 failed, 2.0 s together" in shown
    assert "[bold]load-0" in shown
    assert shown.count("rows 1,200") == 2

    cli.main(["show", str(run.id), "--json"], standalone_mode=False)
    answer = json.loads(capsys.readouterr().out)["report"]
    assert answer["usage"]["counters"] == {"rows": 1200.0}
    assert {step["name"] for step in answer["steps"]} == {"fit-0", "[bold]load-0"}

    cli.main(["show", str(other.id)], standalone_mode=False)
    assert "Steps" not in capsys.readouterr().out


def deployment(world):
    return world.graph.declared["refresh/prices"].prefect_deployment_id
