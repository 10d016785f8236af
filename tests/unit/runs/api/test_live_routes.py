"""Streams, health, numbers and statistics over HTTP."""

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from anyio import to_thread
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from freshline.runs.api.access import Access
from freshline.runs.api.app import create_app
from freshline.runs.api.serving import Serving
from freshline.runs.api.streams import MAX_STREAMS
from freshline.runs.care.deletion import Deletions
from freshline.runs.composition import Freshline
from freshline.runs.health import Condition, Finding, HealthCheck, questions_of
from freshline.storage.errors import StoreUnavailable
from freshline.storage.settings import Settings
from tests.asking import ADDRESS, TOKEN, Asking
from tests.unit.runs.conftest import World


def parsed(text: str) -> list[dict[str, Any]]:
    """The messages of a stream, without its opening and heartbeats."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "data" in fields:
            found.append({**fields, "data": json.loads(fields["data"])})
    return found


# A run.


def test_stream_of_a_run_that_has_ended_is_its_log(world: World, api: Asking) -> None:
    run = world.run_through("refresh/prices")
    answer = api.request("GET", f"/runs/{run.id}/stream")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.text.startswith("retry: 1000\n\n")
    found = parsed(answer.text)
    assert [int(message["id"]) for message in found] == list(range(1, run.last_seq + 1))
    assert [message["event"] for message in found] == world.kinds(run.id)
    assert found[0]["data"].keys() == {"seq", "kind", "at", "actor", "payload"}
    assert found[0]["data"]["at"] == "2026-01-05T12:00:00Z"


def test_stream_goes_on_behind_the_last_id_or_the_number_that_is_given(world: World, api: Asking) -> None:
    run = world.run_through("refresh/prices")
    address = f"/runs/run-{run.id}/stream"
    by_header = api.request("GET", address, headers={"Last-Event-ID": "2"}, params={"after": 1})
    by_number = api.request("GET", address, params={"after": run.last_seq - 1})
    assert parsed(by_header.text)[0]["id"] == "3"
    assert [message["id"] for message in parsed(by_number.text)] == [str(run.last_seq)]


def test_stream_of_which_everything_was_seen_tells_a_browser_to_stop(world: World, api: Asking) -> None:
    run = world.run_through("refresh/prices")
    answer = api.request("GET", f"/runs/{run.id}/stream", headers={"Last-Event-ID": str(run.last_seq)})
    assert (answer.status_code, answer.content) == (204, b"")


def test_last_id_that_is_none_is_refused(world: World, api: Asking) -> None:
    run = world.service.submit("refresh/prices")
    for given in ("x", "-1", "²", "1.5", "9999999999", "99999999999999999999999999"):
        headers = {"Last-Event-ID": given.encode()}
        api.problem("GET", f"/runs/{run.id}/stream", status=422, code="invalid_argument", headers=headers)


def test_last_id_that_the_log_has_not_reached_is_refused(world: World, api: Asking) -> None:
    run = world.service.submit("refresh/prices")
    problem = api.problem(
        "GET", f"/runs/{run.id}/stream", status=422, code="invalid_argument", params={"after": run.last_seq + 1}
    )
    assert f"{run.last_seq} entries until now" in problem["detail"]


def test_stream_of_what_is_not_there_is_a_problem(world: World, api: Asking) -> None:
    run = world.service.submit("refresh/prices")
    world.service.cancel(run.id)
    Deletions(world.database).delete(run.id, reason="a trial")
    assert "a trial" in api.problem("GET", f"/runs/{run.id}/stream", status=404, code="not_found")["detail"]
    api.problem("GET", f"/runs/{'0' * 32}/stream", status=404, code="not_found")
    api.problem("GET", "/runs/x/stream", status=422, code="invalid_argument")
    problem = api.problem("GET", "/stream", status=404, code="not_found", params={"deployment": "refresh/price"})
    assert "refresh/prices" in problem["detail"]


def test_more_streams_than_a_server_holds_are_refused(world: World, app: FastAPI, api: Asking) -> None:
    run = world.service.submit("refresh/prices")
    live = app.state.live
    feeds = [live.follow(run.id, notify=lambda: None) for _ in range(MAX_STREAMS)]
    api.problem("GET", f"/runs/{run.id}/stream", status=503, code="unavailable")
    live.leave(feeds.pop())
    done = world.run_through("refresh/calendar")
    assert api.request("GET", f"/runs/{done.id}/stream").status_code == 200
    for feed in feeds:
        live.leave(feed)
    assert live.num_subscribers == 0


# Over a socket.


@pytest.fixture
def serving(world: World, tmp_path: Any) -> Iterator[Serving]:
    settings = Settings(home=tmp_path, api_port=0)
    with Serving(Freshline(settings, world.database, world.objects), port=0) as served:
        yield served


def test_streams_go_on_over_a_socket_resume_and_end_with_the_server(world: World, serving: Serving) -> None:
    run = world.service.submit("refresh/prices")
    address = f"{serving.url}/api/v1/runs/{run.id}/stream"
    given: list[int] = []

    async def listen() -> tuple[list[int], str]:
        async with httpx.AsyncClient(timeout=30) as client:
            for _ in range(10):
                headers = {"Last-Event-ID": str(given[-1])} if given else {}
                async with client.stream("GET", address, headers=headers) as answer:
                    if len(given) >= run.last_seq:
                        log_one(world, run.id)
                    given.append(await next_id(answer))
            project = client.stream("GET", f"{serving.url}/api/v1/stream")
            async with project as watched, client.stream("GET", address, headers={"Last-Event-ID": "1"}) as followed:
                lines = watched.aiter_lines()
                while not (await anext(lines)).startswith("event: resync"):
                    pass
                ending = threading.Thread(target=serving.__exit__)
                ending.start()
                rest = [line async for line in followed.aiter_lines()]
                told = [line async for line in lines]
            await asyncio.to_thread(ending.join, 30)
            assert not ending.is_alive()
        return [int(line[4:]) for line in rest if line.startswith("id: ")], told[0]

    rest, told = asyncio.run(listen())
    assert given == list(range(1, 11))
    assert rest == list(range(2, 11))
    assert told == 'data: {"why":"started"}'


async def next_id(answer: httpx.Response) -> int:
    async with asyncio.timeout(30):
        async for line in answer.aiter_lines():
            if line.startswith("id: "):
                return int(line[4:])
    raise AssertionError("the stream ended")


def log_one(world: World, run_id: Any) -> None:
    from freshline.runs import store
    from freshline.runs.run_events import ProgressReported

    with world.database.transaction() as connection:
        event = ProgressReported(progress=0.5)
        store.change(connection, run_id, [event], actor="test", now=world.database.now(connection))


# Health.


def healthy(app: FastAPI, world: World) -> None:
    questions = questions_of(app.state.freshline, world.gateway)
    app.state.health = HealthCheck(questions, within_s=30, kept_s=0)


def test_health_is_503_until_all_parts_answer(world: World, app: FastAPI, api: Asking) -> None:
    healthy(app, world)
    answer = api.request("GET", "//health")
    assert answer.status_code == 503
    assert answer.json()["status"] == "failing"
    assert answer.json()["checks"]["reconciler"]["status"] == "late"
    world.reconcile()
    found = api.get("//health")
    assert found["status"] == "ok"
    assert {name: one["status"] for name, one in found["checks"].items()} == dict.fromkeys(
        ("database", "object_store", "prefect", "reconciler"), "ok"
    )
    assert found["at"].endswith("Z")


def test_health_and_metrics_answer_while_all_threads_wait_for_the_database(app: FastAPI) -> None:
    app.state.health = HealthCheck({"database": lambda: Finding(Condition.DOWN, "no answer")})

    async def ask() -> list[int]:
        threads = to_thread.current_default_thread_limiter()
        for _ in range(int(threads.total_tokens)):
            threads.acquire_on_behalf_of_nowait(object())
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ADDRESS) as client:
            return [(await asyncio.wait_for(client.get(path), 10)).status_code for path in ("/health", "/metrics")]

    assert asyncio.run(ask()) == [503, 200]


def test_health_says_more_than_statuses_only_to_those_who_may_read(world: World, tmp_path: Any) -> None:
    freshline = Freshline(Settings(home=tmp_path), world.database, world.objects)
    app = create_app(freshline, access=Access(token=TOKEN, reads_are_open=False))
    app.state.health = HealthCheck({"database": lambda: Finding(Condition.DOWN, "db-7 at 10.0.0.3 is away")})
    with Asking(app, token=None) as stranger, Asking(app) as known:
        said = stranger.request("GET", "//health")
        assert said.status_code == 503
        assert said.json()["checks"] == {"database": {"status": "down", "detail": None, "took_s": None}}
        assert known.request("GET", "//health").json()["checks"]["database"]["detail"] == "db-7 at 10.0.0.3 is away"
        stranger.problem("GET", "//metrics", status=401, code="unauthenticated")
        stranger.problem("GET", "/stream", status=401, code="unauthenticated")
        stranger.problem("GET", "/statistics", status=401, code="unauthenticated")


# Numbers for Prometheus.


def numbers(api: Asking) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    answer = api.request("GET", "//metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_metrics_are_those_of_the_store_and_of_this_server(world: World, api: Asking) -> None:
    run = world.run_through("refresh/prices")
    world.reconcile()
    for _ in range(2):
        api.get(f"/runs/{run.id}")
    api.request("GET", "/nothing/of/that/name")
    api.request("BREW", "/runs")
    found = numbers(api)
    assert found["freshline_store_up", ()] == 1
    assert found["freshline_runs_active", (("status", "running"),)] == 0
    assert found["freshline_runs_ended_last_hour", (("status", "completed"),)] == 1
    assert found["freshline_deployments", (("freshness", "ready"),)] == 1
    assert found["freshline_reconciler_age_seconds", ()] == 0
    assert found["freshline_outbox_open", ()] == 0
    counted = {
        labels: value
        for (name, labels), value in found.items()
        if name == "freshline_http_request_duration_seconds_count"
    }
    assert counted[("method", "GET"), ("route", "/api/v1/runs/{run_id}"), ("status", "200")] == 2
    assert counted[("method", "GET"), ("route", "none"), ("status", "404")] == 1
    assert {dict(labels)["method"] for labels in counted} == {"GET", "other"}
    assert str(run.id) not in str(found)


def test_metrics_without_a_database_say_so(app: FastAPI, api: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise StoreUnavailable("it is away")

    monkeypatch.setattr(app.state.freshline.database, "read", away)
    found = numbers(api)
    assert found["freshline_store_up", ()] == 0
    assert not [name for name, _ in found if name.startswith("freshline_runs")]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_head_is_answered_as_get_without_its_content(world: World, app: FastAPI, api: Asking) -> None:
    app.state.health = HealthCheck({"database": lambda: Finding(Condition.OK)})
    run = world.run_through("refresh/prices")
    for path in (f"/runs/{run.id}", "/runs/nothing", "//health", "//metrics", "//", "//assets/style.css"):
        asked, got = api.request("HEAD", path), api.request("GET", path)
        assert (asked.status_code, asked.content) == (got.status_code, b"")
        for name in ("content-type", "etag", "content-security-policy"):
            if name != "content-security-policy" or path != "//":  # that of the page is another one each time
                assert asked.headers.get(name) == got.headers.get(name)
    stream = api.request("HEAD", "/stream")
    assert (stream.status_code, stream.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert app.state.live.num_subscribers == 0
    assert (
        numbers(api)[
            "freshline_http_request_duration_seconds_count",
            (("method", "HEAD"), ("route", "/api/v1/runs/{run_id}"), ("status", "200")),
        ]
        == 1
    )


# Statistics.


def test_statistics_count_runs_with_their_days(world: World, api: Asking) -> None:
    world.run_through("refresh/prices")
    world.service.cancel(world.service.submit("refresh/calendar").id)
    found = api.get("/statistics", group_by="type", until="2026-01-06")
    (group,) = found["groups"]
    assert (group["group"], group["num_runs"]) == ("PipelineRun", 2)
    assert group["statuses"] == {"completed": 1, "cancelled": 1}
    assert (group["failure_rate"], group["p95_s"]) == (0.0, 0.0)
    assert [day["day"] for day in group["trend"]] == ["2026-01-05"]
    assert re.fullmatch(r"2026-01-06T00:00:00Z", found["until"])
    only = api.get("/statistics", deployment="refresh/calendar", until="2026-01-06", trend=False)
    assert [(one["group"], one["num_runs"], one["trend"]) for one in only["groups"]] == [("refresh/calendar", 1, None)]
    assert api.get("/statistics", type="BacktestRun", until="2026-01-06")["groups"] == []


def test_statistics_that_mean_nothing_are_refused(api: Asking) -> None:
    refused: list[dict[str, str]] = [
        {"group_by": "day"},
        {"since": "soon"},
        {"since": "1d", "until": "2d"},
        {"type": "Run"},
        {"trend": "perhaps"},
        {"days": "7"},
    ]
    for params in refused:
        api.problem("GET", "/statistics", status=422, code="invalid_argument", params=params)
    api.problem("GET", "/statistics", status=404, code="not_found", params={"deployment": "refresh/nothing"})


def test_description_names_what_streams_and_health_answer(api: Asking) -> None:
    paths = api.get("/openapi.json")["paths"]
    followed = paths["/api/v1/runs/{run_id}/stream"]["get"]["responses"]
    assert {"200", "204", "404"} <= followed.keys()
    assert "text/event-stream" in followed["200"]["content"]
    health = paths["/health"]["get"]["responses"]
    for status in ("200", "503"):
        assert health[status]["content"]["application/json"]["schema"]["$ref"].endswith("/HealthDocument")
