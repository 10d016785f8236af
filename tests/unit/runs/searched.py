"""Runs to search through: made from a seed, the same on both databases, and known as plain Python records as well."""

import math
import random
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from freshline.runs.details import run_type
from freshline.runs.models import Metric, Run, RunInput
from freshline.runs.status import LEASED, TERMINAL, RunStatus, StopReason
from freshline.storage.database import Database
from freshline.storage.words import Trigger
from tests.factories import START, Graph, declared

KEYS = ("refresh/prices", "refresh/momentum", "backtest/book")
NAMES = ("sharpe_ratio", "loss", "val loss", "o'clock", "100%")
NUMBERS = (-1.5, -0.0, 0.0, 0.1, 0.5, 1.0, 2.0, 3.0, 1e300, math.inf, -math.inf, math.nan)
TEXTS = (
    *(
        "a",
        "A",
        "b",
        "ab",
        "a%b",
        "a_b",
        "100%",
        "\\",
        "\\%",
        "it's",
        'say "x"',
        "*",
        "?",
        "[a]",
        "~a",
        "",
        " ",
        "é",
        "😀",
    ),
    *("'; DROP TABLE run; --", "' OR '1'='1", "{}", "null", "$.a", "%(a)s", ":a", "line\nbreak"),
)
PARAMETERS = ("days", "name", "flag", "nested", "odd key", "listed")


@dataclass
class Known:
    """What is known of a run that was written."""

    id: UUID
    deployment: str
    status: str
    stop_reason: str | None
    trigger: str
    actor: str
    error_message: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    duration_ns: int | None
    data_as_of: date | None
    progress: float | None
    attempt: int
    background: bool
    tags: list[str]
    parameters: dict[str, Any]
    metrics: dict[str, float] = field(default_factory=dict)
    inputs: list[tuple[str, int]] = field(default_factory=list)
    is_deleted: bool = False


def known_runs(seed: int, count: int) -> list[Known]:
    """Return runs of every status with odd texts and numbers; of each kind of value some have none."""
    chance = random.Random(seed)
    return [_known(chance, number) for number in range(count)]


def write(database: Database, runs: list[Known]) -> None:
    """Write these runs to a store of which nobody has written anything."""
    graph = Graph(database, *(declared(key) for key in KEYS))
    versions = {
        ("refresh/prices", number): graph.publish("refresh/prices", f"p{number}").version_id for number in (1, 2, 3)
    }
    add(database, runs, {key: graph.id(key) for key in KEYS}, versions)


def add(
    database: Database, runs: list[Known], deployments: dict[str, UUID], versions: dict[tuple[str, int], UUID]
) -> None:
    """Write more runs to a store that has their deployments and versions."""
    now = START
    rows = [_row(run, deployments[run.deployment]) for run in runs]
    metrics = [
        {"run_id": run.id, "name": name, "value": None if math.isnan(value) else value, "at": now, "convention": None}
        for run in runs
        for name, value in run.metrics.items()
    ]
    inputs = [
        {
            "run_id": run.id,
            "role": f"role{place}",
            "upstream_id": deployments[key],
            "version_id": versions[key, number],
            "pinned": True,
            "read": False,
        }
        for run in runs
        for place, (key, number) in enumerate(run.inputs)
    ]
    with database.transaction() as connection:
        for model, written in ((Run, rows), (Metric, metrics), (RunInput, inputs)):
            if written:
                connection.execute(sa.insert(model.__table__), written)


def _known(chance: random.Random, number: int) -> Known:
    status = chance.choice(list(RunStatus))
    created = START - timedelta(hours=chance.choice((0, 1, 24, 24 * 7, 24 * 8, 24 * 30)), microseconds=number)
    is_ended = status in TERMINAL
    started = created + timedelta(seconds=chance.choice((0, 5))) if chance.random() < 0.7 else None
    took = chance.choice((0, 1, 90, 3600, 7200))
    return Known(
        # By the number alone: the order of the ids is not that of the times.
        id=UUID(int=(0x01900000_0000_7000_8000 << 48) + number),
        deployment=chance.choice(KEYS),
        status=status.value,
        stop_reason=chance.choice(list(StopReason)).value if is_ended else None,
        trigger=chance.choice(list(Trigger)).value,
        actor=chance.choice(TEXTS),
        error_message=chance.choice((None, *TEXTS)),
        created_at=created,
        started_at=started,
        ended_at=created + timedelta(hours=3) if is_ended else None,
        duration_ns=took * 10**9 if is_ended and started else None,
        data_as_of=chance.choice((None, START.date(), START.date() - timedelta(days=7))),
        progress=chance.choice((None, 0.0, 0.5, 1.0)),
        attempt=chance.choice((0, 1, 2)),
        background=chance.random() < 0.5,
        tags=chance.sample((*TEXTS, "team=quant", "team:quant", "team=x"), chance.choice((0, 1, 3))),
        parameters=_parameters(chance),
        metrics={name: chance.choice(NUMBERS) for name in NAMES if chance.random() < 0.6},
        inputs=[("refresh/prices", chance.choice((1, 2, 3)))] if chance.random() < 0.5 else [],
        is_deleted=is_ended and chance.random() < 0.1,
    )


def _parameters(chance: random.Random) -> dict[str, Any]:
    scalar = (None, True, False, 0, 1, 20, -3, 0.5, 20.0, 10**15, *TEXTS)
    made: dict[str, Any] = {}
    for name in PARAMETERS:
        if chance.random() < 0.5:
            made[name] = chance.choice(scalar)
    if chance.random() < 0.5:
        made["nested"] = {"days": chance.choice(scalar), "deep": {"name": chance.choice(scalar)}}
    if chance.random() < 0.5:
        made["listed"] = chance.sample(scalar, 3)
    return made


def _row(run: Known, deployment_id: UUID) -> dict[str, Any]:
    kind = run.deployment.partition("/")[0]
    return {
        "id": run.id,
        "tenant_id": "default",
        "project": "default",
        "deployment_id": deployment_id,
        "partition": "",
        "type": run_type(kind),
        "kind": kind,
        "trigger": run.trigger,
        "actor": run.actor,
        "generation": 0,
        "status": run.status,
        "stop_reason": run.stop_reason,
        "parameters": run.parameters,
        "request": {},
        "metadata": {},
        "background": run.background,
        "tags": run.tags,
        "data_as_of": run.data_as_of,
        "attempt": run.attempt,
        "lease_until": START if run.status in LEASED else None,
        "progress": run.progress,
        "error_message": run.error_message,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "duration_ns": run.duration_ns,
        "last_seq": 0,
        "deleted_at": START if run.is_deleted else None,
    }
