"""Runs over HTTP: asked for, read, cancelled."""

import math

from freshline.storage.ids import new_id, show_run_id


def test_create_answers_at_once_with_where_the_run_is(api, world):
    answer = api.request("POST", "/runs", json={"deployment": "refresh/prices", "tags": ["a"], "actor": "ann"})
    made = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (201, made["url"])
    assert made["created_at"] == "2026-01-05T12:00:00Z"
    assert made["stream_url"] == f"/api/v1/runs/{made['id']}/stream"
    run = world.service.get(made["id"])
    assert (run.status, run.tags, run.actor) == (made["status"], ["a"], "ann")


def test_create_with_a_known_key_gives_the_same_run(api, world):
    body = {"deployment": "refresh/prices"}
    first = api.post("/runs", body, status=201, headers={"Idempotency-Key": "k1"})
    assert api.post("/runs", {**body, "idempotency_key": "k1"}) == first
    other = {"deployment": "refresh/calendar"}
    api.problem("POST", "/runs", json=other, headers={"Idempotency-Key": "k1"}, status=409, code="conflict")
    assert len(world.queries.runs()) == 1


def test_create_with_two_keys_is_refused(api):
    body = {"deployment": "refresh/prices", "idempotency_key": "one"}
    problem = api.problem(
        "POST", "/runs", json=body, headers={"Idempotency-Key": "two"}, status=422, code="invalid_argument"
    )
    assert "differ" in problem["detail"]


def test_create_of_an_unknown_deployment_names_the_nearest(api):
    problem = api.problem("POST", "/runs", json={"deployment": "refresh/price"}, status=404, code="not_found")
    assert "Did you mean 'refresh/prices'" in problem["detail"]


def test_create_that_the_gate_refuses_is_recorded_and_says_why(api):
    made = api.post("/runs", {"deployment": "backtest/book"}, status=201)
    assert (made["status"], made["stop_reason"]) == ("refused", "upstream_not_ready")
    assert "refresh/momentum" in made["reason"]


def test_run_document_has_what_belongs_to_it(api, world):
    world.run_through("refresh/prices")
    momentum = world.service.submit("refresh/momentum", metadata={"desk": "a"})
    claim = world.start(momentum)
    metrics = {"rows": 3.0, "ratio": math.inf, "skew": math.nan}
    world.complete(claim, metrics=metrics)
    found = api.get(f"/runs/{show_run_id(momentum.id)}")
    assert found["id"] == show_run_id(momentum.id)
    assert (found["deployment"], found["type"], found["version"]) == ("refresh/momentum", "PipelineRun", 1)
    assert (found["status"], found["stop_reason"], found["metadata"]) == ("completed", "completed", {"desk": "a"})
    assert found["metrics"] == {"ratio": "Infinity", "rows": 3.0, "skew": "NaN"}
    assert [(read["role"], read["read"], read["agreement"]) for read in found["reads"]] == [("prices", 1, "as_pinned")]
    assert [(one["name"], one["kind"], one["rows"]) for one in found["artifacts"]] == [("data", "table", 1)]
    assert found["links"]["events"] == f"/api/v1/runs/{found['id']}/events"
    assert found["duration_s"] == 0
    assert api.get(f"/runs/{momentum.id}") == found


def test_run_that_is_not_there_is_not_found(api, world):
    api.problem("GET", f"/runs/{new_id()}", status=404, code="not_found")
    api.problem("GET", "/runs/run-1", status=422, code="invalid_argument")
    run = world.run_through("refresh/prices")
    api.app.state.freshline.settings.__dict__["tenant_id"] = "other"
    for method, path in (("GET", ""), ("POST", "/cancel"), ("POST", "/pause"), ("POST", "/resume")):
        api.problem(method, f"/runs/{run.id}{path}", status=404, code="not_found")


def test_cancel_ends_what_has_not_started_and_refuses_what_has_ended(api, world):
    run = world.service.submit("refresh/prices")
    found = api.post(f"/runs/{run.id}/cancel", {"actor": "ann"}, status=202)
    assert (found["status"], found["stop_reason"]) == ("cancelled", "cancelled_by_user")
    problem = api.problem("POST", f"/runs/{run.id}/cancel", status=409, code="conflict")
    assert "cannot be cancelled" in problem["detail"]


def test_pause_and_resume_follow_the_service(api, world):
    run = world.service.submit("refresh/prices")
    api.problem("POST", f"/runs/{run.id}/resume", status=409, code="conflict")
    world.start(run)
    assert api.post(f"/runs/{run.id}/pause", status=202)["pause_requested_at"] == "2026-01-05T12:00:00Z"
