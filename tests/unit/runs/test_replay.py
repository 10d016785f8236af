"""Replays: the same versions and parameters again, what is refused, and what the comparison says."""

import math
from dataclasses import replace
from datetime import date, timedelta

import pandas as pd
import pyarrow as pa
import pytest
import sqlalchemy as sa

from freshline.flows.reading import Reading
from freshline.lineage.models import Version
from freshline.runs.care.deletion import Deletions
from freshline.runs.redo.replay_comparison import compare_replay
from freshline.runs.redo.replaying import Replays
from freshline.runs.redo.table_comparison import compare_tables
from freshline.runs.result import Read, Result
from freshline.storage.artifacts import ArtifactRecord
from freshline.storage.errors import IdempotencyConflict, InvalidInput, NotFound
from freshline.storage.files import save_file
from freshline.storage.gc import condemn, sweep
from freshline.storage.ids import new_id, show_run_id
from freshline.storage.models import Artifact, ArtifactObject
from freshline.storage.parquet import write_table
from tests.factories import declared

_VERSION = Version.__table__


def replays(world):
    return Replays(world.database)


def pinned(world, run_id):
    return {role: f"{pin.key}@v{pin.number}" for role, pin in world.port.pins(run_id).items()}


def table(world, frame):
    return [ArtifactRecord.of_table("data", write_table(world.objects, pd.DataFrame(frame)))]


def completed(world, key, artifacts, **options):
    """A run of the deployment that left these artifacts."""
    return finish(world, world.start(world.service.submit(key)), artifacts, **options)


def finish(world, claim, artifacts, **options):
    world.port.complete(claim.run.id, claim.run.fence, Result(artifacts=artifacts, **options))
    world.gateway.end(claim.run.flow_run_id)
    return world.service.get(claim.run.id)


def compared(world, before, after, *, again=None, **options):
    """Compare a run that left `before` with its replay that leaves `after`; each may have metrics."""
    original = completed(world, "refresh/prices", before, **options)
    claim = world.start(replays(world).replay(original.id))
    replay = finish(world, claim, after, **(options if again is None else again))
    return compare_replay(world.database, world.objects, replay.id)


def withdraw(world, run, reason="bad vendor file"):
    marked = sa.update(_VERSION).where(_VERSION.c.run_id == run.id)
    world.database.write(
        lambda connection: connection.execute(marked.values(withdrawn_at=world.moment, withdrawn_reason=reason))
    )


def test_replay_pins_what_the_run_read_and_not_what_is_current(world):
    world.run_through("refresh/prices", content=1)
    original = world.run_through("refresh/momentum", content=1)
    world.run_through("refresh/prices", content=2)
    replay = replays(world).replay(original.id, actor="ada")
    claim = world.start(replay)
    assert claim.may_start
    assert pinned(world, replay.id) == pinned(world, original.id) == {"prices": "refresh/prices@v1"}
    assert (replay.replay_of, replay.trigger, replay.actor) == (original.id, "submitted", "ada")


def test_replay_starts_although_its_upstream_is_stale_and_says_of_what_it_is_one(world):
    world.run_through("refresh/prices", content=1)
    original = world.run_through("refresh/momentum", content=1)
    world.run_through("refresh/prices", content=2)
    assert world.graph.freshness()["refresh/momentum"] == "stale"
    book = world.service.submit("backtest/book")
    assert book.status == "refused"
    replay = replays(world).replay(original.id)
    assert replay.status == "pending"
    assert replay.decision["verdict"] == "run"
    assert replay.decision["reason"].startswith(f"replay of {show_run_id(original.id)}:")
    (seen,) = replay.decision["upstreams"]
    assert (seen["deployment"], seen["version"]) == ("refresh/prices", 1)
    assert "v2 is current" in seen["reason"]
    world.start(replay)
    assert world.kinds(replay.id).count("gate_decided") == 1


def test_replay_pins_what_the_run_read_without_having_pinned_it(world):
    world.run_through("refresh/calendar", content=1)
    claim = world.start(world.service.submit("refresh/prices"))
    calendar = world.port.resolve("refresh/calendar")
    reads = [Read("refresh/calendar", calendar.upstream_id, calendar.version_id)]
    original = finish(world, claim, table(world, {"x": [1]}), reads=reads)
    world.run_through("refresh/calendar", content=2)
    replay = world.start(replays(world).replay(original.id))
    assert pinned(world, replay.run.id) == {"refresh/calendar": "refresh/calendar@v1"}


def test_replay_reads_by_key_what_the_run_read_by_key_although_it_read_another_version_by_number(world):
    prices, momentum = world.graph.declared["refresh/prices"], world.graph.declared["refresh/momentum"]
    # The pin of the key comes after that of the number, by the alphabet.
    signal = replace(momentum, edges=declared(momentum.key, {"signal": prices.key}).edges)
    world.graph.register(prices, signal)
    for content in (1, 2):
        world.run_through(prices.key, content)

    def read(claim):
        """Let the body read v1 by its number and the upstream by its key; return what it saw."""
        reading = Reading(world.port, claim.run.id, until=None, base_version_id=None)
        asked = (f"{prices.key}@v1", prices.key)
        seen = [reading.table(role, None, columns=None, where=None, form="pandas")["x"].item() for role in asked]
        return seen, finish(world, claim, table(world, {"x": seen}), reads=reading.reads)

    seen, original = read(world.start(world.service.submit(momentum.key)))
    again, _ = read(world.start(replays(world).replay(original.id)))
    assert seen == again == [1, 2]


def test_replay_has_the_parameters_and_the_data_date_of_the_run(world):
    prefect = world.gateway.add_deployment("flow/with-a-parameter")
    world.graph.register(replace(declared("refresh/prices", parameters=["n"]), prefect_deployment_id=prefect.id))
    run = world.service.submit("refresh/prices", {"n": 3}, data_as_of=date(2025, 12, 31), if_ready="skip")
    world.complete(world.start(run))
    replay = replays(world).replay(run.id)
    assert (replay.parameters, replay.data_as_of) == ({"n": 3}, date(2025, 12, 31))
    assert replay.request == run.request | {"if_ready": "run"}
    world.dispatch()
    assert world.flow_run_of(replay).parameters["data_as_of"] == "2025-12-31"


def test_replay_with_a_key_is_recorded_once(world):
    original = world.run_through("refresh/prices")
    first, second = (replays(world).replay(original.id, idempotency_key="k") for _ in range(2))
    assert first.id == second.id
    assert world.dispatch() == 1


def test_replay_with_a_key_of_one_that_was_deleted_is_refused(world):
    original = world.run_through("refresh/prices")
    replay = replays(world).replay(original.id, idempotency_key="k")
    world.service.cancel(replay.id)
    world.dispatch()
    Deletions(world.database).delete(replay.id)
    with pytest.raises(IdempotencyConflict, match="which was deleted: use a new key, or restore the run"):
        replays(world).replay(original.id, idempotency_key="k")


def test_replay_with_a_key_of_another_request_is_refused(world):
    original = world.run_through("refresh/prices", idempotency_key="k")
    with pytest.raises(IdempotencyConflict, match="'k' came with another request"):
        replays(world).replay(original.id, idempotency_key="k")


def test_replay_with_an_empty_key_is_refused_and_records_nothing(world):
    original = world.run_through("refresh/prices")
    with pytest.raises(InvalidInput, match="the idempotency key '' must have 1 to 250 printable characters"):
        replays(world).replay(original.id, idempotency_key="")
    assert world.dispatch() == 0


def test_replay_of_an_unknown_run_is_one_clear_message(world):
    with pytest.raises(NotFound, match="There is no run"):
        replays(world).replay(new_id())
    with pytest.raises(InvalidInput, match="'run-17' is not a run id"):
        replays(world).replay("run-17")


def test_replay_of_a_run_without_a_result_is_refused(world):
    run = world.service.submit("refresh/prices")
    with pytest.raises(InvalidInput, match=r"is pending: only a completed run has a result"):
        replays(world).replay(run.id)
    world.service.cancel(run.id)
    with pytest.raises(InvalidInput, match=r"is cancelled: only a completed run"):
        replays(world).replay(run.id)


def test_replay_of_a_retired_deployment_is_refused(world):
    original = world.run_through("refresh/calendar")
    kept = [item for key, item in world.graph.declared.items() if key != "refresh/calendar"]
    world.graph.register(*kept)
    with pytest.raises(InvalidInput, match=r"refresh/calendar, of which run-.* was retired: deploy it again"):
        replays(world).replay(original.id)


def test_replay_with_a_parameter_that_is_not_declared_any_more_is_refused(world):
    facts = world.gateway.add_deployment("flow/with-a-parameter")
    world.graph.register(replace(declared("refresh/prices", parameters=["n"]), prefect_deployment_id=facts.id))
    run = world.service.submit("refresh/prices", {"n": 3})
    world.complete(world.start(run))
    world.graph.register(replace(declared("refresh/prices"), prefect_deployment_id=facts.id))
    with pytest.raises(InvalidInput, match="declares no parameter 'n'"):
        replays(world).replay(run.id)


def test_replay_on_a_withdrawn_version_is_refused_with_the_reason(world):
    prices = world.run_through("refresh/prices")
    original = world.run_through("refresh/momentum")
    withdraw(world, prices)
    with pytest.raises(InvalidInput, match="read refresh/prices@v1 as 'prices', which was withdrawn: bad vendor file"):
        replays(world).replay(original.id)
    assert len(world.queries.runs()) == 2


def test_replay_whose_input_is_withdrawn_before_its_claim_ends_as_refused(world):
    prices = world.run_through("refresh/prices")
    original = world.run_through("refresh/momentum")
    replay = replays(world).replay(original.id)
    world.dispatch()
    withdraw(world, prices)
    claim = world.claim(world.flow_run_of(replay).id)
    assert not claim.may_start
    ended = world.service.get(replay.id)
    assert (ended.status, ended.stop_reason) == ("refused", "upstream_not_ready")
    assert "refresh/prices@v1, which it would read, was withdrawn" in ended.error_message


def test_replay_whose_input_was_collected_is_refused(world):
    prices = world.run_through("refresh/prices")
    original = world.run_through("refresh/momentum", content=2)
    collect(world, prices)
    with pytest.raises(InvalidInput, match=r"read refresh/prices@v1, whose 'data' is gone \(retention"):
        replays(world).replay(original.id)


def collect(world, run):
    """Let garbage collection delete what a run wrote, as a retention would that forgot that it is read."""
    artifact, link = Artifact.__table__, ArtifactObject.__table__
    owned = sa.select(artifact.c.id).where(artifact.c.owner_id == run.id)
    with world.database.read() as connection:
        links = [dict(row._mapping) for row in connection.execute(sa.select(link).where(link.c.artifact_id.in_(owned)))]
    world.database.write(lambda connection: connection.execute(sa.delete(link).where(link.c.artifact_id.in_(owned))))
    world.database.write(lambda connection: condemn(connection, world.moment))
    world.pass_time(timedelta(days=2))
    assert sweep(world.database, world.objects, grace=timedelta(days=1)).objects == 1
    world.database.write(lambda connection: connection.execute(sa.insert(link), links))


def test_comparison_of_equal_results_is_equal_and_names_no_code(world):
    frame = {"x": [1.0, 2.0]}
    found = compared(world, table(world, frame), table(world, frame), metrics={"ic": 0.5, "empty": math.nan})
    assert found.is_equal
    assert (found.code, [one.is_equal for one in found.outputs]) == ((), [True])
    assert "gave the same result" in found.sentence()
    assert "with the same code" in found.sentence()


def test_comparison_of_different_tables_counts_rows_and_the_largest_difference_by_column(world):
    before = {"x": [1.0, 2.0, 3.0, None], "n": [1, 2, 3, 4], "s": ["a", "b", "c", None], "same": [1, 1, 1, 1]}
    after = {"x": [1.0, 2.5, 1.0, None], "n": [1, 2, 3, 9], "s": ["a", "b", "d", "e"], "same": [1, 1, 1, 1]}
    found = compared(world, table(world, before), table(world, after))
    assert not found.is_equal
    (output,) = found.outputs
    assert {one.name: (one.rows_different, one.max_abs_difference) for one in output.table.columns} == {
        "x": (2, 2.0), "n": (1, 5.0), "s": (2, None), "same": (0, None),
    }  # fmt: skip
    assert [one.name for one in output.table.different_columns] == ["x", "n", "s"]
    assert found.sentence().endswith(": data")


def test_comparison_of_tables_of_other_length_and_columns_says_so(world):
    found = compared(
        world, table(world, {"x": [1, 2], "old": [1, 2]}), table(world, {"x": [1, 3, 5], "new": [1, 2, 3]})
    )
    compared_table = found.outputs[0].table
    assert (compared_table.original_rows, compared_table.replay_rows) == (2, 3)
    assert (compared_table.only_original, compared_table.only_replay) == (("old",), ("new",))
    assert [(one.name, one.rows_different) for one in compared_table.columns] == [("x", 1)]


def test_comparison_of_a_column_that_changed_its_type_compares_the_numbers(world):
    found = compared(world, table(world, {"x": [1, 2]}), table(world, {"x": [1.0, 2.5]}))
    (column,) = found.outputs[0].table.different_columns
    assert (column.original_type, column.replay_type) == ("int64", "float64")
    assert (column.rows_different, column.max_abs_difference) == (1, 0.5)


def test_comparison_of_tables_with_several_batches_sees_every_row(world):
    rows = 200_000
    before = pd.DataFrame({"x": range(rows)})
    after = before.copy()
    after.loc[[0, 70_000, rows - 1], "x"] += 7
    first = [ArtifactRecord.of_table("data", write_table(world.objects, before))]
    base = write_table(world.objects, after.iloc[:65_000])
    second = [ArtifactRecord.of_table("data", write_table(world.objects, after.iloc[65_000:], base=base))]
    (output,) = compared(world, first, second).outputs
    assert [(one.rows_different, one.max_abs_difference) for one in output.table.columns] == [(3, 7.0)]


def test_comparison_names_outputs_that_only_one_of_them_wrote(world):
    file = ArtifactRecord.of_file("model", save_file(world.objects, b"weights"))
    found = compared(world, [*table(world, {"x": [1]}), file], table(world, {"x": [1]}))
    assert {one.name: (one.is_equal, one.replay_digest is None) for one in found.outputs} == {
        "data": (True, False), "model": (False, True),
    }  # fmt: skip
    assert not found.is_equal


def test_comparison_of_files_is_by_their_digests(world):
    before, after = (ArtifactRecord.of_file("model", save_file(world.objects, text)) for text in (b"1", b"2"))
    (output,) = compared(world, [before], [after]).outputs
    assert (output.is_equal, output.table) == (False, None)
    assert "digests alone" in output.note


def test_comparison_of_metrics_leaves_out_measured_times_only(world):
    frame = table(world, {"x": [1]})
    conventions = {"duration_s": {"unit": "s"}, "ic": {"unit": "1"}}
    same = compared(
        world, frame, frame, metrics={"ic": 0.5, "duration_s": 1.0}, conventions=conventions,
        again={"metrics": {"ic": 0.5, "duration_s": 9.0}, "conventions": conventions},
    )  # fmt: skip
    assert same.is_equal
    other = compared(
        world, frame, frame, metrics={"ic": 0.5}, conventions=conventions,
        again={"metrics": {"ic": 0.25}, "conventions": conventions},
    )  # fmt: skip
    assert not other.is_equal
    assert [(one.name, one.difference) for one in other.metrics] == [("ic", -0.25)]


def test_comparison_counts_what_the_body_returned_besides(world):
    frame = table(world, {"x": [1]})
    found = compared(world, frame, frame, outputs={"solver": "optimal"}, again={"outputs": {"solver": "infeasible"}})
    assert not found.is_equal
    assert "what the body returned" in found.sentence()


def test_comparison_names_the_code_that_differs(world):
    original = world.service.submit("refresh/prices")
    world.dispatch()
    frame = table(world, {"x": [1]})
    runs = []
    for commit in ("abc", "def+"):
        run = replays(world).replay(original.id) if runs else original
        world.dispatch()
        started = world.gateway.begin(world.flow_run_of(run).id)
        claim = world.port.claim(started, provenance={"git_commit": commit, "environment_digest": "e"})
        runs.append(finish(world, claim, frame))
    found = compare_replay(world.database, world.objects, runs[1].id)
    assert [(one.what, one.original, one.replay) for one in found.code] == [("git_commit", "abc", "def+")]
    assert found.is_equal
    assert "with another git commit" in found.sentence()


def test_comparison_of_tables_that_are_gone_says_why_columns_are_missing(world):
    original = completed(world, "refresh/prices", table(world, {"x": [1]}))
    replay = finish(world, world.start(replays(world).replay(original.id)), table(world, {"x": [2]}))
    collect(world, original)
    found = compare_replay(world.database, world.objects, replay.id)
    assert (found.outputs[0].table, found.is_equal) == (None, False)
    assert "its rows are gone" in found.outputs[0].note


def test_comparison_of_what_is_no_replay_or_has_not_completed_is_refused(world):
    original = world.run_through("refresh/prices")
    with pytest.raises(InvalidInput, match="is no replay of another run"):
        compare_replay(world.database, world.objects, original.id)
    replay = replays(world).replay(original.id)
    with pytest.raises(InvalidInput, match="is pending: there is no result to compare"):
        compare_replay(world.database, world.objects, replay.id)


def compare(world, before, after):
    """Compare two Arrow tables; each column is (rows that differ, largest difference)."""
    stored = [write_table(world.objects, pa.table(columns)) for columns in (before, after)]
    return {
        one.name: (one.rows_different, one.max_abs_difference) for one in compare_tables(world.objects, *stored).columns
    }


def test_nan_equals_nan_and_no_number(world):
    before, after = {"x": [math.nan, math.nan, 1.0]}, {"x": [math.nan, 1.0, 1.5]}
    assert compare(world, before, after) == {"x": (2, 0.5)}


def test_null_equals_null_and_nothing_else(world):
    assert compare(world, {"x": [None, None, 1]}, {"x": [None, 0, None]}) == {"x": (2, None)}


def test_infinities_differ_from_numbers_by_infinity(world):
    before, after = {"x": [math.inf, math.inf, 1.0]}, {"x": [math.inf, -math.inf, 1.0]}
    assert compare(world, before, after) == {"x": (1, math.inf)}


def test_lists_times_and_truths_are_compared_too(world):
    before = {"list": [[1, 2], [3]], "at": [date(2024, 1, 1), date(2024, 1, 2)], "ok": [True, False]}
    after = {"list": [[1, 2], [4]], "at": [date(2024, 1, 1), date(2024, 1, 3)], "ok": [False, False]}
    assert compare(world, before, after) == {"list": (1, None), "at": (1, None), "ok": (1, None)}


def test_column_that_became_text_differs_in_every_row(world):
    assert compare(world, {"x": [1, 2]}, {"x": ["1", "2"]}) == {"x": (2, None)}


def test_empty_table_is_compared_with_one_that_has_rows(world):
    none = {"x": pa.array([], pa.int64())}
    assert compare(world, none, {"x": [1]}) == {"x": (0, None)}


def test_tables_without_a_common_column_have_nothing_to_compare(world):
    assert compare(world, {"x": [1]}, {"y": [1]}) == {}
