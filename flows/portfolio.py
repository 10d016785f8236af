"""The book: mean-risk weights from predictions, one optimisation per rebalance date.

Owns the optimisation and what is recorded about it, as pure functions of panels. Knows nothing of runs.

Each date uses its own prediction, the prices up to it and the weights chosen before it; those have drifted with the
prices since they were traded, which is what the turnover and its cost are counted against.
"""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..storage.errors import InvalidInput
from .engine import drifted
from .extra import needs_quant
from .panels import DATE, Array, check_panel, dates_of, rows_at, trailing_return, values_of

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

_TRADING_DAYS_A_YEAR = 252
_BPS = 1e-4
_SOLVER = "CLARABEL"
_TOLERANCES = {"tol_gap_abs": 1e-9, "tol_gap_rel": 1e-9}
_SOLVED = ("optimal", "optimal_inaccurate")
"""With any other word the solver may still leave numbers, but they are no solution."""
_DUST = 1e-6
"""Weights below it are what an interior-point solver leaves of zero."""
_AT_LIMIT = 1e-4
"""A weight this close to a limit is held by it."""

Progress = Callable[[Iterable[pd.Timestamp]], Iterable[pd.Timestamp]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mandate:
    """What the weights obey, and what they aim at."""

    horizon_d: int = 21
    """What the predictions predict: the return of this many trading days."""
    lookback_d: int = 504
    """Trailing daily returns that the covariance is estimated on."""
    max_weight: float = 0.15
    """Largest weight of an asset; the smallest is 0, and the weights add up to 1."""
    risk_aversion: float = 2.5
    """Weight of the daily variance against the daily expected return."""
    cost_bps: float = 5.0
    """Cost of a trade in basis points of the amount, spread over the horizon."""
    max_iterations: int = 200
    """After this many iterations without a solution the solver has failed."""

    def check(self, assets: int) -> None:
        """Refuse numbers that cannot be used.

        Raises:
            InvalidInput: a limit is out of its range, or so tight that no weights exist.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            if not (np.isfinite(value) and value >= 0) or (
                value == 0 and field.name not in ("cost_bps", "risk_aversion")
            ):
                raise InvalidInput(f"{field.name} must be a positive number, not {value}")
        if self.lookback_d < 2:
            raise InvalidInput(f"lookback_d must be at least 2 for a covariance, not {self.lookback_d}")
        if self.max_weight * assets < 1:
            raise InvalidInput(
                f"max_weight={self.max_weight} of {assets} assets adds up to less than 1; raise it to at least "
                f"{1 / assets:.4f}"
            )


@dataclass(frozen=True, slots=True)
class Choice:
    """What one date's optimisation gave."""

    weights: Array
    """Shares of the equity, in the column order of the prices."""
    status: str
    """The solver's word: optimal, optimal_inaccurate, infeasible…; `failed` when it raised an error without one."""
    message: str
    """Why the previous weights were kept; empty when they were not."""
    iterations: int
    """Of the solver; 0 when it did not get that far."""
    covariance: Array
    """Of the daily returns, as estimated: k x k."""


@dataclass(frozen=True, slots=True)
class Book:
    """What an optimisation run gives."""

    weights: pd.DataFrame
    """A panel: index `date`, the dates of the predictions; float64 [shares of the equity]."""
    record: pd.DataFrame
    """One row per date: date, status, message, iterations, expected_return and expected_volatility [1 per year],
    turnover (one-way: half the sum of |weight - drifted weight|), active_constraints (weights at a limit), at_max,
    at_zero, kept."""
    expected: pd.Series
    """Expected daily returns on the last date, by asset; NaN for one without a prediction."""
    before: pd.Series
    """What was held before the last date's choice, by asset."""
    covariance: pd.DataFrame
    """Of the daily returns on the last date: assets x assets, float64; NaN for an asset that could not be held."""


def optimize_book(
    predictions: pd.DataFrame,
    prices: pd.DataFrame,
    *,
    mandate: Mandate | None = None,
    progress: Progress = iter,
) -> Book:
    """Choose long-only weights for every date of the predictions.

    Where the solver fails, the previous weights are kept (before the first success: nothing is held), and the record
    says so.

    Args:
        predictions: index `date`, trading days of `prices`; one column per asset: the predicted return of
            `horizon_d` days, float64 [1]. An asset with no prediction on a date is not held.
        prices: index `date`, the same columns, float64 [USD].
        mandate: limits, aims and costs; None for the defaults.
        progress: wraps the dates, to show how far the work is.

    Raises:
        InvalidInput: a table or a limit cannot be used, or no date has `lookback_d` days of prices before it.
        MissingExtra: the extra `freshline[quant]` is not installed.

    Source: Markowitz (1952); the covariance is shrunk as in Ledoit & Wolf (2004).
    """
    mandate = mandate or Mandate()
    prices = check_panel(prices, name="prices", positive=True)
    mandate.check(len(prices.columns))
    predictions = check_panel(predictions, name="predictions")
    unknown = predictions.columns.difference(prices.columns)
    if len(unknown):
        raise InvalidInput(f"prices has no column for {', '.join(map(str, unknown))}, which the predictions name")
    dates = dates_of(predictions)[rows_at(dates_of(prices), dates_of(predictions), name="prices") >= mandate.lookback_d]
    if dates.empty:
        raise InvalidInput(
            f"no date of the predictions has lookback_d={mandate.lookback_d} days of prices before it; lower it"
        )
    chosen, record = [], []
    previous = np.zeros(len(prices.columns))
    traded_on: pd.Timestamp | None = None
    for date in progress(dates):
        before = previous if traded_on is None else drift_to(previous, prices, decided=traded_on, until=date)
        choice = choose_weights(predictions, prices, date, before=before, mandate=mandate)
        chosen.append(choice.weights)
        record.append(_entry(date, choice, predictions, before=before, prices=prices, mandate=mandate))
        previous, traded_on = choice.weights, date
    return Book(
        weights=pd.DataFrame(np.vstack(chosen), index=dates, columns=prices.columns),
        record=pd.DataFrame(record).astype({"status": "str", "message": "str"}),
        expected=predictions.iloc[-1].reindex(prices.columns) / mandate.horizon_d,
        before=pd.Series(before, index=prices.columns),
        covariance=pd.DataFrame(choice.covariance, index=prices.columns, columns=prices.columns),
    )


def choose_weights(
    predictions: pd.DataFrame, prices: pd.DataFrame, date: pd.Timestamp, *, before: Array, mandate: Mandate
) -> Choice:
    """Return the weights for one date: most expected return, less risk and trading costs.

    Uses the row of `date` of the predictions and the prices up to `date`; `before` are the weights held then.
    """
    with needs_quant("the portfolio optimisation"):
        from skfolio import RiskMeasure
        from skfolio.exceptions import OptimizationError
        from skfolio.moments import LedoitWolf
        from skfolio.optimization import MeanRisk, ObjectiveFunction
        from skfolio.prior import EmpiricalPrior

        pools = _thread_pools()

    row = int(prices.index.get_indexer(pd.DatetimeIndex([date]))[0])
    window = prices.iloc[row - mandate.lookback_d : row + 1]
    returns = trailing_return(window, start_d=1)[1:]
    expected = values_of(predictions.loc[[date]].reindex(columns=prices.columns))[0] / mandate.horizon_d
    usable = np.isfinite(expected) & np.isfinite(returns).all(axis=0)
    covariance = np.full((len(expected), len(expected)), np.nan)
    if usable.sum() * mandate.max_weight < 1:
        message = (
            f"{usable.sum()} usable assets are too few for max_weight={mandate.max_weight}: "
            "the previous weights are kept"
        )
        return Choice(before, "infeasible", message, 0, covariance)
    daily = expected[usable]
    model = MeanRisk(
        objective_function=ObjectiveFunction.MAXIMIZE_UTILITY,
        risk_measure=RiskMeasure.VARIANCE,
        risk_aversion=mandate.risk_aversion,
        prior_estimator=EmpiricalPrior(covariance_estimator=LedoitWolf()),
        overwrite_expected_return=lambda weights: daily @ weights,
        max_weights=mandate.max_weight,
        previous_weights=before[usable],
        transaction_costs=mandate.cost_bps * _BPS / mandate.horizon_d,
        solver=_SOLVER,
        solver_params={**_TOLERANCES, "max_iter": mandate.max_iterations},
        save_problem=True,
    )
    # One thread: sums are then taken in the same order on any number of cores.
    with pools.limit(limits=1), warnings.catch_warnings():
        # An inaccurate solution is told by the status.
        warnings.simplefilter("ignore", UserWarning)
        try:
            model.fit(returns[:, usable])
        except OptimizationError:
            solved = False
        else:
            solved = model.problem_.status in _SOLVED
    stats = model.problem_.solver_stats
    iterations = int(stats.num_iters or 0) if stats is not None else 0
    status = str(model.problem_.status or "failed")
    if not solved:
        message = f"the solver {_SOLVER} ended with {status!r}: the previous weights are kept"
        return Choice(before, status, message, iterations, covariance)
    covariance[np.ix_(usable, usable)] = model.prior_estimator_.return_distribution_.covariance
    weights = np.zeros(len(expected))
    weights[usable] = _clean(np.asarray(model.weights_), max_weight=mandate.max_weight)
    return Choice(weights, status, "", iterations, covariance)


@cache
def _thread_pools() -> "ThreadpoolController":
    """Return the libraries that have threads; to find them takes about as long as one date's solution."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def drift_to(weights: Array, prices: pd.DataFrame, *, decided: pd.Timestamp, until: pd.Timestamp) -> Array:
    """Return what weights decided on one date, and traded at the next close, have become at a later close."""
    start, end = prices.index.get_indexer(pd.DatetimeIndex([decided, until]))
    closes = values_of(prices)
    return drifted(weights, closes[end] / closes[min(start + 1, end)])


def _clean(weights: Array, *, max_weight: float) -> Array:
    """Return the solver's weights within their limits and without dust, adding up to 1."""
    kept = np.where(weights < _DUST, 0.0, np.minimum(weights, max_weight))
    cleaned: Array = kept / kept.sum()
    return cleaned


def _entry(
    date: pd.Timestamp,
    choice: Choice,
    predictions: pd.DataFrame,
    *,
    before: Array,
    prices: pd.DataFrame,
    mandate: Mandate,
) -> dict[str, object]:
    held = choice.weights != 0
    expected = values_of(predictions.loc[[date]].reindex(columns=prices.columns))[0]
    daily_variance = choice.weights[held] @ choice.covariance[np.ix_(held, held)] @ choice.weights[held]
    at_max = int((choice.weights > mandate.max_weight - _AT_LIMIT).sum())
    at_zero = int((~held).sum())
    kept = bool(choice.message)
    return {
        DATE: date,
        "status": choice.status,
        "message": choice.message,
        "iterations": choice.iterations,
        "expected_return": float(choice.weights[held] @ expected[held]) * _TRADING_DAYS_A_YEAR / mandate.horizon_d,
        "expected_volatility": float(np.sqrt(daily_variance * _TRADING_DAYS_A_YEAR)),
        "turnover": float(np.abs(choice.weights - before).sum()) / 2.0,
        "active_constraints": 0 if kept else at_max + at_zero,
        "at_max": at_max,
        "at_zero": at_zero,
        "kept": kept,
    }
