"""The tables of care: what was done to a run after its end, and what is done now and then."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlmodel import Field, SQLModel

from ...storage.database import UtcDateTime, json_type


class RunAct(SQLModel, table=True):
    """What somebody did to a run after its end: never changed, never deleted."""

    __tablename__ = "run_act"

    run_id: UUID = Field(primary_key=True, foreign_key="run.id")
    number: int = Field(primary_key=True)
    """1, 2, 3… per run."""
    kind: str
    """`deleted`, `restored` or `erased`."""
    actor: str
    """Who did it."""
    reason: str
    """Why; empty when nobody said so."""
    facts: dict[str, Any] = Field(sa_type=json_type())
    """What went with it, such as the number of its artifacts."""
    at: datetime = Field(sa_type=UtcDateTime)
    """When."""


class Chore(SQLModel, table=True):
    """What is done now and then by whoever keeps the store, such as garbage collection: when it was last begun."""

    name: str = Field(primary_key=True)
    """`gc`, or `reconcile`."""
    began_at: datetime = Field(sa_type=UtcDateTime)
    """Of `gc`: whoever moves this does it, and nobody else begins it before the interval has passed. Of `reconcile`:
    when the last pass that came to its end looked at the runs."""
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When it last came to its end."""
