"""The page's graph with 2,000 deployments, from the request to its use, in a real browser; the store is on Postgres.

Usable: every deployment is drawn and listed, and a click on one is answered with the panel about it. A source has
changed: of nearly all others the page says why they are stale. The floor is a client that only asks for the same graph.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from time import perf_counter
from typing import Any

import httpx

from freshline.lineage.models import Freshness
from freshline.runs.api.serving import Serving
from freshline.runs.composition import Freshline
from freshline.storage.filesystem import ObjectStore
from freshline.storage.settings import Settings

from .comparisons import Comparison, Kind
from .harness import FLOOR, OURS, Setting, Subject, Subjects, Work
from .propagation import build
from .servers import durable_postgres

DEPLOYMENTS = 2_000
USABLE_S = 2.0
_TOKEN = "only-for-this-benchmark"

# Each waits in the page itself: its policy lets nobody evaluate text there.
_DRAWN = """async () => {
    while (!performance.getEntriesByName("graph-drawn").length) await new Promise(requestAnimationFrame);
}"""
_ANSWERED_S = """async (name) => {
    while (document.querySelector(".graph-panel h2")?.textContent !== name) await new Promise(requestAnimationFrame);
    return performance.now() / 1000;
}"""
_COUNTED = "document.querySelector('.graph-count').textContent"
_FIRST_PLACE = """async () => {
    const { fitting } = await import("/assets/scripts/graph_moves.js");
    const { extent, onScreen } = await import("/assets/scripts/graph_places.js");
    const { nodes } = await (await fetch("/api/v1/graph")).json();
    const box = document.querySelector(".graph-stage").getBoundingClientRect();
    const [x, y] = onScreen(nodes[0], fitting(extent(nodes), box.width, box.height));
    return { x: x + box.x, y: y + box.y, name: nodes[0].key.split("/")[1] };
}"""


class Browsing:
    """Opens the graph again and again, each time in a browser profile that has seen nothing."""

    def __init__(self, browser: Any, url: str, deployments: int) -> None:
        self._browser, self._url = browser, url
        self._counted = f"{deployments:,} deployments"
        self._place: dict[str, Any] | None = None

    def open(self) -> float:
        """Return the seconds from the request until a click is answered."""
        context = self._browser.new_context(viewport={"width": 1400, "height": 900})
        try:
            page = context.new_page()
            page.goto(self._url, wait_until="commit")
            page.evaluate(_DRAWN)
            if self._place is None:  # where nodes stand is always the same, and asking is not what is measured
                self._place = page.evaluate(_FIRST_PLACE)
            page.mouse.click(self._place["x"], self._place["y"])
            elapsed_s: float = page.evaluate(_ANSWERED_S, self._place["name"])
            assert page.evaluate(_COUNTED) == self._counted, "the page does not list every deployment"
            return elapsed_s
        finally:
            context.close()


@contextmanager
def prepare(deployments: int, setting: Setting) -> Iterator[Subjects]:
    """Start the servers and the browser, and make nearly everything stale."""
    from playwright.sync_api import sync_playwright

    executable = shutil.which("chromium") or shutil.which("google-chrome")
    assert executable is not None, "no Chromium is installed: `make system` installs one"
    with ExitStack() as exits:
        server = exits.enter_context(durable_postgres())
        made = build(server, "graph", deployments)
        exits.callback(made.database.dispose)
        made.publish()
        settings = Settings(home=setting.directory, api_token=_TOKEN)
        freshline = Freshline(settings, made.database, ObjectStore("memory://page-graph"))
        url = exits.enter_context(Serving(freshline, port=0)).url
        client = exits.enter_context(httpx.Client(base_url=url, timeout=60.0, trust_env=False))
        ask = partial(asked, client, deployments)
        ask()
        playwright = exits.enter_context(sync_playwright())
        browser = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--disable-gpu", "--no-first-run"]
        )
        exits.callback(browser.close)
        yield {
            OURS: Subject(
                f"the page in Chromium: {deployments:,} deployments drawn and listed, a click answered",
                Browsing(browser, url, deployments).open,
                durability=None,
            ),
            FLOOR: Subject("httpx: the same graph as JSON, and nothing done with it", timed(ask), durability=None),
        }


def asked(client: httpx.Client, deployments: int) -> None:
    """Ask for the graph, and see that it is the one that the page is to draw."""
    nodes = client.get("/api/v1/graph").raise_for_status().json()["nodes"]
    assert len(nodes) == deployments
    stale = sum(node["freshness"] == Freshness.STALE for node in nodes)
    assert stale > deployments / 2, "too few are stale: the graph is easier than it is said to be"


def timed(work: Callable[[], None]) -> Callable[[], float]:
    """Return a function that returns the seconds that the work takes."""

    def measure() -> float:
        began = perf_counter()
        work()
        return perf_counter() - began

    return measure


def work(deployments: int = DEPLOYMENTS) -> Work:
    """Return the work for a graph of so many deployments."""
    return Work(
        name="page_graph",
        what=f"the page's graph with {deployments:,} deployments, from the request until it is usable",
        unit="s",
        higher_is_better=False,
        prepare=partial(prepare, deployments),
        comparisons=(Comparison(Kind.VALUE, OURS, target=USABLE_S), Comparison(Kind.RATIO, OURS, FLOOR)),
        turns=3,
    )


WORK = work()
