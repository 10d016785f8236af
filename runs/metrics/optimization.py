"""Metrics of a PortfolioOptimizationRun: the weights that were chosen, and what the optimiser said.

Must not know any optimiser: what only it knows (status, iterations, active constraints) is handed in.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .model import DAILY, Convention, Metrics, measure

if TYPE_CHECKING:
    import pandas as pd

_SURVIVORS = "The bundled demonstration prices are survivors: ratios on them are too high."


class OptimizationMetrics(Metrics):
    """The portfolio of the last rebalance. w are its weights, fractions of its value, negative when short."""

    expected_return: float | None = measure(
        "fraction per year", "Σ w · expected return of one period · periods_per_year", uses=["periods_per_year"]
    )
    expected_volatility: float | None = measure(
        "fraction per year", "√(wᵀ Σ w · periods_per_year), Σ the covariance of one period", uses=["periods_per_year"]
    )
    expected_sharpe: float | None = measure(
        "1",
        "(expected_return − risk-free rate of one period · periods_per_year) / expected_volatility; "
        "±inf or NaN without volatility",
        uses=["periods_per_year", "risk_free_rate"],
        source="Sharpe 1994",
        note=_SURVIVORS,
    )
    diversification_ratio: float | None = measure(
        "1",
        "Σ |w| · σ / √(wᵀ Σ w); 1 for a single asset, NaN without volatility",
        source="Choueifaty & Coignard 2008",
    )
    effective_n: float | None = measure(
        "assets", "1 / concentration: as many equal positions are as concentrated; NaN without positions"
    )
    concentration: float | None = measure(
        "fraction", "Herfindahl-Hirschman index Σ (|w| / Σ |w|)²; 1 for a single position, NaN without positions"
    )
    gross_exposure: float | None = measure("fraction of value", "Σ |w|")
    net_exposure: float | None = measure("fraction of value", "Σ w")
    long_weight: float | None = measure("fraction of value", "Σ max(w, 0)")
    short_weight: float | None = measure("fraction of value", "Σ max(−w, 0), not negative")
    turnover: float | None = measure(
        "fraction of value",
        "one-way: Σ |w − previous w| / 2; an asset that one side lacks has weight 0 there",
        fixed={"turnover": "one_way"},
    )
    solver_status: str | None = measure("text", "what the solver said, in its own words")
    iterations: int | None = measure("iterations", "iterations of the solver", ge=0)
    active_constraints: int | None = measure("constraints", "constraints that hold with equality", ge=0)


def optimization_metrics(
    weights: "pd.Series | Mapping[str, float]",
    *,
    expected_returns: "pd.Series | Mapping[str, float] | None" = None,
    covariance: "pd.DataFrame | None" = None,
    previous_weights: "pd.Series | Mapping[str, float] | None" = None,
    solver_status: str | None = None,
    iterations: int | None = None,
    active_constraints: int | Sequence[str] | None = None,
    convention: Convention = DAILY,
) -> OptimizationMetrics:
    """Describe a portfolio. `expected_returns` and `covariance` are of one period and cover at least the assets held.

    Previous weights of an empty portfolio ({}) count the whole first purchase as turnover; None leaves turnover out.

    Raises:
        InvalidInput: a weight is missing or infinite; an asset held has no expected return or covariance.
    """
    from .portfolio import Book

    book = Book.of(weights)
    profit = book.expected_return(expected_returns) if expected_returns is not None else None
    variance = book.variance(covariance) if covariance is not None else None
    periods = convention.periods_per_year
    volatility = (variance * periods) ** 0.5 if variance is not None else None
    annual = profit * periods if profit is not None else None
    sharpe = None
    if annual is not None and volatility is not None:
        sharpe = _ratio(annual - convention.risk_free_per_period * periods, volatility)
    limits = active_constraints
    return OptimizationMetrics(
        expected_return=annual,
        expected_volatility=volatility,
        expected_sharpe=sharpe,
        diversification_ratio=book.diversification_ratio(covariance) if covariance is not None else None,
        effective_n=_ratio(1.0, book.concentration),
        concentration=book.concentration,
        gross_exposure=book.gross,
        net_exposure=book.net,
        long_weight=book.long,
        short_weight=book.short,
        turnover=book.turnover(previous_weights) if previous_weights is not None else None,
        solver_status=solver_status,
        iterations=iterations,
        active_constraints=limits if limits is None or isinstance(limits, int) else len(limits),
        convention=convention.computed_here(),
    )


def _ratio(part: float, whole: float) -> float:
    """Return part / whole; with whole = 0 the infinity of part's sign, NaN for 0 / 0."""
    if whole != 0.0:
        return part / whole
    return part * float("inf")
