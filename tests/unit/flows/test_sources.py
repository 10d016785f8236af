import sys
from datetime import date
from itertools import pairwise

import pandas as pd
import pytest

from freshline.flows import sources
from freshline.flows.sources import sp500
from freshline.storage.errors import InvalidInput, MissingExtra


@pytest.mark.parametrize("name", ["since", "until"])
def test_sp500_bound_that_is_no_date_is_refused(name):
    with pytest.raises(InvalidInput, match=f"{name} must be a date, not '2020-01-01'"):
        sp500(**{name: "2020-01-01"})


def test_sp500_without_the_extra_names_the_command(monkeypatch):
    monkeypatch.setattr(sources, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "skfolio.datasets", None)
    with pytest.raises(MissingExtra, match=r"pip install 'freshline\[quant\]'"):
        sp500()


def test_sp500_is_what_skfolio_loads(real_prices):
    from skfolio.datasets import load_sp500_dataset

    pd.testing.assert_frame_equal(real_prices, load_sp500_dataset(), check_names=False)


def test_sp500_whose_file_has_moved_is_loaded_by_skfolio_itself(monkeypatch, real_prices):
    monkeypatch.setattr(sources, "find_spec", lambda name: None)
    pd.testing.assert_frame_equal(sp500(), real_prices)


def test_sp500_has_the_documented_shape(real_prices):
    assert real_prices.shape == (8313, 20)
    assert real_prices.index.name == "date"
    assert (real_prices.index[0], real_prices.index[-1]) == (pd.Timestamp("1990-01-02"), pd.Timestamp("2022-12-28"))
    assert real_prices.index.is_monotonic_increasing
    assert real_prices.index.is_unique
    assert (real_prices.dtypes == "float64").all()
    assert (real_prices > 0).all(axis=None)


def test_sp500_bounds_reveal_what_lies_between(real_prices):
    tomorrow = sp500(since=date(2021, 12, 30), until=date(2022, 1, 4))

    assert tomorrow.index.strftime("%Y-%m-%d").tolist() == ["2021-12-31", "2022-01-03", "2022-01-04"]
    assert tomorrow.equals(real_prices.loc["2021-12-31":"2022-01-04"])


def test_sp500_pieces_make_the_whole(real_prices):
    cuts = [None, date(2001, 9, 16), date(2012, 10, 30), None]
    pieces = [sp500(since=since, until=until) for since, until in pairwise(cuts)]

    assert pd.concat(pieces).equals(real_prices)


def test_sp500_after_the_last_date_is_empty_with_its_columns(real_prices):
    nothing = sp500(since=date(2022, 12, 28))

    assert nothing.empty
    assert nothing.columns.equals(real_prices.columns)
