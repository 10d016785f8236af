"""The tables of what runs log while they live: how far each attempt has come, and the chunks that it has sent."""

from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from ...storage.database import UtcDateTime


class MetricStream(SQLModel, table=True):
    """How much of what an attempt has logged is here, or has gone into the run's table `metrics`."""

    __tablename__ = "metric_stream"

    run_id: UUID = Field(primary_key=True, foreign_key="run.id")
    fence: int = Field(primary_key=True, sa_type=sa.BigInteger)
    """The fence that the attempt's claim drew."""
    end_point: int = Field(sa_type=sa.BigInteger)
    """The number behind the last point that has arrived: what comes again is known by it."""
    at: datetime = Field(sa_type=UtcDateTime)
    """When it last moved."""


class MetricChunk(SQLModel, table=True):
    """Consecutive points of one attempt, as long as they are not in the run's table `metrics`."""

    __tablename__ = "metric_chunk"
    __table_args__ = (
        sa.ForeignKeyConstraint(["run_id", "fence"], ["metric_stream.run_id", "metric_stream.fence"]),
        sa.CheckConstraint("num_points > 0", name="num_points"),
    )

    run_id: UUID = Field(primary_key=True)
    fence: int = Field(primary_key=True, sa_type=sa.BigInteger)
    """The fence of the attempt that logged them."""
    first_point: int = Field(primary_key=True, sa_type=sa.BigInteger)
    """The number of the first, counted from 0 over all that the attempt has logged."""
    num_points: int
    """How many there are."""
    payload: bytes
    """The points: a version byte, then an Arrow stream, compressed."""
