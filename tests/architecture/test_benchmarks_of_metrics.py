"""The benchmarks of metric values: each subject does what it says, and all of it is readable."""

from benchmarks import metric_log, metric_points
from benchmarks.harness import FLOOR, OURS, measure
from benchmarks.logged_runs import LoggedRuns, one_by_one
from freshline.storage.database import Database


def test_values_in_batches_are_stored_by_both(tmp_path, monkeypatch):
    monkeypatch.setattr(metric_points, "STEPS", 10)
    # Each side refuses to give a rate when not all values are readable.
    outcome = measure(metric_points.WORK, tmp_path, rounds=1, tell=lambda _: None)
    assert set(outcome.subjects) == {OURS, FLOOR}
    assert [finding.comparison.target for finding in outcome.findings()] == [0.3]


def test_values_one_by_one_are_stored_and_their_calls_are_timed(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'freshline.db'}")
    runs = LoggedRuns.open(database, tmp_path)
    assert runs.rate(one_by_one(100), 100) > 0
    assert runs.cost_us(100) > 0
    database.dispose()
    assert [comparison.target for comparison in metric_log.COST.comparisons] == [10.0, None]
    assert [comparison.target for comparison in metric_log.WORK.comparisons] == [50.0]
