"""Every way in: whoever triggers a deployment, its flow run has exactly one typed run that says who it was.

Against a real Prefect server and workers. What can begin at once does so before the first test; each test then looks
at the record of its own way.
"""

import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from subprocess import Popen
from uuid import UUID

import pytest

from freshline.runs.models import Run
from freshline.runs.status import RunStatus
from freshline.storage.errors import IdempotencyConflict
from tests.acceptance.ways import WAIT_S
from tests.acceptance.ways_project import SCHEDULE
from tests.browser import leave, press, submit_form

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

AUTOMATION = "When the service's run completes"


@dataclass(frozen=True)
class Begun:
    """What was triggered before the first test."""

    top: Run
    """Of the last link, whose upstreams have no version yet."""
    service: Run
    service_again: Run
    command_line: Popen[str]
    deployment_run: Popen[str]
    script: Popen[str]
    starting: UUID
    calling: UUID
    flaky: UUID
    suspending: UUID
    failing: UUID


@pytest.fixture(scope="module")
def begun(ways):
    bin_ = Path(sys.executable).parent
    automation(ways, after="service", runs="automated")
    ways.switch_schedule_on()
    begun = Begun(
        top=ways.submit("link-4", on_stale="refresh"),
        service=ways.submit("service", {"n": 2}, idempotency_key="the-same"),
        service_again=ways.submit("service", {"n": 2}, idempotency_key="the-same"),
        failing=ways.create("failing", {"mended": str(ways.project / "mended")}),
        suspending=ways.create("suspending"),
        calling=ways.create("calling"),
        starting=ways.create("starting"),
        flaky=ways.create("flaky"),
        command_line=ways.start(bin_ / "freshline", "submit", "refresh/cli", "-p", "n=5", "--wait", "--json"),
        deployment_run=ways.start(bin_ / "prefect", "deployment", "run", "passing/commanded"),
        script=ways.start(sys.executable, "script.py"),
    )
    yield begun
    for program in (begun.command_line, begun.deployment_run, begun.script):
        program.kill()  # its test may not have been asked for
        program.communicate(timeout=WAIT_S)


def automation(ways, *, after, runs):
    """Have Prefect run one deployment whenever a flow run of another one completes."""
    watched = f"prefect.deployment.{ways.deployment(after).id}"
    ways.call(
        "POST",
        "automations/",
        name=AUTOMATION,
        trigger={
            "type": "event",
            "posture": "Reactive",
            "expect": ["prefect.flow-run.Completed"],
            "match": {"prefect.resource.id": "prefect.flow-run.*"},
            "match_related": {"prefect.resource.role": "deployment", "prefect.resource.id": watched},
            "threshold": 1,
            "within": 0,
        },
        actions=[
            {"type": "run-deployment", "source": "selected", "deployment_id": str(ways.deployment(runs).id)},
        ],
    )


def output(process):
    """What a program printed, when it has ended well."""
    text, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, text
    return text


def outline(run):
    """How a run came to be and how it ended."""
    return (run.type, run.trigger, run.trigger_name, run.status, run.stop_reason, run.attempt, run.generation)


def is_alone(ways, name, run):
    """True when the deployment has this run and no other, and Prefect one flow run for it."""
    return [one.id for one in ways.runs(name)] == [run.id] and [one.id for one in ways.flow_runs(name)] == [
        run.flow_run_id
    ]


def open_menu(page, ways, name, entry):
    """Open the deployment's page in Prefect, press Run and choose an entry of its menu."""
    page.goto(f"{ways.local.ui_url}/v2/deployments/deployment/{ways.deployment(name).id}")
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("menuitem", name=entry).click()


# Both clicks are also made, one after the other, on the main job.
@pytest.mark.slow
@pytest.mark.browser
def test_quick_run_clicked_gives_one_manual_run(ways, begun, browser_page):
    press(browser_page, lambda: open_menu(browser_page, ways, "quick", "Quick run"))
    run = ways.ended(ways.the_new_run("quick").id)
    assert outline(run) == ("PipelineRun", "manual", None, "completed", "completed", 1, 0)
    assert (run.parent_id, run.retry_of) == (None, None)
    assert is_alone(ways, "quick", run)


@pytest.mark.slow
@pytest.mark.browser
def test_custom_run_clicked_gives_one_manual_run_with_its_parameters(ways, begun, browser_page):
    open_menu(browser_page, ways, "custom", "Custom run")
    browser_page.get_by_label("n (Optional)", exact=True).fill("7")
    submit_form(browser_page)
    run = ways.ended(ways.the_new_run("custom").id)
    assert outline(run) == ("BacktestRun", "manual", None, "completed", "completed", 1, 0)
    assert (run.parent_id, run.retry_of, run.parameters) == (None, None, {"n": 7})
    assert is_alone(ways, "custom", run)


def test_submit_to_the_service_gives_one_run(ways, begun):
    run = ways.ended(begun.service.id)
    assert outline(run) == ("PipelineRun", "submitted", None, "completed", "completed", 1, 0)
    assert (run.parent_id, run.retry_of, run.actor) == (None, None, "ways")
    assert run.parameters == {"n": 2}


def test_same_idempotency_key_gives_the_same_run_and_one_flow_run(ways, begun):
    assert begun.service_again.id == begun.service.id
    run = ways.ended(begun.service.id)
    assert ways.submit("service", {"n": 2}, idempotency_key="the-same").id == run.id
    assert is_alone(ways, "service", run)


@pytest.mark.parametrize(
    ("name", "parameters", "options"),
    [
        ("service", {"n": 3}, {}),
        ("service", {"n": 2}, {"update_mode": "full"}),
        ("cli", {"n": 2}, {}),
    ],
    ids=["other parameters", "other options", "other deployment"],
)
def test_same_idempotency_key_with_another_request_is_an_error_and_no_run(ways, begun, name, parameters, options):
    before = [run.id for run in ways.runs("service")]
    with pytest.raises(IdempotencyConflict, match="the-same"):
        ways.submit(name, parameters, idempotency_key="the-same", **options)
    assert [run.id for run in ways.runs("service")] == before


def test_submit_on_the_command_line_gives_one_run(ways, begun):
    shown = json.loads(output(begun.command_line))
    run = ways.ended(UUID(shown["id"].removeprefix("run-")))
    assert shown["status"] == "completed"
    assert outline(run) == ("PipelineRun", "submitted", None, "completed", "completed", 1, 0)
    assert (run.parent_id, run.retry_of, run.parameters) == (None, None, {"n": 5})
    assert is_alone(ways, "cli", run)


def test_prefect_deployment_run_gives_one_manual_run(ways, begun):
    output(begun.deployment_run)
    run = ways.ended(ways.the_new_run("commanded").id)
    assert outline(run) == ("PipelineRun", "manual", None, "completed", "completed", 1, 0)
    assert (run.parent_id, run.retry_of) == (None, None)
    assert is_alone(ways, "commanded", run)


def test_schedule_gives_one_run_when_its_time_has_come_and_says_which(ways, begun):
    run = ways.ended(ways.the_new_run("scheduled").id)
    assert outline(run) == ("PipelineRun", "schedule", SCHEDULE["slug"], "completed", "completed", 1, 0)
    assert (run.parent_id, run.retry_of) == (None, None)
    assert is_alone(ways, "scheduled", run)
    coming = ways.gateway.recent_flow_runs([ways.deployment("scheduled").id], since=datetime.now(UTC))
    assert coming
    assert [ways.runs_of_flow_run(one.id) for one in coming] == [[] for _ in coming]


def test_automation_gives_one_run_and_says_which(ways, begun):
    run = ways.ended(ways.the_new_run("automated").id)
    assert outline(run) == ("PipelineRun", "automation", AUTOMATION, "completed", "completed", 1, 0)
    assert (run.parent_id, run.retry_of) == (None, None)
    assert is_alone(ways, "automated", run)


def test_run_deployment_from_another_flow_gives_one_run_whose_parent_is_the_calling_run(ways, begun):
    calling = ways.ended(ways.the_run(begun.starting).id)
    run = ways.ended(ways.the_new_run("started").id)
    assert outline(calling) == ("PipelineRun", "manual", None, "completed", "completed", 1, 0)
    assert outline(run) == ("PipelineRun", "subflow", None, "completed", "completed", 1, 0)
    assert (run.parent_id, run.retry_of) == (calling.id, None)
    assert [child.id for child in ways.children(calling)] == [run.id]
    assert is_alone(ways, "started", run)


def test_flow_that_calls_tracked_flows_completes_with_one_child_run_each(ways, begun):
    calling = ways.ended(ways.the_run(begun.calling).id)
    assert outline(calling) == ("PipelineRun", "manual", None, "completed", "completed", 1, 0)
    assert [child.type for child in ways.children(calling)] == ["TrainingRun", "PipelineRun"]
    assert is_alone(ways, "calling", calling)


def test_tracked_flow_called_as_a_subflow_gives_one_child_run(ways, begun):
    calling = ways.ended(ways.the_run(begun.calling).id)
    run = ways.ended(ways.the_new_run("subflow").id)
    assert outline(run) == ("TrainingRun", "subflow", None, "completed", "completed", 1, 0)
    assert (run.parent_id, run.retry_of, run.parameters) == (calling.id, None, {"n": 2})
    # Prefect has a flow run for a subflow, and it is that of the child alone.
    assert run.flow_run_id not in (None, calling.flow_run_id)
    assert len(ways.runs_of_flow_run(run.flow_run_id)) == 1


def test_tracked_flow_called_as_a_plain_function_gives_one_child_run(ways, begun):
    calling = ways.ended(ways.the_run(begun.calling).id)
    run = ways.ended(ways.the_new_run("function").id)
    assert outline(run) == ("PipelineRun", "subflow", None, "completed", "completed", 1, 0)
    assert (run.parent_id, run.retry_of, run.parameters) == (calling.id, None, {"n": 3})
    # The flow run of the calling flow stays the calling run's alone.
    assert [one.id for one in ways.runs_of_flow_run(calling.flow_run_id)] == [calling.id]


def test_tracked_flow_called_from_a_script_gives_one_run(ways, begun):
    output(begun.script)
    run = ways.ended(ways.the_new_run("script").id)
    assert outline(run) == ("PipelineRun", "manual", None, "completed", "completed", 1, 0)
    assert (run.parent_id, run.retry_of, run.parameters) == (None, None, {"n": 4})
    assert len(ways.runs_of_flow_run(run.flow_run_id)) == 1


def test_flow_retried_by_prefect_is_the_same_run_at_its_second_attempt(ways, begun):
    run = ways.ended(ways.the_run(begun.flaky).id)
    assert outline(run) == ("PipelineRun", "manual", None, "completed", "completed", 2, 0)
    kinds = [event.kind for _, event in ways.queries.events(run.id)]
    assert [kinds.count(kind) for kind in ("run_started", "attempt_failed")] == [2, 1]
    assert ways.gateway.read_flow_run(begun.flaky).run_count == 2
    assert is_alone(ways, "flaky", run)


def test_suspended_and_resumed_flow_is_the_same_run_at_its_second_attempt(ways, begun):
    run = ways.the_run(begun.suspending)
    ways.flow_run_when(begun.suspending, lambda flow_run: flow_run.is_suspended, "the suspension")
    ways.wait_for("the pause", lambda: ways.freshline.service.get(run.id).status == RunStatus.PAUSED)
    ways.gateway.resume(begun.suspending)
    ended = ways.ended(run.id)
    assert outline(ended) == ("PipelineRun", "manual", None, "completed", "completed", 2, 0)
    kinds = [event.kind for _, event in ways.queries.events(run.id)]
    assert [kinds.count(kind) for kind in ("run_started", "run_paused")] == [2, 1]
    assert is_alone(ways, "suspending", ended)


@pytest.mark.browser
def test_retry_clicked_after_its_end_gives_a_new_run_and_leaves_the_old_one(ways, begun, browser_page):
    first = ways.ended(ways.the_run(begun.failing).id)
    assert outline(first) == ("PipelineRun", "manual", None, "failed", "error", 1, 0)
    events_of_first = ways.queries.events(first.id)
    ways.flow_run_when(begun.failing, lambda flow_run: flow_run.has_ended, "the end in Prefect")
    (ways.project / "mended").touch()

    browser_page.goto(f"{ways.local.ui_url}/v2/runs/flow-run/{begun.failing}")
    browser_page.get_by_role("button", name="Open menu").or_(
        browser_page.locator("button[aria-haspopup=menu]")
    ).first.click()
    browser_page.get_by_role("menuitem", name="Retry").click()
    browser_page.get_by_role("button", name="Retry").click()
    ways.flow_run_when(begun.failing, lambda flow_run: not flow_run.has_ended, "the retry in Prefect")
    leave(browser_page)

    second = ways.ended(ways.the_new_run("failing", known=[first]).id)
    assert outline(second) == ("PipelineRun", "manual", None, "completed", "completed", 1, 1)
    assert (second.retry_of, second.flow_run_id, second.parent_id) == (first.id, begun.failing, None)
    assert ways.freshline.service.get(first.id).model_dump() == first.model_dump()
    assert ways.queries.events(first.id) == events_of_first
    assert [run.id for run in ways.runs("failing")] == [first.id, second.id]


def test_cascade_gives_one_run_for_each_upstream_that_is_not_ready(ways, begun):
    top = ways.ended(begun.top.id)
    assert outline(top) == ("PipelineRun", "submitted", None, "completed", "completed", 1, 0)
    for name in ("link-1", "link-2", "link-3"):
        run = ways.ended(ways.the_new_run(name).id)
        assert outline(run) == ("PipelineRun", "cascade", None, "completed", "completed", 1, 0)
        assert (run.parent_id, run.retry_of) == (top.id, None)
        assert is_alone(ways, name, run)
    assert is_alone(ways, "link-4", top)


@pytest.mark.browser
def test_stale_chain_clicked_to_refresh_completes_in_a_work_pool_that_lets_one_run_through(ways, begun, browser_page):
    links = ["link-1", "link-2", "link-3", "link-4"]
    ways.ended(begun.top.id)
    before = {name: ways.runs(name) for name in links}
    ways.register(edition=2)
    freshness = {row.key: row.freshness for row in ways.queries.status()}
    assert [freshness[f"refresh/{name}"] for name in links] == ["stale"] * 4

    open_menu(browser_page, ways, "link-4", "Custom run")
    field = browser_page.get_by_text("on_stale (Optional)").locator("xpath=following::fieldset[1]")
    field.get_by_role("tab", name="str").click()
    field.get_by_role("tabpanel").get_by_role("button").click()
    browser_page.get_by_role("option", name="refresh").click()
    submit_form(browser_page)

    top = ways.the_new_run("link-4", known=before["link-4"])
    ends = []
    for name in links[:3]:
        run = ways.ended(ways.the_new_run(name, known=before[name]).id)
        assert outline(run) == ("PipelineRun", "cascade", None, "completed", "completed", 1, 0)
        assert run.parent_id == top.id
        ends.append(run.ended_at)
    top = ways.ended(top.id)
    assert outline(top) == ("PipelineRun", "manual", None, "completed", "completed", 1, 0)
    assert (top.parent_id, top.retry_of, top.request["on_stale"]) == (None, None, "refresh")
    assert ends == sorted(ends)
    assert ends[-1] < top.started_at
    freshness = {row.key: row.freshness for row in ways.queries.status()}
    assert [freshness[f"refresh/{name}"] for name in links] == ["ready"] * 4
    # It has read the second edition, through all of them.
    assert {(read.key, read.number) for read in ways.queries.inputs("refresh/link-4")} == {
        (f"refresh/{name}", 2) for name in links[:3]
    }
    (waited,) = [event for _, event in ways.queries.events(top.id) if event.kind == "run_waiting"]
    assert waited.upstreams == ["refresh/link-3"]
