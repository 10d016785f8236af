"""What the steps of a history are made of: their form, the store that they are played on, and what runs publish."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa

from freshline.lineage.models import VersionAct
from freshline.storage.artifacts import ArtifactRecord
from freshline.storage.database import Database
from freshline.storage.stored import StoredTable
from tests.faults.example import Clock
from tests.oracle.oracle import Policy

POLICIES = (
    None,
    Policy(timedelta(days=1)),
    Policy(timedelta(hours=8), grace=timedelta(hours=2)),
    Policy(timedelta(days=2), of_data=True),
)


class Step(NamedTuple):
    """What happens, and four numbers that say to what."""

    act: str
    a: int = 0
    b: int = 0
    c: int = 0
    d: int = 0


@dataclass(frozen=True)
class OpenRun:
    """A run that has pinned its inputs and has not ended."""

    key: str
    run_id: UUID
    fence: int
    base: UUID | None
    """The version that was current when it was claimed."""
    built_with: str
    pins: Mapping[str, UUID]


def open_store(url: str, clock: Clock) -> Database:
    """Open a store in which one history after another is played: what is kept for good elsewhere is emptied here."""
    database = Database(url, clock=clock, sqlite_synchronous="OFF")
    kept = VersionAct.__tablename__
    with database.transaction() as connection:
        if database.dialect == "postgresql":
            connection.execute(sa.text(f"ALTER TABLE {kept} DISABLE TRIGGER USER"))
        else:
            query = sa.text("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = :kept")
            for name in connection.execute(query, {"kept": kept}).scalars().all():
                connection.execute(sa.text(f"DROP TRIGGER {name}"))
    return database


class Disagreement(AssertionError):
    """The store and the oracle differ."""


def table(text: str, data_date: date | None) -> ArtifactRecord:
    """The record of a published table of this content. Nobody reads its rows: they are not stored."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    table = StoredTable(
        digest=digest,
        rows=1,
        size_bytes=len(text),
        schema=(("x", "int64"),),
        arrow_schema="",
        first_data_date=data_date,
        last_data_date=data_date,
    )
    return ArtifactRecord.of_table("data", table)


def written(policy: Policy | None) -> dict[str, str] | None:
    """The policy as a catalogue has it."""
    if policy is None:
        return None
    hours = {"max_age": policy.max_age, "grace": policy.grace}
    written = {name: f"{int(value.total_seconds()) // 3600}h" for name, value in hours.items()}
    return written | ({"of": "data"} if policy.of_data else {})
