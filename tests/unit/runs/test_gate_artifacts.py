"""What the gate saw, shown in Prefect: on which flow runs, what it says, and that nothing waits for it."""

import threading
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest

from freshline.runs.background import Background
from freshline.runs.gate_artifacts import GateArtifacts, artifact_key, gate_page
from freshline.storage.errors import PrefectError
from freshline.storage.ids import new_id, show_run_id
from freshline.storage.settings import load_settings


@pytest.fixture
def shown(world):
    return GateArtifacts(world.database, world.gateway)


def artifacts(world):
    return list(world.gateway.artifacts.values())


def only(world):
    (artifact,) = artifacts(world)
    return artifact


def click(world, name, parameters=None):
    """Somebody starts the deployment in Prefect, and a worker takes it up."""
    deployment = world.gateway.read_deployment(f"flow/{name}")
    flow_run = world.gateway.click(deployment.id, parameters)
    claim = world.claim(flow_run.id)
    return claim, flow_run


def table_of(text):
    """The table's rows as role -> cells."""
    lines = [line for line in text.splitlines() if line.startswith("| ")][2:]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {row[0]: row[1:] for row in cells}


def redeclare(world, key, **values):
    world.graph.register(*(replace(one, **(values if one.key == key else {})) for one in world.graph.declared.values()))


# Which runs.


def test_run_that_starts_shows_what_the_gate_saw_on_its_flow_run(world, shown):
    redeclare(world, "refresh/prices", policy={"max_age": "1d", "grace": "2h"})
    world.run_through("refresh/prices")
    run = world.service.submit("refresh/momentum")
    world.start(run)
    assert shown.pass_once() == 1
    artifact = only(world)
    assert (artifact.key, artifact.kind) == ("freshline-gate-refresh-momentum", "markdown")
    assert artifact.flow_run_id == world.service.get(run.id).flow_run_id
    assert artifact.data == (
        "### The gate: run\n\nevery upstream is ready\n\n"
        "| role | upstream | version | data until | freshness | why | policy | holds until |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- |\n"
        "| prices | refresh/prices | v1 |  | ready |  | max_age: 1d, grace: 2h | 2026-01-06 14:00 UTC |\n\n"
        f"{show_run_id(run.id)} of refresh/momentum · `on_stale`: refuse · as of 2026-01-05 12:00 UTC\n"
    )


def test_run_that_is_refused_in_prefect_shows_why(world, shown):
    claim, flow_run = click(world, "refresh-momentum")
    assert claim.run.status == "refused"
    shown.pass_once()
    artifact = only(world)
    assert artifact.flow_run_id == flow_run.id
    assert artifact.data.startswith("### The gate: refuse\n\nrefresh/prices has no version yet\n")
    assert table_of(artifact.data)["prices"][:5] == [
        "refresh/prices", "", "", "not_initialized", "refresh/prices has no version yet"
    ]  # fmt: skip


def test_run_that_waits_shows_for_what_and_then_what_it_started_on(world, shown):
    claim, flow_run = click(world, "refresh-momentum", {"on_stale": "wait"})
    assert claim.run.status == "waiting"
    shown.pass_once()
    assert only(world).data.startswith("### The gate: wait\n\nwaiting: refresh/prices has no version yet\n")

    world.gateway.suspend(flow_run.id, message="m", timeout_s=60)
    world.run_through("refresh/prices")
    world.dispatch()
    world.claim(flow_run.id)
    shown.pass_once()
    assert [one.data.splitlines()[0] for one in artifacts(world) if one.flow_run_id == flow_run.id] == [
        "### The gate: wait",
        "### The gate: run",
    ]


def test_run_that_waited_in_vain_shows_why_it_was_refused(world, shown):
    claim, _ = click(world, "refresh-momentum", {"on_stale": "refresh"})
    shown.pass_once()
    (refreshing,) = [run for key, run in world.queries.runs() if key == "refresh/prices"]
    world.service.cancel(refreshing.id)
    assert world.service.get(claim.run.id).status == "refused"
    shown.pass_once()
    assert (
        "The run was refused: the run of refresh/prices that was to refresh it cancelled" in artifacts(world)[-1].data
    )


def test_run_that_is_forced_shows_who_forced_it(world, shown):
    run = world.service.submit("refresh/momentum", on_stale="force", actor="ada")
    world.start(run)
    shown.pass_once()
    text = only(world).data
    assert "\nforced by ada although refresh/prices has no version yet\n" in text
    assert "\nIt was forced by ada.\n" in text


def test_run_with_a_warning_shows_it(world, shown):
    world.run_through("refresh/prices")
    world.complete(world.start(world.service.submit("refresh/prices")), source_delayed=True)
    world.start(world.service.submit("refresh/momentum"))
    shown.pass_once()
    said = "refresh/prices is source_delayed: its source ran and had nothing new"
    text = only(world).data
    assert f"\nevery upstream is ready, with a warning: {said}\n" in text
    assert table_of(text)["prices"][3:5] == ["source_delayed", said]


def test_run_that_is_skipped_in_prefect_shows_that_it_was_ready(world, shown):
    world.run_through("refresh/prices")
    world.run_through("refresh/momentum")
    shown.pass_once()
    click(world, "refresh-momentum", {"if_ready": "skip"})
    assert shown.pass_once() == 1
    assert artifacts(world)[-1].data.startswith("### The gate: skip\n\nthe deployment is ready already\n")


def test_run_without_a_flow_run_or_without_upstreams_shows_nothing(world, shown):
    refused = world.service.submit("refresh/momentum")
    world.run_through("refresh/prices")
    assert (refused.status, shown.pass_once(), artifacts(world)) == ("refused", 0, [])


def test_run_that_is_not_claimed_yet_shows_nothing(world, shown):
    world.run_through("refresh/prices")
    run = world.service.submit("refresh/momentum")
    world.dispatch()
    assert (shown.pass_once(), artifacts(world)) == (0, [])
    world.claim(world.flow_run_of(run).id)
    assert shown.pass_once() == 1


def test_further_attempt_shows_what_it_reads(world, shown):
    world.run_through("refresh/prices")
    claim = world.start(world.service.submit("refresh/momentum"))
    shown.pass_once()
    world.port.fail(claim.run.id, claim.run.fence, ValueError("no"), "", will_retry=True)
    world.run_through("refresh/prices", 2)
    world.claim(claim.run.flow_run_id)
    assert shown.pass_once() == 1
    assert [table_of(one.data)["prices"][1] for one in artifacts(world)] == ["v1", "v2"]


# How often, and what becomes of failures.


def test_decision_is_shown_once_however_many_look(world, shown):
    world.run_through("refresh/prices")
    world.start(world.service.submit("refresh/momentum"))
    assert [shown.pass_once(), shown.pass_once()] == [1, 0]
    assert GateArtifacts(world.database, world.gateway).pass_once() == 0
    assert len(artifacts(world)) == 1


def test_pass_without_news_asks_prefect_nothing(world, shown):
    world.run_through("refresh/prices")
    world.start(world.service.submit("refresh/momentum"))
    shown.pass_once()
    before = list(world.gateway.calls)
    shown.pass_once()
    assert world.gateway.calls == before


def test_flow_waits_for_no_artifact(world):
    world.run_through("refresh/prices")
    world.start(world.service.submit("refresh/momentum"))
    click(world, "backtest-book")
    assert {"write_markdown_artifact", "write_table_artifact", "read_artifacts"}.isdisjoint(world.gateway.calls)


def test_run_that_ended_long_before_the_first_look_is_left_alone(world, shown):
    world.run_through("refresh/prices")
    world.run_through("refresh/momentum")
    world.pass_time(timedelta(hours=2))
    assert shown.pass_once() == 0


def test_prefect_that_is_away_ends_the_pass_and_the_next_one_shows_it(world, shown):
    world.run_through("refresh/prices")
    run = world.service.submit("refresh/momentum")
    world.start(run)
    world.gateway.is_down = True
    with pytest.raises(PrefectError):
        shown.pass_once()
    assert world.service.get(run.id).status == "running"
    world.gateway.is_down = False
    world.pass_time(timedelta(hours=1))
    assert shown.pass_once() == 1


def test_artifact_that_prefect_does_not_take_keeps_no_other_and_is_given_up(world, shown):
    world.run_through("refresh/prices")
    first = world.start(world.service.submit("refresh/momentum"))
    second = world.start(world.service.submit("backtest/book", on_stale="force"))
    for _ in range(3):
        world.gateway.fail_next("write_markdown_artifact")
        shown.pass_once()
    assert [one.flow_run_id for one in artifacts(world)] == [second.run.flow_run_id]
    assert (first.may_start, shown.pass_once()) == (True, 0)


def test_background_shows_it_without_being_asked(world, monkeypatch):
    world.run_through("refresh/prices")
    world.start(world.service.submit("refresh/momentum"))
    written, write = threading.Event(), world.gateway.write_markdown_artifact

    def write_and_tell(key, *args, **options):
        made = write(key, *args, **options)
        if key == "freshline-gate-refresh-momentum":
            written.set()
        return made

    monkeypatch.setattr(world.gateway, "write_markdown_artifact", write_and_tell)
    program = SimpleNamespace(settings=load_settings(), database=world.database, objects=world.objects)
    with Background(program, world.gateway, reconcile_s=60):
        assert written.wait(timeout=30)


# What it says.


def page(**values):
    upstream = {
        "role": "prices", "deployment": "refresh/prices", "freshness": "ready", "reason": "", "version": 1,
        "digest": "d", "data_end": "2026-01-02",
    }  # fmt: skip
    decision = {"verdict": "run", "reason": "every upstream is ready", "on_stale": "refuse", "upstreams": [upstream]}
    run = SimpleNamespace(id=new_id(), status="running", error_message=None, decision=decision | values)
    return gate_page(run, "refresh/momentum")


def test_page_of_a_decision_of_an_earlier_release_shows_what_it_has():
    assert "| prices | refresh/prices | v1 | 2026-01-02 | ready |  |  |  |" in page()


def test_page_shows_text_and_runs_none():
    text = page(reason="a | b\n# c <script>x</script> [d](http://e) `f` *g*")
    assert "a \\| b # c &lt;script&gt;x&lt;/script&gt; \\[d\\](http://e) \\`f\\` \\*g\\*\n" in text


def test_page_of_very_many_upstreams_says_how_many_more():
    upstream = {"role": "r", "deployment": "refresh/r", "freshness": "ready", "reason": "x" * 5000, "version": None}
    text = page(upstreams=[upstream] * 1000)
    assert "| … and 900 more |" in text
    assert len(text) < 50_000


def test_parameters_are_nowhere_on_the_page(world, shown):
    schema = {"type": "object", "properties": {"token": {"type": "string"}, "days": {"type": "string"}}}
    redeclare(world, "refresh/momentum", parameter_schema=schema, declaration={"on_stale": {}, "secrets": ["token"]})
    click(world, "refresh-momentum", {"token": "hunter2", "days": "tuesday"})
    shown.pass_once()
    assert not [word for word in ("hunter2", "tuesday", "token", "***") if word in only(world).data]


@pytest.mark.parametrize(
    ("deployment", "key"),
    [
        ("backtest/book", "freshline-gate-backtest-book"),
        ("refresh/My_Prices.v2", "freshline-gate-refresh-my-prices-v2"),
        ("refresh/a..", "freshline-gate-refresh-a"),
    ],
)
def test_artifact_key_has_the_characters_that_prefect_allows(deployment, key):
    assert artifact_key(deployment) == key
