"""The benchmark of searches over REST, with few runs: its server starts, answers as the search does, and ends."""

import json

import pytest

from benchmarks import rest, search
from benchmarks.harness import OURS, measure


@pytest.mark.slow
def test_clients_are_answered_as_without_a_server_and_the_server_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(search, "NUMBER", 2)
    monkeypatch.setattr(search, "QUESTIONS", 1)
    monkeypatch.setattr(rest, "QUESTIONS", 1)
    # Preparing it refuses other answers.
    outcome = measure(rest.works(500)["rest_sqlite"], tmp_path, rounds=1, tell=lambda _: None)
    assert {OURS, "metric", "later", "later alone", "later without a server"} <= set(outcome.subjects)
    assert [one.comparison.target for one in outcome.findings()] == [20.0, 20.0, 20.0, None, None, None]


def test_other_answers_are_refused(monkeypatch):
    monkeypatch.setattr(rest.Client, "ask", lambda *_: json.dumps({"items": [{"id": "run-1"}]}).encode())
    rest.check("http://127.0.0.1:9", ["/api/v1/runs"], [["run-1"]])
    with pytest.raises(AssertionError, match="/api/v1/runs"):
        rest.check("http://127.0.0.1:9", ["/api/v1/runs"], [["run-2"]])


def test_clients_stop_when_the_time_is_over(monkeypatch):
    monkeypatch.setattr(rest, "MOST_S", 0.0)
    monkeypatch.setattr(rest.Client, "open", lambda _: None)
    clients = rest.Clients("http://127.0.0.1:9", 2)
    assert clients.durations_ms(["/"], 1_000) == []
    clients.close()
