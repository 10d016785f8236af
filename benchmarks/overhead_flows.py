"""The flows whose time is measured: one task that does nothing, in a plain flow and in a tracked one.

Copied into a project of its own, from where the tracked one is deployed: imports nothing of the benchmarks.
"""
# ruff: noqa: ARG001 - the parameters are there to be recorded

import time

from prefect import flow, task

from freshline.flows import RunContext, track


@task
def nothing() -> None:
    """Do nothing."""


@flow
def plain(
    *, asleep_ms: float, p0: int, p1: int, p2: int, p3: int, p4: int, p5: int, p6: int, p7: int, p8: int, p9: int
) -> None:
    """Run the task; the control sleeps for a known time."""
    time.sleep(asleep_ms / 1000)
    nothing()


@flow
@track.refresh
def tracked(
    run: RunContext, *, p0: int, p1: int, p2: int, p3: int, p4: int, p5: int, p6: int, p7: int, p8: int, p9: int
) -> None:
    """Run the task, and log 10 metrics."""
    run.log(**{f"m{number}": number * 0.5 for number in range(10)})
    nothing()
