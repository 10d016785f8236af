"""The main job, run once through a real Prefect server and worker: the blocks of the tutorial, in order.

`freshline demo` runs the same steps; it is run whole from an installed wheel.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from freshline.lineage.reasons import Explanation
from freshline.runs.demo import CATALOGUE
from freshline.runs.embedded import Embedded, embedded
from freshline.runs.models import Run
from freshline.runs.queries import RunReport
from tests.acceptance.ways import ways  # noqa: F401 - a fixture
from tests.pages import code, read


@dataclass(frozen=True)
class MainJob:
    """The stack, still up, and what the tutorial left."""

    embedded: Embedded
    early: Run
    """Submitted before anything had a version."""
    first: Sequence[tuple[str, Run]]
    """(deployment, run) of the first pass, oldest first, without the early one."""
    book: RunReport
    became_stale: Sequence[Explanation]
    """After the new prices, before the book ran again."""
    second: Sequence[tuple[str, Run]]
    """(deployment, run) from the new prices on, oldest first."""
    prices: RunReport
    book_again: RunReport


@pytest.fixture(scope="module")
def main_job(stack_directory: Callable[[str], Path]) -> Iterator[MainJob]:
    """Deploy the shipped catalogue and do what the tutorial says; down again when its module is done."""
    with embedded(
        stack_directory("main-job"), isolated=True, reconcile_s=5.0, page_url="http://127.0.0.1:4280"
    ) as stack:
        stack.deploy(CATALOGUE, schedules=False)
        left: dict[str, Any] = {"stack": stack}
        for block in code(read("tutorials/the-chain.md"), "python", title=""):
            exec(block, left)
        runs = [found for found in reversed(stack.queries.runs(limit=100)) if found[1].id != left["early"].id]
        yield MainJob(
            embedded=stack,
            early=left["early"],
            first=[found for found in runs if found[1].id < left["prices"].id],
            book=left["book"],
            became_stale=left["stale"],
            second=[found for found in runs if found[1].id >= left["prices"].id],
            prices=stack.queries.report(left["prices"].id),
            book_again=left["again"],
        )
