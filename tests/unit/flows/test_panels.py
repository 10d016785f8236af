import numpy as np
import pandas as pd
import pytest

from freshline.flows import panels
from freshline.storage.errors import InvalidInput
from tests.unit.flows.made import panel, random_prices


def test_check_panel_not_a_table_is_refused():
    with pytest.raises(InvalidInput, match="prices must be a DataFrame of dates x assets, not list"):
        panels.check_panel([1, 2], name="prices")


def test_check_panel_without_dates_is_refused():
    with pytest.raises(InvalidInput, match="has no dates"):
        panels.check_panel(pd.DataFrame({"A": [1.0]}), name="prices")


def test_check_panel_with_time_zone_is_refused():
    table = panel({"A": [1, 2]}).tz_localize("UTC")
    with pytest.raises(InvalidInput, match="time zone UTC"):
        panels.check_panel(table, name="prices")


@pytest.mark.parametrize("order", [[1, 0, 2], [0, 0, 1]], ids=["unsorted", "twice"])
def test_check_panel_dates_not_increasing_are_refused(order):
    table = panel({"A": [1, 2, 3]}).iloc[order]
    with pytest.raises(InvalidInput, match=r"dates of prices must increase, but 2020-01-0\d is followed by"):
        panels.check_panel(table, name="prices")


def test_check_panel_column_twice_is_refused():
    table = panel({"A": [1], "B": [2]}).set_axis(["A", "A"], axis=1)
    with pytest.raises(InvalidInput, match="column 'A' twice"):
        panels.check_panel(table, name="prices")


def test_check_panel_text_is_refused():
    table = panel({"A": [1]}).astype(object)
    table.iloc[0, 0] = "ten"
    with pytest.raises(InvalidInput, match="must hold numbers"):
        panels.check_panel(table, name="prices")


@pytest.mark.parametrize("value", [0.0, -1.0, np.inf])
def test_check_panel_price_not_positive_names_asset_and_date(value):
    table = panel({"A": [1, 2], "B": [3, value]})
    with pytest.raises(InvalidInput, match="positive and finite, but B on 2020-01-02 is"):
        panels.check_panel(table, name="prices", positive=True)


def test_check_panel_date_column_becomes_the_index():
    table = panel({"A": [1, 2]})

    checked = panels.check_panel(table.reset_index(), name="prices")

    assert checked.equals(table)
    assert checked.index.name == "date"


def test_check_panel_missing_prices_are_kept():
    checked = panels.check_panel(panel({"A": [np.nan, 2]}), name="prices", positive=True)

    assert checked["A"].isna().tolist() == [True, False]


def test_month_ends_of_an_unknown_calendar_are_refused():
    with pytest.raises(InvalidInput, match="'XNYX' is not a calendar"):
        panels.month_ends(pd.DatetimeIndex(["2018-02-28"]), calendar="XNYX")


def test_month_ends_are_the_last_trading_days():
    dates = pd.DatetimeIndex(["2018-02-27", "2018-02-28", "2018-03-01", "2018-03-28", "2018-03-29", "2018-04-02"])

    assert panels.month_ends(dates).strftime("%Y-%m-%d").tolist() == ["2018-02-28", "2018-03-29"]


@pytest.mark.parametrize(
    ("last", "ends_month"),
    [
        ("2018-03-29", True),  # Good Friday closes the exchange on the 30th
        ("2018-03-28", False),
        ("2021-05-28", True),  # Memorial Day is the 31st
        ("2022-01-31", True),
        ("2022-01-28", False),
    ],
)
def test_month_ends_last_date_is_judged_by_the_exchange_calendar(last, ends_month):
    dates = pd.DatetimeIndex(["2017-01-31", last])

    assert (pd.Timestamp(last) in panels.month_ends(dates)) is ends_month


def test_month_ends_cut_anywhere_keeps_the_earlier_ones(real_prices):
    dates = panels.dates_of(real_prices)
    every = panels.month_ends(dates)

    for stop in range(4000, 4060):
        cut = panels.month_ends(dates[:stop])
        assert cut.equals(every[every <= dates[stop - 1]])


def test_month_ends_of_nothing_is_nothing():
    assert panels.month_ends(pd.DatetimeIndex([])).empty


def test_standardised_rows_have_mean_zero_and_spread_one():
    scores = panels.standardised(np.array([[1.0, 2.0, 3.0], [10.0, np.nan, 30.0]]))

    root = np.sqrt(1.5)
    assert scores == pytest.approx(np.array([[-root, 0.0, root], [-1.0, np.nan, 1.0]]), nan_ok=True)


@pytest.mark.parametrize("row", [[0.1, 0.1, 0.1], [np.nan, 5.0, np.nan], [np.nan] * 3])
def test_standardised_row_without_spread_has_no_score(row):
    assert np.isnan(panels.standardised(np.array([row]))).all()


def test_trailing_return_spans_from_start_to_end():
    prices = panel({"A": [10, 11, 12, 15]})

    returns = panels.trailing_return(prices, start_d=3, end_d=1)

    assert returns[:, 0] == pytest.approx([np.nan, np.nan, np.nan, 12 / 10 - 1], nan_ok=True)


def test_trailing_return_of_a_short_table_is_missing():
    assert np.isnan(panels.trailing_return(panel({"A": [10, 11]}), start_d=5)).all()


def test_values_of_any_layout_are_row_major():
    prices = random_prices(days=5)
    by_column = pd.concat([prices[[name]] for name in prices], axis=1)

    assert panels.values_of(by_column).flags["C_CONTIGUOUS"]


def test_rows_at_unknown_date_is_refused():
    dates = panels.dates_of(panel({"A": [1, 2]}))
    with pytest.raises(InvalidInput, match="prices has no row for 2021-06-01"):
        panels.rows_at(dates, pd.DatetimeIndex(["2021-06-01"]), name="prices")
