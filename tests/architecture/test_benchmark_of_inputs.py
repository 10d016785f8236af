"""The benchmark of what went into a run: both sides answer the same question, through as many layers as it says."""

from benchmarks import inputs_of_a_run
from benchmarks.harness import FLOOR, OURS, measure
from benchmarks.servers import durable_postgres


def test_subjects_agree_and_are_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(inputs_of_a_run, "QUESTIONS", 2)
    work = inputs_of_a_run.work(2_000)
    # Preparing it refuses answers to different questions.
    outcome = measure(work, tmp_path, rounds=1, tell=lambda _: None)
    assert set(outcome.subjects) == {OURS, FLOOR, inputs_of_a_run.FACTS}
    assert [finding.comparison.target for finding in outcome.findings()] == [3.0, None]


def test_question_goes_through_all_layers_of_about_as_many_inputs():
    with durable_postgres() as server:
        filled = inputs_of_a_run.fill(server, 2_000)
        try:
            found = inputs_of_a_run.ask(filled.database, filled.runs[0])
        finally:
            filled.database.dispose()
    layers = {int(row.key.removeprefix("refresh/d")) // inputs_of_a_run.WIDTH for row in found}
    assert layers == set(range(inputs_of_a_run.DEPTH))
    assert abs(filled.num_inputs - 2_000) < 500
    assert not any(row.is_withdrawn for row in found)
