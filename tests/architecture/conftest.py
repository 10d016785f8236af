"""What the tests of the benchmarks share."""

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def small_collections() -> Iterator[None]:
    """A benchmark collects garbage between its rounds: not what all tests before have left."""
    gc.freeze()
    yield
    gc.unfreeze()
