"""Why a run ran, was skipped, refused, waits or failed: one sentence and the evidence, from what was stored."""

from dataclasses import replace
from datetime import timedelta

import pytest

from freshline.deployments.gateway import FlowRunState
from freshline.runs import explaining
from freshline.runs.redo.replaying import Replays
from freshline.runs.status import StopReason
from freshline.storage.errors import InvalidInput, NotFound
from freshline.storage.ids import show_run_id

PRICES, MOMENTUM, BOOK = "refresh/prices", "refresh/momentum", "backtest/book"


def why(world, run):
    explained = world.queries.explain_run(run.id)
    assert explained.sentence() == f"{show_run_id(run.id)} of {explained.deployment} {explained.why}"
    return explained


def fail(world, claim, error, *, will_retry=False):
    world.port.fail(claim.run.id, claim.run.fence, error, "Traceback: …", will_retry=will_retry)


@pytest.mark.parametrize(
    ("run_id", "error", "said"),
    [
        ("run-17", InvalidInput, "'run-17' is not a run id"),
        ("run-00000000-0000-7000-8000-000000000000", NotFound, "There is no run"),
    ],
)
def test_explanation_of_what_is_no_run_says_so(world, run_id, error, said):
    with pytest.raises(error, match=said):
        world.queries.explain_run(run_id)


def test_run_id_that_is_almost_right_suggests_the_run(world):
    run = world.service.submit(PRICES)
    wrong = show_run_id(run.id)[:-1] + ("0" if str(run.id)[-1] != "0" else "1")
    with pytest.raises(NotFound, match=f"Did you mean '{show_run_id(run.id)}'"):
        world.queries.explain_run(wrong)


def test_explanation_for_another_tenant_finds_no_run(world):
    run = world.service.submit(PRICES)
    queries = type(world.queries)(world.database, tenant_id="somebody else")
    with pytest.raises(NotFound) as refusal:
        queries.explain_run(run.id)
    assert refusal.value.nearest == ()


def test_run_that_published_says_who_asked_and_what_came_of_it(world):
    world.run_through(PRICES)
    run = world.run_through(MOMENTUM, actor="ada")
    explained = why(world, run)
    assert explained.why == "ran because ada submitted it, on upstreams that were ready, and published v1"
    assert (explained.verdict, explained.forced_by, explained.attempts, explained.version) == ("run", None, 1, 1)
    assert [(seen["role"], seen["version"]) for seen in explained.upstreams] == [("prices", 1)]
    assert [moment.kind for moment in explained.moments][-2:] == ["version_published", "run_completed"]


def test_run_without_upstreams_has_nothing_to_say_of_them(world):
    assert why(world, world.run_through(PRICES, actor="ada")).why == "ran because ada submitted it and published v1"


def test_forced_run_names_who_overrode_and_what(world):
    run = world.run_through(MOMENTUM, actor="ada", on_stale="force")
    explained = why(world, run)
    assert explained.forced_by == "ada"
    assert explained.why == (
        "ran because ada submitted it, although refresh/prices has no version yet: ada overrode that, and published v1"
    )


def test_forced_run_that_was_retried_still_names_who_overrode(world):
    claim = world.start(world.service.submit(MOMENTUM, actor="ada", on_stale="force"))
    fail(world, claim, ValueError("no prices"), will_retry=True)
    world.complete(world.claim(claim.run.flow_run_id))
    explained = why(world, claim.run)
    assert explained.forced_by == "ada"
    assert "ada overrode that, after one attempt that failed, the last with ValueError: no prices," in explained.why


def test_refused_run_says_which_upstream_and_why(world):
    explained = why(world, world.service.submit(MOMENTUM, actor="ada"))
    assert explained.why == "was refused because refresh/prices has no version yet; ada submitted it"
    assert (explained.verdict, explained.attempts, explained.version) == ("refuse", 0, None)


def test_skipped_run_says_that_it_was_ready(world):
    world.run_through(PRICES)
    explained = why(world, world.service.submit(PRICES, actor="ada", if_ready="skip"))
    assert explained.why == "was skipped because the deployment is ready already; ada submitted it"


def test_waiting_run_names_what_it_waits_for_and_the_run_that_brings_it(world):
    run = world.service.submit(MOMENTUM, actor="ada", on_stale="refresh")
    world.pass_time(timedelta(minutes=10))
    explained = why(world, run)
    (awaited,) = explained.waits_for
    assert awaited.deployment == PRICES
    assert explained.why.startswith(f"waits for refresh/prices ({show_run_id(awaited.run_id)} is pending), because ")
    child = world.queries.explain_run(awaited.run_id)
    assert child.asked_by == f"{show_run_id(run.id)} of refresh/momentum needed it"


def test_waiting_run_without_a_refresh_says_that_it_waits_until_it_is_ready(world):
    explained = why(world, world.service.submit(MOMENTUM, on_stale="wait"))
    assert explained.why.startswith("waits for refresh/prices to be ready, because refresh/prices has no version yet")


def test_run_that_waits_still_says_how_long_it_has_waited_so_far(world):
    run = world.service.submit(MOMENTUM, on_stale="wait")
    assert why(world, run).waited_s == 0.0
    world.pass_time(timedelta(hours=2))
    assert why(world, run).waited_s == 7_200.0


def test_run_that_had_waited_says_how_long_and_for_what(world):
    run = world.service.submit(MOMENTUM, actor="ada", on_stale="wait")
    world.pass_time(timedelta(hours=3))
    world.run_through(PRICES)
    world.complete(world.start(run))
    explained = why(world, run)
    assert (explained.waited_for, explained.waited_s) == ((PRICES,), 10_800.0)
    assert "after it had waited 3 h for refresh/prices, and published v1" in explained.why


def test_run_that_nobody_needed_any_more_says_that_it_was_made_ready_without_it(world):
    for key in (PRICES, MOMENTUM, BOOK):
        world.run_through(key)
    others = [item for key, item in world.graph.declared.items() if key != PRICES]
    world.graph.register(replace(world.graph.declared[PRICES], declaration_digest="other code"), *others)
    world.service.submit(BOOK, on_stale="refresh")
    planned = dict(world.queries.runs(limit=2))
    # The prices come out as they were: momentum is ready again, and the run that was to refresh it not needed.
    world.complete(world.start(planned[PRICES]))
    assert why(world, planned[MOMENTUM]).why.startswith(
        "was skipped because what it waited for made the deployment ready without it; run-"
    )


def test_failed_run_names_the_error_and_every_attempt(world):
    claim = world.start(world.service.submit(PRICES, actor="ada"))
    fail(world, claim, ValueError("first"), will_retry=True)
    assert why(world, claim.run).why == ("failed in attempt 1 with ValueError: first, and Prefect starts the next one")
    claim = world.claim(claim.run.flow_run_id)
    fail(world, claim, KeyError("second"))
    explained = why(world, claim.run)
    assert [(one.attempt, one.error_type) for one in explained.failures] == [(1, "ValueError"), (2, "KeyError")]
    assert explained.why == (
        "failed because its body raised: KeyError: 'second'; attempt 2 ran because ada submitted it, "
        "after one attempt that failed, the last with ValueError: first"
    )


def test_run_whose_worker_was_lost_says_so(world):
    claim = world.start(world.service.submit(PRICES))
    world.gateway.end(claim.run.flow_run_id, FlowRunState.CRASHED)
    world.reconcile()
    explained = why(world, claim.run)
    assert explained.stop_reason == StopReason.CRASHED
    assert "failed because Prefect lost its process or the infrastructure" in explained.why


def test_run_cancelled_before_its_start_names_who_did_it(world):
    run = world.service.submit(PRICES, actor="ada")
    world.service.cancel(run.id, actor="bob")
    assert why(world, run).why == "was cancelled by bob before it started; ada submitted it"


def test_running_run_that_is_to_stop_names_who_asked(world):
    claim = world.start(world.service.submit(PRICES))
    world.service.cancel(claim.run.id, actor="bob")
    assert why(world, claim.run).why == "runs until it notices that bob asked for its cancellation"


def test_pending_and_running_run_say_what_they_wait_for(world):
    run = world.service.submit(PRICES, actor="ada")
    assert why(world, run).why == "may start and waits for the dispatcher; ada submitted it"
    world.dispatch()
    assert why(world, run).why == "may start and waits for Prefect to start it; ada submitted it"
    world.claim(world.flow_run_of(run).id)
    assert why(world, run).why == "runs (attempt 1) because ada submitted it"


def test_paused_run_says_since_which_attempt(world):
    claim = world.start(world.service.submit(PRICES))
    world.service.pause(claim.run.id, actor="bob")
    world.port.pause(claim.run.id, claim.run.fence)
    assert why(world, claim.run).why == "is paused since attempt 1, until somebody resumes it"


def test_clicked_and_scheduled_runs_say_what_started_them(world):
    deployment_id = next(row.prefect_deployment_id for key, row in world.graph.declared.items() if key == PRICES)
    clicked = world.claim(world.gateway.click(deployment_id).id)
    assert why(world, clicked.run).asked_by == "somebody started it in Prefect"
    world.complete(clicked)
    scheduled = world.claim(world.gateway.schedule(deployment_id, at=world.moment, name="daily").id)
    assert why(world, scheduled.run).asked_by == "the schedule daily started it"


def test_run_started_again_by_hand_names_the_one_before(world):
    claim = world.start(world.service.submit(PRICES))
    fail(world, claim, ValueError("no"))
    world.gateway.end(claim.run.flow_run_id, FlowRunState.FAILED)
    world.gateway.start_again(claim.run.flow_run_id)
    again = world.claim(claim.run.flow_run_id)
    explained = why(world, again.run)
    assert explained.retry_of == claim.run.id
    assert f"it starts {show_run_id(claim.run.id)} again" in explained.why


def test_replay_says_what_it_repeats_and_on_what(world):
    world.run_through(PRICES, 1)
    original = world.run_through(MOMENTUM)
    world.run_through(PRICES, 2)
    replay = Replays(world.database).replay(original.id, actor="ada")
    world.complete(world.start(replay))
    explained = why(world, replay)
    assert explained.replay_of == original.id
    assert f"because ada submitted it, on the versions that {show_run_id(original.id)} had read, and" in explained.why
    assert "overrode" not in explained.why


def test_superseded_run_says_that_its_version_did_not_become_current(world):
    older = world.start(world.service.submit(PRICES))
    world.run_through(PRICES, 2)
    world.complete(older, 1)
    assert why(world, older.run).why.endswith("published v2, which did not become the current version")


def test_explanation_of_a_long_log_holds_both_ends_of_it(world, monkeypatch):
    monkeypatch.setattr(explaining, "MAX_MOMENTS", 4)
    explained = why(world, world.run_through(PRICES))
    assert [moment.kind for moment in explained.moments] == [
        "run_submitted",
        "gate_decided",
        "version_published",
        "run_completed",
    ]


def test_view_of_an_explanation_has_the_sentence_and_the_log(world):
    shown = why(world, world.run_through(PRICES, actor="<ada>"))._repr_html_()
    assert "&lt;ada&gt; submitted it" in shown
    assert "published v1" in shown


def test_every_end_has_its_words():
    without = {StopReason.COMPLETED, StopReason.SUPERSEDED, StopReason.ALREADY_READY}
    without |= {StopReason.UPSTREAM_NOT_READY, StopReason.CANCELLED_BY_USER}
    assert explaining._ENDS.keys() == set(StopReason) - without
