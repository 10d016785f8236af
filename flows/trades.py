"""Trades: positions from their opening to their end, with what they earned.

Owns what counts as one trade. Knows neither decisions nor models nor runs.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from .panels import Array


@dataclass(frozen=True, slots=True)
class Positions:
    """Daily positions of k assets over n days, row by row; every array is n x k."""

    before: Array
    """Weights at each close before that day's trades, in shares of the equity."""
    after: Array
    """Weights after them, in shares of the equity after costs."""
    gained: Array
    """What each position earned since the close before, in units of the first equity."""
    paid: Array
    """Cost of trading one whole equity at each close (the same for every asset), in units of the first equity."""
    capital: Array
    """What is invested at each close after the trades, without its sign, in units of the first equity."""


def list_trades(positions: Positions, prices: pd.DataFrame) -> pd.DataFrame:
    """Return the trades: an asset that is held without a break and with one sign is one trade.

    Rebalancing a position up or down does not end it; a change of sign ends one trade and opens another.

    Args:
        positions: n days, k assets.
        prices: the same n days in its index, the same k assets in its columns, float64 [USD].

    Returns:
        one row per trade, by entry date, then asset; columns asset: string; side: string, long or short;
        entry_date, exit_date: datetime64, NaT while the position is open; entry_price, exit_price: float64 [USD],
        the last price while it is open; holding_period_d: int64, trading days from entry to exit, or to the last
        day; pnl: float64, after costs, in units of the first equity; return: float64 [1], pnl over the mean
        capital invested, NaN while it is open.
    """
    side = np.sign(positions.after)
    previous = np.vstack([np.zeros_like(side[:1]), side[:-1]])
    opened = (side != 0) & (side != previous)
    closed = (previous != 0) & (side != previous)
    assets, entries = np.nonzero(opened.T)
    ends = _ends(opened, closed)
    is_open = ends == len(side)
    last = np.where(is_open, len(side) - 1, ends)

    opening = np.where(opened, np.abs(positions.after), 0.0) * positions.paid
    resized = np.where(closed, np.abs(positions.before), np.abs(positions.after - positions.before))
    later = np.where(previous != 0, resized, 0.0) * positions.paid
    earned = np.cumsum(positions.gained - later, axis=0)
    invested = np.cumsum(positions.capital, axis=0) - positions.capital  # up to the close before
    pnl = earned[last, assets] - earned[entries, assets] - opening[entries, assets]
    days = last - entries
    mean_capital = np.where(
        days > 0,
        (invested[last, assets] - invested[entries, assets]) / np.maximum(days, 1),
        positions.capital[entries, assets],
    )
    numbers = prices.to_numpy()
    exit_dates = prices.index[last].to_numpy().copy()
    exit_dates[is_open] = np.datetime64("NaT")
    table = pd.DataFrame(
        {
            "asset": pd.array(prices.columns.to_numpy(dtype=object)[assets], dtype="str"),
            "side": pd.array(np.where(side[entries, assets] > 0, "long", "short"), dtype="str"),
            "entry_date": prices.index[entries],
            "exit_date": exit_dates,
            "entry_price": numbers[entries, assets],
            "exit_price": numbers[last, assets],
            "holding_period_d": days.astype("int64"),
            "pnl": pnl,
            "return": pnl / np.where(~is_open & (mean_capital > 0), mean_capital, np.nan),
        }
    )
    return table.sort_values(["entry_date", "asset"], kind="stable", ignore_index=True)


def _ends(opened: npt.NDArray[np.bool_], closed: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Return, for each opening by asset and day, the day on which that position ends; n for one that is open."""
    days = len(opened)
    # Days counted on through all assets, so that one search finds the first closing after each opening.
    openings = np.flatnonzero(opened.T)
    closings = np.append(np.flatnonzero(closed.T), opened.size)
    found: npt.NDArray[np.intp] = closings[np.searchsorted(closings, openings, side="right")]
    limit = (openings // days + 1) * days
    within_asset: npt.NDArray[np.intp] = np.minimum(found, limit) - (openings // days) * days
    return within_asset
