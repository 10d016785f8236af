"""The study of a signal: how its values are distributed, and how well they rank what follows.

A pure function of panels; knows nothing of runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..runs.metrics.scores import row_ic
from ..storage.errors import InvalidInput
from .panels import DATE, Array, check_panel, dates_of, rows_at, values_of

HORIZONS_D = (1, 5, 21, 63)
"""Horizons of the rank IC, in trading days."""

_PREVIEW_DATES = 5


@dataclass(frozen=True, slots=True)
class Study:
    """What a study finds."""

    values: pd.DataFrame
    """The signal itself: what the distribution is described of."""
    rank_ic: pd.DataFrame
    """One row per horizon: horizon_d, dates, mean_ic, std_ic, ic_ir, t_stat, hit_rate."""
    quantile_returns: pd.DataFrame
    """One row per horizon and fifth of the assets (1 has the lowest signal): horizon_d, quantile, mean_return,
    the mean over the dates of the return above that of all assets."""
    preview: pd.DataFrame
    """The last dates, long: date, asset, signal, rank (1 has the highest signal)."""


def momentum_study(momentum: pd.DataFrame, prices: pd.DataFrame, *, horizons_d: Sequence[int] = HORIZONS_D) -> Study:
    """Study a signal against the returns that followed it.

    The rank IC of a date is Spearman's correlation, over the assets, between the signal and the return of the next
    `horizon_d` trading days. Only every `horizon_d`-th date counts, from the first on: returns that overlap would
    be counted several times, and `t_stat` (mean_ic / std_ic * sqrt(dates), ddof=1) would be too large.
    `ic_ir` is mean_ic / std_ic, `hit_rate` the share of dates with a positive IC.

    Args:
        momentum: the signal; index `date`, one column per asset.
        prices: index `date`, the same columns, float64 [USD]; covers the dates of the signal.
        horizons_d: horizons in trading days, each at least 1.

    Raises:
        InvalidInput: a table or a horizon cannot be used.

    Source: Grinold & Kahn (2000), "Active Portfolio Management", for IC and its information ratio.
    """
    if not horizons_d or any(horizon_d < 1 for horizon_d in horizons_d):
        raise InvalidInput(f"horizons_d must be one or more counts of trading days from 1, not {list(horizons_d)}")
    signal = check_panel(momentum, name="momentum")
    panel = check_panel(prices, name="prices", positive=True)
    unknown = signal.columns.difference(panel.columns)
    if len(unknown):
        raise InvalidInput(f"prices has no column for {', '.join(map(str, unknown))}, which momentum has")
    rows = rows_at(dates_of(panel), dates_of(signal), name="prices")
    numbers = values_of(panel[signal.columns])
    ics, quantiles = [], []
    for horizon_d in horizons_d:
        counted = np.arange(0, len(rows), horizon_d)
        counted = counted[rows[counted] + horizon_d < len(panel)]
        starts = rows[counted]
        returns = numbers[starts + horizon_d] / numbers[starts] - 1.0
        scores = values_of(signal.iloc[counted])
        ics.append({"horizon_d": horizon_d, **_summary(row_ic(scores, returns))})
        quantiles.append(_by_quantile(scores, returns).assign(horizon_d=horizon_d))
    return Study(
        values=signal,
        rank_ic=pd.DataFrame(ics),
        quantile_returns=pd.concat(quantiles, ignore_index=True)[["horizon_d", "quantile", "mean_return"]],
        preview=_preview(signal),
    )


def _summary(ic: Array) -> dict[str, float]:
    known = ic[np.isfinite(ic)]
    mean = float(known.mean()) if len(known) else np.nan
    std = float(known.std(ddof=1)) if len(known) > 1 else np.nan
    ratio = mean / std if std > 0 else np.nan
    return {
        "dates": len(known),
        "mean_ic": mean,
        "std_ic": std,
        "ic_ir": ratio,
        "t_stat": ratio * np.sqrt(len(known)),
        "hit_rate": float((known > 0).mean()) if len(known) else np.nan,
    }


def _by_quantile(scores: Array, returns: Array, *, quantiles: int = 5) -> pd.DataFrame:
    both = np.isfinite(scores) & np.isfinite(returns)
    share = pd.DataFrame(np.where(both, scores, np.nan)).rank(axis=1, method="first", pct=True).to_numpy()
    count = np.maximum(both.sum(axis=1, keepdims=True), 1)
    above = returns - np.where(both, returns, 0.0).sum(axis=1, keepdims=True) / count
    group = np.where(both, np.ceil(np.where(both, share, 1.0) * quantiles), 0).astype(int)
    found = []
    for quantile in range(1, quantiles + 1):
        inside = group == quantile
        per_date = np.where(inside, above, 0.0).sum(axis=1) / np.maximum(inside.sum(axis=1), 1)
        filled = inside.any(axis=1)
        found.append(float(per_date[filled].mean()) if filled.any() else np.nan)
    return pd.DataFrame({"quantile": range(1, quantiles + 1), "mean_return": found})


def _preview(signal: pd.DataFrame) -> pd.DataFrame:
    last = signal.tail(_PREVIEW_DATES)
    ranks = last.rank(axis=1, ascending=False, method="first")
    return pd.DataFrame(
        {
            DATE: last.index.repeat(len(signal.columns)),
            "asset": np.tile(signal.columns.to_numpy(dtype=object), len(last)),
            "signal": values_of(last).ravel(),
            "rank": values_of(ranks).ravel(),
        }
    ).astype({"asset": "str"})
