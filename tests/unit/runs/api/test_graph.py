"""The graph over HTTP: deployments with freshness and place, edges, and no second answer where nothing changed."""

from datetime import date, timedelta

from tests.factories import declared

SCRIPT = "<script>alert(1)</script>"


def test_graph_has_every_deployment_with_its_freshness_and_its_place(api, world):
    world.graph.publish("refresh/prices", "one", data_end=date(2026, 1, 2))
    world.graph.publish_all("refresh/momentum")
    world.graph.publish("refresh/prices", "two", data_end=date(2026, 1, 5))
    found = api.get("/graph")
    nodes = {node["key"]: node for node in found["nodes"]}
    assert list(nodes) == ["backtest/book", "refresh/calendar", "refresh/momentum", "refresh/prices"]
    momentum, prices, book = nodes["refresh/momentum"], nodes["refresh/prices"], nodes["backtest/book"]
    assert (momentum["kind"], momentum["freshness"], momentum["activity"]) == ("refresh", "stale", "idle")
    assert "refresh/prices is at v2 now" in momentum["why"]
    assert (prices["freshness"], prices["version"], prices["data_end"]) == ("ready", 2, "2026-01-05")
    assert (book["freshness"], book["version"], book["external"]) == ("not_initialized", None, False)
    assert prices["x"] < momentum["x"] < book["x"]
    assert found["generated_at"] == "2026-01-05T12:00:00Z"


def test_graph_has_every_edge_with_role_and_kind(api):
    edges = [(edge["source"], edge["target"], edge["role"]) for edge in api.get("/graph")["edges"]]
    assert edges == [
        ("refresh/momentum", "backtest/book", "momentum"),
        ("refresh/prices", "backtest/book", "prices"),
        ("refresh/prices", "refresh/momentum", "prices"),
    ]
    assert {(edge["kind"], edge["observed"]) for edge in api.get("/graph")["edges"]} == {("data", False)}


def test_graph_leaves_out_what_is_retired_with_its_edges(api, world):
    world.graph.register(*(one for key, one in world.graph.declared.items() if key != "backtest/book"))
    found = api.get("/graph")
    assert [node["key"] for node in found["nodes"]] == ["refresh/calendar", "refresh/momentum", "refresh/prices"]
    assert [(edge["source"], edge["target"]) for edge in found["edges"]] == [("refresh/prices", "refresh/momentum")]


def test_graph_of_another_tenant_is_empty(api):
    api.app.state.freshline.settings.__dict__["tenant_id"] = "other"
    found = api.get("/graph")
    assert (found["nodes"], found["edges"]) == ([], [])


def test_graph_shows_what_is_external_and_names_as_they_are(api, world):
    world.graph.register(*world.graph.declared.values(), declared(f"refresh/{SCRIPT}", external=True))
    (odd,) = (node for node in api.get("/graph")["nodes"] if node["external"])
    assert odd["key"] == f"refresh/{SCRIPT}"


def test_graph_that_has_not_changed_is_not_sent_again(api, world):
    first = api.request("GET", "/graph")
    tag = {"If-None-Match": first.headers["etag"]}
    world.pass_time(timedelta(minutes=1))
    again = api.request("GET", "/graph", headers=tag)
    assert (again.status_code, again.content) == (304, b"")
    world.graph.publish_all("refresh/prices")
    changed = api.request("GET", "/graph", headers=tag)
    assert changed.status_code == 200
    assert changed.headers["etag"] != first.headers["etag"]


def test_graph_needs_the_token_where_reads_are_closed(stranger):
    stranger.app.state.access.__dict__["reads_are_open"] = False
    stranger.problem("GET", "/graph", status=401, code="unauthenticated")
