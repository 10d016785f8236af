"""The gate's decision: warnings, the evidence that is stored, who overrode, and defaults per trigger."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
import sqlalchemy as sa

from freshline.lineage.models import Freshness
from freshline.runs.gate import UpstreamReport, Verdict, decide, warning_moment
from freshline.runs.request import RunRequest, on_stale_for, resolve_if_ready
from freshline.storage.ids import new_id
from freshline.storage.words import IfReady, OnStale, Trigger
from tests.factories import START

POLICY = {"max_age": "1d", "warn": "2h", "fail": "6h"}
"""Due a day after the run: a warning two hours later, stale four hours after that."""


def upstream(freshness=Freshness.READY, **values):
    reason = "" if freshness in (Freshness.READY, Freshness.SOURCE_DELAYED) else "refresh/prices is stale: its reason"
    seen = UpstreamReport("prices", new_id(), "refresh/prices", freshness, reason, new_id(), 3, "d", date(2026, 1, 2))
    return replace(seen, **values)


def decided(*upstreams, **options):
    asked = {"freshness": None, "on_stale": OnStale.REFUSE, "if_ready": IfReady.RUN, "actor": "ada", "now": START}
    return decide(upstreams, **(asked | options))


# The rule.


@pytest.mark.parametrize(
    ("options", "verdict", "reason"),
    [
        ({}, Verdict.RUN, "every upstream is ready, with a warning: take care"),
        ({"if_ready": IfReady.SKIP, "freshness": Freshness.READY}, Verdict.SKIP, "the deployment is ready already"),
        (
            {"if_ready": IfReady.SKIP, "freshness": Freshness.STALE},
            Verdict.RUN,
            "every upstream is ready, with a warning: take care",
        ),
    ],
)
def test_gate_with_a_warning_lets_pass_and_says_so(options, verdict, reason):
    decision = decided(upstream(warning="take care"), **options)
    assert (decision.verdict, decision.reason, decision.forced_by) == (verdict, reason, None)
    assert decision.warnings == ("take care",)


def test_gate_that_is_forced_says_who_and_what_else_is_only_just_ready():
    decision = decided(upstream(Freshness.STALE), upstream(warning="take care"), on_stale=OnStale.FORCE)
    assert decision.forced_by == "ada"
    assert decision.reason == ("forced by ada although refresh/prices is stale: its reason, with a warning: take care")


def test_gate_that_need_not_be_forced_names_nobody():
    decision = decided(upstream(), on_stale=OnStale.FORCE)
    assert (decision.verdict, decision.reason, decision.forced_by) == (Verdict.RUN, "every upstream is ready", None)


def test_decision_that_was_made_later_differs_in_nothing_else():
    seen = upstream(warning="take care", policy=POLICY, lapses_at=START)
    stored = decided(seen).evidence()
    assert not decided(seen, now=START + timedelta(hours=1)).differs_from(stored)
    assert decided(replace(seen, number=4)).differs_from(stored)
    assert decided(replace(seen, warning="")).differs_from(stored)
    assert decided(replace(seen, policy=None)).differs_from(stored)
    assert decided(seen).differs_from(None)


def test_decision_of_an_earlier_release_differs():
    evidence = decided(upstream()).evidence()
    earlier = {name: evidence[name] for name in ("verdict", "reason", "on_stale", "upstreams")}
    assert decided(upstream()).differs_from(earlier)


# When an upstream is overdue.


@pytest.mark.parametrize(
    ("policy", "before_lapse"),
    [
        ({"max_age": "1d", "warn": "2h", "fail": "6h"}, timedelta(hours=4)),
        ({"max_age": "1d", "grace": "1h", "warn": "0s", "fail": "30m"}, timedelta(minutes=30)),
    ],
)
def test_warning_moment_lies_before_the_lapse_by_what_is_between_warn_and_fail(policy, before_lapse):
    assert warning_moment(policy, START) == START - before_lapse


@pytest.mark.parametrize(
    ("policy", "lapses_at"), [(None, START), (POLICY, None), ({"max_age": "1d"}, START), ({}, None)]
)
def test_warning_moment_without_a_warn_or_a_lapse_is_none(policy, lapses_at):
    assert warning_moment(policy, lapses_at) is None


# What is asked and what is declared.


@pytest.mark.parametrize(
    ("asked", "declared_", "found"),
    [
        (IfReady.RUN, {"schedule": "skip"}, IfReady.RUN),
        (None, {"schedule": "skip"}, IfReady.SKIP),
        (None, {"manual": "skip"}, IfReady.RUN),
        (None, {}, IfReady.RUN),
        (None, None, IfReady.RUN),
        (None, "skip", IfReady.SKIP),
    ],
)
def test_if_ready_is_as_asked_else_as_declared_for_the_trigger_else_run(asked, declared_, found):
    resolved = resolve_if_ready(RunRequest(if_ready=asked), Trigger.SCHEDULE, declared_)
    assert resolved.if_ready == found


def test_on_stale_is_as_asked_else_as_declared_for_the_trigger_else_the_default():
    asked = RunRequest(on_stale=OnStale.FORCE)
    assert on_stale_for(asked, Trigger.SCHEDULE, {"schedule": "refuse"}) == OnStale.FORCE
    assert on_stale_for(RunRequest(), Trigger.SCHEDULE, {"schedule": "refuse"}) == OnStale.REFUSE
    assert on_stale_for(RunRequest(), Trigger.SCHEDULE, {"manual": "refuse"}) == OnStale.WAIT


# On the record.


def redeclare(world, key, **values):
    """Register the same graph with other words about one deployment."""
    world.graph.register(*(replace(one, **(values if one.key == key else {})) for one in world.graph.declared.values()))


def delay_source(world, key):
    """The source of the deployment runs and has nothing new."""
    claim = world.start(world.service.submit(key, on_stale="force"))
    world.complete(claim, source_delayed=True)


def decision_of(world, run_id):
    return world.service.get(run_id).decision


def test_run_on_a_delayed_source_starts_with_a_warning_in_reason_evidence_and_event(world):
    world.run_through("refresh/prices")
    delay_source(world, "refresh/prices")
    run = world.service.submit("refresh/momentum")
    said = "refresh/prices is source_delayed: its source ran and had nothing new"
    assert (run.status, run.decision["verdict"]) == ("pending", "run")
    assert run.decision["reason"] == f"every upstream is ready, with a warning: {said}"
    (seen,) = run.decision["upstreams"]
    assert (seen["freshness"], seen["warning"], seen["reason"]) == ("source_delayed", said, "")
    (event,) = [event for _, event in world.queries.events(run.id) if event.kind == "gate_decided"]
    assert event.reason == run.decision["reason"]


def test_run_on_an_overdue_upstream_starts_with_a_warning_between_warn_and_fail(world):
    redeclare(world, "refresh/prices", policy=POLICY)
    world.run_through("refresh/prices")
    world.pass_time(timedelta(days=1, hours=2) - timedelta(seconds=1))
    before = world.service.submit("refresh/momentum")
    world.pass_time(timedelta(seconds=1))
    overdue = world.service.submit("refresh/momentum")
    world.pass_time(timedelta(hours=4))
    lapsed = world.service.submit("refresh/momentum")

    assert before.decision["reason"] == "every upstream is ready"
    assert overdue.decision["reason"] == (
        "every upstream is ready, with a warning: refresh/prices has been overdue since 2026-01-06 14:00 UTC, "
        "and lapses at 2026-01-06 18:00 UTC"
    )
    assert (lapsed.status, lapsed.error_message) == (
        "refused", "refresh/prices is stale: its freshness policy has lapsed"
    )  # fmt: skip


def test_warning_that_comes_between_submission_and_claim_renews_the_decision(world):
    world.run_through("refresh/prices")
    run = world.service.submit("refresh/momentum")
    delay_source(world, "refresh/prices")
    claim = world.start(run)
    assert claim.may_start
    assert world.kinds(run.id).count("gate_decided") == 2
    assert "with a warning: refresh/prices is source_delayed" in decision_of(world, run.id)["reason"]


def test_evidence_names_version_digest_data_policy_lapse_and_when_the_gate_looked(world):
    redeclare(world, "refresh/prices", policy={"max_age": "1d", "grace": "2h"})
    world.run_through("refresh/prices")
    world.pass_time(timedelta(hours=1))
    run = world.service.submit("refresh/momentum")
    with world.database.read() as connection:
        version = connection.execute(sa.text("SELECT digest FROM version")).scalar_one()
    assert run.decision == {
        "verdict": "run",
        "reason": "every upstream is ready",
        "on_stale": "refuse",
        "forced_by": None,
        "as_of": (START + timedelta(hours=1)).isoformat(),
        "upstreams": [
            {
                "role": "prices",
                "deployment": "refresh/prices",
                "freshness": "ready",
                "reason": "",
                "warning": "",
                "version": 1,
                "digest": version,
                "data_end": None,
                "policy": {"max_age": "1d", "grace": "2h"},
                "warns_at": None,
                "lapses_at": datetime(2026, 1, 6, 14, tzinfo=UTC).isoformat(),
            }
        ],
    }


def test_claim_that_sees_the_same_later_writes_no_second_decision(world):
    redeclare(world, "refresh/prices", policy={"max_age": "1d"})
    world.run_through("refresh/prices")
    run = world.service.submit("refresh/momentum")
    world.pass_time(timedelta(minutes=5))
    assert world.start(run).may_start
    assert world.kinds(run.id).count("gate_decided") == 1
    assert decision_of(world, run.id) == run.decision


def test_version_that_was_published_meanwhile_is_in_the_evidence(world):
    world.run_through("refresh/prices")
    run = world.service.submit("refresh/momentum")
    world.run_through("refresh/prices", 2)
    world.start(run)
    (seen,) = decision_of(world, run.id)["upstreams"]
    assert seen["version"] == 2
    assert world.kinds(run.id).count("gate_decided") == 2


def test_force_that_was_asked_for_names_the_user(world):
    run = world.service.submit("refresh/momentum", on_stale="force", actor="ada")
    assert run.decision["forced_by"] == "ada"
    assert run.decision["reason"] == "forced by ada although refresh/prices has no version yet"


def test_force_that_the_catalogue_declares_names_the_catalogue_and_not_the_user(world):
    redeclare(world, "refresh/momentum", declaration={"on_stale": {"submitted": "force"}})
    run = world.service.submit("refresh/momentum", actor="ada")
    assert run.decision["forced_by"] == "the catalogue (on_stale for submitted)"
    assert run.decision["reason"].startswith("forced by the catalogue (on_stale for submitted) although")


def test_further_attempt_of_a_forced_run_still_says_who_forced_it(world):
    run = world.service.submit("refresh/momentum", on_stale="force", actor="ada")
    claim = world.start(run)
    world.port.fail(claim.run.id, claim.run.fence, ValueError("no"), "", will_retry=True)
    again = world.claim(claim.run.flow_run_id)
    assert again.run.attempt == 2
    decision = decision_of(world, run.id)
    assert decision["forced_by"] == "ada"
    assert decision["reason"] == "attempt 2 of a run that had started, although refresh/prices has no version yet"


def test_forced_run_whose_upstream_became_ready_meanwhile_names_nobody(world):
    run = world.service.submit("refresh/momentum", on_stale="force", actor="ada")
    world.run_through("refresh/prices")
    world.start(run)
    decision = decision_of(world, run.id)
    assert (decision["reason"], decision["forced_by"]) == ("every upstream is ready", None)


def test_if_ready_of_the_deployment_holds_for_the_triggers_that_it_names(world):
    redeclare(world, "refresh/prices", declaration={"on_stale": {}, "if_ready": {"schedule": "skip"}})
    world.run_through("refresh/prices")
    prices = world.gateway.read_deployment("flow/refresh-prices").id
    scheduled = world.claim(world.gateway.schedule(prices, at=START).id).run
    clicked = world.claim(world.gateway.click(prices).id).run
    submitted = world.service.submit("refresh/prices")
    asked = world.claim(world.gateway.click(prices, {"if_ready": "skip"}).id).run
    assert [(run.trigger, run.status, run.request["if_ready"]) for run in (scheduled, clicked, submitted, asked)] == [
        ("schedule", "skipped", "skip"),
        ("manual", "running", "run"),
        ("submitted", "pending", "run"),
        ("manual", "skipped", "skip"),
    ]
