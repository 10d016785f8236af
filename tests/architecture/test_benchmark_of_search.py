"""The benchmark of searches: both sides find the same runs, on both databases; growth is compared when asked for."""

import pytest

from benchmarks import search
from benchmarks.__main__ import asked
from benchmarks.harness import FLOOR, OURS, measure


@pytest.mark.parametrize("name", ["search_sqlite", "search_postgres"])
def test_subjects_agree_and_are_measured(tmp_path, monkeypatch, name):
    monkeypatch.setattr(search, "QUESTIONS", 1)
    monkeypatch.setattr(search, "NUMBER", 3)
    # Preparing it refuses answers to different questions.
    outcome = measure(search.works((900,))[name], tmp_path, rounds=1, tell=lambda _: None)
    assert set(outcome.subjects) == {OURS, FLOOR, "metric", "floor of metric", "later", "floor of later"}
    assert [finding.comparison.target for finding in outcome.findings()] == [3.0, 3.0, 3.0]


def test_other_answers_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(search, "NUMBER", 3)
    monkeypatch.setattr(search.floors, "NEWEST", search.floors.NEWEST.replace("DESC", "ASC"))
    with pytest.raises(AssertionError, match="newest"):
        measure(search.works((900,))["search_sqlite"], tmp_path, rounds=1, tell=lambda _: None)


def test_growth_is_compared_between_the_numbers_that_are_asked_for():
    (work,), _ = asked({"BENCH": "search_sqlite", "STORED": "1000,2000"})
    targets = [(finding.of, finding.to, finding.target) for finding in work.comparisons]
    assert targets[0] == (OURS, FLOOR, 3.0)
    assert targets[3:] == [
        (OURS, "newest at 1,000", 1.5),
        ("metric", "metric at 1,000", 1.5),
        ("later", "later at 1,000", 1.5),
    ]
