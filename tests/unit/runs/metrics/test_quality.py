"""Completeness, plausibility, repetition and age of a table."""

import math
from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest

from freshline.runs.metrics import Histogram
from freshline.runs.metrics.quality import duplicate_pct, missing_pct, outlier_pct, staleness_h
from freshline.storage.errors import InvalidInput


@pytest.mark.parametrize("fence", [0.0, -1.0, math.nan])
def test_outliers_with_an_impossible_fence_are_refused(fence: float) -> None:
    with pytest.raises(InvalidInput, match="fence"):
        outlier_pct(pd.DataFrame({"x": [1.0]}), fence=fence)


def test_duplicates_by_an_absent_key_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"no key column 'asset'; it has \['x'\]"):
        duplicate_pct(pd.DataFrame({"x": [1.0]}), keys=["asset"])


@pytest.mark.parametrize("which", ["last_data_at", "now"])
def test_staleness_of_a_time_without_zone_is_refused(which: str) -> None:
    moments = {"last_data_at": datetime(2024, 1, 1, tzinfo=UTC), "now": datetime(2024, 1, 2, tzinfo=UTC)}
    moments[which] = moments[which].replace(tzinfo=None)

    with pytest.raises(InvalidInput, match=f"{which}=.* has no time zone"):
        staleness_h(moments["last_data_at"], now=moments["now"])


def test_missing_cells_of_any_type_are_counted() -> None:
    frame = pd.DataFrame({"a": [1.0, math.nan], "b": ["x", None], "c": [pd.NaT, pd.Timestamp(0)], "d": [1, 2]})

    # 3 of 8
    assert missing_pct(frame) == 37.5


@pytest.mark.parametrize("frame", [pd.DataFrame(), pd.DataFrame({"x": []}, dtype=float)])
def test_quality_of_an_empty_table_is_nan(frame: pd.DataFrame) -> None:
    assert math.isnan(missing_pct(frame))
    assert math.isnan(outlier_pct(frame))
    assert math.isnan(duplicate_pct(frame))


def test_outliers_lie_beyond_three_interquartile_ranges_of_the_column() -> None:
    # 1..9 and 100: quartiles 3.25 and 7.75, so 3 * 4.5 beyond: below -10.25 or above 21.25.
    frame = pd.DataFrame({"x": [*range(1, 10), 100], "y": ["text"] * 10})

    assert outlier_pct(frame) == 10.0


def test_outliers_are_measured_by_the_reference_where_there_is_one() -> None:
    reference = {"x": Histogram.from_sample(np.arange(1.0, 101.0))}
    # Quartiles 25.75 and 75.25, range 49.5: above 223.75 or below -122.75.
    frame = pd.DataFrame({"x": [223.0, 224.0, -123.0, math.nan, 50.0]})

    assert outlier_pct(frame, reference=reference) == 50.0


def test_infinite_values_are_outliers() -> None:
    assert outlier_pct(pd.DataFrame({"x": [1.0, 2.0, 3.0, math.inf]})) == 25.0


def test_outliers_of_a_column_without_scale_are_left_out() -> None:
    frame = pd.DataFrame({"flat": [0.0, 0.0, 0.0, 0.0, 5.0], "x": [1.0, 2.0, 3.0, 4.0, 5.0]})

    assert outlier_pct(frame) == 0.0
    assert math.isnan(outlier_pct(frame[["flat"]]))


def test_duplicates_are_found_by_index_by_row_and_by_key() -> None:
    days = pd.DatetimeIndex(["2024-01-01", "2024-01-01", "2024-01-02", "2024-01-03"])
    frame = pd.DataFrame({"asset": ["a", "b", "a", "a"], "x": [1.0, 2.0, 1.0, 1.0]}, index=days)

    assert duplicate_pct(frame) == 25.0
    assert duplicate_pct(frame.reset_index(drop=True)) == 50.0
    assert duplicate_pct(frame, keys=["asset"]) == 50.0


def test_staleness_of_a_date_counts_from_its_first_moment() -> None:
    assert staleness_h(date(2024, 1, 1), now=datetime(2024, 1, 2, 6, tzinfo=UTC)) == 30.0


def test_staleness_of_times_in_different_zones_is_the_time_between() -> None:
    eastern = timezone(timedelta(hours=-5))

    assert staleness_h(datetime(2024, 1, 1, 16, tzinfo=eastern), now=datetime(2024, 1, 1, 22, 30, tzinfo=UTC)) == 1.5


def test_staleness_of_data_from_the_future_is_negative() -> None:
    assert staleness_h(date(2024, 1, 2), now=datetime(2024, 1, 1, 12, tzinfo=UTC)) == -12.0
