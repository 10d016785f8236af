"""What must be true of the store and of Prefect when all is at rest, whatever was killed before."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from freshline.lineage import staleness
from freshline.lineage.models import Freshness
from freshline.runs.status import LEASED, TERMINAL, TRANSITIONS, RunStatus
from freshline.storage.database import Database
from tests.faults.prefect_stand_in import LossyPrefect
from tests.faults.rest import dispatched_for, under_way
from tests.faults.tables import CAUSE, DEPLOYMENT, EVENT, OUTBOX, RUN, STATE, VERSION

END_OF = {
    "run_completed": RunStatus.COMPLETED,
    "run_failed": RunStatus.FAILED,
    "run_cancelled": RunStatus.CANCELLED,
    "run_skipped": RunStatus.SKIPPED,
    "run_refused": RunStatus.REFUSED,
}
"""The last event of a run -> the status that it ended in."""
STATUS_AFTER = {
    "run_submitted": RunStatus.PENDING,
    "run_waiting": RunStatus.WAITING,
    "run_released": RunStatus.PENDING,
    "run_started": RunStatus.RUNNING,
    "attempt_failed": RunStatus.RETRYING,
    "run_paused": RunStatus.PAUSED,
    "cancel_requested": RunStatus.CANCELLING,
    **END_OF,
}
"""An event that changes the status -> the status after it."""


def faults(database: Database, prefect: LossyPrefect, keys: Mapping[str, str], *, now: datetime) -> list[str]:
    """Every fault, in words; none when all is as it must be."""
    found = under_way(database, prefect)
    with database.read() as connection:
        runs = connection.execute(sa.select(RUN).order_by(RUN.c.id)).all()
        found += _wrong_triggers(connection, runs, prefect, keys)
        found += wrong_records(connection, runs)
        found += [
            f"{entry.topic} of {entry.run_id} was given up: {entry.last_error}"
            for entry in connection.execute(sa.select(OUTBOX).where(OUTBOX.c.state == "dead"))
        ]
    return found + wrong_freshness(database, now=now)


def wrong_records(
    connection: Connection, runs: Sequence[Row[Any]], seen: Mapping[UUID, Row[Any]] | None = None
) -> list[str]:
    """What is wrong with these rows, their logs and versions at any moment, also after what was `seen` before."""
    return [*_wrong_rows(runs, seen or {}), *_wrong_events(connection, runs), *_wrong_versions(connection, runs)]


def _wrong_triggers(
    connection: Connection, runs: Sequence[Row[Any]], prefect: LossyPrefect, keys: Mapping[str, str]
) -> Iterator[str]:
    """Each submission and each start in Prefect has exactly one run, each dispatched run one flow run."""
    key_of = dict(connection.execute(sa.select(DEPLOYMENT.c.id, DEPLOYMENT.c.key)).all())
    by_key = defaultdict(list)
    by_flow_run = defaultdict(list)
    for run in runs:
        by_key[run.idempotency_key].append(run)
        by_flow_run[run.flow_run_id].append(run)
    for key, deployment in keys.items():
        if [key_of[run.deployment_id] for run in by_key[key]] != [deployment]:
            yield f"the submission {key} of {deployment} has {len(by_key[key])} runs"
    yield from (f"a run came with the key {key}, which nobody used" for key in by_key.keys() - keys.keys() - {None})
    by_id = {run.id: run for run in runs}
    dispatched: Counter[UUID] = Counter()
    for flow_run in prefect.flow_runs():
        own = by_flow_run[flow_run.id]
        run_id = dispatched_for(flow_run)
        if run_id is not None:
            dispatched[run_id] += 1
            first = by_id.get(run_id)
            if first is not None and first.flow_run_id is None and first.ended_at is not None:
                own = [first, *own]  # it had ended before its flow run's id was known
            if run_id not in {run.id for run in own}:
                yield f"the flow run {flow_run.name} was dispatched for {run_id} and belongs to another run"
        generations = sorted(run.generation for run in own)
        if generations != list(range(len(generations))):
            yield f"the flow run {flow_run.name} has the generations {generations}"
        if sum(run.attempt for run in own) > prefect.starts[flow_run.id]:
            yield f"the flow run {flow_run.name} has runs whose bodies began without its being started"
        for run in own:
            if run.generation and run.retry_of not in {other.id for other in own}:
                yield f"the run {run.id} of generation {run.generation} does not say which run it starts again"
    yield from (f"{count} flow runs were created for {run_id}" for run_id, count in dispatched.items() if count > 1)


def _wrong_events(connection: Connection, runs: Sequence[Row[Any]]) -> Iterator[str]:
    """Events are numbered from 1 without gaps; the last one, and only that, is the end that the row says."""
    logs = defaultdict(list)
    for event in connection.execute(sa.select(EVENT).order_by(EVENT.c.run_id, EVENT.c.seq)):
        logs[event.run_id].append(event)
    for run in runs:
        log = logs.pop(run.id, [])
        numbers = [event.seq for event in log]
        if numbers != list(range(1, run.last_seq + 1)):
            yield f"the run {run.id} has the events {numbers} and counts {run.last_seq}"
        ends = [END_OF[event.kind] for event in log if event.kind in END_OF]
        if run.ended_at is not None and (ends != [run.status] or log[-1].kind not in END_OF):
            yield f"the run {run.id} is {run.status}; its log says {[event.kind for event in log]}"
        if wrong := _wrong_path(run, [event.kind for event in log]):
            yield wrong
        starts = [event.payload for event in log if event.kind == "run_started"]
        if len(starts) != run.attempt or (starts and starts[-1]["fence"] != run.fence):
            yield f"the run {run.id} has attempt {run.attempt} and fence {run.fence}; its log says {starts}"
        fences = [start["fence"] for start in starts]
        if fences != sorted(set(fences)):
            yield f"the fence of {run.id} did not grow: {fences}"
    yield from (f"there are events of {run_id}, which does not exist" for run_id in logs)


def _wrong_rows(runs: Sequence[Row[Any]], seen: Mapping[UUID, Row[Any]]) -> Iterator[str]:
    """What a row must never say, alone or after what was `seen` of it before."""
    by_flow_run = defaultdict(list)
    for run in runs:
        if (run.ended_at is not None, run.stop_reason is not None) != (run.status in TERMINAL,) * 2:
            yield f"the run {run.id} is {run.status}, ended at {run.ended_at} for {run.stop_reason}"
        if (run.lease_until is not None) != (run.status in LEASED):
            yield f"the run {run.id} is {run.status} and its lease ends at {run.lease_until}"
        before = seen.get(run.id)
        if before is not None and before.ended_at is not None and before != run:
            yield f"the run {run.id} had ended as {before}, and is now {run}"
        if before is not None and (run.fence or 0) < (before.fence or 0):
            yield f"the fence of {run.id} went from {before.fence} to {run.fence}"
        by_flow_run[run.flow_run_id].append(run.generation)
    yield from (f"the run {run_id} is gone" for run_id in seen.keys() - {run.id for run in runs})
    for flow_run_id, generations in by_flow_run.items():
        if flow_run_id is not None and len(set(generations)) != len(generations):
            yield f"the flow run {flow_run_id} has two runs of one generation: {generations}"


def _wrong_path(run: Row[Any], kinds: Sequence[str]) -> str | None:
    """Say where the statuses that the log tells of leave the diagram."""
    at = RunStatus.PENDING
    for kind in kinds:
        after = STATUS_AFTER.get(kind, at)
        # A run that runs may be started again by its infrastructure.
        if after != at and after not in TRANSITIONS[at]:
            return f"the run {run.id} went from {at} to {after}: {kinds}"
        at = after
    return None if at == run.status else f"the run {run.id} is {run.status}; its log says {kinds}"


def _wrong_versions(connection: Connection, runs: Sequence[Row[Any]]) -> Iterator[str]:
    """One version per completed run, numbered without gaps; the pointer is at the highest fence."""
    by_run = {run.id: run for run in runs}
    versions = connection.execute(sa.select(VERSION).order_by(VERSION.c.deployment_id, VERSION.c.number)).all()
    published = Counter(version.run_id for version in versions)
    for run in runs:
        if published[run.id] != (run.status == RunStatus.COMPLETED):
            yield f"the run {run.id} is {run.status} and published {published[run.id]} versions"
    numbers = defaultdict(list)
    for version in versions:
        numbers[version.deployment_id].append(version)
        run = by_run.get(version.run_id)
        if run is None or (run.version_id, run.fence) != (version.id, version.fence):
            yield f"the version {version.number} with fence {version.fence} was not published by the holder of its run"
    for state in connection.execute(sa.select(STATE)):
        own = numbers[state.deployment_id]
        if [version.number for version in own] != list(range(1, state.next_number + 1)):
            yield f"{state.deployment_id} has the versions {[version.number for version in own]} of {state.next_number}"
        newest = max(own, key=lambda version: version.fence, default=None)
        if (newest.id if newest else None, newest.fence if newest else 0) != (state.version_id, state.fence):
            yield f"the current version of {state.deployment_id} has fence {state.fence}: not the newest one"


def wrong_freshness(database: Database, *, now: datetime) -> list[str]:
    """Where the stored freshness and causes are not what the rule says of the facts as they are."""
    found: list[str] = []
    with database.transaction() as connection:
        before = _causes(connection)
        ids = list(connection.execute(sa.select(DEPLOYMENT.c.id)).scalars())
        for change in staleness.propagate(connection, ids, now=now):
            found.append(f"{change.deployment_id} is stored as {change.before}, and is {change.after}")
        after = _causes(connection)
        if before != after:
            found.append(f"the stored causes {before - after} have no reason; {after - before} are missing")
        ready = STATE.c.freshness.in_([Freshness.READY, Freshness.SOURCE_DELAYED])
        query = sa.select(CAUSE.c.deployment_id).join(STATE, STATE.c.deployment_id == CAUSE.c.deployment_id)
        found += [f"{one} is ready in spite of a cause" for one in connection.execute(query.where(ready)).scalars()]
        connection.rollback()
    return found


def _causes(connection: Connection) -> set[tuple[Any, ...]]:
    columns = (CAUSE.c.deployment_id, CAUSE.c.kind, CAUSE.c.role, CAUSE.c.upstream_id, CAUSE.c.origin_version_id)
    return {tuple(row) for row in connection.execute(sa.select(*columns))}
