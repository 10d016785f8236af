from datetime import date

import pandas as pd
import pytest

from freshline.flows import testing
from freshline.flows.refresh import refresh
from freshline.storage.errors import InvalidInput, NotFound
from tests.unit.flows.made import random_prices

PRICES = random_prices(days=40, assets=3, start="2020-01-01")


def source(*, since: date | None, until: date | None) -> pd.DataFrame:
    rows = PRICES
    if since is not None:
        rows = rows[rows.index > pd.Timestamp(since)]
    if until is not None:
        rows = rows[rows.index <= pd.Timestamp(until)]
    return rows


def run(**said) -> testing.TestResult:
    return testing.run(refresh, **({"callables": {"source": source}} | said))


def test_refresh_without_source_or_transform_is_refused():
    with pytest.raises(NotFound, match="transform"):
        run(callables={})


def test_refresh_source_that_returns_no_table_is_refused():
    with pytest.raises(InvalidInput, match="returns a DataFrame; this one returned list"):
        run(callables={"source": lambda *, since, until: [1, 2]})


def test_refresh_source_that_ignores_since_is_refused():
    current = {"test": PRICES.iloc[:10]}
    with pytest.raises(
        InvalidInput, match=r"10 rows lie outside 2020-01-14 < date <= the end, the first on 2020-01-01"
    ):
        run(callables={"source": lambda *, since, until: PRICES}, current=current)


def test_refresh_source_that_shows_the_future_is_refused():
    with pytest.raises(
        InvalidInput, match=r"30 rows lie outside the beginning < date <= 2020-01-14, the first on 2020-01-15"
    ):
        run(callables={"source": lambda *, since, until: PRICES}, data_as_of=date(2020, 1, 14))


def test_refresh_source_that_lost_its_dates_is_refused():
    undated = PRICES.reset_index(drop=True)
    with pytest.raises(InvalidInput, match="no 'date' any more"):
        run(callables={"source": lambda *, since, until: undated}, current={"test": PRICES.iloc[:10]})


def test_refresh_first_run_writes_everything():
    found = run()

    assert found.tables["test"].equals(PRICES)
    assert found.metrics["rows_fetched"] == found.metrics["rows_inserted"] == 40
    assert found.result.detail["last_data_date"] == date(2020, 2, 25)
    assert not found.result.source_delayed


def test_refresh_reveals_nothing_after_the_data_date():
    found = run(data_as_of=date(2020, 1, 14))

    assert found.tables["test"].index[-1] == pd.Timestamp("2020-01-14")


def test_refresh_incremental_run_appends_what_is_new():
    found = run(current={"test": PRICES.iloc[:30]})

    stored = found.result.artifacts[0].stored_table()
    assert [fragment.rows for fragment in stored.fragments] == [30, 10]
    assert found.tables["test"].equals(PRICES)
    assert (found.metrics["rows_fetched"], found.metrics["rows_inserted"]) == (10, 10)
    assert (found.metrics["rows_updated"], found.metrics["rows_deleted"]) == (0, 0)
    assert found.result.base_version_id is not None


def test_refresh_in_pieces_equals_refresh_at_once():
    pieces = run(current={"test": run(data_as_of=date(2020, 1, 20)).tables["test"]})

    assert pieces.result.artifacts[0].digest == run().result.artifacts[0].digest


def test_refresh_full_run_writes_everything_again():
    found = run(current={"test": PRICES.iloc[:30] * 2}, update_mode="full")

    assert found.tables["test"].equals(PRICES)
    assert (found.metrics["rows_fetched"], found.metrics["rows_inserted"]) == (40, 10)
    assert "rows_updated" not in found.metrics
    assert found.result.base_version_id is None


def test_refresh_source_with_nothing_new_is_delayed():
    found = run(current={"test": PRICES})

    assert found.result.source_delayed
    assert found.tables["test"].equals(PRICES)
    assert found.metrics["rows_fetched"] == 0
    assert found.result.detail["last_data_date"] == date(2020, 2, 25)


def test_refresh_that_has_what_was_asked_for_is_not_delayed():
    found = run(current={"test": PRICES.iloc[:10]}, data_as_of=date(2020, 1, 14))

    assert not found.result.source_delayed
    assert found.metrics["rows_fetched"] == 0


def test_refresh_source_behind_the_data_date_is_delayed():
    found = run(current={"test": PRICES}, data_as_of=date(2020, 3, 31))

    assert found.result.source_delayed


def test_refresh_long_table_with_a_date_column_is_appended_by_date():
    long = (
        PRICES.reset_index().melt(id_vars="date", var_name="asset", value_name="price").sort_values(["date", "asset"])
    )
    long = long.reset_index(drop=True)

    def long_source(*, since: date | None, until: date | None) -> pd.DataFrame:
        return long if since is None else long[long["date"] > pd.Timestamp(since)]

    found = run(callables={"source": long_source}, current={"test": long.iloc[:60]})

    assert found.metrics["rows_inserted"] == 60
    assert found.tables["test"][["asset", "price"]].equals(long[["asset", "price"]])


def test_refresh_transform_gets_the_upstreams_by_role():
    found = run(inputs={"prices": PRICES}, callables={"transform": lambda prices: prices.pct_change().iloc[1:]})

    assert found.tables["test"].equals(PRICES.pct_change().iloc[1:])
    assert found.metrics["rows_inserted"] == 39
    assert [read.role for read in found.result.reads] == ["prices"]


def test_refresh_transform_sees_its_inputs_up_to_the_data_date():
    found = run(inputs={"prices": PRICES}, callables={"transform": lambda prices: prices}, data_as_of=date(2020, 1, 14))

    assert found.tables["test"].equals(PRICES.iloc[:10])


def test_refresh_transform_computes_the_whole_table_again():
    found = run(
        inputs={"prices": PRICES},
        callables={"transform": lambda prices: prices * 2},
        current={"test": PRICES.iloc[:30]},
    )

    assert found.tables["test"].equals(PRICES * 2)
    assert (found.metrics["rows_fetched"], found.metrics["rows_inserted"]) == (40, 10)


def test_refresh_table_without_dates_is_replaced():
    names = pd.DataFrame({"asset": ["A", "B"], "sector": ["x", "y"]})

    found = run(callables={"source": lambda *, since, until: names}, current={"test": names.iloc[:1]})

    assert found.tables["test"]["asset"].tolist() == ["A", "B"]
    assert "rows_inserted" not in found.metrics
