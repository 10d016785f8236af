import numpy as np
import pandas as pd
import pytest

from freshline.flows.panels import month_ends
from freshline.flows.portfolio import Mandate, drift_to, optimize_book
from freshline.storage.errors import InvalidInput
from tests.unit.flows.made import random_prices

MANDATE = Mandate(lookback_d=120, max_weight=0.4)


@pytest.fixture(scope="module")
def prices() -> pd.DataFrame:
    return random_prices(days=300)


@pytest.fixture(scope="module")
def predictions(prices: pd.DataFrame) -> pd.DataFrame:
    dates = month_ends(prices.index)
    rng = np.random.default_rng(5)
    return pd.DataFrame(rng.normal(0, 0.01, size=(len(dates), 6)), index=dates, columns=prices.columns)


@pytest.mark.parametrize(
    ("mandate", "message"),
    [
        (Mandate(max_weight=0.15), "max_weight=0.15 of 6 assets adds up to less than 1; raise it to at least 0.1667"),
        (Mandate(max_weight=float("nan")), "max_weight must be a positive number, not nan"),
        (Mandate(lookback_d=1), "lookback_d must be at least 2 for a covariance, not 1"),
        (Mandate(cost_bps=-5), "cost_bps must be a positive number, not -5"),
        (Mandate(horizon_d=0), "horizon_d must be a positive number, not 0"),
        (Mandate(risk_aversion=float("inf")), "risk_aversion must be a positive number, not inf"),
    ],
)
def test_optimize_limit_out_of_range_is_refused(predictions, prices, mandate, message):
    with pytest.raises(InvalidInput, match=message):
        optimize_book(predictions, prices, mandate=mandate)


def test_optimize_unknown_asset_is_refused(predictions, prices):
    with pytest.raises(InvalidInput, match="prices has no column for A1"):
        optimize_book(predictions, prices.drop(columns="A1"), mandate=MANDATE)


def test_optimize_without_enough_prices_says_what_to_lower(predictions, prices):
    with pytest.raises(InvalidInput, match="has lookback_d=400 days of prices before it; lower it"):
        optimize_book(predictions, prices, mandate=Mandate(lookback_d=400, max_weight=0.4))


def test_optimize_weights_obey_their_limits(predictions, prices):
    book = optimize_book(predictions, prices, mandate=MANDATE)

    assert book.record["status"].eq("optimal").all()
    assert book.weights.sum(axis=1).to_numpy() == pytest.approx(1.0)
    assert book.weights.min(axis=None) >= 0
    assert book.weights.max(axis=None) <= 0.4 + 1e-5


def test_optimize_begins_where_the_covariance_has_its_days(predictions, prices):
    book = optimize_book(predictions, prices, mandate=MANDATE)

    rows = prices.index.get_indexer(predictions.index)
    assert book.weights.index.tolist() == predictions.index[rows >= 120].tolist()


def test_optimize_without_risk_and_cost_takes_the_best_predictions(predictions, prices):
    mandate = Mandate(lookback_d=120, max_weight=0.5, risk_aversion=0.0, cost_bps=0.0)

    book = optimize_book(predictions, prices, mandate=mandate)

    best = predictions.loc[book.weights.index].rank(axis=1, ascending=False) <= 2
    assert np.abs(book.weights - best * 0.5).max(axis=None) < 1e-4


def test_optimize_solution_cannot_be_improved_by_small_changes(predictions, prices):
    book = optimize_book(predictions, prices, mandate=MANDATE)

    date = book.weights.index[-1]
    mean, covariance = predictions.loc[date].to_numpy() / 21, book.covariance.to_numpy()
    before = book.before.to_numpy()

    def utility(weights):
        return mean @ weights - 2.5 * weights @ covariance @ weights - 5e-4 / 21 * np.abs(weights - before).sum()

    best = book.weights.loc[date].to_numpy()
    for give in np.flatnonzero(best > 0.01):
        for take in np.flatnonzero(best < 0.39):
            other = best.copy()
            other[give] -= 0.01
            other[take] += 0.01
            assert utility(other) <= utility(best) + 1e-9


def test_optimize_higher_cost_trades_less(predictions, prices):
    cheap, dear = (
        optimize_book(predictions, prices, mandate=Mandate(lookback_d=120, max_weight=0.4, cost_bps=bps)).record
        for bps in (0.0, 100.0)
    )

    assert dear["turnover"].iloc[1:].sum() < 0.5 * cheap["turnover"].iloc[1:].sum()


def test_optimize_record_agrees_with_the_weights(predictions, prices):
    book = optimize_book(predictions, prices, mandate=MANDATE)

    last = book.record.iloc[-1]
    weights = book.weights.iloc[-1]
    assert last["expected_return"] == pytest.approx(weights @ predictions.iloc[-1] * 12)
    assert last["expected_volatility"] == pytest.approx(np.sqrt(weights @ book.covariance @ weights * 252))
    assert last["turnover"] == pytest.approx((weights - book.before).abs().sum() / 2)
    assert last["at_zero"] == (weights == 0).sum()
    assert last["active_constraints"] == last["at_max"] + last["at_zero"]
    assert book.record["turnover"].iloc[0] == pytest.approx(0.5)


@pytest.mark.parametrize(("size", "status"), [(1e30, "unbounded"), (1e150, "failed")])
def test_optimize_failing_solver_keeps_the_previous_weights(predictions, prices, size, status):
    failing = predictions.index[-3]
    absurd = predictions.copy()
    absurd.loc[failing] *= size

    book = optimize_book(absurd, prices, mandate=MANDATE)

    record = book.record.set_index("date").loc[failing]
    assert record["status"] == status
    assert record["message"] == f"the solver CLARABEL ended with '{status}': the previous weights are kept"
    assert record["turnover"] == 0.0
    earlier = book.weights.index[book.weights.index < failing][-1]
    held = drift_to(book.weights.loc[earlier].to_numpy(), prices, decided=earlier, until=failing)
    assert book.weights.loc[failing].tolist() == held.tolist()
    assert book.record["kept"].tolist() == (book.record["date"] == failing).tolist()
    assert book.record["status"].iloc[-1] == "optimal"


def test_optimize_solver_that_is_stopped_early_has_no_solution(predictions, prices):
    book = optimize_book(predictions, prices, mandate=Mandate(lookback_d=120, max_weight=0.4, max_iterations=1))

    # The solver leaves numbers behind; they obey no constraint.
    assert book.record["status"].eq("user_limit").all()
    assert (book.weights == 0).all(axis=None)


def test_optimize_too_few_predictions_on_the_first_date_holds_nothing(predictions, prices):
    first = predictions.index[prices.index.get_indexer(predictions.index) >= 120][0]
    sparse = predictions.copy()
    sparse.loc[first, ["A1", "A2", "A3", "A4", "A5"]] = np.nan

    book = optimize_book(sparse, prices, mandate=MANDATE)

    assert book.record["status"].iloc[0] == "infeasible"
    assert "1 usable assets are too few" in book.record["message"].iloc[0]
    assert (book.weights.iloc[0] == 0).all()
    assert book.weights.iloc[1].sum() == pytest.approx(1.0)


def test_optimize_asset_without_prediction_or_price_is_not_held(predictions, prices):
    sparse, gap = predictions.copy(), prices.copy()
    sparse.loc[:, "A1"] = np.nan
    gap.iloc[:200, 2] = np.nan

    book = optimize_book(sparse, gap, mandate=MANDATE)

    assert (book.weights["A1"] == 0).all()
    assert book.weights["A2"].iloc[0] == 0
    assert book.record["status"].eq("optimal").all()


def test_optimize_twice_gives_the_same_bytes(predictions, prices):
    first, second = (optimize_book(predictions, prices, mandate=MANDATE).weights for _ in range(2))

    assert first.to_numpy().tobytes() == second.to_numpy().tobytes()


def test_drift_to_starts_at_the_close_after_the_decision(prices):
    decided, until = prices.index[100], prices.index[120]
    weights = np.array([0.5, 0.5, 0, 0, 0, 0])

    growth = prices.loc[until].to_numpy() / prices.iloc[101].to_numpy()

    assert drift_to(weights, prices, decided=decided, until=until) == pytest.approx(
        weights * growth / (weights @ growth)
    )


def test_drift_to_the_day_of_the_trade_changes_nothing(prices):
    weights = np.array([0.5, 0.5, 0, 0, 0, 0])

    after = drift_to(weights, prices, decided=prices.index[100], until=prices.index[101])

    assert after.tolist() == weights.tolist()
