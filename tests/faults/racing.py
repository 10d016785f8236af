"""Two processes that race for the end of a run: one cancels it and stops its body, the other completes it.

Nothing is shared but the store: they meet before each race, wait a little each, and go.
"""

import multiprocessing
import random
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any
from uuid import UUID

from freshline.runs.execution import RunExecution
from freshline.runs.result import Result
from freshline.runs.service import RunExecutionService
from freshline.storage.database import Database
from freshline.storage.errors import Fenced, IllegalTransition
from tests.faults.acts import content

_SPREAD_S = 0.005
"""Each side waits up to this long after they have met: about as long as either side takes."""
_ANSWER_S = 120.0
_SPAWNS = multiprocessing.get_context("forkserver")
_SPAWNS.set_forkserver_preload(["tests.faults.acts"])

Lap = Sequence[tuple[UUID, int]]
"""Runs that are running, each with the fence that holds it."""


class Racers:
    """The two processes."""

    def __init__(self, url: str, seed: int) -> None:
        # Kept: a process that starts looks it up by its name.
        self._start = _SPAWNS.Barrier(2)
        self._sides = []
        for side in (_cancel, _complete):
            ours, theirs = _SPAWNS.Pipe()
            process = _SPAWNS.Process(
                target=_race, args=(side, theirs, url, self._start, f"{side.__name__} {seed}"), daemon=True
            )
            process.start()
            theirs.close()
            self._sides.append((process, ours))

    def run(self, lap: Lap) -> list[tuple[str, str]]:
        """Let them race for each of these runs; return what (the canceller, the completer) was told, run by run."""
        for _, conversation in self._sides:
            conversation.send(lap)
        told = []
        for process, conversation in self._sides:
            assert conversation.poll(_ANSWER_S), f"a racer did not answer; it ended with {process.exitcode}"
            told.append(conversation.recv())
        return list(zip(*told, strict=True))

    def close(self) -> None:
        """End both processes."""
        for process, conversation in self._sides:
            conversation.close()
            process.kill()
            process.join()
            process.close()


def _race(side: Any, laps: Connection, url: str, start: Any, seed: str) -> None:
    database = Database(url, sqlite_synchronous="OFF", pool_size=1)
    jitter = random.Random(seed)
    # To cancel takes two transactions, to complete one.
    spread_s = _SPREAD_S if side is _cancel else 2 * _SPREAD_S
    while True:
        try:
            lap: Lap = laps.recv()
        except EOFError:
            return
        told = []
        for run_id, fence in lap:
            start.wait(_ANSWER_S)
            go_at = time.perf_counter() + jitter.uniform(0, spread_s)
            while time.perf_counter() < go_at:
                continue  # a sleep would end in steps that are longer than the race
            told.append(side(database, run_id, fence))
        laps.send(told)


def _cancel(database: Database, run_id: UUID, fence: int) -> str:
    """Somebody cancels; the worker notices, and its body stops."""
    try:
        RunExecutionService(database).cancel(run_id, actor="somebody")
    except IllegalTransition:
        return "too late"
    try:
        ended = RunExecution(database).acknowledge_cancel(run_id, fence)
    except Fenced:
        ended = None
    return "completed meanwhile" if ended is None else ended.status


def _complete(database: Database, run_id: UUID, fence: int) -> str:
    """The body returned."""
    try:
        return RunExecution(database).complete(run_id, fence, Result(artifacts=[content(str(run_id))])).status
    except Fenced:
        return "fenced"
