"""The benchmarks of metric values: each subject does what it says, and all of it is readable."""

from benchmarks import metric_log, metric_points
from benchmarks.harness import FLOOR, OURS, measure


def test_values_in_batches_are_stored_by_both(tmp_path, monkeypatch):
    monkeypatch.setattr(metric_points, "STEPS", 10)
    # Each side refuses to give a rate when not all values are readable.
    outcome = measure(metric_points.WORK, tmp_path, rounds=1, tell=lambda _: None)
    assert set(outcome.subjects) == {OURS, FLOOR}
    assert [finding.comparison.target for finding in outcome.findings()] == [0.3]


def test_values_one_by_one_are_stored_and_their_calls_are_timed(tmp_path, monkeypatch):
    monkeypatch.setattr(metric_log, "VALUES", 100)
    for work in (metric_log.WORK, metric_log.COST):
        outcome = measure(work, tmp_path / work.name, rounds=1, tell=lambda _: None)
        assert outcome.measured[OURS].median > 0
