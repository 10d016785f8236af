"""The Graph view in a real browser: read, filtered, moved, explained, run from; by pointer and by keys alone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copy
from typing import Any
from urllib.parse import urlencode

import pytest
from axe_playwright_python.sync_playwright import Axe

from benchmarks import layered_graphs
from freshline.runs.api.serving import Serving
from freshline.runs.composition import Freshline
from freshline.runs.queries import Queries
from freshline.storage.database import Database
from freshline.storage.filesystem import ObjectStore
from freshline.storage.ids import new_id, show_run_id
from freshline.storage.settings import Settings
from tests.asking import TOKEN
from tests.factories import Graph, declared
from tests.unit.runs.ui.conftest import HOSTILE, paths_asked, stop_time, watched

pytestmark = pytest.mark.browser

_PLACE = """async (key) => {
    const { fitting } = await import("/assets/scripts/graph_moves.js");
    const { extent, onScreen } = await import("/assets/scripts/graph_places.js");
    const { nodes } = await (await fetch("/api/v1/graph")).json();
    const box = document.querySelector(".graph-stage").getBoundingClientRect();
    const node = nodes.find((one) => one.key === key);
    const [x, y] = onScreen(node, fitting(extent(nodes), box.width, box.height));
    return { x: x + box.x, y: y + box.y };
}"""

_DRAWN = """async () => {
    while (!performance.getEntriesByName("graph-drawn").length) await new Promise(requestAnimationFrame);
}"""


class Shown:
    """The page at the graph of a store."""

    def __init__(self, page: Any, url: str, graph: Graph) -> None:
        self.page, self.graph = page, graph
        self.url = url

    def open(self, query: str = "") -> None:
        """Show it, and wait until it is drawn."""
        self.page.goto(f"{self.url}/{query}")
        self.page.wait_for_selector(".graph-option", state="attached")
        self.page.evaluate(_DRAWN)

    def options(self) -> list[str]:
        """The names in the list."""
        found: list[str] = self.page.locator(".graph-option .graph-name").all_text_contents()
        return found

    @property
    def panel(self) -> Any:
        return self.page.get_by_role("complementary", name="The deployment")

    @property
    def title(self) -> str:
        """The name of the deployment that the panel is about."""
        found: str = self.panel.get_by_role("heading", level=2).inner_text()
        return found

    def click(self, key: str) -> None:
        """Click the drawing where a deployment is, while all of the graph is shown."""
        place = self.page.evaluate(_PLACE, key)
        self.page.mouse.click(place["x"], place["y"])

    def runs(self) -> list[tuple[str, str, str]]:
        """(key, status, id) of all runs, newest first."""
        return [(key, run.status, show_run_id(run.id)) for key, run in Queries(self.graph.database).runs()]


@contextmanager
def serving(directory: Path, template: Path, make: Callable[[Database], Graph]) -> Iterator[tuple[str, Graph]]:
    """The address of a server of a new store, and its graph."""
    copy(template, directory / "freshline.db")
    database = Database(f"sqlite:///{directory / 'freshline.db'}", sqlite_synchronous="OFF")
    graph = make(database)
    settings = Settings(home=directory, api_token=TOKEN)
    try:
        with Serving(Freshline(settings, database, ObjectStore(f"memory://{new_id()}")), port=0) as served:
            yield served.url, graph
    finally:
        database.dispose()


def small(database: Database) -> Graph:
    """Prices have changed since momentum read them; the model has read momentum, and the book the model."""
    graph = Graph(
        database,
        declared("refresh/prices"),
        declared("refresh/calendar", external=True),
        declared("refresh/momentum", ["refresh/prices"]),
        declared("training/alpha", ["refresh/momentum", "refresh/calendar"]),
        declared("backtest/book", ["training/alpha", "refresh/prices"]),
        declared(f"monitoring/{HOSTILE}", ["training/alpha"]),
    )
    graph.publish_all("refresh/prices", "refresh/calendar", "refresh/momentum", "training/alpha", "backtest/book")
    graph.publish("refresh/prices", "other")
    return graph


@pytest.fixture(scope="module")
def store(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Graph]]:
    with serving(tmp_path_factory.mktemp("graph-page"), sqlite_template, small) as made:
        yield made


@pytest.fixture(scope="module")
def session(browser: Any, store: tuple[str, Graph]) -> Any:
    """What a browser keeps that has signed in."""
    with watched(browser, store[0]) as seen:
        seen.go(f"/#token={TOKEN}")
        seen.page.wait_for_selector(".graph-option")
        return seen.page.context.storage_state()


@pytest.fixture
def shown(browser: Any, store: tuple[str, Graph], session: Any) -> Iterator[Shown]:
    url, graph = store
    with watched(browser, url, storage_state=session) as seen:
        yield Shown(seen.page, url, graph)


def test_newcomer_is_told_what_to_do_and_sees_the_first_deployment_come(browser, tmp_path, sqlite_template):
    with serving(tmp_path, sqlite_template, Graph) as (url, graph), watched(browser, url) as seen:
        seen.go(f"/runs#token={TOKEN}")
        seen.page.get_by_role("heading", name="There are no runs yet").wait_for()
        seen.page.get_by_role("link", name="Graph", exact=True).click()
        seen.page.get_by_role("heading", name="There are no deployments yet").wait_for()
        assert seen.page.locator(".empty li code").all_inner_texts() == [
            "freshline init", "resource:", "freshline deploy", "freshline submit"
        ]  # fmt: skip
        seen.page.locator("#live[data-state=live]").wait_for()
        graph.register(declared("refresh/prices"))
        seen.page.wait_for_selector(".graph-option", state="attached")


def test_graph_is_drawn_listed_and_filtered(shown):
    shown.open()
    page = shown.page
    assert shown.options() == ["book", HOSTILE, "calendar", "momentum", "prices", "alpha"]
    page.keyboard.press("/")
    page.keyboard.type("refresh m")
    assert shown.options() == ["momentum"]
    assert page.locator(".graph-count").inner_text() == "1 of 6 deployments"
    page.get_by_role("searchbox").fill("")
    page.get_by_role("button", name="not initialized").click()
    assert shown.options() == [HOSTILE]
    page.get_by_role("button", name="stale").click()
    assert set(shown.options()) == {"book", HOSTILE, "momentum", "alpha"}
    page.get_by_label("Kind").select_option("backtest")
    assert shown.options() == ["book"]
    page.reload()
    page.wait_for_selector(".graph-option", state="attached")
    assert shown.options() == ["book"], "the address holds the filter"


def test_click_on_a_deployment_explains_it_and_leads_up_the_chain(shown):
    shown.open()
    shown.click("backtest/book")
    panel = shown.panel
    assert shown.title == "book"
    panel.get_by_text("refresh/prices is at v2 now, with other content than was read").first.wait_for()
    panel.get_by_role("button", name="training/alpha").first.click()
    panel.get_by_role("heading", name="alpha").wait_for()
    panel.locator(".graph-chain li").nth(1).wait_for()
    assert "node=training%2Falpha" in shown.page.url
    panel.get_by_role("button", name="Close the panel").click()
    assert not panel.is_visible()


def test_run_and_force_ask_for_runs(shown):
    shown.open("?node=training/alpha")
    page, panel = shown.page, shown.panel
    before = len(shown.runs())
    panel.get_by_role("button", name="Run", exact=True).click()
    page.get_by_text("of training/alpha is refused").first.wait_for()
    panel.get_by_role("button", name="Force…").click()
    page.get_by_role("dialog").get_by_role("button", name="Back").click()
    panel.get_by_role("button", name="Force…").click()
    page.get_by_role("dialog").get_by_role("button", name="Force the run").click()
    page.get_by_text("of training/alpha is pending").first.wait_for()
    made = shown.runs()[: len(shown.runs()) - before]
    assert [one[:2] for one in made] == [("training/alpha", "pending"), ("training/alpha", "refused")]
    links = panel.locator(".graph-runs a")
    links.nth(1).wait_for()
    assert links.first.get_attribute("href").endswith(f"/runs/{shown.runs()[0][2]}")


def test_what_prefect_does_not_run_has_no_run_button(shown):
    shown.open("?node=refresh/calendar")
    assert shown.panel.get_by_text("freshline publish").is_visible()
    assert shown.panel.get_by_role("button", name="Run", exact=True).count() == 0


def test_address_that_names_nothing_that_is_there_shows_all(shown):
    shown.open("?node=refresh/none&state=bogus&kind=none&q=")
    assert len(shown.options()) == 6
    assert not shown.panel.is_visible()
    assert shown.page.url.endswith("/")


def test_graph_that_cannot_be_read_says_so_and_one_without_deployments_says_what_to_do(shown):
    page = shown.page
    problem = {"code": "unavailable", "detail": "the database cannot be reached"}
    page.route("**/api/v1/graph", lambda route: route.fulfill(status=503, json=problem))
    page.goto(f"{shown.url}/")
    page.get_by_text("the database cannot be reached").wait_for()
    page.unroute("**/api/v1/graph")
    empty = {"nodes": [], "edges": [], "generated_at": "2026-01-05T12:00:00Z"}
    page.route("**/api/v1/graph", lambda route: route.fulfill(json=empty))
    page.get_by_role("button", name="Try again").click()
    page.get_by_text("freshline deploy").wait_for()


def test_keys_alone_filter_pick_move_and_let_go(shown):
    shown.open()
    page = shown.page
    page.keyboard.press("/")
    page.keyboard.type("book")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.textContent") == "book"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.className") == "graph-stage"
    page.keyboard.press("Enter")
    page.evaluate("document.querySelector('.graph-stage').focus()")
    page.keyboard.press("Shift+ArrowLeft")
    assert shown.title in {"alpha", "prices"}
    page.keyboard.press("Shift+ArrowRight")
    for key in ("+", "-", "ArrowLeft", "ArrowDown", "0"):
        page.keyboard.press(key)
    page.get_by_role("listbox").focus()
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    assert shown.title == "book"


def test_names_that_would_be_markup_are_text(shown):
    shown.open(f"?{urlencode({'node': f'monitoring/{HOSTILE}'})}")
    assert shown.title == HOSTILE
    shown.panel.get_by_role("button", name="training/alpha").first.click()
    assert shown.panel.locator(".graph-ties").get_by_text(f"monitoring/{HOSTILE}").count() == 1


@pytest.mark.parametrize(("colours", "width"), [("light", 400), ("dark", 1400)])
def test_page_has_no_fault_of_accessibility(shown, colours, width):
    shown.page.emulate_media(color_scheme=colours, reduced_motion="reduce")
    shown.page.set_viewport_size({"width": width, "height": 900})
    shown.open("?node=backtest/book")
    shown.panel.locator(".graph-chain li").first.wait_for()
    found = Axe().run(shown.page).response["violations"]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []


def test_change_in_the_store_is_seen_without_a_reload(shown):
    shown.open("?node=refresh/momentum")
    shown.panel.get_by_role("heading", name="momentum").focus()
    shown.graph.publish("refresh/momentum", "again")
    shown.panel.get_by_text("refresh/momentum is ready").wait_for()
    assert shown.page.evaluate("document.activeElement.textContent") == "momentum", "the keyboard has lost its place"
    assert shown.page.locator(".graph-option[data-key='refresh/momentum'] .shape[data-word=ready]").count() == 1


@pytest.fixture
def stopped(shown: Shown) -> Shown:
    stop_time(shown.page)
    return shown


def test_graph_is_read_once_when_it_is_opened(stopped):
    page, asked = stopped.page, paths_asked(stopped.page)
    page.goto(f"{stopped.url}/")
    page.wait_for_selector(".graph-option", state="attached")
    page.clock.run_for(5_000)
    page.evaluate("async () => { await fetch('/api/v1/session'); }")  # which would be asked for after it
    assert [path for path in asked if path in ("/graph", "/stream", "/session")] == ["/stream", "/graph", "/session"]


def test_what_is_told_while_the_graph_is_read_is_shown(stopped):
    page, held = stopped.page, []
    told = [
        "event: resync\ndata: {}\n\n"
        'event: deployment\ndata: {"key": "refresh/momentum", "freshness": "source_delayed"}\n\n'
    ]
    page.route(
        "**/api/v1/stream",
        lambda route: route.fulfill(content_type="text/event-stream", body=told.pop()) if told else route.abort(),
    )
    page.route("**/api/v1/graph", lambda route: held.append((route, route.fetch())))
    page.goto(f"{stopped.url}/")
    page.locator("#live[data-state=waiting]").wait_for()
    while not held:
        page.wait_for_timeout(20)  # which lets the page's events through
    page.clock.run_for(1_000)
    (route, answer) = held.pop()
    route.fulfill(response=answer)
    page.wait_for_selector(".graph-option", state="attached")
    page.clock.run_for(1_000)
    page.wait_for_selector(
        ".graph-option[data-key='refresh/momentum'] .shape[data-word=source_delayed]", state="attached"
    )


def test_graph_is_shown_where_no_stream_begins(stopped):
    page, held = stopped.page, []
    page.route("**/api/v1/stream", lambda route: held.append(route))  # noqa: PLW0108 - Playwright marks what it is given
    with page.expect_request("**/api/v1/stream"):
        page.goto(f"{stopped.url}/")
    page.clock.run_for(1_000)
    page.wait_for_selector(".graph-option", state="attached")
    held[0].abort()


def large(database: Database) -> Graph:
    """Two thousand in layers; the first source has changed, and most are stale for it."""
    read = layered_graphs.upstreams(2000)
    keys = [f"refresh/node-{at}" for at in range(len(read))]
    graph = Graph(
        database, *(declared(key, [keys[one] for one in above]) for key, above in zip(keys, read, strict=True))
    )
    graph.publish_all(*keys)
    graph.publish(keys[0], "other")
    return graph


@pytest.mark.slow
def test_two_thousand_deployments_are_drawn_listed_and_answer(browser, sqlite_template, tmp_path):
    with serving(tmp_path, sqlite_template, large) as (url, graph), watched(browser, url) as seen:
        shown = Shown(seen.page, url, graph)
        shown.open()
        assert seen.page.locator(".graph-count").inner_text() == "2,000 deployments"
        shown.click("refresh/node-1999")
        shown.panel.wait_for()
        seen.page.get_by_role("listbox").focus()
        seen.page.keyboard.press("End")
        seen.page.keyboard.press("Enter")
        assert shown.title == "node-999"
        seen.page.get_by_role("searchbox").fill("node-19")
        assert len(shown.options()) == 1 + 10 + 100
