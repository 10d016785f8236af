"""Which runs can be the answer at all, where an index says that they are few.

Runs are read in their order until a page is full. Where few of a million hold, that may be all of them, and no database
has statistics that say so for sure: it is tried out, through the index of each condition, with a bound.
"""

from collections.abc import Iterator
from uuid import UUID

import sqlalchemy as sa

from .compiling import Compiler
from .grammar import Comparison, Condition, Joined

FEW = 1_000
"""As many can be looked at one by one within a page's time."""


def few_runs(compiler: Compiler, condition: Condition) -> list[UUID] | None:
    """Return the runs among which all are for which the condition holds, if they are few and an index knows them.

    Raises:
        SearchError: the condition names what is not there.
    """
    for comparison in _needed(condition):
        rows = compiler.rows(comparison)
        if rows is None:
            continue
        run_id, holds = rows
        found = list(compiler.connection.execute(sa.select(run_id).where(*holds).limit(FEW + 1)).scalars())
        if len(found) <= FEW:
            return found
    return None


def _needed(condition: Condition) -> Iterator[Comparison]:
    """Yield the comparisons that have to hold, whatever else does."""
    if isinstance(condition, Comparison):
        yield condition
    elif isinstance(condition, Joined) and condition.is_all:
        for item in condition.items:
            yield from _needed(item)
