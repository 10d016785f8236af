"""A long list in parts: for statements that name each item, and for work that may be interrupted between them."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

NAMED = 500
"""So many items a statement may name one by one."""


def in_parts(items: Sequence[T], most: int = NAMED) -> Iterator[Sequence[T]]:
    """Yield the items in their order, at most so many at a time."""
    for start in range(0, len(items), most):
        yield items[start : start + most]
