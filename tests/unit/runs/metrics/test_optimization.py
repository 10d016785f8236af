"""What a portfolio is made of, against arithmetic that is shown."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from freshline.runs.metrics import Convention, optimization_metrics
from freshline.storage.errors import InvalidInput

# Volatilities 0.1 and 0.2 a period, correlation 0.
COVARIANCE = pd.DataFrame([[0.01, 0.0], [0.0, 0.04]], index=["a", "b"], columns=["a", "b"])


@pytest.mark.parametrize("weight", [math.nan, math.inf, None])
def test_weights_that_are_not_finite_are_refused(weight: Any) -> None:
    with pytest.raises(InvalidInput, match="the weights of 'b' are missing or infinite"):
        optimization_metrics({"a": 0.5, "b": weight})


def test_weights_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(InvalidInput, match="the weights must be numbers only"):
        optimization_metrics({"a": "half"})  # type: ignore[dict-item]  # that is the point


def test_weights_with_a_repeated_asset_are_refused() -> None:
    with pytest.raises(InvalidInput, match="the weights name 'a' twice"):
        optimization_metrics(pd.Series([0.5, 0.5], index=["a", "a"]))


def test_previous_weights_that_are_not_finite_are_refused() -> None:
    with pytest.raises(InvalidInput, match="missing or infinite"):
        optimization_metrics({"a": 1.0}, previous_weights={"a": math.nan})


def test_asset_held_without_expected_return_is_refused() -> None:
    with pytest.raises(InvalidInput, match="'b' has a weight but no expected return"):
        optimization_metrics({"a": 0.5, "b": 0.5}, expected_returns={"a": 0.01})


def test_asset_held_without_covariance_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"^'c' has a weight but no covariance"):
        optimization_metrics({"a": 0.5, "c": 0.5}, covariance=COVARIANCE)


def test_covariance_with_a_repeated_asset_is_refused() -> None:
    twice = pd.DataFrame(np.eye(2), index=["a", "a"], columns=["a", "b"])

    with pytest.raises(InvalidInput, match="the covariance has rows of the same name"):
        optimization_metrics({"a": 1.0}, covariance=twice)


def test_optimization_metrics_follow_by_hand() -> None:
    metrics = optimization_metrics(
        {"a": 0.6, "b": 0.4},
        expected_returns=pd.Series({"b": 0.02, "a": 0.01}),
        covariance=COVARIANCE.loc[["b", "a"], ["b", "a"]],
        previous_weights={"a": 1.0},
        convention=Convention(periods_per_year=4, risk_free_rate=1.001**4 - 1),
    )

    # (0.6 · 0.01 + 0.4 · 0.02) · 4
    assert metrics.expected_return == pytest.approx(0.056)
    # √((0.36 · 0.01 + 0.16 · 0.04) · 4) = √(0.01 · 4)
    assert metrics.expected_volatility == pytest.approx(0.2)
    # 0.001 a period, (0.056 - 4 · 0.001) / 0.2
    assert metrics.expected_sharpe == pytest.approx(0.26)
    # (0.6 · 0.1 + 0.4 · 0.2) / 0.1
    assert metrics.diversification_ratio == pytest.approx(1.4)
    # 0.36 + 0.16
    assert metrics.concentration == pytest.approx(0.52)
    assert metrics.effective_n == pytest.approx(1 / 0.52)
    # (|0.6 - 1| + |0.4 - 0|) / 2
    assert metrics.turnover == pytest.approx(0.4)
    assert metrics.conventions()["turnover"]["turnover"] == "one_way"


def test_exposures_of_a_long_short_portfolio_are_told_apart() -> None:
    metrics = optimization_metrics({"a": 0.9, "b": -0.3, "c": 0.0}, covariance=COVARIANCE)

    assert metrics.gross_exposure == pytest.approx(1.2)
    assert metrics.net_exposure == pytest.approx(0.6)
    assert metrics.long_weight == pytest.approx(0.9)
    assert metrics.short_weight == pytest.approx(0.3)
    # Shares of the gross exposure 0.75 and 0.25: 0.5625 + 0.0625.
    assert metrics.concentration == pytest.approx(0.625)
    # (0.9 · 0.1 + 0.3 · 0.2) / √(0.81 · 0.01 + 0.09 · 0.04)
    assert metrics.diversification_ratio == pytest.approx(0.15 / math.sqrt(0.0117))


def test_equal_weights_are_as_many_positions_as_there_are() -> None:
    assert optimization_metrics(dict.fromkeys("abcde", 0.2)).effective_n == pytest.approx(5.0)


def test_what_is_not_known_is_none() -> None:
    metrics = optimization_metrics({"a": 1.0})

    assert metrics.expected_return is metrics.expected_volatility is metrics.expected_sharpe is None
    assert metrics.turnover is metrics.solver_status is metrics.iterations is metrics.active_constraints is None


def test_solver_status_is_kept_apart_from_the_numbers() -> None:
    metrics = optimization_metrics(
        {"a": 1.0}, solver_status="optimal_inaccurate", iterations=17, active_constraints=["budget", "max_weight[a]"]
    )

    assert metrics.solver_status == "optimal_inaccurate"
    assert "solver_status" not in metrics.values()
    assert (metrics.iterations, metrics.active_constraints) == (17, 2)


def test_first_purchase_counts_as_turnover_when_nothing_was_held() -> None:
    assert optimization_metrics({"a": 0.6, "b": 0.4}, previous_weights={}).turnover == pytest.approx(0.5)


@pytest.mark.parametrize("weights", [{}, {"a": 0.0}])
def test_empty_portfolio_has_no_concentration_and_no_diversification(weights: dict[str, float]) -> None:
    metrics = optimization_metrics(weights, covariance=COVARIANCE, expected_returns={"a": 0.01})

    assert metrics.gross_exposure == metrics.net_exposure == metrics.expected_return == 0.0
    undefined = (metrics.concentration, metrics.effective_n, metrics.diversification_ratio, metrics.expected_sharpe)
    assert all(value is not None and math.isnan(value) for value in undefined)


def test_portfolio_without_risk_has_an_endless_sharpe_ratio() -> None:
    none = pd.DataFrame([[0.0]], index=["a"], columns=["a"])

    assert optimization_metrics({"a": 1.0}, covariance=none, expected_returns={"a": 0.01}).expected_sharpe == math.inf


def test_diversification_and_effective_number_equal_skfolio() -> None:
    from skfolio import Portfolio
    from skfolio.measures import effective_number_assets

    generator = np.random.default_rng(0)
    returns = pd.DataFrame(
        generator.standard_normal((300, 6)) * [0.01, 0.02, 0.01, 0.03, 0.02, 0.01], columns=list("abcdef")
    )
    weights = pd.Series(generator.dirichlet(np.ones(6)), index=list("abcdef"))
    peer = Portfolio(returns, weights.to_numpy())

    metrics = optimization_metrics(weights, covariance=returns.cov(), expected_returns=returns.mean())

    assert metrics.effective_n == pytest.approx(effective_number_assets(weights.to_numpy()), rel=1e-9)
    assert metrics.diversification_ratio == pytest.approx(peer.diversification, rel=1e-9)
    assert metrics.expected_return == pytest.approx(peer.mean * 252, rel=1e-9)
    assert metrics.expected_volatility == pytest.approx(peer.standard_deviation * math.sqrt(252), rel=1e-9)
