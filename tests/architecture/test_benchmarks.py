"""The benchmarks: a wrong call is one line, a comparison of unequal durability is refused, the line has its keys."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from benchmarks import run_life_sqlite
from benchmarks.harness import Subject, Subjects, Work, keep, measure
from tests.architecture.sources import ROOT, is_below, sources


def work_of(*, ours="same", floor="same", peer=None, log=None):
    """A work whose subjects return 10, 40 and 5."""
    log = [] if log is None else log

    def subject(name, value, durability):
        return Subject(name, lambda: log.append(name) or value, durability)

    @contextmanager
    def prepare(_directory, with_peers):
        third = subject("peer", 5.0, peer) if with_peers and peer is not None else None
        yield Subjects(subject("ours", 10.0, ours), subject("floor", 40.0, floor), third)

    return Work("made_up", "a thing", "things/s", True, prepare)


def measured(work, directory, **options):
    return measure(work, directory, **{"rounds": 3, "with_peers": False, "tell": lambda _: None} | options)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [("BENCH", "run_life_sqlit", "did you mean run_life_sqlite"), ("ROUNDS", "0", "at least 1"), ("ROUNDS", "x", "x")],
)
def test_unusable_variable_is_one_line_and_code_2(variable, value, said):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks"],
        cwd=ROOT,
        env=os.environ | {variable: value},
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_unequal_durability_is_refused(tmp_path):
    with pytest.raises(ValueError, match="ours has NORMAL, the floor OFF"):
        measured(work_of(ours="NORMAL", floor="OFF"), tmp_path)


def test_no_rounds_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one"):
        measured(work_of(), tmp_path, rounds=0)


def test_line_has_medians_and_ratios_of_ours_over_the_others(tmp_path):
    outcome = measured(work_of(peer="other"), tmp_path, with_peers=True)
    (line,) = keep(outcome, tmp_path / "results").read_text().splitlines()
    assert json.loads(line) == {
        "work": "made_up",
        "ours": 10.0,
        "floor": 40.0,
        "peer": 5.0,
        "ratio_floor": 0.25,
        "ratio_peer": 2.0,
        "unit": "things/s",
        "rounds": 3,
    }


def test_line_without_a_peer_has_nulls(tmp_path):
    line = measured(work_of(peer="other"), tmp_path).line()
    assert (line["peer"], line["ratio_peer"]) == (None, None)


def test_results_are_appended(tmp_path):
    outcome = measured(work_of(), tmp_path)
    assert len(keep(outcome, tmp_path).read_text().splitlines()) == 1
    assert len(keep(outcome, tmp_path).read_text().splitlines()) == 2


def test_rounds_are_interleaved_and_each_begins_with_another_subject(tmp_path):
    log = []
    measured(work_of(peer="other", log=log), tmp_path, with_peers=True)
    warm_up, *rounds = [log[first : first + 3] for first in range(0, len(log), 3)]
    assert warm_up == ["ours", "floor", "peer"]
    assert rounds == [["ours", "floor", "peer"], ["floor", "peer", "ours"], ["peer", "ours", "floor"]]


def test_run_life_leaves_completed_runs_with_the_settings_that_ship(tmp_path, monkeypatch):
    monkeypatch.setattr(run_life_sqlite, "RUNS", 2)
    monkeypatch.setattr(run_life_sqlite, "FLOOR_RUNS", 2)
    outcome = measured(run_life_sqlite.WORK, tmp_path, rounds=1)
    assert outcome.subjects.ours.durability == "SQLite journal_mode=WAL, synchronous=NORMAL"
    assert outcome.subjects.floor.durability == outcome.subjects.ours.durability
    assert outcome.line()["ours"] > 0

    from freshline.runs.queries import Queries
    from freshline.storage.database import Database

    database = Database(f"sqlite:///{tmp_path / 'ours.db'}")
    queries = Queries(database)
    runs = [run for _, run in queries.runs()]
    assert [run.status for run in runs] == ["completed"] * 4
    report = queries.report(runs[0].id)
    database.dispose()
    assert (len(report.run.parameters), len(report.metrics)) == (10, 10)
    assert report.version is not None


def test_package_never_imports_the_benchmarks_or_the_tests():
    found = [
        (source.name, line)
        for source in sources()
        for module, line in source.imports()
        if is_below(module, ("benchmarks", "tests"))
    ]
    assert found == []
