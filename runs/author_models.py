"""The tables of what a body leaves beside its result: messages, and states from which a later attempt goes on."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlmodel import Field, SQLModel

from ..storage.database import UtcDateTime, json_type


class RunMessage(SQLModel, table=True):
    """One message of a run whose flow talks, such as with a model or a person."""

    __tablename__ = "run_message"

    run_id: UUID = Field(primary_key=True, foreign_key="run.id")
    number: int = Field(primary_key=True)
    """The number of its `message_added` event: messages are in the order of the log."""
    role: str
    """Who speaks."""
    content: str
    """What."""
    at: datetime = Field(sa_type=UtcDateTime)
    """When."""


class Checkpoint(SQLModel, table=True):
    """A state that a body saved, so that a later attempt goes on from there."""

    run_id: UUID = Field(primary_key=True, foreign_key="run.id")
    number: int = Field(primary_key=True)
    """The number of its `checkpoint_saved` event: the highest is the newest."""
    attempt: int
    """The attempt that saved it."""
    state: dict[str, Any] = Field(sa_type=json_type())
    """What the body gave, as JSON."""
    at: datetime = Field(sa_type=UtcDateTime)
    """When."""
