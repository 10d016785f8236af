"""What can be read over HTTP, on one store with a small story; nothing here changes it."""

import datetime as dt
import io
import math
import zipfile
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from freshline.runs.api.access import Access
from freshline.runs.api.app import create_app
from freshline.runs.api.cursors import encode
from freshline.runs.author_models import RunMessage
from freshline.runs.composition import Freshline
from freshline.runs.curation import Curation
from freshline.runs.models import Run
from freshline.storage.artifacts import ArtifactRecord
from freshline.storage.files import save_file
from freshline.storage.folders import save_folder
from freshline.storage.ids import new_id, show_run_id
from freshline.storage.parquet import write_table
from freshline.storage.settings import Settings
from tests.asking import NOBODYS, TOKEN, Asking
from tests.databases import new_database_url
from tests.factories import START
from tests.unit.runs.conftest import World, make_world
from tests.unit.runs.test_steps import facts, record

HTML = '<script>alert("x")</script>.html'


@dataclass
class Story:
    """What happened, and somebody who asks."""

    api: Asking
    world: World
    prices: Run
    """Completed, version 1; superseded as the current version by another run."""
    momentum: Run
    """Completed on v1 of prices, with artifacts, messages and steps: stale now."""
    failed: Run
    waiting: Run

    def path(self, run: Run, below: str = "") -> str:
        return f"/runs/{show_run_id(run.id)}{below}"


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def story(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("story")
    world = make_world(new_database_url(request, folder))
    prices = world.run_through("refresh/prices", content=1, tags=["a"])
    momentum = world.service.submit("refresh/momentum", parameters={}, actor="ann")
    claim = world.start(momentum)
    record(world, claim.run, facts(claim.run), facts(claim.run, name="fit-1", started_at=None))
    (folder / "page.html").write_text("<script>alert(1)</script>")
    (folder / "kept").mkdir()
    (folder / "kept" / "one.txt").write_text("1")
    days = pa.array([dt.datetime(2026, 1, 1), dt.datetime(2026, 1, 2)], pa.timestamp("us"))
    table = pa.table({"day": days, "x": [1.5, math.nan], "s": ["é", None]})
    result = world.result(claim=claim, metrics={"ratio": 2.5, "odd": float("-inf")})
    result.artifacts.extend(
        [
            ArtifactRecord.of_table("t", write_table(world.objects, table)),
            ArtifactRecord.of_file(HTML, save_file(world.objects, folder / "page.html", media_type="text/html")),
            ArtifactRecord.of_file("facts", save_file(world.objects, b'{"n": 1}', media_type="application/json")),
            ArtifactRecord.of_file("folder", save_folder(world.objects, folder / "kept"), publish=False),
        ]
    )
    world.port.complete(claim.run.id, claim.run.fence, result)
    world.gateway.end(claim.run.flow_run_id)
    message = {"run_id": momentum.id, "number": 3, "role": "model", "content": "hello", "at": START}
    world.database.write(lambda connection: connection.execute(sa.insert(RunMessage).values(**message)))
    failing = world.start(world.service.submit("refresh/prices"))
    world.port.fail(failing.run.id, failing.run.fence, ValueError("no data"), "Traceback…", will_retry=False)
    world.run_through("refresh/prices", content=2)
    Curation(world.database).set_alias("refresh/prices@v1", "champion", actor="ann")
    waiting = world.service.submit("refresh/calendar", background=False)
    freshline = Freshline(Settings(home=folder), world.database, world.objects)
    with Asking(create_app(freshline, access=Access(token=TOKEN))) as api:
        yield Story(api, world, prices, momentum, failing.run, waiting)
    world.database.dispose()


def ids(page: Any) -> list[str]:
    return [one["id"] for one in page["items"]]


def all_of(api, path: str, **params: Any) -> list[Any]:
    """Every item of a list, page by page."""
    found, cursor = [], None
    while True:
        page = api.get(path, **params, **({} if cursor is None else {"cursor": cursor}))
        assert len(page["items"]) <= params.get("limit", 500)
        found += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return found


def test_runs_are_listed_newest_first_with_their_metrics(story):
    runs = story.api.get("/runs")["items"]
    assert runs[0]["id"] == show_run_id(story.waiting.id)
    assert [run["created_at"] for run in runs] == sorted((run["created_at"] for run in runs), reverse=True)
    (momentum,) = story.api.get("/runs", deployment="refresh/momentum")["items"]
    assert momentum["metrics"] == {"odd": "-Infinity", "ratio": 2.5}
    assert (momentum["version"], momentum["actor"], momentum["duration_s"]) == (1, "ann", 0)
    assert story.api.get("/runs", query="ratio > 1", metrics="odd")["items"][0]["metrics"] == {"odd": "-Infinity"}


@pytest.mark.parametrize(
    ("params", "count"),
    [
        ({"query": "status = failed"}, 1),
        ({"status": "failed"}, 1),
        ({"status": "failed,completed"}, 4),
        ({"query": "status = failed or status = completed", "status": "failed"}, 1),
        ({"type": "PipelineRun"}, 5),
        ({"type": "BacktestRun"}, 0),
        ({"deployment": "refresh/prices", "status": "completed"}, 2),
        ({"after": "2026-01-05T12:00:00Z"}, 5),
        ({"before": "2026-01-05T13:00:00+01:00"}, 0),
        ({"after": "2026-01-05T12:00:00.000001Z"}, 0),
        ({"query": "   "}, 5),
    ],
)
def test_filters_narrow_the_search(story, params, count):
    assert len(story.api.get("/runs", **params)["items"]) == count


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"query": "status = fialed"}, "at character 10"),
        ({"query": "status = fialed", "status": "failed"}, "at character 10"),
        ({"query": "status ="}, "at character"),
        ({"query": "status = failed) or (status = completed", "status": "failed"}, "at character 16"),
        ({"order_by": "nonsense("}, "at character"),
        ({"status": "fialed"}, "is none"),
        ({"type": "Backtest"}, "BacktestRun"),
        ({"limit": 501}, "less than or equal to 500"),
        ({"limit": 0}, "greater than or equal to 1"),
        ({"after": "0"}, "zone"),
        ({"after": "2026-01-05T12:00:00"}, "zone"),
        ({"before": "0001-01-01T00:00:00+01:00"}, "year"),
        ({"after": "9999-12-31T23:59:59-01:00"}, "year"),
        ({"cursor": "x"}, "cursor"),
        ({"querry": "x"}, "did you mean 'query'?"),
    ],
)
def test_bad_question_is_one_clear_message(story, params, said):
    problem = story.api.problem("GET", "/runs", params=params, status=422, code="invalid_argument")
    assert said in problem["detail"]


def test_unknown_deployment_names_the_nearest(story):
    for path, params in (("/runs", {"deployment": "refresh/price"}), ("/deployments/refresh/price", {})):
        problem = story.api.problem("GET", path, params=params, status=404, code="not_found")
        assert "'refresh/prices'" in problem["detail"]


def test_pages_of_runs_make_up_the_list(story):
    whole = ids(story.api.get("/runs"))
    assert [run["id"] for run in all_of(story.api, "/runs", limit=2)] == whole
    first = story.api.get("/runs", limit=2)
    other = {"limit": 2, "cursor": first["next_cursor"], "status": "failed"}
    story.api.problem("GET", "/runs", params=other, status=422, code="invalid_argument")


def test_active_runs_are_those_that_have_not_ended(story):
    assert ids(story.api.get("/runs/active")) == [show_run_id(story.waiting.id)]
    assert ids(story.api.get("/runs/active", background=True)) == []
    assert ids(story.api.get("/runs/active", background=False)) == [show_run_id(story.waiting.id)]


def test_log_is_read_page_by_page_without_gaps(story):
    path = story.path(story.momentum, "/events")
    whole = story.api.get(path)["items"]
    assert [event["seq"] for event in whole] == list(range(1, len(whole) + 1))
    assert (whole[0]["kind"], whole[0]["actor"], whole[0]["payload"]["trigger"]) == (
        "run_submitted",
        "ann",
        "submitted",
    )
    assert all_of(story.api, path, limit=2) == whole
    assert story.api.get(path, after=2)["items"] == whole[2:]
    cursor = story.api.get(path, limit=1)["next_cursor"]
    story.api.problem("GET", path, params={"after": 1, "cursor": cursor}, status=422, code="invalid_argument")
    other = story.path(story.prices, "/events")
    story.api.problem("GET", other, params={"cursor": cursor}, status=422, code="invalid_argument")
    story.api.problem("GET", path, params={"after": 2**31}, status=422, code="invalid_argument")


@pytest.mark.parametrize("last", ["a", -1, 2**31, 2**70, 1.5, True, [], [1], {}, math.nan], ids=repr)
def test_forged_cursor_into_a_log_is_refused(story, last):
    """The checksum is no secret: what stands behind it may be anything."""
    forged = encode(last, of="events", asked={"run": show_run_id(story.momentum.id)})
    problem = story.api.problem(
        "GET", story.path(story.momentum, "/events"), params={"cursor": forged}, status=422, code="invalid_argument"
    )
    assert "this cursor does not belong to this question" in problem["detail"]


def test_steps_messages_and_usage_are_read(story):
    steps = story.api.get(story.path(story.momentum, "/steps"))["items"]
    assert [step["name"] for step in steps] == ["fit-0", "fit-1"]
    assert all_of(story.api, story.path(story.momentum, "/steps"), limit=1) == steps
    (message,) = story.api.get(story.path(story.momentum, "/messages"))["items"]
    assert (message["number"], message["content"]) == (3, "hello")
    assert story.api.get(story.path(story.momentum, "/usage"))["num_steps"] == 2
    assert story.api.get(story.path(story.prices, "/usage"))["num_steps"] == 0


def test_metrics_say_what_is_no_finite_number(story):
    found = story.api.get(story.path(story.momentum, "/metrics"))
    assert [(one["name"], one["value"]) for one in found["items"]] == [("odd", "-Infinity"), ("ratio", 2.5)]
    assert story.api.get(story.path(story.momentum, "/series")) == {"items": []}
    unknown = {"names": "nothing"}
    story.api.problem("GET", story.path(story.momentum, "/series"), params=unknown, status=404, code="not_found")


def artifact(story: Story, name: str) -> dict[str, Any]:
    found = story.api.get(story.path(story.momentum, "/artifacts"))["items"]
    return {one["name"]: one for one in found}[name]


def below(url: str) -> str:
    return url.removeprefix("/api/v1")


def test_table_is_looked_into_and_taken_home(story):
    table = artifact(story, "t")
    assert (table["kind"], table["rows"], table["publish"]) == ("table", 2, True)
    preview = story.api.get(below(table["preview_url"]))
    assert [name for name, _ in preview["columns"]] == ["day", "x", "s"]
    assert preview["rows"] == [["2026-01-01T00:00:00", 1.5, "é"], ["2026-01-02T00:00:00", "NaN", None]]
    assert (len(story.api.get(below(table["preview_url"]), limit=1)["rows"]), preview["num_rows"]) == (1, 2)
    answer = story.api.request("GET", below(table["content_url"]))
    assert answer.headers["content-disposition"] == "attachment; filename=\"t.parquet\"; filename*=UTF-8''t.parquet"
    assert answer.headers["content-length"] == str(len(answer.content))
    assert pq.read_table(io.BytesIO(answer.content)).column_names == ["day", "x", "s"]


def test_html_goes_out_as_bytes_that_no_browser_runs(story):
    page = artifact(story, HTML)
    assert page["preview_url"] is None
    answer = story.api.request("GET", below(page["content_url"]))
    assert answer.content == b"<script>alert(1)</script>"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; sandbox")
    assert answer.headers["x-content-type-options"] == "nosniff"
    name = "script_alert_x_script_.html"
    assert (
        answer.headers["content-disposition"]
        == f"attachment; filename=\"{name}\"; filename*=UTF-8''{quote(HTML, safe='')}"
    )
    story.api.problem(
        "GET", below(page["content_url"]).replace("content", "preview"), status=422, code="invalid_argument"
    )


def test_json_goes_out_as_it_is(story):
    answer = story.api.request("GET", below(artifact(story, "facts")["content_url"]))
    assert (answer.status_code, answer.content) == (200, b'{"n": 1}')
    assert answer.headers["content-type"] == "application/json"


def test_folder_goes_out_as_an_archive(story):
    answer = story.api.request("GET", below(artifact(story, "folder")["content_url"]))
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.namelist() == ["one.txt"]


def test_artifact_of_another_run_is_not_found(story):
    table = artifact(story, "t")
    for path in (f"/artifacts/{table['id']}/content", f"/artifacts/{new_id()}/preview"):
        story.api.problem("GET", story.path(story.prices, path), status=404, code="not_found")
    story.api.problem("GET", story.path(story.prices, "/artifacts/t/content"), status=422, code="invalid_argument")


def test_inputs_say_whether_they_hold(story):
    (read,) = story.api.get(story.path(story.momentum, "/inputs"))["items"]
    assert (read["deployment"], read["number"], read["is_current"]) == ("refresh/prices", 1, False)
    assert read["run_id"] == show_run_id(story.prices.id)
    assert story.api.get(story.path(story.waiting, "/inputs"))["items"] == []


def test_lineage_of_a_run_says_who_read_what(story):
    found = story.api.get(story.path(story.prices, "/lineage"))
    assert [one["deployment"] for one in found["consumers"]] == ["refresh/momentum"]
    assert found["edges"] == [{"source": "refresh/prices@v1", "target": "refresh/momentum@v1"}]
    assert story.api.get(story.path(story.momentum, "/lineage"))["edges"] == found["edges"]
    assert story.api.get(story.path(story.waiting, "/lineage"))["num_consumers"] == 0


def test_run_is_explained(story):
    found = story.api.get(story.path(story.failed, "/explanation"))
    assert "its body raised: ValueError: no data" in found["sentence"]
    assert found["failures"][0]["error_type"] == "ValueError"


def test_two_runs_are_compared(story):
    pair = f"{show_run_id(story.prices.id)},{show_run_id(story.momentum.id)}"
    found = story.api.get("/runs/compare", ids=pair, differences=True)
    assert {fact["section"] for fact in found["facts"]} >= {"request", "metrics", "inputs"}
    assert all(not fact["is_equal"] for fact in found["facts"])
    assert ("metrics", "odd", None, "-Infinity") in [(f["section"], f["name"], f["a"], f["b"]) for f in found["facts"]]
    for wrong in ("", show_run_id(story.prices.id), f"{pair},{pair}"):
        story.api.problem("GET", "/runs/compare", params={"ids": wrong}, status=422, code="invalid_argument")
    story.api.problem("GET", "/runs/compare", status=422, code="invalid_argument")


def test_several_runs_are_compared_each_with_the_first(story):
    ids = [show_run_id(run.id) for run in (story.prices, story.momentum, story.failed)]
    found = story.api.get("/runs/compare/all", ids=",".join(ids), differences=True)
    assert (found["runs"], found["deployments"][1]) == (ids, "refresh/momentum")
    assert all(not fact["is_equal"] and False in fact["equals"] and fact["equals"][0] for fact in found["facts"])
    (odd,) = [fact for fact in found["facts"] if (fact["section"], fact["name"]) == ("metrics", "odd")]
    assert (odd["values"], odd["equals"]) == ([None, "-Infinity", None], [True, False, True])
    for wrong in ("", ids[0], f"{ids[0]},{ids[0]}", ",".join([ids[0]] * 51), f"{ids[0]},no-run"):
        story.api.problem("GET", "/runs/compare/all", params={"ids": wrong}, status=422, code="invalid_argument")
    unknown = f"{ids[0]},{show_run_id(new_id())}"
    story.api.problem("GET", "/runs/compare/all", params={"ids": unknown}, status=404, code="not_found")


def test_deployments_are_listed_with_their_freshness(story):
    whole = story.api.get("/deployments")["items"]
    assert {one["key"]: one["freshness"] for one in whole} == {
        "backtest/book": "not_initialized",
        "refresh/calendar": "not_initialized",
        "refresh/momentum": "stale",
        "refresh/prices": "ready",
    }
    assert all_of(story.api, "/deployments", limit=1) == whole


def test_deployment_says_what_was_declared_and_why_it_is_stale(story):
    found = story.api.get("/deployments/refresh/momentum")
    assert (found["resource"], found["resource_kind"], found["version"]) == ("momentum", "dataset", 1)
    why = story.api.get(below(found["links"]["explanation"]))
    assert why["sentence"] == found["why"]
    assert [(one["kind"], one["upstream"]) for one in why["chain"]] == [("input_changed", "refresh/prices")]
    assert why["chain"][0]["sentence"] in why["sentence"]
    assert [one["name"] for one in story.api.get("/deployments/refresh/prices")["aliases"]] == ["champion"]


def test_neighbours_of_a_deployment_are_followed_or_not(story):
    above = story.api.get("/deployments/backtest/book/upstream")["items"]
    assert [(one["depth"], one["key"]) for one in above] == [(1, "refresh/momentum"), (1, "refresh/prices")]
    assert all_of(story.api, "/deployments/backtest/book/upstream", limit=1) == above
    direct = story.api.get("/deployments/refresh/prices/downstream", recursive=False)["items"]
    assert [one["key"] for one in direct] == ["backtest/book", "refresh/momentum"]


def test_versions_are_read_by_number_alias_and_as_the_current_one(story):
    versions = story.api.get("/deployments/refresh/prices/versions")["items"]
    assert [one["reference"] for one in versions] == ["refresh/prices@v2", "refresh/prices@v1"]
    assert all_of(story.api, "/deployments/refresh/prices/versions", limit=1) == versions
    for which in ("1", "v1", "champion"):
        found = story.api.get(f"/versions/refresh/prices/{which}")
        assert (found["number"], found["aliases"], found["is_current"]) == (1, ["champion"], False)
    assert story.api.get("/versions/refresh/prices/current")["number"] == 2
    for which, status, code in (("9", 404, "not_found"), ("9" * 30, 404, "not_found"), ("V!", 422, "invalid_argument")):
        story.api.problem("GET", f"/versions/refresh/prices/{which}", status=status, code=code)


def test_version_knows_its_readers(story):
    consumers = story.api.get("/versions/refresh/prices/1/consumers")["items"]
    assert [(one["deployment"], one["is_current"]) for one in consumers] == [("refresh/momentum", True)]
    impact = story.api.get("/versions/refresh/prices/champion/impact")
    assert (impact["num_built"], impact["num_current"], impact["items"]) == (1, 1, consumers)


def test_resources_show_the_worst_of_their_deployments(story):
    found = {one["name"]: one for one in story.api.get("/resources")["items"]}
    assert (found["momentum"]["freshness"], found["momentum"]["worst"]) == ("stale", "refresh/momentum")
    assert (found["book"]["freshness"], found["book"]["worst"]) == ("not_initialized", None)


@pytest.mark.parametrize(
    "below_run",
    ["", "/events", "/steps", "/messages", "/usage", "/metrics", "/series", "/artifacts", "/inputs", "/lineage",
     "/explanation", f"/artifacts/{NOBODYS}/content"],
)  # fmt: skip
def test_run_of_another_tenant_is_not_found(story, below_run):
    settings = Settings(home=story.api.app.state.freshline.settings.home, tenant_id="other")
    opened = story.api.app.state.freshline
    story.api.app.state.freshline = Freshline(settings, opened.database, opened.objects)
    try:
        story.api.problem("GET", story.path(story.momentum, below_run), status=404, code="not_found")
        assert story.api.get("/runs")["items"] == []
    finally:
        story.api.app.state.freshline = opened


def test_answer_that_the_asker_has_is_not_sent_again(story):
    for path in ("/runs", story.path(story.momentum), "/deployments"):
        first = story.api.request("GET", path)
        tag = first.headers["etag"]
        assert first.headers["cache-control"] == "private, no-cache"
        for known in (tag, f'"other", W/{tag}', "*"):
            again = story.api.request("GET", path, headers={"If-None-Match": known})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert story.api.request("GET", path, headers={"If-None-Match": '"other"'}).content == first.content
    assert "etag" not in story.api.request("GET", story.path(story.momentum, "/no-such")).headers
    assert "etag" not in story.api.request("GET", "/session").headers
