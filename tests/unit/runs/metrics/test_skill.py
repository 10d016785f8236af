"""Did predictions come true, date by date?"""

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from freshline.runs.metrics import ic_by_date
from freshline.runs.metrics.skill import skill
from freshline.storage.errors import InvalidInput

DAYS = pd.bdate_range("2024-01-01", periods=4)


def _table(*rows: list[float]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), index=DAYS[: len(rows)], columns=list("abcd")[: len(rows[0])])


def test_skill_of_tables_with_other_assets_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"rows or columns of the two sides differ .* align"):
        skill(_table([1.0, 2.0]), _table([1.0, 2.0]).rename(columns={"a": "z"}))


def test_skill_of_tables_with_other_dates_is_refused() -> None:
    with pytest.raises(InvalidInput, match="differ"):
        skill(_table([1.0, 2.0]), _table([1.0, 2.0], [1.0, 2.0]))


def test_skill_of_text_is_refused() -> None:
    with pytest.raises(InvalidInput, match="must be numbers only"):
        skill(_table([1.0, 2.0]).astype(str).replace("1.0", "x"), _table([1.0, 2.0]))


def test_skill_follows_by_hand() -> None:
    predictions = _table([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [3.0, 2.0, 1.0])
    outcomes = _table([0.1, 0.2, 0.3], [-0.1, 0.3, 0.2], [0.1, 0.2, 0.3])

    found = skill(predictions, outcomes)

    # Rank correlations 1, 0.5 (1 - 6 · (0 + 1 + 1) / (3 · 8)), -1.
    assert found.ic == pytest.approx(0.5 / 3)
    # Deviations 5/6, 1/3, -7/6: √((25 + 4 + 49) / 36 / 2) = √(13 / 12)
    assert found.ic_ir == pytest.approx(0.5 / 3 / math.sqrt(13 / 12))
    assert found.hit_rate == pytest.approx(2 / 3)
    # All predictions are positive, one of nine outcomes is not.
    assert found.direction_accuracy == pytest.approx(8 / 9)
    assert found.dates == 3


def test_direction_leaves_out_zeros_and_missing_cells() -> None:
    found = skill(_table([1.0, 0.0, 1.0, math.nan]), _table([1.0, 1.0, 0.0, 1.0]))

    assert found.direction_accuracy == 1.0


def test_ic_by_date_equals_scipy_with_ties_and_missing_cells() -> None:
    generator = np.random.default_rng(0)
    days = pd.bdate_range("2024-01-01", periods=60)
    predictions = pd.DataFrame(generator.standard_normal((60, 12)).round(1), index=days)
    outcomes = pd.DataFrame(0.3 * predictions + generator.standard_normal((60, 12)).round(0), index=days)
    predictions = predictions.mask(generator.random((60, 12)) < 0.1)
    outcomes = outcomes.mask(generator.random((60, 12)) < 0.1)

    found = ic_by_date(predictions, outcomes)

    expected = [
        scipy.stats.spearmanr(predictions.loc[day], outcomes.loc[day], nan_policy="omit").statistic for day in days
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
    assert found.name == "ic"
    assert found.index.equals(days)


def test_ic_of_a_date_without_spread_or_pairs_is_nan_and_does_not_count() -> None:
    predictions = _table([1.0, 1.0], [1.0, math.nan], [math.nan, math.nan], [1.0, 2.0])
    outcomes = _table([0.1, 0.2], [0.1, 0.2], [0.1, 0.2], [0.1, 0.2])

    found = skill(predictions, outcomes)

    assert list(ic_by_date(predictions, outcomes).isna()) == [True, True, True, False]
    assert (found.ic, found.hit_rate, found.dates) == (1.0, 1.0, 1)
    assert math.isnan(found.ic_ir)


def test_skill_without_any_pair_is_nan() -> None:
    found = skill(_table([math.nan, math.nan]), _table([0.1, 0.2]))

    assert found.dates == 0
    assert all(math.isnan(value) for value in (found.ic, found.ic_ir, found.hit_rate, found.direction_accuracy))


def test_ic_ir_of_equal_correlations_is_nan() -> None:
    rising = _table([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])

    assert math.isnan(skill(rising, rising).ic_ir)
