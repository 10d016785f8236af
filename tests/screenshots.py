"""Pictures of the page, as people see it: `make screenshots` writes them into `docs/screenshots`, which git leaves out.

A small research project is run on a Prefect in memory, its store is served, and a browser looks at each view: in light
and dark, wide and narrow.
"""

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import SecretStr

import tests.conftest  # noqa: F401 - Prefect is told to leave the user's profile alone before anything imports it
from freshline import runs
from freshline.runs.api.serving import Serving
from freshline.runs.composition import shared_freshline
from freshline.storage.ids import show_run_id
from tests.browser import chromium
from tests.pages import DOCS
from tests.workshop import Workshop

INTO = DOCS / "screenshots"
SCHEMES = ("light", "dark")
WIDTHS: Mapping[str, dict[str, int]] = {
    "wide": {"width": 1400, "height": 900},
    "narrow": {"width": 390, "height": 844},
}
_TOKEN = "a-token-for-a-store-that-is-thrown-away"
_SETTLED_MS = 1_500
"""What is drawn after the data have come, such as plots."""

FLOWS = """
from datetime import date

import numpy as np
import pandas as pd
from freshline.flows import RunContext, track
from prefect import flow

DAYS = pd.bdate_range("2024-01-02", "2025-12-31")
MADE = np.random.default_rng(7).normal(0.0006, 0.011, (len(DAYS), 8))


@flow
@track.refresh
def prices(run: RunContext):
    table = pd.DataFrame(100 * np.exp(MADE.cumsum(axis=0)), columns=list("ABCDEFGH")).assign(date=DAYS)
    run.write("prices", table[table["date"].dt.date <= (run.data_as_of or date.max)])
    return {"rows_inserted": len(table)}


@flow
@track.refresh
def momentum(run: RunContext, days: int = 60):
    table = run.read("prices").set_index("date")
    run.write("momentum", table.pct_change(days).dropna().reset_index())


@flow
@track.preview
def study(run: RunContext):
    run.write("monthly", run.read("momentum").set_index("date").resample("ME").mean().reset_index())
    return {"rows_computed": 8}


@flow
@track.training
def train(run: RunContext, epochs: int = 60, rate: float = 0.1):
    signal = run.read("momentum")
    for epoch in range(epochs):
        learnt = float(np.exp(-rate * epoch / 2))
        run.log(epoch, loss=0.9 * learnt + 0.1, val_ic=0.06 - 0.05 * learnt)
    run.write("predictions", signal)
    return {"num_features": 8.0}


@flow
@track.inference
def predict(run: RunContext):
    run.read("model")
    run.write("scores", run.read("momentum"))


@flow
@track.monitoring
def watch(run: RunContext):
    run.read("scores")
    raise ValueError("the scores of 3 of 8 assets have drifted by more than 4 standard deviations")


@flow
@track.optimize
def optimize(run: RunContext):
    run.write("weights", run.read("scores").assign(weight=0.125)[["date", "weight"]])
    return {"turnover": 0.31}


@flow
@track.backtest
def backtest(run: RunContext, cost_bps: float = 5.0):
    table = run.read("prices").set_index("date").pct_change().dropna().mean(axis=1) - cost_bps / 1e5
    equity = (1 + table).cumprod()
    curve = pd.DataFrame({"equity": equity, "benchmark": 1 + 0.15 * np.linspace(0, 1, len(equity)),
                          "drawdown": equity / equity.cummax() - 1}).reset_index()
    run.write("equity_curve", curve)
    return {"total_return": float(equity.iloc[-1] - 1), "max_drawdown": float(curve["drawdown"].min()),
            "volatility": float(table.std() * 252**0.5)}
"""
CATALOGUE = """
deployments:
  - name: prices
    entrypoint: flows.py:prices
    work_pool: {name: local}
    resource: {name: prices, kind: dataset, runs: refresh, freshness: {max_age: 1d}}
  - name: momentum
    entrypoint: flows.py:momentum
    work_pool: {name: local}
    resource: {name: momentum, kind: signal, runs: refresh, upstream: {prices: refresh/prices}}
  - name: study
    entrypoint: flows.py:study
    work_pool: {name: local}
    resource: {name: momentum-study, kind: experiment, runs: preview, upstream: {momentum: refresh/momentum}}
  - name: alpha
    entrypoint: flows.py:train
    work_pool: {name: local}
    resource: {name: alpha, kind: model, runs: training, upstream: {momentum: refresh/momentum}}
  - name: alpha
    entrypoint: flows.py:predict
    work_pool: {name: local}
    resource:
      {name: alpha, kind: model, runs: inference, upstream: {momentum: refresh/momentum, model: training/alpha}}
  - name: alpha
    entrypoint: flows.py:watch
    work_pool: {name: local}
    resource: {name: alpha, kind: model, runs: monitoring, upstream: {scores: inference/alpha}}
  - name: book
    entrypoint: flows.py:optimize
    work_pool: {name: local}
    resource: {name: book, kind: optimizer, runs: optimize, upstream: {scores: inference/alpha}}
  - name: book
    entrypoint: flows.py:backtest
    work_pool: {name: local}
    resource:
      {name: book, kind: backtest, runs: backtest, upstream: {prices: refresh/prices, weights: optimize/book}}
"""


def take(into: Path) -> list[Path]:
    """Write a picture of each view in each scheme and width; return where they are."""
    into.mkdir(parents=True, exist_ok=True)
    taken = []
    with served() as (serving, paths), chromium() as browser:
        for width, viewport in WIDTHS.items():
            for scheme in SCHEMES:
                context = browser.new_context(viewport=viewport, color_scheme=scheme, reduced_motion="reduce")
                page = context.new_page()
                page.goto(f"{serving.url}/runs#token={_TOKEN}")
                page.wait_for_selector("main .view")
                for view, path in paths.items():
                    taken.append(into / f"{view}-{scheme}-{width}.png")
                    look(page, serving.url + path, taken[-1])
                context.close()
    return taken


def look(page: Any, url: str, file: Path) -> None:
    """Go there, wait until it is drawn, and take the picture."""
    page.goto(url)
    page.wait_for_selector("main .view")
    page.wait_for_timeout(_SETTLED_MS)
    page.screenshot(path=file)


@contextmanager
def served() -> Iterator[tuple[Serving, dict[str, str]]]:
    """Serve the store of a small research project that has run; with the path of each view."""
    with tempfile.TemporaryDirectory(prefix="freshline-screenshots-") as name:
        directory = Path(name)
        os.environ["FRESHLINE_HOME"] = str(directory / "home")
        os.chdir(directory)
        freshline = shared_freshline()
        workshop = Workshop(freshline, directory)
        workshop.write("flows.py", FLOWS)
        workshop.write("prefect.yaml", CATALOGUE)
        workshop.deploy()
        book, *trainings = research(workshop)
        settings = freshline.settings.model_copy(update={"api_token": SecretStr(_TOKEN)})
        with Serving(replace(freshline, settings=settings), port=0) as serving:
            yield (
                serving,
                {
                    "graph": "/",
                    "runs": "/runs",
                    "run": f"/runs/{book}",
                    "training": f"/runs/{trainings[-1]}",
                    "compare": f"/compare?runs={','.join(trainings)}",
                    "deployment": "/deployments/backtest/book",
                },
            )
        freshline.database.dispose()


def research(workshop: Workshop) -> list[str]:
    """Run the chain, some variants, a refusal and a failure; then let new prices arrive.

    Return a backtest and trainings that are to be seen.
    """
    until = {"data_as_of": date(2025, 11, 28), "actor": "anna"}
    with workshop.worker():
        runs.submit("backtest/book", actor="anna")
        book = runs.wait(runs.submit("backtest/book", on_stale="refresh", tags=["monthly"], **until).id)
        for key in ("preview/momentum-study", "monitoring/alpha"):
            runs.wait(runs.submit(key, **until).id)
        for cost_bps in (2.0, 10.0, 20.0):
            runs.wait(runs.submit("backtest/book", {"cost_bps": cost_bps}, tags=["costs"], **until).id)
        trainings = [runs.wait(runs.submit("training/alpha", {"rate": rate}, actor="ben").id) for rate in (0.05, 0.2)]
        runs.wait(runs.submit("refresh/prices", data_as_of=date(2025, 12, 31), actor="schedule").id)
    return [show_run_id(run.id) for run in (book, *trainings)]


if __name__ == "__main__":
    for picture in take(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else INTO):
        print(picture)
