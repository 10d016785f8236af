"""The flow that chooses portfolio weights: the deployment's `optimizer`, on the tables of its upstreams."""

from collections.abc import Iterable
from dataclasses import asdict

import pandas as pd
from prefect import flow

from ..runs.metrics import OptimizationMetrics, optimization_metrics
from .context import RunContext
from .inputs import read_roles
from .portfolio import Book, Mandate
from .tracking import track


@flow(name="optimize")
@track.optimize
def optimize(
    run: RunContext,
    *,
    horizon_d: int = 21,
    lookback_d: int = 504,
    max_weight: float = 0.15,
    risk_aversion: float = 2.5,
    cost_bps: float = 5.0,
    max_iterations: int = 200,
) -> OptimizationMetrics:
    """Choose weights for every date that has predictions: expected return, less risk and trading costs.

    Calls `optimizer(**tables by role, mandate=..., progress=...)`, which returns a `portfolio.Book`. Publishes the
    table `weights`, leaves `solver` (status, turnover, constraints by date) with the run. The metrics are those of the
    last date.

    Args:
        horizon_d: what the predictions predict: the return of this many trading days.
        lookback_d: trailing daily returns that the covariance is estimated on.
        max_weight: largest weight of an asset; the smallest is 0, and the weights add up to 1.
        risk_aversion: weight of the daily variance against the daily expected return.
        cost_bps: cost of a trade in basis points of the amount, spread over the horizon.
        max_iterations: after this many iterations without a solution the solver has failed.
    """
    mandate = Mandate(
        horizon_d=horizon_d,
        lookback_d=lookback_d,
        max_weight=max_weight,
        risk_aversion=risk_aversion,
        cost_bps=cost_bps,
        max_iterations=max_iterations,
    )
    tables = read_roles(run)

    def shown(dates: Iterable[pd.Timestamp]) -> Iterable[pd.Timestamp]:
        return run.progress(dates, label="rebalance dates")

    book: Book = run.callable("optimizer")(**tables, mandate=mandate, progress=shown)
    run.write("weights", book.weights)
    run.write("solver", book.record, publish=False)
    run.describe(constraints={"long_only": True, "budget": 1.0, **asdict(mandate)})
    kept = int(book.record["kept"].sum())
    if kept:
        run.logger.warning("the solver failed on %d of %d dates: see the table `solver`", kept, len(book.record))
    run.log(dates_without_solution=float(kept), mean_turnover=float(book.record["turnover"].mean()))
    last = book.record.iloc[-1]
    return optimization_metrics(
        book.weights.iloc[-1],
        expected_returns=book.expected,
        covariance=None if last["kept"] else book.covariance,
        previous_weights=book.before,
        solver_status=str(last["status"]),
        iterations=int(last["iterations"]),
        active_constraints=int(last["active_constraints"]),
    )
