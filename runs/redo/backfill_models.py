"""The tables of backfills: a range of data dates that somebody asked for, and each date with the run that it got."""

from datetime import date, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from ...storage.database import UtcDateTime, json_type


class BackfillStatus(StrEnum):
    """What is to happen to the dates that have no run yet."""

    RUNNING = "running"
    """They get theirs, in their order."""
    STOPPED = "stopped"
    """Nothing until it is resumed: too many dates failed, or none can be started."""
    CANCELLED = "cancelled"
    """Nothing until it is resumed: somebody cancelled it, and its runs with it."""
    COMPLETED = "completed"
    """Every date had its run."""


class Backfill(SQLModel, table=True):
    """A range of data dates that somebody wants a deployment to be run for."""

    __table_args__ = (
        sa.Index(
            "ix_backfill_open",
            "deployment_id",
            unique=True,
            sqlite_where=sa.text("ended_at IS NULL"),
            postgresql_where=sa.text("ended_at IS NULL"),
        ),
    )

    id: UUID = Field(primary_key=True)
    """UUIDv7; shown as `backfill-…`."""
    tenant_id: str
    """Whose it is."""
    deployment_id: UUID = Field(foreign_key="deployment.id")
    """What is run: one backfill at a time."""
    first_date: date
    """As it was asked for."""
    last_date: date
    """As it was asked for, included."""
    calendar: str | None = None
    """The dates are the sessions of this exchange calendar."""
    every: str | None = None
    """The dates follow one another at this distance, such as `1d`; null with a calendar."""
    parameters: dict[str, Any] = Field(sa_type=json_type())
    """The flow's own parameters, the same for each date."""
    on_stale: str
    """An `OnStale`, the same for each date."""
    update_mode: str | None = None
    """An `UpdateMode`; null: in full for what the current version covers already, incremental after it."""
    most_at_once: int
    """How many runs may be under way."""
    max_failures: int
    """How many dates may fail before no more are started."""
    actor: str
    """Who asked for it."""
    status: str
    """A `BackfillStatus`."""
    reason: str | None = None
    """Why it was stopped."""
    num_failed: int = 0
    """Dates that failed since it was started or resumed."""
    created_at: datetime = Field(sa_type=UtcDateTime)
    """When it was asked for."""
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When nothing of it was left under way; null again when it is resumed."""


class BackfillDate(SQLModel, table=True):
    """One data date of a backfill."""

    __tablename__ = "backfill_date"
    __table_args__ = (
        sa.CheckConstraint("outcome IS NULL OR run_id IS NOT NULL", name="outcome"),
        sa.Index(
            "ix_backfill_date_planned",
            "backfill_id",
            "data_date",
            sqlite_where=sa.text("run_id IS NULL"),
            postgresql_where=sa.text("run_id IS NULL"),
        ),
        sa.Index(
            "ix_backfill_date_under_way",
            "backfill_id",
            "run_id",
            sqlite_where=sa.text("run_id IS NOT NULL AND outcome IS NULL"),
            postgresql_where=sa.text("run_id IS NOT NULL AND outcome IS NULL"),
        ),
    )

    backfill_id: UUID = Field(primary_key=True, foreign_key="backfill.id")
    data_date: date = Field(primary_key=True)
    """`data_as_of` of its run."""
    tries: int = 0
    """How many runs it has had: resuming gives a date that failed another one."""
    run_id: UUID | None = Field(default=None, foreign_key="run.id")
    """Its run; null until its turn comes."""
    outcome: str | None = None
    """The status with which its run ended; null before."""
