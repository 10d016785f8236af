"""A small store whose names would be markup anywhere, served over HTTP, and a browser that watches its page."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from shutil import copy
from typing import Any

import pandas as pd
import pytest
from playwright.sync_api import expect

from freshline.runs.api.serving import Serving
from freshline.runs.author_events import AuthorEvent
from freshline.runs.composition import Freshline
from freshline.runs.models import Run
from freshline.runs.result import Read, Result
from freshline.storage.artifacts import ArtifactRecord
from freshline.storage.files import save_file
from freshline.storage.ids import show_run_id
from freshline.storage.parquet import write_table
from freshline.storage.settings import Settings
from tests.asking import TOKEN
from tests.factories import declared
from tests.unit.runs.conftest import World, make_world
from tests.unit.runs.test_point_sending import Attempt

HOSTILE = "\"><img src=x onerror=alert(1)><svg onload=alert(2)>'{{7*7}}"
"""Markup, wherever a name becomes some."""
HOSTILE_KEY = f"refresh/{HOSTILE}"
LONG = "a-name-without-an-end-" * 11
WITHIN_MS = 60_000
expect.set_options(timeout=WITHIN_MS)
DAYS = 1200
"""More than the page is given rows of: it draws every third."""


@dataclass
class Served:
    """The store, its server, and its runs by what became of them."""

    world: World
    serving: Serving
    runs: dict[str, Run]
    attempt: Attempt

    @property
    def url(self) -> str:
        return self.serving.url

    def path(self, name: str) -> str:
        return f"/runs/{show_run_id(self.runs[name].id)}"


@dataclass
class Watched:
    """A page, and all that it should not do."""

    page: Any
    url: str
    faults: list[str] = field(default_factory=list)

    def go(self, path: str) -> None:
        self.page.goto(self.url + path)

    def attach(self) -> None:
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: (self.faults.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.on("request", self._request)

    def _console(self, message: Any) -> None:
        # A refused request is told to the console too; the tests that refuse one look at the page.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.faults.append(f"console: {message.text}")

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self.url, "data:")):
            self.faults.append(f"request: {request.url}")


def stop_time(page: Any) -> None:
    """Let nothing happen on a page by itself: time passes when the test says so."""
    page.clock.install(time=0)
    page.clock.pause_at(1_000)


def paths_asked(page: Any) -> list[str]:
    """Return the paths of the API that the page asks for, which grows while it does; without what follows a `?`."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.partition("/api/v1")[2].partition("?")[0]))
    return asked


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("page")
    copy(sqlite_template, directory / "freshline.db")
    world = make_world(f"sqlite:///{directory / 'freshline.db'}")
    facts = world.gateway.add_deployment("flow/hostile")
    hostile = replace(declared(HOSTILE_KEY), prefect_deployment_id=facts.id)
    world.graph.register(*world.graph.declared.values(), hostile)
    runs, attempt = fill(world, directory)
    settings = Settings(home=directory, api_token=TOKEN)
    with Serving(Freshline(settings, world.database, world.objects), port=0) as serving:
        yield Served(world, serving, runs, attempt)
    world.database.dispose()


def fill(world: World, directory: Path) -> tuple[dict[str, Run], Attempt]:
    """Runs of several statuses, whose names are markup wherever somebody may choose them."""
    world.run_through("refresh/calendar")
    world.run_through("refresh/prices")
    world.run_through("refresh/momentum")
    runs = {"completed": _backtest(world)}
    failed = world.service.submit(
        HOSTILE_KEY, tags=[HOSTILE], metadata={HOSTILE: HOSTILE, LONG: LONG}, actor=HOSTILE, idempotency_key=HOSTILE
    )
    claim = world.start(failed)
    world.port.record(claim.run.id, claim.run.fence, [AuthorEvent(name=HOSTILE, data={HOSTILE: [HOSTILE]})])
    world.port.fail(claim.run.id, claim.run.fence, ValueError(HOSTILE), f"Traceback\n{HOSTILE}", will_retry=False)
    runs["failed"] = failed
    attempt = Attempt(world, directory)
    runs["running"] = attempt.run
    log(attempt, 3.0, 2.5, 2.0)
    runs["pending"] = world.service.submit("refresh/calendar")
    return {name: world.service.get(run.id) for name, run in runs.items()}, attempt


def log(attempt: Attempt, *values: float) -> None:
    """Let the run that lives log values and send them."""
    attempt.log(*values)
    attempt.sender.spool()
    attempt.sender.send()


def _backtest(world: World) -> Run:
    run = world.service.submit("backtest/book")
    claim = world.start(run)
    days = pd.date_range("2025-01-01", periods=DAYS, tz=None)
    growth = [1.0 + place / 100 for place in range(DAYS)]
    curve = pd.DataFrame({"date": days, "equity": growth, "drawdown": 0.0, "benchmark": 1.0, HOSTILE: HOSTILE})
    report = save_file(world.objects, b"<script>alert(3)</script>", media_type="text/html")
    artifacts = [
        ArtifactRecord.of_table("equity_curve", write_table(world.objects, curve)),
        ArtifactRecord.of_file(HOSTILE, report, publish=False),
    ]
    pins = world.port.pins(run.id)
    reads = [Read(role, pin.upstream_id, pin.version_id) for role, pin in pins.items()]
    metrics = {"sharpe_ratio": 1.25, "max_drawdown": -0.2, HOSTILE: float("nan")}
    conventions = {"max_drawdown": {"unit": "fraction"}, "sharpe_ratio": {"unit": HOSTILE}}
    result = Result(artifacts=artifacts, reads=reads, metrics=metrics, conventions=conventions)
    world.port.complete(run.id, claim.run.fence, result)
    world.gateway.end(claim.run.flow_run_id)
    return run


@pytest.fixture(scope="module")
def session(browser: Any, served: Served) -> Any:
    """What a browser keeps that has signed in."""
    with watched(browser, served.url) as made:
        made.go(f"/runs#token={TOKEN}")
        made.page.wait_for_selector("table.runs tbody tr[data-id]")
        return made.page.context.storage_state()


@contextmanager
def watched(browser: Any, url: str, **options: Any) -> Iterator[Watched]:
    """A page of a browser that knows nothing yet; at its end it must have done nothing that it should not."""
    context = browser.new_context(**{"viewport": {"width": 1400, "height": 900}, **options})
    try:
        made = Watched(context.new_page(), url)
        made.page.set_default_timeout(WITHIN_MS)
        made.attach()
        yield made
        assert made.faults == []
    finally:
        context.close()


@pytest.fixture
def view(browser: Any, served: Served, session: Any) -> Iterator[Watched]:
    """A page that is signed in, and not anywhere yet."""
    with watched(browser, served.url, storage_state=session) as made:
        yield made


@pytest.fixture
def listed(view: Watched) -> Watched:
    """A page that is signed in, at the list of runs."""
    view.go("/runs")
    return view
