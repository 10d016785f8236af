"""Makes panels for tests, showing only what matters."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd


def random_prices(days: int = 900, assets: int = 6, *, seed: int = 7, start: str = "2014-01-02") -> pd.DataFrame:
    """Prices that wander, on weekdays."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(0.0003, 0.012, size=(days, assets))
    names = [f"A{number}" for number in range(assets)]
    dates = pd.bdate_range(start, periods=days, name="date")
    return pd.DataFrame(100.0 * np.exp(np.cumsum(steps, axis=0)), index=dates, columns=names)


def panel(columns: Mapping[str, Sequence[float]], *, start: str = "2020-01-01") -> pd.DataFrame:
    """A panel on consecutive weekdays."""
    length = len(next(iter(columns.values())))
    dates = pd.bdate_range(start, periods=length, name="date")
    return pd.DataFrame({name: np.asarray(values, dtype="float64") for name, values in columns.items()}, index=dates)


def scrambled_after(prices: pd.DataFrame, date: pd.Timestamp, *, seed: int = 0) -> pd.DataFrame:
    """The prices with every row after `date` replaced by random numbers."""
    changed = prices.copy()
    later = changed.index > date
    rng = np.random.default_rng(seed)
    changed.loc[later] = np.exp(rng.normal(4.0, 1.0, size=(int(later.sum()), changed.shape[1])))
    return changed


def same_bytes(left: pd.DataFrame | pd.Series, right: pd.DataFrame | pd.Series) -> bool:
    """Whether two tables of floats agree in shape, labels and every bit."""
    a, b = (np.ascontiguousarray(side.to_numpy(dtype="float64")) for side in (left, right))
    return a.shape == b.shape and left.index.equals(right.index) and a.tobytes() == b.tobytes()
