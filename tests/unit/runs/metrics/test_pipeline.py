"""What a refresh fetched and changed."""

import math
from datetime import date

import pandas as pd
import pytest
from pydantic import ValidationError

from freshline.runs.details import valid_detail
from freshline.runs.metrics import PipelineMetrics, pipeline_metrics
from freshline.storage.errors import InvalidInput
from freshline.storage.words import DeploymentKind, UpdateMode


def _prices(first: str, *values: float) -> pd.DataFrame:
    return pd.DataFrame({"a": values}, index=pd.bdate_range(first, periods=len(values), name="date"), dtype=float)


def test_rows_with_a_repeated_key_are_refused() -> None:
    twice = pd.concat([_prices("2024-01-01", 1.0), _prices("2024-01-01", 1.0)])

    with pytest.raises(InvalidInput, match=r"the fetched rows have 1 with a key that occurred before, first Timestamp"):
        pipeline_metrics(twice, current=_prices("2024-01-01", 1.0))


def test_rows_without_their_key_column_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"the fetched rows have no key column 'asset'; they have \['a'\]"):
        pipeline_metrics(_prices("2024-01-01", 1.0), keys=["asset"])


def test_pipeline_metrics_with_a_negative_count_are_refused() -> None:
    with pytest.raises(ValidationError, match="rows_inserted"):
        PipelineMetrics(rows_inserted=-1)


def test_first_refresh_inserts_all_rows() -> None:
    metrics = pipeline_metrics(_prices("2024-01-01", 1.0, 2.0, 3.0), duration_s=1.5)

    assert (metrics.rows_fetched, metrics.rows_inserted, metrics.rows_updated, metrics.rows_deleted) == (3, 3, 0, 0)
    assert metrics.last_data_date == date(2024, 1, 3)
    # Three dates and three numbers of 8 bytes each.
    assert metrics.bytes_processed == 48
    assert metrics.duration_s == 1.5


def test_incremental_refresh_tells_new_rows_from_changed_ones() -> None:
    current = _prices("2024-01-01", 1.0, 2.0, math.nan, 4.0)
    # The 2nd is changed, the 3rd is NaN as before, the 4th is equal, the 5th and 8th are new.
    fetched = _prices("2024-01-02", 2.5, math.nan, 4.0, 5.0, 6.0)

    metrics = pipeline_metrics(fetched, current=current)

    assert (metrics.rows_fetched, metrics.rows_inserted, metrics.rows_updated, metrics.rows_deleted) == (5, 2, 1, 0)
    assert metrics.last_data_date == date(2024, 1, 8)


def test_full_refresh_counts_what_disappeared() -> None:
    metrics = pipeline_metrics(
        _prices("2024-01-02", 2.0), current=_prices("2024-01-01", 1.0, 2.0, 3.0), update_mode=UpdateMode.FULL
    )

    assert (metrics.rows_inserted, metrics.rows_updated, metrics.rows_deleted) == (0, 0, 2)
    assert metrics.last_data_date == date(2024, 1, 2)


def test_incremental_refresh_without_news_keeps_the_last_date_of_the_dataset() -> None:
    metrics = pipeline_metrics(_prices("2024-01-01").astype(float), current=_prices("2024-01-01", 1.0, 2.0))

    assert (metrics.rows_fetched, metrics.rows_inserted) == (0, 0)
    assert metrics.last_data_date == date(2024, 1, 2)


def test_rows_with_another_set_of_columns_are_all_changed() -> None:
    current = _prices("2024-01-01", 1.0, 2.0)

    metrics = pipeline_metrics(current.assign(b=1.0), current=current, update_mode=UpdateMode.FULL)

    assert (metrics.rows_inserted, metrics.rows_updated) == (0, 2)


def test_columns_in_another_order_are_no_change() -> None:
    current = _prices("2024-01-01", 1.0, 2.0).assign(b=["x", None])

    assert pipeline_metrics(current[["b", "a"]], current=current).rows_updated == 0


def test_rows_are_matched_by_their_key_columns() -> None:
    current = pd.DataFrame({"date": ["2024-01-01"] * 2, "asset": ["a", "b"], "x": [1.0, 2.0]})
    fetched = pd.DataFrame({"date": ["2024-01-01"] * 2, "asset": ["b", "c"], "x": [2.5, 3.0]})

    metrics = pipeline_metrics(fetched, current=current, keys=["date", "asset"])

    assert (metrics.rows_inserted, metrics.rows_updated) == (1, 1)
    assert metrics.last_data_date is None


def test_last_data_date_of_a_two_level_index_is_that_of_its_dates() -> None:
    index = pd.MultiIndex.from_product([["a", "b"], pd.bdate_range("2024-01-01", periods=2)], names=["asset", "date"])

    assert pipeline_metrics(pd.DataFrame({"x": 1.0}, index=index)).last_data_date == date(2024, 1, 2)


def test_pipeline_metrics_fit_the_columns_of_their_run() -> None:
    metrics = pipeline_metrics(_prices("2024-01-01", 1.0))
    facts = metrics.model_dump(mode="json", include={"last_data_date", "rows_inserted"})

    assert valid_detail(DeploymentKind.REFRESH, facts) == {"last_data_date": date(2024, 1, 1), "rows_inserted": 1}
    assert "last_data_date" not in metrics.values()
