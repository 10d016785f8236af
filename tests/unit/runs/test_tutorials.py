"""The tutorials run: what a reader types is typed, and what a page shows comes out."""

import os
from datetime import date

import pytest

from freshline import runs
from freshline.deployments.activation import without_prefect
from freshline.lineage import interface
from freshline.runs import composition
from freshline.runs.composition import shared_freshline
from tests.workshop import Workshop

SMALL_CHAIN = {
    "flows.py": """
import pandas as pd
from freshline.flows import RunContext, track
from prefect import flow

DAYS = pd.date_range("2026-01-05", periods=4)


@flow
@track.refresh
def prices(run: RunContext):
    table = pd.DataFrame({"date": DAYS, "close": [101.0, 102.0, 103.0, 104.0]})
    run.write("prices", table[table["date"].dt.date <= run.data_as_of])


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


@pytest.fixture
def workshop(tmp_path, monkeypatch):
    """An empty directory and an empty store, which the environment names."""
    for name in os.environ.keys() - without_prefect(os.environ).keys():
        monkeypatch.delenv(name)
    monkeypatch.setenv("FRESHLINE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    yield Workshop(shared_freshline(), tmp_path)
    for opened in (interface._opened, composition._opened):
        for url in [url for url in opened if str(tmp_path) in url]:
            found = opened.pop(url)
            getattr(found, "database", found).dispose()


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
