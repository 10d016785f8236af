"""What `run.log` takes, and what it refuses before anything is kept."""

import math
import multiprocessing
import threading
from decimal import Decimal

import numpy as np
import pytest

from freshline.flows.series import MetricSeries
from freshline.storage.errors import InvalidInput


def points(series: MetricSeries) -> list[tuple[str, int, float]]:
    return [(name, step, value) for name, step, value, _ in series.take()]


@pytest.mark.parametrize(
    "value",
    ["3", b"3", None, [1.0], np.array([1.0]), 1j, object(), 10**400, Decimal("sNaN")],
    ids=lambda value: type(value).__name__,
)
def test_value_that_is_no_number_is_refused_and_nothing_is_kept(value):
    series = MetricSeries()
    with pytest.raises(InvalidInput, match="loss"):
        series.add(None, {"good": 1.0, "loss": value})
    assert (points(series), series.latest) == ([], {})


@pytest.mark.parametrize("name", ["", "a\nb", "a\0b", "x" * 251, "\ud800", 1])
def test_name_that_cannot_be_used_is_refused_and_nothing_is_kept(name):
    series = MetricSeries()
    with pytest.raises(InvalidInput, match="1 to 250 printable characters"):
        series.add(None, {"good": 1.0, name: 1.0})
    assert points(series) == []


@pytest.mark.parametrize("step", [2**63, -(2**63) - 1, 1.5, "1", True, np.uint64(2**63), None.__class__])
def test_step_that_is_no_whole_number_of_64_bits_is_refused(step):
    series = MetricSeries()
    with pytest.raises(InvalidInput, match="step"):
        series.add(step, {"loss": 1.0})
    assert points(series) == []


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (1, 1.0), (True, 1.0), (np.float32(0.5), 0.5), (np.int64(3), 3.0), (np.bool_(True), 1.0),
        (Decimal("0.1"), 0.1), (np.array(2.5), 2.5), (math.inf, math.inf), (-math.inf, -math.inf),
    ],
)  # fmt: skip
def test_numbers_of_every_sort_are_floats(given, kept):
    series = MetricSeries()
    series.add(None, {"loss": given})
    ((_, _, value),) = points(series)
    assert (type(value), value) == (float, kept)


def test_nan_is_a_value():
    series = MetricSeries()
    series.add(None, {"loss": math.nan})
    assert math.isnan(points(series)[0][2])


def test_step_that_is_not_given_counts_on_for_each_metric():
    series = MetricSeries()
    series.add(None, {"loss": 3.0})
    series.add(np.int32(7), {"loss": 2.0, "ic": 0.1})
    series.add(None, {"loss": 1.0, "ic": 0.2})
    series.add(2, {"loss": 0.5})
    series.add(None, {"loss": 0.4})
    assert points(series) == [
        ("loss", 0, 3.0), ("loss", 7, 2.0), ("ic", 7, 0.1), ("loss", 8, 1.0), ("ic", 8, 0.2), ("loss", 2, 0.5),
        ("loss", 3, 0.4),
    ]  # fmt: skip
    assert series.latest == {"loss": 0.4, "ic": 0.2}


def test_metric_at_the_last_step_needs_a_step():
    series = MetricSeries()
    series.add(2**63 - 1, {"loss": 1.0})
    series.add(None, {"other": 1.0})
    with pytest.raises(InvalidInput, match="'loss' has reached the last step"):
        series.add(None, {"other": 2.0, "loss": 2.0})
    series.add(-(2**63), {"loss": 3.0})
    assert [step for _, step, _ in points(series)] == [2**63 - 1, 0, -(2**63)]


def test_several_threads_log_without_loss():
    series, taken = MetricSeries(), []

    def log() -> None:
        for number in range(500):
            series.add(None, {"loss": float(number), "ic": 1.0})

    threads = [threading.Thread(target=log) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        taken += series.take()
    taken += series.take()
    assert len(taken) == 4000
    assert sorted(step for name, step, _, _ in taken if name == "loss") == list(range(2000))


def test_notice_is_given_for_the_first_value_and_when_many_wait():
    noticed: list[int] = []
    series = MetricSeries(lambda: noticed.append(len(series)))
    wide = {f"m{number}": 1.0 for number in range(4096)}
    for _ in range(17):
        series.add(None, wide)
    assert noticed == [4096, 65_536]
    series.take()
    for _ in range(17):
        series.add(None, wide)
    assert noticed == [4096, 65_536, 65_536]


def test_another_process_cannot_log():
    series = MetricSeries()
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()

    def log() -> None:
        try:
            series.add(None, {"loss": 1.0})
        except InvalidInput as error:
            queue.put(str(error))

    child = context.Process(target=log)
    child.start()
    child.join(30)
    assert "return the values from the task" in queue.get()
