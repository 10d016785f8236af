"""Processes that complete runs of one graph at the same time; nothing is shared but the store."""

import multiprocessing
import random
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import sqlalchemy as sa

from freshline.runs.execution import Claim, RunExecution
from freshline.runs.result import Read, Result
from freshline.runs.service import RunExecutionService
from freshline.storage.database import Database
from freshline.storage.faults import watched
from tests.faults.acts import content
from tests.faults.tables import DEPLOYMENT, STATE

_ANSWER_S = 600.0
_MOST_OPEN = 3
"""Runs that a process keeps under way, so that they complete in another order than they were claimed."""
_CONTENTS = 3
"""As few as this, so that equal content and returns to earlier content are frequent."""
_SPAWNS = multiprocessing.get_context("forkserver")
_SPAWNS.set_forkserver_preload(["tests.faults.acts"])


def complete_at_once(
    url: str, keys: Sequence[str], *, processes: int, each: int, seed: int, share_of_others: float
) -> Counter[str]:
    """Let processes claim and complete this many runs each, of deployments chosen at random.

    This share of the runs also reads one that comes before its own deployment in `keys`, declared or not: an edge
    arises then. Return how often what happened: each stop reason, and `again` for each transaction done again.

    Raises:
        AssertionError: a process met an error; the message is its traceback.
    """
    # Kept: a process that starts looks it up by its name.
    start = _SPAWNS.Barrier(processes)
    crowd = []
    for number in range(processes):
        ours, theirs = _SPAWNS.Pipe()
        facts = (theirs, url, keys, start, each, f"{seed} {number}", share_of_others)
        process = _SPAWNS.Process(target=_complete_many, args=facts, daemon=True)
        process.start()
        theirs.close()
        crowd.append((process, ours))
    happened: Counter[str] = Counter()
    try:
        for process, ours in crowd:
            assert ours.poll(_ANSWER_S), f"a process did not answer; it ended with {process.exitcode}"
            told = ours.recv()
            assert isinstance(told, Counter), told
            happened += told
    finally:
        for process, ours in crowd:
            ours.close()
            process.join(10)
            process.kill()
            process.join()
            process.close()
    return happened


def _complete_many(
    told: Connection, url: str, keys: Sequence[str], start: Any, each: int, seed: str, share_of_others: float
) -> None:
    database = Database(url, sqlite_synchronous="OFF", pool_size=1)
    member = _Member(database, keys, random.Random(seed), share_of_others)
    try:
        start.wait(_ANSWER_S)
        told.send(member.complete(each))
    except Exception:
        told.send(traceback.format_exc())
        start.abort()
    finally:
        database.dispose()


@dataclass
class _Member:
    """What one process does."""

    database: Database
    keys: Sequence[str]
    chance: random.Random
    share_of_others: float

    def __post_init__(self) -> None:
        self.execution = RunExecution(self.database)

    def complete(self, count: int) -> Counter[str]:
        """Claim and complete this many runs, some of them in another order; return what happened."""
        service = RunExecutionService(self.database)
        happened: Counter[str] = Counter()
        under_way: list[Claim] = []
        with watched(lambda point: happened.update([point])):
            for _ in range(count):
                submitted = service.submit(self.chance.choice(self.keys), on_stale="force")
                under_way.append(self.execution.claim(submitted.id, worker="one"))
                if len(under_way) >= self.chance.randint(1, _MOST_OPEN):
                    happened[self._end(under_way.pop(self.chance.randrange(len(under_way))))] += 1
            while under_way:
                happened[self._end(under_way.pop())] += 1
        again = happened["complete.begun"] - happened["complete.begin"]
        again += happened["claim.ensured"] - happened["claim.begin"]
        return Counter({"completed": happened["completed"], "superseded": happened["superseded"], "again": again})

    def _end(self, claim: Claim) -> str:
        reads = {pin.role: Read(pin.role, pin.upstream_id, pin.version_id) for pin in claim.pins}
        if self.chance.random() < self.share_of_others:
            reads = self._other(claim.deployment.key) | reads
        text = f"{claim.deployment.key} {self.chance.randrange(_CONTENTS)}"
        result = Result(artifacts=[content(text)], reads=list(reads.values()))
        return str(self.execution.complete(claim.run.id, claim.run.fence, result).stop_reason)

    def _other(self, key: str) -> dict[str, Read]:
        """What a body reads that it did not declare: the current version of a deployment before its own."""
        before = self.keys[: self.keys.index(key)]
        if not before:
            return {}
        role = self.chance.choice(before)
        query = sa.select(STATE.c.deployment_id, STATE.c.version_id).join(
            DEPLOYMENT, DEPLOYMENT.c.id == STATE.c.deployment_id
        )
        with self.database.read() as connection:
            found = connection.execute(query.where(DEPLOYMENT.c.key == role)).one()
        return {} if found.version_id is None else {role: Read(role, found.deployment_id, found.version_id)}
