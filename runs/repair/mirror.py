"""Keeps the steps of the runs as Prefect's task runs are.

Reads a batch of flow runs at once, and writes only the runs of which Prefect says something new.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

from sqlalchemy.engine import Connection, Row

from ...deployments.gateway import Gateway, TaskRunFacts
from ...storage.database import Database
from ...storage.parts import in_parts
from .. import steps

_BATCH = 200
_LATE = timedelta(minutes=10)
"""How long after a run's end Prefect may still hear of its task runs."""
_LOOK_BACK = timedelta(hours=24)


@dataclass
class Mirror:
    """Records steps of the runs that are under way, and of those that have just ended."""

    database: Database
    gateway: Gateway
    _looked_at: datetime | None = None
    """The last pass that came through."""

    def pass_once(self) -> int:
        """Record what is new; return of how many runs.

        Raises:
            PrefectError: Prefect cannot be reached.
        """
        with self.database.read() as connection:
            now = self.database.now(connection)
            # What ended while nobody looked is looked at now.
            since = now - _LOOK_BACK if self._looked_at is None else max(now - _LOOK_BACK, self._looked_at - _LATE)
            flow_runs = steps.flow_runs_to_mirror(connection, since=since)
        changed = sum(self._mirror(part, now=now) for part in in_parts(flow_runs, _BATCH))
        self._looked_at = now
        return changed

    def _mirror(self, flow_run_ids: Sequence[UUID], *, now: datetime) -> int:
        facts = self.gateway.read_task_runs(flow_run_ids)
        with self.database.read() as connection:
            runs = steps.runs_of_flow_runs(connection, flow_run_ids)
            stored: dict[UUID, dict[UUID, Row[Any]]] = defaultdict(dict)
            for row in steps.steps_of(connection, [run.id for run in runs]):
                stored[row.run_id][row.task_run_id] = row
        facts_of = _facts_of_runs(runs, stored, facts)
        changed = 0
        for run in runs:
            if run.erased_at is not None:
                continue  # what Prefect still has of it does not come back
            is_late = run.ended_at is not None and run.ended_at <= now - _LATE
            has_open = any(row.status in steps.OPEN for row in stored[run.id].values())
            if steps.news(stored[run.id].values(), facts_of[run.id]) or (is_late and has_open):
                self.database.write(_Recording(run.id, facts_of[run.id], is_late=is_late))
                changed += 1
        return changed


@dataclass(frozen=True)
class _Recording:
    """One run, one small transaction."""

    run_id: UUID
    facts: Sequence[TaskRunFacts]
    is_late: bool

    def __call__(self, connection: Connection) -> None:
        steps.record(connection, self.run_id, self.facts)
        if self.is_late:
            steps.give_up(connection, self.run_id)


def _facts_of_runs(
    runs: Iterable[Row[Any]], stored: Mapping[UUID, Mapping[UUID, Row[Any]]], facts: Iterable[TaskRunFacts]
) -> dict[UUID, list[TaskRunFacts]]:
    """Share the task runs out among the runs.

    A flow run that was started again after its run had ended has several, one behind the other: a task run belongs to
    the one that has its step already, else to the last one that was there when it started.
    """
    generations: dict[UUID, list[Row[Any]]] = defaultdict(list)
    for run in runs:
        generations[run.flow_run_id].append(run)
    shared: dict[UUID, list[TaskRunFacts]] = defaultdict(list)
    for one in facts:
        followers = generations[one.flow_run_id]
        holder = next((run for run in followers if one.id in stored.get(run.id, {})), None)
        if holder is None:
            holder = next(
                (
                    before
                    for before, after in pairwise(followers)
                    if one.started_at and one.started_at < after.created_at
                ),
                followers[-1],
            )
        shared[holder.id].append(one)
    return shared
