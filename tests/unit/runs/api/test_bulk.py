"""Many runs at once, and deletions: each item has a result of its own."""

import pytest

from freshline.runs.service import RunExecutionService
from freshline.storage.errors import StoreUnavailable
from freshline.storage.ids import new_id, show_run_id


def test_bulk_create_says_of_each_what_became_of_it(api, world):
    asked = [
        {"deployment": "refresh/prices", "idempotency_key": "k"},
        {"deployment": "refresh/nothing"},
        {"deployment": "refresh/prices", "idempotency_key": "k"},
        {"deployment": "refresh/calendar", "parameters": {"no_such": 1}},
    ]
    done = api.post("/runs/bulk", {"runs": asked})
    assert [one["is_new"] for one in done["items"]] == [True, False, False, False]
    assert done["items"][0]["run"] == done["items"][2]["run"]
    assert [(one["problem"] or {}).get("code") for one in done["items"]] == [
        None, "not_found", None, "invalid_argument",
    ]  # fmt: skip
    assert (done["num_failed"], len(world.queries.runs())) == (2, 1)


def test_bulk_takes_up_to_500_and_not_none(api):
    for runs in ([], [{"deployment": "refresh/prices"}] * 501):
        api.problem("POST", "/runs/bulk", json={"runs": runs}, status=422, code="invalid_argument")


@pytest.mark.parametrize("num_before", [0, 1])
def test_bulk_create_says_what_was_done_before_the_database_was_away(api, world, monkeypatch, num_before):
    submit_all, num_calls = RunExecutionService.submit_all, 0

    def away(service, asked):
        nonlocal num_calls
        num_calls += 1
        if num_calls > num_before:
            raise StoreUnavailable("the database is away")
        return submit_all(service, asked)

    monkeypatch.setattr(RunExecutionService, "submit_all", away)
    asked = {"runs": [{"deployment": "refresh/prices"}] * 3}
    if num_before == 0:
        api.problem("POST", "/runs/bulk", json=asked, status=503, code="unavailable")
        return
    done = api.post("/runs/bulk", asked)
    codes = [one["problem"]["code"] if one["problem"] else None for one in done["items"]]
    assert (codes, num_calls) == ([None, "unavailable", "unavailable"], 2)
    assert (done["num_failed"], len(world.queries.runs())) == (2, 1)


def test_bulk_cancel_leaves_what_has_ended_and_what_is_not_there(api, world):
    done, waiting = world.run_through("refresh/prices"), world.service.submit("refresh/prices")
    ids = [show_run_id(done.id), str(waiting.id), str(new_id()), "nonsense"]
    answer = api.post("/runs/bulk/cancel", {"ids": ids, "actor": "ann"})
    assert [one["id"] for one in answer["items"]] == ids
    assert [one["status"] for one in answer["items"]] == [None, "cancelled", None, None]
    codes = [one["problem"]["code"] if one["problem"] else None for one in answer["items"]]
    assert codes == ["conflict", None, "not_found", "invalid_argument"]


def test_deleted_run_is_not_found_until_that_is_taken_back(api, world):
    run = world.service.submit("refresh/prices")
    path = f"/runs/{show_run_id(run.id)}"
    api.problem("DELETE", path, status=409, code="conflict")
    world.service.cancel(run.id)
    answer = api.request("DELETE", path, json={"reason": "a wrong feed", "actor": "ann"})
    assert [(one["id"], one["deployment"]) for one in answer.json()["items"]] == [
        (show_run_id(run.id), "refresh/prices")
    ]
    for method, below in (("GET", ""), ("GET", "/events"), ("GET", "/lineage"), ("POST", "/cancel")):
        problem = api.problem(method, path + below, status=404, code="not_found")
        assert "by ann: a wrong feed" in problem["detail"]
    assert api.get("/runs")["items"] == []
    assert api.post(f"{path}/undelete", {"actor": "ann"})["status"] == "cancelled"
    assert [one["id"] for one in api.get("/runs")["items"]] == [show_run_id(run.id)]


def test_bulk_delete_says_who_rests_on_a_run(api, world):
    prices = world.run_through("refresh/prices")
    failed = world.service.cancel(world.service.submit("refresh/calendar").id)
    answer = api.post("/runs/bulk/delete", {"ids": [str(prices.id), str(failed.id)], "reason": "old"})
    assert [one["status"] for one in answer["items"]] == [None, "deleted"]
    assert "current" in answer["items"][0]["problem"]["detail"]
