"""What a table of trades and a table of weights say. Pure functions; must not know how trades came about."""

from typing import Any

import numpy as np
import pandas as pd

from ...storage.errors import InvalidInput
from .moments import Array, numbers
from .scores import mean_of_present, ratio

NAN = float("nan")


def describe_trades(trades: pd.DataFrame, days: pd.Index) -> dict[str, float | int]:
    """Return num_trades, win_rate, profit_factor, avg_trade_return and, with both dates, avg_holding_period_d.

    `days` are the rows in which holding periods are counted; a date between two of them counts as the earlier one.

    Raises:
        InvalidInput: the table has no column `return`, or holds an infinite one.
    """
    if "return" not in trades.columns:
        raise InvalidInput(
            f"the trades have no column 'return' (a fraction per trade); they have {list(trades.columns)}"
        )
    gains = numbers(trades["return"], "the trades' returns")
    if np.isinf(gains).any():
        raise InvalidInput(
            f"{int(np.isinf(gains).sum())} trades have an infinite return: an entry price of 0? Leave them out"
        )
    closed = ~np.isnan(gains)
    money = numbers(trades["pnl"], "the trades' pnl")[closed] if "pnl" in trades.columns else gains[closed]
    found: dict[str, float | int] = {
        "num_trades": len(trades),
        "win_rate": ratio(int((gains[closed] > 0.0).sum()), int(closed.sum())),
        "profit_factor": _profit_factor(money),
        "avg_trade_return": mean_of_present(gains),
    }
    if {"entry_date", "exit_date"} <= set(trades.columns):
        held = _position(trades["exit_date"], days) - _position(trades["entry_date"], days)
        found["avg_holding_period_d"] = mean_of_present(held[closed])
    return found


def turnover_of_weights(weights: pd.DataFrame) -> pd.Series:
    """Return the one-way turnover of each rebalance, Σ |w − previous w| / 2; nothing is held before the first.

    A missing weight is 0: the asset is not held.

    Raises:
        InvalidInput: a weight is no number or infinite; the dates are not ascending.
    """
    if not isinstance(weights, pd.DataFrame):
        raise InvalidInput(f"the weights must be a table of rebalance dates x assets, not {type(weights).__name__}")
    if not (weights.index.is_monotonic_increasing and weights.index.is_unique):
        raise InvalidInput("the weights must have one row per rebalance date, ascending, and one column per asset")
    table = np.nan_to_num(numbers(weights, "the weights"), nan=0.0, posinf=np.inf, neginf=-np.inf)
    if np.isinf(table).any():
        raise InvalidInput("the weights hold infinite values: give each asset a finite weight")
    return pd.Series(np.abs(np.diff(table, axis=0, prepend=0.0)).sum(axis=1) / 2.0, index=weights.index)


def turnover_per_year(turnover: Any, rows: int, periods_per_year: float) -> float:
    """Return the sum of `turnover` over the years that `rows` periods are; NaN without any row.

    Raises:
        InvalidInput: a turnover is missing, infinite or negative.
    """
    traded = numbers(turnover, "the turnover").ravel()
    if not np.isfinite(traded).all() or (traded < 0.0).any():
        raise InvalidInput(
            "the turnover holds missing, infinite or negative values: give the fraction that was traded, 0 for none"
        )
    return ratio(float(traded.sum()) * periods_per_year, rows)


def _profit_factor(money: Array) -> float:
    won, lost = float(money[money > 0.0].sum()), float(-money[money < 0.0].sum())
    if lost == 0.0:
        return float("inf") if won > 0.0 else NAN
    return won / lost


def _position(dates: pd.Series, days: pd.Index) -> Array:
    """Return the row of each date among `days`, NaN for a missing date."""
    if not len(days) or not len(dates):
        return np.full(len(dates), np.nan)
    if isinstance(days, pd.DatetimeIndex):
        try:
            labels = pd.DatetimeIndex(pd.to_datetime(dates))
            found = days.searchsorted(labels, side="right") - 1
        except (TypeError, ValueError) as error:
            raise InvalidInput(
                f"the trades' dates cannot be placed among the returns' dates: {error}. "
                f"Use the same time zone, or none, on both"
            ) from None
        missing = np.asarray(labels.isna())
    else:
        missing = np.asarray(dates.isna())
        found = days.searchsorted(dates.where(~dates.isna(), days[0]), side="right") - 1
    return np.where(missing, np.nan, found.astype(np.float64))
