"""The flow that simulates trading: the deployment's `strategy`, or the weights of an optimizer, over past prices."""

import pandas as pd
from prefect import flow

from ..runs.metrics import BacktestMetrics, Convention, backtest_metrics
from ..storage.errors import InvalidInput, NotFound
from .context import RunContext
from .engine import simulate
from .inputs import read_roles
from .tracking import track


@flow(name="backtest")
@track.backtest
def backtest(
    run: RunContext, *, cost_bps: float = 5.0, delay_d: int = 1, risk_free_rate: float = 0.0
) -> BacktestMetrics:
    """Simulate trading target weights, daily and with costs.

    The weights are those that `strategy(**tables by role)` returns, or without a strategy the table of the role
    `weights`. They are traded at the close of a later day over the table of the role `prices`, and drift in between.
    The benchmark holds all assets in equal weights. Publishes `daily_returns`, `equity_curve`, `weights_history` and
    `trades`.

    The shipped prices are those of survivors: a Sharpe ratio on them is higher than anybody could have had.

    Args:
        cost_bps: cost of a trade in basis points of the amount, bought and sold alike.
        delay_d: trading days between a decision and its trade, at least 1.
        risk_free_rate: risk-free rate per year, compounded, for the ratios.
    """
    tables = read_roles(run)
    if "prices" not in tables:
        raise InvalidInput(f"{run.deployment} reads no prices: declare an upstream in the role `prices`")
    weights = _weights(run, tables)
    run.logger.info("simulating %d decisions over %d days", len(weights), len(tables["prices"]))
    found = simulate(weights, tables["prices"], cost_bps=cost_bps, delay_d=delay_d)
    run.write("daily_returns", found.daily_returns)
    run.write("equity_curve", found.equity_curve)
    run.write("weights_history", found.weights_history)
    run.write("trades", found.trades, data_date=None)
    return backtest_metrics(
        found.daily_returns["net"],
        benchmark=found.daily_returns["benchmark"],
        trades=found.trades,
        # The first day's is the first purchase.
        turnover=found.daily_returns["turnover"],
        convention=Convention(risk_free_rate=risk_free_rate),
    )


def _weights(run: RunContext, tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    try:
        strategy = run.callable("strategy")
    except NotFound:
        if "weights" not in tables:
            raise InvalidInput(
                f"{run.deployment} has no weights: declare a `strategy`, or an upstream in the role `weights`"
            ) from None
        return tables["weights"]
    weights: pd.DataFrame = strategy(**tables)
    return weights
