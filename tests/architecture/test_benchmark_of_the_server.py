"""The benchmark of searches over REST, with few runs: its server starts, answers as the search does, and ends."""

import json
import socket

import pytest

from benchmarks import clients, rest, search
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
    monkeypatch.setattr(clients, "MOST_S", 0.0)
    monkeypatch.setattr(clients.Client, "open", lambda _: None)
    assert clients.Clients("http://127.0.0.1:9", 2).durations_ms(["/"], 1_000) == []


def test_clients_wait_for_answers_that_come_in_parts_and_refuse_others():
    with socket.create_server(("127.0.0.1", 0)) as server:
        asking = clients.Client(f"http://127.0.0.1:{server.getsockname()[1]}")
        asking.open()
        answering, _ = server.accept()
        with answering:
            asking.send("/runs")
            assert answering.recv(1000).startswith(b"GET /runs HTTP/1.1\r\nHost: 127.0.0.1:")
            for part in (b"HTTP/1.1 200 OK\r\nContent-Le", b"ngth: 4\r\n\r\nab"):
                answering.sendall(part)
                assert asking.receive() is None
            answering.sendall(b"cd")
            assert asking.receive() == b"abcd"
            asking.send("/runs")
            assert answering.recv(1000).startswith(b"GET /runs ")
            answering.sendall(b"HTTP/1.1 500 Internal Server Error\r\n\r\n")
            with pytest.raises(AssertionError, match="500 Internal"):
                asking.receive()
        with pytest.raises(AssertionError, match="has closed"):
            asking.receive()
        asking.close()
