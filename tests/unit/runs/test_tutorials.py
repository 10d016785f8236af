"""The tutorials run: what a reader types is typed, and what a page shows comes out."""

import re
from contextlib import contextmanager
from datetime import date

import prefect
import pytest

from freshline import runs
from freshline.deployments import connection
from freshline.flows.signature import ADDED
from freshline.lineage import interface
from freshline.runs import composition
from freshline.runs.api.access import Access
from freshline.runs.api.app import create_app
from freshline.runs.composition import shared_freshline
from tests.asking import TOKEN, Asking
from tests.contracts.s3_servers import rclone_server
from tests.pages import FENCE, read
from tests.workshop import Workshop, check_output

SMALL_CHAIN = {
    "flows.py": """
from datetime import date

import pandas as pd
from freshline.flows import RunContext, track
from prefect import flow

DAYS = pd.date_range("2026-01-05", periods=4)


@flow
@track.refresh
def prices(run: RunContext):
    table = pd.DataFrame({"date": DAYS, "close": [101.0, 102.0, 103.0, 104.0]})
    run.write("prices", table[table["date"].dt.date <= (run.data_as_of or date.max)])


@flow
@track.refresh
def momentum(run: RunContext):
    prices = run.read("prices")
    run.write("momentum", prices.assign(momentum=prices["close"].diff()))


@flow
@track.backtest
def book(run: RunContext, cost_bps: float = 5):
    prices = run.read("prices")
    returns = prices.assign(daily_return=0.01)[["date", "daily_return"]]
    run.read("momentum")
    run.write("daily_returns", returns)
    return {"sharpe_ratio": 1.75 - cost_bps / 20, "total_return": len(returns) / 100}
""",
    "prefect.yaml": """
deployments:
  - name: prices
    entrypoint: flows.py:prices
    work_pool: {name: local}
    resource: {name: prices, kind: dataset, runs: refresh}
  - name: momentum
    entrypoint: flows.py:momentum
    work_pool: {name: local}
    resource: {name: momentum, kind: signal, runs: refresh, upstream: {prices: refresh/prices}}
  - name: book
    entrypoint: flows.py:book
    work_pool: {name: local}
    resource:
      {name: book, kind: backtest, runs: backtest, upstream: {prices: refresh/prices, momentum: refresh/momentum}}
""",
}


@contextmanager
def opened_workshop(directory, monkeypatch):
    """An empty directory and the store that the environment names; a file in it, if it names none."""
    monkeypatch.setenv("FRESHLINE_HOME", str(directory / "home"))
    monkeypatch.chdir(directory)
    before = [set(opened) for opened in (interface._opened, composition._opened)]
    yield Workshop(shared_freshline(), directory)
    for opened, known in zip((interface._opened, composition._opened), before, strict=True):
        for url in opened.keys() - known:
            found = opened.pop(url)
            getattr(found, "database", found).dispose()


@pytest.fixture
def workshop(tmp_path, monkeypatch):
    with opened_workshop(tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture
def small_chain(workshop):
    """Prices, a signal and a backtest, each run twice: with three days of prices, and with a fourth."""
    for name, text in SMALL_CHAIN.items():
        workshop.write(name, text)
    workshop.deploy()
    with workshop.worker():
        for day, cost_bps in (("2026-01-07", 5), ("2026-01-08", 10)):
            given = {"backtest/book": {"cost_bps": cost_bps}}
            for key in ("refresh/prices", "refresh/momentum", "backtest/book"):
                run = runs.submit(key, given.get(key), data_as_of=date.fromisoformat(day), actor="reader")
                assert runs.wait(run.id).status == "completed"
    return workshop


def test_tutorial_of_scheduled_refreshes_does_what_it_says(workshop):
    workshop.follow("tutorials/scheduled-refreshes.md")


def test_tutorial_in_a_notebook_does_what_it_says(small_chain):
    small_chain.follow("tutorials/in-a-notebook.md")


def test_tutorial_of_the_prefect_page_shows_what_prefect_is_told(workshop):
    page = read("tutorials/press-run.md")
    shown = {found[2]: found[3] for found in FENCE.finditer(page) if found[1] == "text"}
    for name, text in SMALL_CHAIN.items():
        workshop.write(name, text)
    workshop.deploy()
    said = {}
    with workshop.worker():
        refused = workshop.click("refresh/momentum")
        said["refused"] = workshop.state_when(refused, "Refused")
        said["gate"] = workshop.artifact(refused, "freshline-gate-refresh-momentum")
        waiting = workshop.click("refresh/momentum", on_stale="refresh")
        said["suspended"] = workshop.state_when(waiting, "Suspended")
        said["completed"] = workshop.state_when(waiting, "Completed")
        said["skipped"] = workshop.state_when(workshop.click("refresh/momentum", if_ready="skip"), "Skipped")
        book = workshop.click("backtest/book", on_stale="refresh")
        kinds = {*re.findall(r"^\| `freshline-(\w+)-…`", page, re.MULTILINE), "gate"}
        for kind in kinds:
            assert workshop.artifact(book, f"freshline-{kind}-backtest-book")
    left = {one.key for one in workshop.gateway.read_artifacts([book], prefix="freshline-")}
    assert left == {f"freshline-{kind}-backtest-book" for kind in kinds}
    assert shown.keys() == said.keys()
    for name, text in shown.items():
        check_output(text, said[name])


def test_tutorial_of_the_prefect_page_has_the_fields_of_the_form():
    table = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", read("tutorials/press-run.md"), re.MULTILINE))
    assert table == {name: said for name, (_, _, said) in ADDED.items()}


@pytest.fixture
def platform(tmp_path, monkeypatch, postgres_pool):
    """A workshop on Postgres and a real S3 server; of Prefect, the version that it says."""
    url = postgres_pool.take()
    with rclone_server() as s3:
        for name, value in s3.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("FRESHLINE_DATABASE_URL", url)
        monkeypatch.setenv("FRESHLINE_ARTIFACTS_URL", f"{s3.url}/freshline")
        monkeypatch.setenv("FRESHLINE_S3_ENDPOINT_URL", s3.endpoint_url)
        monkeypatch.setenv("FRESHLINE_S3_ACCESS_KEY_ID", s3.access_key)
        monkeypatch.setenv("FRESHLINE_S3_SECRET_ACCESS_KEY", s3.secret_key)
        monkeypatch.setattr(connection, "ask", lambda path, api_url=None: prefect.__version__)
        with opened_workshop(tmp_path, monkeypatch) as workshop:
            for name, text in SMALL_CHAIN.items():
                workshop.write(name, text)
            yield workshop
    postgres_pool.give_back(url)


def test_tutorial_of_the_platform_does_what_it_says(platform):
    page = "tutorials/run-the-platform.md"
    platform.follow(page)
    with Asking(create_app(platform.freshline, access=Access(token=TOKEN))) as asking:
        numbers = asking.request("GET", "//metrics").text
        assert set(asking.request("GET", "//health").json()["checks"]) >= {"database", "object_store", "reconciler"}
    named = set(re.findall(r"`(freshline_\w+)", read(page)))
    assert named
    assert {name for name in named if f"# TYPE {name} " not in numbers} <= {"freshline_reconciler_age_seconds"}
