"""The main job, run once per session through a real Prefect server and worker; the tests look at what it left."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from freshline.runs.demo import CATALOGUE, Demo, FirstPass, SecondPass
from freshline.runs.embedded import Embedded, embedded


@dataclass(frozen=True)
class MainJob:
    """The stack, still up, and what the two passes returned."""

    embedded: Embedded
    first: FirstPass
    second: SecondPass


@pytest.fixture(scope="session")
def main_job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MainJob]:
    """Deploy the shipped catalogue and run the scenario of `freshline demo`."""
    with embedded(tmp_path_factory.mktemp("main-job"), isolated=True, reconcile_s=5.0) as stack:
        stack.deploy(CATALOGUE, schedules=False)
        demo = Demo(stack)
        yield MainJob(stack, demo.first_pass(), demo.second_pass())
