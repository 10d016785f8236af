"""The backtest engine: target weights and prices in, daily returns out.

Owns how a decision becomes a position, what it costs and what it earns. Pure functions of panels; knows nothing of
signals, models or runs.

A decision of date t uses the close of t, so it cannot trade at that close: it is traded at the close of the next
trading day and earns from there on. Between decisions the positions drift with prices. What is not invested is cash
without interest; short positions pay no borrowing fee.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..storage.errors import InvalidInput
from .panels import Array, check_panel, dates_of, rows_at, trailing_return, values_of
from .trades import Positions, list_trades

_BPS = 1e-4


@dataclass(frozen=True, slots=True)
class Simulation:
    """What a backtest gives; every table begins on the day of the first trade."""

    daily_returns: pd.DataFrame
    """Index `date`; net, gross (before costs), cost, benchmark: float64 [1 per day]; turnover,
    one-way: half the sum of |traded weight|, first purchase included."""
    equity_curve: pd.DataFrame
    """Index `date`; equity (the day before the first trade is 1), drawdown (0 or less), benchmark: float64 [1]."""
    weights_history: pd.DataFrame
    """A panel: weights at the close of each day, after that day's trades, in shares of the equity."""
    trades: pd.DataFrame
    """One row per position from its opening to its end: see `trades.list_trades`."""


def simulate(weights: pd.DataFrame, prices: pd.DataFrame, *, cost_bps: float = 5.0, delay_d: int = 1) -> Simulation:
    """Trade the target weights over the prices.

    Args:
        weights: one row per decision; index `date`, trading days of `prices`; one column per asset, in shares of
            the equity. An asset without a column is not held; a missing weight is an error.
        prices: n rows; index `date`, one column per asset, float64 [USD]. An asset may have no price while it
            is not held.
        cost_bps: cost of a trade in basis points of the amount traded, bought and sold alike.
        delay_d: trading days between a decision and its trade, at least 1.

    Returns:
        daily tables from the day of the first trade to the last price. Their benchmark is the mean return of all
        assets that have a price on both days (equal weights, rebalanced daily, without costs). Equity that falls
        to zero stays there.

    Raises:
        InvalidInput: a table or a number cannot be used, an asset is held without a price, or no decision has a
            later day to trade on.
    """
    if not (np.isfinite(cost_bps) and cost_bps >= 0):
        raise InvalidInput(f"cost_bps must be 0 or more basis points, not {cost_bps}")
    if delay_d < 1:
        raise InvalidInput(f"delay_d must be at least 1: a decision cannot trade at the close it uses, not {delay_d}")
    prices = check_panel(prices, name="prices", positive=True)
    targets = _targets(check_panel(weights, name="weights"), prices)
    rows = rows_at(dates_of(prices), dates_of(targets), name="prices") + delay_d
    tradable = rows < len(prices)
    rows, targets = rows[tradable], targets[tradable]
    if not len(rows):
        raise InvalidInput(
            f"no decision has a price {delay_d} trading day(s) later to trade at; extend the prices beyond "
            f"{prices.index[-1]:%Y-%m-%d}"
        )
    _check_held_have_prices(values_of(targets), rows, prices)
    first = int(rows[0])
    prices = prices.iloc[first:]
    path = _hold(values_of(prices), values_of(targets), rows - first, cost=cost_bps * _BPS)
    daily = pd.DataFrame(
        {
            "net": (1.0 + path.gross) * (1.0 - path.cost) - 1.0,
            "gross": path.gross,
            "cost": path.cost,
            "turnover": path.traded / 2.0,
            # From the first day's close on, like the equity.
            "benchmark": equal_weight_returns(prices),
        },
        index=prices.index,
    )
    equity = (1.0 + daily["net"]).cumprod()
    # The first day's cost is a drawdown from the 1 before it.
    peak = equity.cummax().clip(lower=1.0)
    return Simulation(
        daily_returns=daily,
        equity_curve=pd.DataFrame(
            {
                "equity": equity,
                "drawdown": equity / peak - 1.0,
                "benchmark": (1.0 + daily["benchmark"]).cumprod(),
            }
        ),
        weights_history=pd.DataFrame(path.after, index=prices.index, columns=prices.columns),
        trades=list_trades(_positions(path, prices, daily, cost=cost_bps * _BPS), prices),
    )


def equal_weight_returns(prices: pd.DataFrame) -> pd.Series:
    """Return the daily mean return of the assets that have a price on both days; 0 where none has."""
    returns = trailing_return(prices, start_d=1)
    listed = np.isfinite(returns)
    mean = np.where(listed, returns, 0.0).sum(axis=1) / np.maximum(listed.sum(axis=1), 1)
    return pd.Series(mean, index=prices.index, name="benchmark")


def drifted(weights: Array, growth: Array) -> Array:
    """Return the weights after each asset has grown by its factor (price now / price at the trade).

    Cash, the part of the equity that is not invested, grows by 1.
    """
    held = weights != 0
    values = np.where(held, weights * np.where(held, growth, 1.0), 0.0)
    equity = 1.0 - weights.sum() + values.sum()
    return values / equity if equity > 0 else np.zeros_like(weights)


@dataclass(slots=True)
class _Path:
    gross: Array
    cost: Array
    traded: Array
    """Sum of |traded weight|, bought and sold, in shares of the equity before costs."""
    before: Array
    after: Array


def _hold(prices: Array, targets: Array, rows: npt.NDArray[np.intp], *, cost: float) -> _Path:
    """Follow the positions from trade to trade; each stretch in between is one array operation."""
    days, assets = prices.shape
    path = _Path(np.zeros(days), np.zeros(days), np.zeros(days), np.zeros((days, assets)), np.zeros((days, assets)))
    for start, stop, target in zip(rows, np.append(rows[1:], days - 1), targets, strict=True):
        path.traded[start] = np.abs(target - path.before[start]).sum()
        path.cost[start] = min(1.0, path.traded[start] * cost)
        path.after[start] = target
        growth = np.where(target != 0, prices[start : stop + 1] / prices[start], 1.0)
        values = target * growth
        equity = 1.0 - target.sum() + values.sum(axis=1)
        ruined = np.flatnonzero(equity <= 0)
        alive = int(ruined[0]) if len(ruined) else len(equity)
        span = slice(start + 1, start + alive)
        path.gross[span] = equity[1:alive] / equity[: alive - 1] - 1.0
        path.before[span] = path.after[span] = values[1:alive] / equity[1:alive, None]
        if alive < len(equity):
            path.gross[start + alive] = -1.0
            break
    return path


def _positions(path: _Path, prices: pd.DataFrame, daily: pd.DataFrame, *, cost: float) -> Positions:
    """Return the daily positions in units of the first equity."""
    equity = np.cumprod(1.0 + daily["net"].to_numpy())[:, None]
    equity_before = np.vstack([[1.0], equity[:-1]])
    previous = np.vstack([np.zeros_like(path.after[:1]), path.after[:-1]])
    returns = np.where(previous != 0, trailing_return(prices, start_d=1), 0.0)
    return Positions(
        before=path.before,
        after=path.after,
        gained=equity_before * previous * returns,
        paid=equity_before * (1.0 + daily["gross"].to_numpy()[:, None]) * cost,
        capital=np.abs(path.after) * equity,
    )


def _targets(weights: pd.DataFrame, prices: pd.DataFrame) -> pd.DataFrame:
    """Return the weights in the column order of the prices, checked against them."""
    if weights.empty:
        raise InvalidInput("there are no weights to trade; the first decision comes after the last price")
    unknown = weights.columns.difference(prices.columns)
    if len(unknown):
        raise InvalidInput(f"prices has no column for {', '.join(map(str, unknown))}, which the weights name")
    missing = np.isnan(values_of(weights))
    if missing.any():
        row, column = (int(at[0]) for at in np.nonzero(missing))
        raise InvalidInput(
            f"the weight of {weights.columns[column]} on {weights.index[row]:%Y-%m-%d} is missing; "
            "write 0 for an asset that is not held"
        )
    return weights.reindex(columns=prices.columns, fill_value=0.0)


def _check_held_have_prices(targets: Array, rows: npt.NDArray[np.intp], prices: pd.DataFrame) -> None:
    missing = np.isnan(values_of(prices))
    if not missing.any():
        return
    days = np.arange(len(prices))
    held = np.zeros_like(missing)
    # What is held into a day is sold at its close at the latest, what is held after it was bought there.
    for side in ("left", "right"):
        trade = np.searchsorted(rows, days, side=side) - 1
        held |= (trade >= 0)[:, None] & (targets[np.maximum(trade, 0)] != 0)
    if (held & missing).any():
        row, column = (int(at[0]) for at in np.nonzero(held & missing))
        raise InvalidInput(
            f"{prices.columns[column]} is held on {prices.index[row]:%Y-%m-%d}, but has no price; "
            "give it weight 0 before its price ends"
        )
