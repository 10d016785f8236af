"""A set of portfolio weights and the arithmetic on it. Must not know optimisers, runs or dates."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd

from ...storage.errors import InvalidInput
from .moments import Array, numbers


@dataclass(frozen=True)
class Book:
    """Weights by asset, fractions of the portfolio's value."""

    assets: tuple[Hashable, ...]
    """Names, each once."""
    weights: Array
    """One weight per asset, all finite."""

    @classmethod
    def of(cls, weights: Any) -> Self:
        """Read a Series or mapping.

        Raises:
            InvalidInput: an asset occurs twice; a weight is missing, infinite or no number.
        """
        series = _series(weights, "the weights")
        values = numbers(series, "the weights")
        bad = [asset for asset, value in zip(series.index, values, strict=True) if not np.isfinite(value)]
        if bad:
            raise InvalidInput(
                f"the weights of {_named(bad)} are missing or infinite: give every asset a weight, 0 for none"
            )
        return cls(tuple(series.index), values)

    @property
    def gross(self) -> float:
        """Sum of the absolute weights."""
        return float(np.abs(self.weights).sum())

    @property
    def net(self) -> float:
        """Sum of the weights."""
        return float(self.weights.sum())

    @property
    def long(self) -> float:
        """Sum of the positive weights."""
        return float(self.weights[self.weights > 0].sum())

    @property
    def short(self) -> float:
        """Sum of the negative weights without their sign."""
        return float(np.abs(self.weights[self.weights < 0]).sum())

    @property
    def concentration(self) -> float:
        """Herfindahl-Hirschman index of the shares of the gross exposure; NaN without positions."""
        gross = self.gross
        return float(((self.weights / gross) ** 2).sum()) if gross > 0.0 else float("nan")

    def expected_return(self, returns: Any) -> float:
        """Return the portfolio's return when each asset has that of `returns`.

        Raises:
            InvalidInput: an asset held has no finite return there.
        """
        series = _series(returns, "the expected returns")
        known = numbers(series.reindex(list(self.assets)), "the expected returns")
        self._all_known(np.isfinite(known), "expected return")
        return float(self.weights @ np.where(self.weights == 0.0, 0.0, known))

    def variance(self, covariance: pd.DataFrame) -> float:
        """Return wᵀ Σ w, not below 0.

        Raises:
            InvalidInput: an asset held has no finite row and column in `covariance`.
        """
        held, matrix = self._held(covariance)
        return max(float(held @ matrix @ held), 0.0)

    def diversification_ratio(self, covariance: pd.DataFrame) -> float:
        """Return the weighted mean volatility over the portfolio's volatility; NaN when that is 0.

        Raises:
            InvalidInput: as for `variance`.
        """
        held, matrix = self._held(covariance)
        variance = self.variance(covariance)
        apart = float(np.abs(held) @ np.sqrt(np.maximum(np.diag(matrix), 0.0)))
        return apart / variance**0.5 if variance > 0.0 else float("nan")

    def turnover(self, previous: Any) -> float:
        """Return half the sum of absolute changes; an asset that one side lacks has weight 0 there.

        Raises:
            InvalidInput: a previous weight is missing or infinite.
        """
        before = Book.of(previous)
        now = dict(zip(self.assets, self.weights, strict=True))
        then = dict(zip(before.assets, before.weights, strict=True))
        return float(sum(abs(now.get(asset, 0.0) - then.get(asset, 0.0)) for asset in {**now, **then}) / 2.0)

    def _held(self, covariance: pd.DataFrame) -> tuple[Array, Array]:
        """Return (weights, covariance) of the assets whose weight is not 0."""
        for labels, which in ((covariance.index, "rows"), (covariance.columns, "columns")):
            if labels.has_duplicates:
                raise InvalidInput(f"the covariance has {which} of the same name: each asset must occur once")
        assets = list(self.assets)
        matrix = numbers(covariance.reindex(index=assets, columns=assets), "the covariance")
        held = np.flatnonzero(self.weights)
        block = matrix[np.ix_(held, held)]
        finite = np.ones(len(assets), dtype=bool)
        # An asset without covariance also spoils the rows of all others: its own variance tells which one it is.
        own = np.isfinite(np.diag(block))
        finite[held] = own if not own.all() else np.isfinite(block).all(axis=1)
        self._all_known(finite, "covariance")
        return self.weights[held], block

    def _all_known(self, known: Any, what: str) -> None:
        bad = [
            asset
            for asset, weight, ok in zip(self.assets, self.weights, known, strict=True)
            if weight != 0.0 and not ok
        ]
        if bad:
            raise InvalidInput(f"{_named(bad)} has a weight but no {what}: give one for each asset that is held")


def _series(values: Any, what: str) -> pd.Series:
    series = values if isinstance(values, pd.Series) else pd.Series(dict(values), dtype=object)
    twice = series.index[series.index.duplicated()]
    if len(twice):
        raise InvalidInput(f"{what} name {twice[0]!r} twice: each asset must occur once")
    return series


def _named(assets: Sequence[Hashable]) -> str:
    rest = f" and {len(assets) - 3} more" if len(assets) > 3 else ""
    return ", ".join(map(repr, assets[:3])) + rest
