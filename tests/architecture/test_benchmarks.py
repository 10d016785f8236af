"""The benchmarks: a wrong call is one line, unequal durability is refused, a blind instrument judges nothing.

No test looks at how long anything takes: what is tested is that each work does what it says, and how values become
findings.
"""

import json
import os
import subprocess
import sys
from contextlib import contextmanager

import psycopg
import pytest

from benchmarks import flow_overhead, run_life_postgres, run_life_sqlite, servers, submit_postgres
from benchmarks.__main__ import asked, main
from benchmarks.comparisons import Comparison, Kind, Measurement
from benchmarks.harness import FLOOR, OURS, PEER, Subject, Work, keep, measure
from benchmarks.report import report
from freshline.runs.queries import Queries
from freshline.storage.database import Database
from tests.architecture.sources import ROOT, is_below, sources


def work_of(*, ours="same", floor="same", peer=None, log=None, values=None, **options):
    """A work whose subjects return 10, 40 and 5, or what `values` has for their role, one after another."""
    log = [] if log is None else log
    given = {role: iter(several) for role, several in (values or {}).items()}

    def subject(role, value, durability):
        return Subject(role, lambda: log.append(role) or next(given.get(role, iter(())), value), durability)

    @contextmanager
    def prepare(setting):
        subjects = {OURS: subject(OURS, 10.0, ours), FLOOR: subject(FLOOR, 40.0, floor)}
        if setting.with_peers and peer is not None:
            subjects[PEER] = subject(PEER, 5.0, peer)
        yield subjects

    return Work("made_up", "a thing", **{"unit": "things/s", "higher_is_better": True, "prepare": prepare} | options)


def measured(work, directory, **options):
    return measure(work, directory, **{"rounds": 3, "with_peers": False, "tell": lambda _: None} | options)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("BENCH", "run_life_sqlit", "did you mean run_life_sqlite"),
        ("ROUNDS", "0", "at least 1"),
        ("ROUNDS", "x", "x"),
        ("STORED", "1000", "at least two numbers"),
        ("STORED", "2000,1000", "rising"),
    ],
)
def test_unusable_variable_is_one_line_and_code_2(variable, value, said, monkeypatch, capsys):
    monkeypatch.setenv(variable, value)
    assert main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_unusable_variable_ends_the_process_with_its_code():
    command, environment = [sys.executable, "-m", "benchmarks"], os.environ | {"ROUNDS": "0"}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True, timeout=120)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


def test_nothing_asked_for_is_every_work_with_its_own_rounds():
    works, rounds = asked({})
    assert [work.name for work in works] == [
        "run_life_sqlite",
        "run_life_postgres",
        "submit_postgres",
        "claim",
        "flow_overhead",
        "inputs_of_a_run",
        "propagation",
        "table_local",
        "table_s3",
        "append_time",
        "append_bytes",
        "search_sqlite",
        "search_postgres",
        "rest_sqlite",
        "rest_postgres",
        "metric_points",
        "metric_log",
        "metric_log_cost",
        "page_graph",
    ]
    assert rounds is None


def test_stored_runs_that_are_asked_for_reach_the_work():
    (work,), _ = asked({"BENCH": "submit_postgres", "STORED": "10,20"})
    assert "10, 20 runs stored" in work.what


@pytest.mark.parametrize("other", [{"floor": "OFF"}, {"peer": "OFF"}])
def test_unequal_durability_is_refused(tmp_path, other):
    work = work_of(**{"ours": "NORMAL", "floor": "NORMAL", "peer": "NORMAL"} | other)
    with pytest.raises(ValueError, match=r"ours has NORMAL, the (floor|peer) OFF"):
        measured(work, tmp_path, with_peers=True)


def test_subject_that_stores_nothing_has_no_durability_to_compare(tmp_path):
    assert measured(work_of(ours="NORMAL", floor=None), tmp_path).measured[FLOOR].median == 40.0


def test_no_rounds_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one"):
        measured(work_of(), tmp_path, rounds=0)


def test_line_has_medians_ratios_and_findings(tmp_path):
    work = work_of(peer="same", comparisons=[Comparison(Kind.RATIO, OURS, PEER, target=5.0)])
    outcome = measured(work, tmp_path, with_peers=True)
    (line,) = keep(outcome, tmp_path / "results").read_text().splitlines()
    found = {"what": "ours / peer", "kind": "ratio", "median": 2.0, "min": 2.0, "max": 2.0, "target": 5.0, "met": False}
    assert json.loads(line) == {
        "work": "made_up",
        "ours": 10.0,
        "floor": 40.0,
        "peer": 5.0,
        "ratio_floor": 0.25,
        "ratio_peer": 2.0,
        "unit": "things/s",
        "rounds": 3,
        "findings": [found],
    }


def test_line_without_a_peer_has_nulls_and_no_finding_about_it(tmp_path):
    line = measured(work_of(peer="same"), tmp_path).line()
    assert (line["peer"], line["ratio_peer"]) == (None, None)
    assert [finding["what"] for finding in line["findings"]] == ["ours / floor"]


def test_results_are_appended(tmp_path):
    outcome = measured(work_of(), tmp_path)
    assert len(keep(outcome, tmp_path).read_text().splitlines()) == 1
    assert len(keep(outcome, tmp_path).read_text().splitlines()) == 2


def test_rounds_are_interleaved_and_each_begins_with_another_subject(tmp_path):
    log = []
    measured(work_of(peer="same", log=log), tmp_path, with_peers=True)
    warm_up, *rounds = [log[first : first + 3] for first in range(0, len(log), 3)]
    assert warm_up == ["ours", "floor", "peer"]
    assert rounds == [["ours", "floor", "peer"], ["floor", "peer", "ours"], ["peer", "ours", "floor"]]


def test_turns_of_a_round_are_interleaved_and_their_median_counts(tmp_path):
    log = []
    warm_up = 0.0
    values = {OURS: [warm_up, 1.0, 100.0, 3.0], FLOOR: [warm_up, 7.0, 8.0, 900.0]}
    outcome = measured(work_of(log=log, values=values, turns=3), tmp_path, rounds=1)
    assert log[2:] == ["ours", "floor", "floor", "ours", "ours", "floor"]
    assert (outcome.measured[OURS].values, outcome.measured[FLOOR].values) == ([3.0], [8.0])


def test_rounds_are_the_works_own_unless_asked_for(tmp_path):
    assert measured(work_of(rounds=2), tmp_path, rounds=None).rounds == 2


@pytest.mark.parametrize(("kind", "expected"), [(Kind.RATIO, [0.5, 2.0, 3.0]), (Kind.DIFFERENCE, [-10.0, 30.0, 80.0])])
def test_comparison_is_paired_in_each_round(kind, expected):
    rounds = {OURS: Measurement([10.0, 60.0, 120.0]), FLOOR: Measurement([20.0, 30.0, 40.0])}
    assert Comparison(kind, OURS, FLOOR).over(rounds, higher_is_better=True).values.values == expected


@pytest.mark.parametrize(
    ("higher_is_better", "target", "is_met"),
    [(True, 10.0, True), (True, 10.1, False), (False, 10.0, True), (False, 9.9, False), (True, None, None)],
)
def test_target_is_a_bound_on_the_side_that_is_better(higher_is_better, target, is_met):
    comparison = Comparison(Kind.VALUE, OURS, target=target)
    assert comparison.over({OURS: Measurement([10.0])}, higher_is_better=higher_is_better).is_met is is_met


@pytest.mark.parametrize(
    ("control", "is_met", "said"),
    [(58.0, True, "<= 10, met"), (41.0, None, "cannot be judged")],
)
def test_control_that_does_not_show_takes_the_verdict_away(tmp_path, control, is_met, said):
    work = work_of(
        ours="same",
        floor=None,
        peer="same",
        values={OURS: [45.0] * 4, PEER: [control] * 4},
        higher_is_better=False,
        comparisons=[
            Comparison(Kind.DIFFERENCE, OURS, FLOOR, target=10.0),
            Comparison(Kind.DIFFERENCE, PEER, FLOOR, known=20.0),
        ],
    )
    outcome = measured(work, tmp_path, with_peers=True)
    assert outcome.line()["findings"][0]["met"] is is_met
    assert said in "\n".join(report([outcome]))


def test_report_has_values_comparisons_with_targets_and_durability(tmp_path):
    work = work_of(peer="same", comparisons=[Comparison(Kind.RATIO, OURS, PEER, target=5.0)])
    text = "\n".join(report([measured(work, tmp_path, with_peers=True)]))
    assert "made_up  ours   10 [10-10]  things/s  higher  3" in text
    assert "made_up  ours / peer  2 [2-2] x  >= 5, NOT MET" in text
    assert "floor: floor; same" in text


def runs_with_their_reports(url):
    """Every run of a store, newest first, with its report and the kinds of its events."""
    database = Database(url)
    try:
        queries = Queries(database)
        return [
            (run, queries.report(run.id), [event.kind for _, event in queries.events(run.id)])
            for _, run in queries.runs()
        ]
    finally:
        database.dispose()


def assert_whole_lives(found, *, count):
    assert [run.status for run, *_ in found] == ["completed"] * count
    assert {(len(report.run.parameters), len(report.metrics)) for _, report, _ in found} == {(10, 10)}
    assert all(report.version is not None for _, report, _ in found)


def test_run_life_on_sqlite_leaves_completed_runs_with_the_settings_that_ship(tmp_path, monkeypatch):
    monkeypatch.setattr(run_life_sqlite, "RUNS", 2)
    monkeypatch.setattr(run_life_sqlite, "FLOOR_RUNS", 2)
    outcome = measured(run_life_sqlite.WORK, tmp_path, rounds=1)
    assert {subject.durability for subject in outcome.subjects.values()} == {
        "SQLite journal_mode=WAL, synchronous=NORMAL"
    }
    assert outcome.line()["ours"] > 0
    assert_whole_lives(runs_with_their_reports(f"sqlite:///{tmp_path / 'ours.db'}"), count=4)


@pytest.fixture
def kept_servers(monkeypatch):
    """What a look at the databases found, taken just before a work's server ends: list of functions to be called."""
    looks, found = [], []
    start = servers.durable_postgres

    @contextmanager
    def watched():
        with start() as server:
            yield server
            found.extend(look(server) for look in looks)

    for module in (servers, submit_postgres):
        monkeypatch.setattr(module, "durable_postgres", watched)
    return looks, found


DURABLE = "Postgres fsync=on, synchronous_commit=on, full_page_writes=on"


def test_run_life_on_postgres_leaves_completed_runs_on_a_server_that_syncs(tmp_path, monkeypatch, kept_servers):
    monkeypatch.setattr(run_life_postgres, "RUNS", 2)
    monkeypatch.setattr(run_life_postgres, "FLOOR_RUNS", 2)
    looks, found = kept_servers
    looks.append(lambda server: runs_with_their_reports(server.url("ours")))
    outcome = measured(run_life_postgres.WORK, tmp_path, rounds=1)
    assert {subject.durability for subject in outcome.subjects.values()} == {DURABLE}
    assert_whole_lives(found[0], count=6)  # two before the tables are looked at


def counted(server, name):
    """(ended, pending) runs, and those of them that lack an event, their detail or their outbox entry."""
    with psycopg.connect(server.conninfo(name)) as connection:
        ended, pending, lacking = connection.execute(
            "SELECT count(ended_at), count(*) FILTER (WHERE status = 'pending'),"
            " count(*) FILTER (WHERE last_seq <> (SELECT count(*) FROM run_event WHERE run_id = run.id)"
            " OR NOT EXISTS (SELECT FROM pipeline_run WHERE run_id = run.id)"
            " OR NOT EXISTS (SELECT FROM outbox WHERE run_id = run.id AND dedupe_key LIKE '%' || run.id || '%'))"
            " FROM run"
        ).fetchone()
    return ended, pending, lacking


def test_submissions_and_their_floor_leave_whole_runs_beside_those_stored(tmp_path, monkeypatch, kept_servers):
    monkeypatch.setattr(submit_postgres, "SUBMISSIONS", 3)
    looks, found = kept_servers
    looks.append(lambda server: [counted(server, f"stored_{size}") for size in (5, 9)])
    outcome = measured(submit_postgres.work([5, 9]), tmp_path, rounds=1)
    assert list(outcome.subjects) == ["at 5", OURS, FLOOR]
    assert {subject.durability for subject in outcome.subjects.values()} == {DURABLE}
    warm_up_and_round, example = 2 * 3, 1
    assert found == [[(5, warm_up_and_round, 0), (9, 2 * warm_up_and_round + example, 0)]]


def test_runs_that_are_stored_in_bulk_are_like_the_one_that_ran(tmp_path, kept_servers):
    looks, found = kept_servers
    looks.append(lambda server: runs_with_their_reports(server.url("stored_3")))
    with submit_postgres.durable_postgres() as server:
        submit_postgres.fill_database(server, tmp_path, 3).database.dispose()
    (real, _, kinds), *copies = found[0]
    assert len(copies) == 2
    assert len({run.id for run, *_ in found[0]}) == len({run.flow_run_id for run, *_ in found[0]}) == 3
    for copy, _, of_copy in copies:
        assert copy.created_at < real.created_at
        own = {"id", "flow_run_id", "created_at", "started_at", "ended_at"}
        assert copy.model_dump(exclude=own) == real.model_dump(exclude=own)
        assert of_copy == kinds


@pytest.mark.slow
@pytest.mark.stack
def test_flow_overhead_leaves_tracked_runs_and_sees_its_control(tmp_path):
    work = flow_overhead.WORK
    outcome = measured(work, tmp_path, rounds=1)
    assert outcome.subjects[OURS].durability == "SQLite journal_mode=WAL, synchronous=NORMAL"
    (url,) = [f"sqlite:///{path}" for path in (tmp_path / "home").rglob("*.db")]
    assert_whole_lives(runs_with_their_reports(url), count=work.turns + 1)


def test_package_never_imports_the_benchmarks_or_the_tests():
    found = [
        (source.name, line)
        for source in sources()
        for module, line in source.imports()
        if is_below(module, ("benchmarks", "tests"))
    ]
    assert found == []
