"""What people say of versions, as a whole: what runs read by alias, what waits for a withdrawal, what the CLI says."""

from dataclasses import replace
from uuid import UUID

import pytest

from freshline import lineage, testing
from freshline.flows import RunContext, track
from freshline.flows.reading import Reading
from freshline.lineage.models import Freshness
from freshline.runs.curation import Curation
from freshline.runs.reads import Agreement
from freshline.runs.redo.replaying import Replays
from freshline.runs.result import Read, Result
from freshline.storage.artifacts import ArtifactRecord
from freshline.storage.errors import Conflict, InvalidInput, NotFound
from freshline.storage.files import save_file
from tests.factories import declared

READY, STALE, NOT_INITIALIZED = Freshness.READY, Freshness.STALE, Freshness.NOT_INITIALIZED
PRICES, CALENDAR = "refresh/prices", "refresh/calendar"


@pytest.fixture
def curation(world):
    return Curation(world.database)


def reading(world, claim):
    """What the body of a claimed run reads with."""
    return Reading(world.port, claim.run.id, until=None, base_version_id=None)


def column(reading, role):
    return reading.table(role, None, columns=None, where=None, form="pandas")["x"].tolist()


def complete_with(world, claim, reads, content=7):
    world.port.complete(claim.run.id, claim.run.fence, replace(world.result(content), reads=reads))
    world.gateway.end(claim.run.flow_run_id)


# Bad input.


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (lambda c: c.withdraw(PRICES, "wrong"), InvalidInput, r"say which version of refresh/prices to withdraw"),
        (lambda c: c.withdraw(f"{PRICES}@champion", "wrong"), InvalidInput, r"is refresh/prices@v1 at this moment"),
        (lambda c: c.restore(PRICES, "right"), InvalidInput, r"say which version of refresh/prices to restore"),
        (lambda c: c.label(PRICES, "v1.0.0"), InvalidInput, r"say which version of refresh/prices to label"),
        (lambda c: c.label(f"{PRICES}@v1", "first"), InvalidInput, r"is no label; write three numbers"),
        (lambda c: c.withdraw(f"{PRICES}@v1", "  "), InvalidInput, "say the reason"),
        (lambda c: c.withdraw(f"{PRICES}@v1", "x" * 2001), InvalidInput, "2,001 characters; at most 2,000"),
        (lambda c: c.withdraw(f"{PRICES}@v1", "a\0b"), InvalidInput, "NUL character"),
        (lambda c: c.withdraw(f"{PRICES}@v1", "wrong", actor=""), InvalidInput, "say the actor"),
        (lambda c: c.withdraw(f"{PRICES}@v9", "wrong"), NotFound, "no version 'refresh/prices@v9'"),
        (lambda c: c.set_alias(f"{PRICES}@v1", "v2"), InvalidInput, "looks like the number"),
        (lambda c: c.set_alias(f"{PRICES}@v1", "x", expected=-1), InvalidInput, "must be the number of a version"),
        (lambda c: c.set_alias(f"{PRICES}@v1", "x", expected=True), InvalidInput, "must be the number of a version"),
        (lambda c: c.set_alias(CALENDAR, "x"), NotFound, "no version 'refresh/calendar'"),
        (lambda c: c.remove_alias(f"{PRICES}@v1"), InvalidInput, "names no alias"),
        (lambda c: c.remove_alias(PRICES), InvalidInput, "names no alias"),
        (lambda c: c.alias_moves(f"{PRICES}@best"), NotFound, r"its aliases are champion"),
        (lambda c: c.versions("refresh/price"), NotFound, "Did you mean 'refresh/prices'"),
        (lambda c: c.version(f"{PRICES}@best"), NotFound, r"its aliases are champion"),
    ],
)
def test_what_cannot_be_said_of_a_version_is_refused_and_changes_nothing(world, curation, act, error, message):
    world.run_through(PRICES)
    curation.set_alias(f"{PRICES}@v1", "champion", actor="ada")
    before = (curation.version(f"{PRICES}@v1"), curation.aliases(PRICES), world.graph.freshness())
    with pytest.raises(error, match=message):
        act(curation)
    assert (curation.version(f"{PRICES}@v1"), curation.aliases(PRICES), world.graph.freshness()) == before


# Aliases.


def test_body_reads_by_alias_and_by_label_what_they_name(world, curation):
    world.run_through(CALENDAR, 1)
    world.run_through(CALENDAR, 2)
    curation.set_alias(f"{CALENDAR}@v1", "champion")
    curation.label(f"{CALENDAR}@v1", "v1.0.0")
    claim = world.start(world.service.submit(PRICES))
    body = reading(world, claim)
    assert column(body, f"{CALENDAR}@champion") == [1]
    assert column(body, f"{CALENDAR}@v1.0.0") == [1]
    assert column(body, CALENDAR) == [2]
    complete_with(world, claim, body.reads)
    found = {read.role: read.number for read in world.queries.inputs(f"{PRICES}@v1")}
    assert found == {f"{CALENDAR}@champion": 1, f"{CALENDAR}@v1.0.0": 1, CALENDAR: 2}


@pytest.mark.parametrize("which", ["v1", "champion", "v1.0.0"])
def test_questions_take_every_reference(world, curation, which):
    world.run_through(PRICES, 1)
    world.run_through("refresh/momentum", 1)
    world.run_through(PRICES, 2)
    world.run_through("refresh/momentum", 2)
    for key in (PRICES, "refresh/momentum"):
        curation.set_alias(f"{key}@v1", "champion")
        curation.label(f"{key}@v1", "v1.0.0")
    assert [read.number for read in world.queries.inputs(f"refresh/momentum@{which}")] == [1]
    found = lineage.consumers(f"{PRICES}@{which}", database=world.database, tenant_id="default")
    assert [(one.key, one.number) for one in found] == [("refresh/momentum", 1)]


def test_body_that_reads_an_alias_twice_reads_the_same_version_although_it_moved(world, curation):
    world.run_through(CALENDAR, 1)
    world.run_through(CALENDAR, 2)
    curation.set_alias(f"{CALENDAR}@v1", "champion")
    body = reading(world, world.start(world.service.submit(PRICES)))
    assert column(body, f"{CALENDAR}@champion") == [1]
    curation.set_alias(f"{CALENDAR}@v2", "champion", expected=1)
    assert column(body, f"{CALENDAR}@champion") == [1]
    assert len(body.reads) == 1


def test_read_by_alias_makes_no_edge_and_its_move_makes_nothing_stale(world, curation):
    world.run_through(CALENDAR, 1)
    curation.set_alias(f"{CALENDAR}@v1", "champion")
    claim = world.start(world.service.submit(PRICES))
    body = reading(world, claim)
    column(body, f"{CALENDAR}@champion")
    complete_with(world, claim, body.reads)
    world.run_through(CALENDAR, 2)
    curation.set_alias(f"{CALENDAR}@v2", "champion")
    assert world.graph.freshness()[PRICES] == READY


def test_replay_reads_what_the_alias_named_when_the_run_read_it(world, curation):
    world.run_through(CALENDAR, 1)
    world.run_through(CALENDAR, 2)
    curation.set_alias(f"{CALENDAR}@v1", "champion")
    claim = world.start(world.service.submit(PRICES))
    body = reading(world, claim)
    column(body, f"{CALENDAR}@champion")
    complete_with(world, claim, body.reads)
    curation.set_alias(f"{CALENDAR}@v2", "champion")
    again = world.start(Replays(world.database).replay(claim.run.id))
    assert column(reading(world, again), f"{CALENDAR}@champion") == [1]


@pytest.mark.parametrize("which", ["champion", "v1", "v1.0.0"])
def test_withdrawn_version_is_read_by_no_run_that_asks_for_it(world, curation, which):
    world.run_through(CALENDAR, 1)
    curation.set_alias(f"{CALENDAR}@v1", "champion")
    curation.label(f"{CALENDAR}@v1", "v1.0.0")
    judged = curation.withdraw(f"{CALENDAR}@v1", "wrong holidays", actor="ada")
    assert judged.aliases == ("champion",)
    with pytest.raises(Conflict, match=r"version 1, which was withdrawn \(wrong holidays\): read another one"):
        world.port.resolve(f"{CALENDAR}@{which}")
    assert curation.version(f"{CALENDAR}@{which}").version.withdrawn_reason == "wrong holidays"


def test_flow_that_reads_by_alias_is_tested_without_a_server():
    @track.inference
    def predict(run: RunContext) -> dict[str, float]:
        return {"x": float(run.read("training/alpha@champion")["x"].sum())}

    import pandas as pd

    frame = pd.DataFrame({"x": [1.0, 2.0]})
    assert testing.run(predict, inputs={"training/alpha@champion": frame}).metrics == {"x": 3.0}
    with pytest.raises(NotFound, match=r"input given to testing.run 'training/alpha@champion'"):
        testing.run(predict)


@pytest.fixture
def models(world):
    """A model with a version, and its inference, which reads it."""
    items = [declared("training/alpha"), declared("inference/alpha", ["training/alpha"])]
    world.graph.register(*world.graph.declared.values(), *items)
    world.graph.publish("training/alpha", "one")
    world.graph.publish("training/alpha", "two")
    return world


def submit_inference(world, model):
    return world.service.submit("inference/alpha", detail={"model_version_id": model})


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("training/alpha@best", NotFound, r"its aliases are champion"),
        ("training/alpha@v9", NotFound, "no version"),
        ("training/alpha@1", InvalidInput, "neither a number like v12"),
        ("training/alpha@v2", Conflict, r"training/alpha@v2 is version 2, which was withdrawn \(bad\)"),
        ("champion", InvalidInput, r"model_version_id='champion'.*give the id of a version"),
        (UUID(int=7), NotFound, "no version '00000000-"),
        (7, InvalidInput, "give the id of a version"),
    ],
)
def test_fact_that_names_no_usable_version_is_refused_and_no_run_is_recorded(models, curation, model, error, message):
    curation.set_alias("training/alpha@v1", "champion")
    curation.withdraw("training/alpha@v2", "bad")
    with pytest.raises(error, match=message):
        submit_inference(models, model)
    assert models.queries.runs() == []


@pytest.mark.parametrize("model", ["training/alpha@champion", "training/alpha@v1", "training/alpha@v1.0.0"])
def test_fact_that_names_a_version_by_a_reference_is_stored_as_its_id(models, curation, model):
    curation.set_alias("training/alpha@v1", "champion")
    first = curation.label("training/alpha@v1", "v1.0.0").version_id
    for named in (model, first):
        run = submit_inference(models, named)
        assert models.queries.report(run.id).detail["model_version_id"] == first


# Withdrawal and runs.


def test_run_that_was_reading_what_is_withdrawn_leaves_a_stale_version(world, curation):
    world.run_through(PRICES, "good")
    world.run_through(PRICES, "bad")
    claim = world.start(world.service.submit("refresh/momentum"))
    assert curation.withdraw(f"{PRICES}@v2", "bad").current == 1
    assert column(reading(world, claim), "prices") == ["bad"], "what was pinned is still read"
    world.complete(claim)
    assert world.graph.causes("refresh/momentum") == [("input_changed", "prices"), ("withdrawn", "prices")]
    world.run_through("refresh/momentum", 2)
    assert world.graph.freshness()["refresh/momentum"] == READY
    assert [(read.key, read.number) for read in world.queries.inputs("refresh/momentum")] == [(PRICES, 1)]


def test_withdrawal_that_makes_an_upstream_ready_lets_the_run_go_on_that_waited_for_it(world, curation):
    world.run_through(PRICES, "good")
    world.run_through("refresh/momentum")
    world.run_through(PRICES, "bad")
    waiting = world.service.submit("backtest/book", on_stale="wait")
    assert waiting.status == "waiting"
    curation.withdraw(f"{PRICES}@v2", "bad")
    assert world.graph.freshness()["refresh/momentum"] == READY
    assert world.service.get(waiting.id).status == "pending"


def test_gate_refuses_a_run_whose_upstream_has_no_version_left(world, curation):
    world.run_through(PRICES)
    curation.withdraw(f"{PRICES}@v1", "bad")
    assert world.graph.freshness()[PRICES] == NOT_INITIALIZED
    assert world.service.submit("refresh/momentum").status == "refused"
    refreshing = world.service.submit("refresh/momentum", on_stale="refresh")
    assert refreshing.status == "waiting"
    (prices,) = [run for key, run in world.queries.runs() if key == PRICES and run.status == "pending"]
    world.complete(world.start(prices), "good")
    assert world.service.get(refreshing.id).status == "pending"


def test_run_that_continues_what_is_withdrawn_meanwhile_is_superseded(world, curation):
    world.run_through(PRICES, 1)
    world.run_through(PRICES, 2)
    claim = world.start(world.service.submit(PRICES))
    curation.withdraw(f"{PRICES}@v2", "bad")
    result = world.result(3, base_version_id=claim.run.base_version_id)
    world.port.complete(claim.run.id, claim.run.fence, result)
    assert world.service.get(claim.run.id).stop_reason == "superseded"
    assert [one.number for one in curation.versions(PRICES) if one.is_current] == [1]


def test_versions_are_listed_newest_first_with_what_is_said_of_them(world, curation):
    for content in (1, 2, 3):
        world.run_through(PRICES, content)
    curation.set_alias(f"{PRICES}@v1", "champion", actor="ada", reason="best")
    curation.set_alias(f"{PRICES}@v1", "reference", actor="ada")
    curation.label(f"{PRICES}@v2", "v1.0.0", actor="ada")
    curation.withdraw(f"{PRICES}@v3", "bad", actor="bob")
    curation.restore(f"{PRICES}@v3", "not so bad", actor="bob")
    curation.withdraw(f"{PRICES}@v3", "bad after all", actor="bob")
    shown = [
        (one.reference, one.label, one.aliases, one.is_current, one.withdrawn_reason)
        for one in curation.versions(PRICES)
    ]
    assert shown == [
        (f"{PRICES}@v3", None, (), False, "bad after all"),
        (f"{PRICES}@v2", "v1.0.0", (), True, None),
        (f"{PRICES}@v1", None, ("champion", "reference"), False, None),
    ]
    assert [one.number for one in curation.versions(PRICES, limit=2)] == [3, 2]
    acts = curation.version(f"{PRICES}@v3").acts
    assert [(act.kind.value, act.reason) for act in acts] == [
        ("withdrawn", "bad"), ("restored", "not so bad"), ("withdrawn", "bad after all")
    ]  # fmt: skip
    assert curation.versions(PRICES).to_pandas()["number"].tolist() == [3, 2, 1]


# Pinned and read.


def test_report_says_what_was_pinned_and_what_was_read(world):
    world.run_through(PRICES, 1)
    world.run_through(PRICES, 2)
    world.run_through("refresh/momentum")
    world.run_through(CALENDAR)
    claim = world.start(world.service.submit("backtest/book"))
    assert {one.role: one.agreement for one in world.queries.report(claim.run.id).reads} == {
        "momentum": Agreement.NOT_READ, "prices": Agreement.NOT_READ
    }  # fmt: skip
    body = reading(world, claim)
    for role in ("momentum", f"{PRICES}@v1", CALENDAR):
        column(body, role)
    complete_with(world, claim, body.reads)
    found = {one.role: one for one in world.queries.report(claim.run.id).reads}
    assert {role: (one.pinned, one.read, one.agreement.value, one.differs) for role, one in found.items()} == {
        "momentum": (1, 1, "as_pinned", False),
        "prices": (2, None, "not_read", False),
        f"{PRICES}@v1": (2, 1, "other_version", True),
        CALENDAR: (None, 1, "not_pinned", True),
    }


def test_declared_upstream_that_is_read_by_its_key_is_the_pinned_version(world):
    world.run_through(PRICES, "pinned")
    claim = world.start(world.service.submit("refresh/momentum"))
    world.run_through(PRICES, "newer")
    body = reading(world, claim)
    assert column(body, PRICES) == ["pinned"]
    complete_with(world, claim, body.reads)
    (read,) = world.queries.report(claim.run.id).reads
    assert (read.role, read.read, read.agreement) == ("prices", 1, Agreement.AS_PINNED)


# Edges that change while a run is under way.


def test_edge_that_is_added_during_a_run_leaves_its_result_stale(world):
    world.run_through(PRICES)
    world.run_through(CALENDAR)
    claim = world.start(world.service.submit("refresh/momentum"))
    items = dict(world.graph.declared)
    added = declared("refresh/momentum", [PRICES, CALENDAR], digest="declaration-2")
    items["refresh/momentum"] = replace(added, prefect_deployment_id=items["refresh/momentum"].prefect_deployment_id)
    world.graph.register(*items.values())
    world.complete(claim)
    assert world.graph.causes("refresh/momentum") == [("declaration_changed", "")]
    world.run_through("refresh/momentum", 2)
    assert world.graph.freshness()["refresh/momentum"] == READY
    world.run_through(CALENDAR, 2)
    assert world.graph.causes("refresh/momentum") == [("input_changed", "calendar")]


def test_edge_that_is_removed_during_a_run_brings_no_cause_of_its_own(world):
    world.run_through(PRICES)
    world.run_through("refresh/momentum")
    claim = world.start(world.service.submit("backtest/book"))
    items = dict(world.graph.declared)
    without = declared("backtest/book", ["refresh/momentum"], digest="declaration-2")
    items["backtest/book"] = replace(without, prefect_deployment_id=items["backtest/book"].prefect_deployment_id)
    world.graph.register(*items.values())
    world.complete(claim)
    world.run_through(PRICES, 2)
    world.run_through("refresh/momentum", 1)
    assert world.graph.causes("backtest/book") == [("declaration_changed", "")]


def test_read_of_a_role_whose_edge_was_removed_makes_it_no_observed_edge(world):
    world.run_through(PRICES)
    world.run_through("refresh/momentum")
    claim = world.start(world.service.submit("backtest/book"))
    reads = [Read(role, pin.upstream_id, pin.version_id) for role, pin in world.port.pins(claim.run.id).items()]
    items = dict(world.graph.declared)
    items["backtest/book"] = replace(items["backtest/book"], edges=())
    world.graph.register(*items.values())
    complete_with(world, claim, reads)
    world.run_through(PRICES, 2)
    assert world.graph.freshness()["backtest/book"] == READY


@pytest.mark.parametrize("limit", [0, -1, 10_001, True, "5"])
def test_limit_that_is_no_number_of_versions_is_refused(curation, limit):
    with pytest.raises(InvalidInput, match="is not a number from 1 to 10,000"):
        curation.versions(PRICES, limit=limit)


def test_body_opens_nothing_that_its_upstream_did_not_publish(world):
    claim = world.start(world.service.submit(PRICES))
    log = ArtifactRecord.of_file("log", save_file(world.objects, b"x"), publish=False)
    world.port.complete(claim.run.id, claim.run.fence, Result(artifacts=[log]))
    reader = reading(world, world.start(world.service.submit("refresh/momentum")))
    with pytest.raises(NotFound, match="file or folder in refresh/prices@v1"):
        reader.file("prices", "log")
