"""The stored distribution of a training sample."""

import math

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from freshline.runs.metrics import Histogram
from freshline.storage.errors import InvalidInput


def test_histogram_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidInput, match="has 2 rows and no value"):
        Histogram.from_sample([math.nan, math.nan])


def test_histogram_of_infinite_values_is_refused() -> None:
    with pytest.raises(InvalidInput, match="has 1 infinite values"):
        Histogram.from_sample([1.0, math.inf])


def test_histogram_of_text_is_refused() -> None:
    with pytest.raises(InvalidInput, match="the training sample must be numbers only"):
        Histogram.from_sample(pd.Series(["a", "b"]))


@pytest.mark.parametrize("bins", [1, 0, -3])
def test_histogram_with_too_few_bins_is_refused(bins: int) -> None:
    with pytest.raises(InvalidInput, match=f"bins={bins}: a histogram needs at least 2"):
        Histogram.from_sample([1.0, 2.0], bins=bins)


@pytest.mark.parametrize(
    ("edges", "counts"),
    [
        ((1.0,), (3,)),
        ((), (3,)),
        ((2.0, 1.0), (1, 1, 1)),
        ((1.0, 1.0), (1, 1, 1)),
        ((1.0,), (-1, 3)),
        ((1.0,), (0, 0)),
        ((math.nan,), (1, 1)),
    ],
    ids=["too-few-counts", "one-bin", "descending", "repeated", "negative", "empty", "nan"],
)
def test_histogram_that_contradicts_itself_is_refused(edges: tuple[float, ...], counts: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError, match="Histogram"):
        Histogram(edges=edges, counts=counts, low_quartile=0.0, high_quartile=1.0)


def test_histogram_has_bins_of_equal_share() -> None:
    histogram = Histogram.from_sample(np.arange(1.0, 101.0), bins=4)

    # The quantiles of 1..100 at 1/4, 1/2, 3/4.
    assert histogram.edges == (25.75, 50.5, 75.25)
    assert histogram.counts == (25, 25, 25, 25)
    assert (histogram.low_quartile, histogram.high_quartile) == (25.75, 75.25)
    assert histogram.rows == 100


def test_histogram_leaves_missing_values_out_of_the_bins_and_counts_them() -> None:
    histogram = Histogram.from_sample(pd.Series([1.0, None, 2.0, 3.0, math.nan]), bins=2)

    assert histogram.counts == (2, 1)
    assert histogram.missing == 2


def test_histogram_puts_values_outside_the_sample_into_the_outer_bins() -> None:
    histogram = Histogram.from_sample(np.arange(1.0, 101.0), bins=4)

    assert histogram.count([-1e9, -math.inf, 1e9, math.inf, math.nan]) == (2, 0, 0, 2)


def test_histogram_puts_a_value_on_an_edge_into_the_lower_bin() -> None:
    histogram = Histogram(edges=(0.0, 1.0), counts=(1, 1, 1), low_quartile=0.0, high_quartile=1.0)

    assert histogram.count([0.0, 1.0, np.nextafter(1.0, 2.0)]) == (1, 1, 1)


def test_histogram_of_two_values_tells_them_apart() -> None:
    histogram = Histogram.from_sample([0.0] * 95 + [1.0] * 5)

    assert histogram.edges == (0.0,)
    assert histogram.counts == (95, 5)


def test_histogram_of_one_frequent_value_keeps_it_in_a_bin_of_its_own() -> None:
    histogram = Histogram.from_sample([0.0] * 60 + list(np.arange(1.0, 41.0)), bins=10)

    assert histogram.edges[0] == 0.0
    assert histogram.counts[0] == 60
    assert sum(histogram.counts) == 100


def test_histogram_whose_largest_value_is_the_frequent_one_tells_the_rest_apart() -> None:
    histogram = Histogram.from_sample([0.0, 0.5] + [1.0] * 98)

    assert histogram.edges == (0.5,)
    assert histogram.counts == (2, 98)


@pytest.mark.parametrize("value", [0.0, 3.5, -1e-300, 1e300])
def test_histogram_of_a_single_value_has_bins_below_and_above(value: float) -> None:
    histogram = Histogram.from_sample([value] * 20)

    assert histogram.counts == (0, 20, 0)
    assert histogram.count([value - abs(value) - 1.0, value, value + abs(value) + 1.0]) == (1, 1, 1)


def test_histogram_round_trips_through_json_exactly() -> None:
    histogram = Histogram.from_sample(np.random.default_rng(0).standard_normal(997), bins=20)

    assert Histogram.model_validate_json(histogram.model_dump_json()) == histogram
    assert Histogram.model_validate(histogram.model_dump(mode="json")) == histogram
