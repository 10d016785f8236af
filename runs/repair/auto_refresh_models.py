"""What is remembered of a deployment that is refreshed by itself: everything else follows from the record."""

from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from ...storage.database import UtcDateTime

_IS_WAITING = sa.text("waiting_since IS NOT NULL")


class AutoRefreshMemory(SQLModel, table=True):
    """One deployment's runs that nobody asked for; written when the first of them is near."""

    __tablename__ = "auto_refresh"
    __table_args__ = (
        sa.Index(
            "ix_auto_refresh_waiting_since",
            "waiting_since",
            sqlite_where=_IS_WAITING,
            postgresql_where=_IS_WAITING,
        ),
    )

    deployment_id: UUID = Field(primary_key=True, foreign_key="deployment.id")
    num_runs: int = 0
    """How many there were; the next one's idempotency key has the next number."""
    last_run_id: UUID | None = Field(default=None, foreign_key="run.id")
    """The last one."""
    last_run_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When it was submitted."""
    tried_for: str | None = None
    """Digest of the causes that it was to clear."""
    num_tries: int = 0
    """How many in a row were to clear these same causes."""
    waiting_since: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """Since when the next one waits for its upstreams to be quiet; null when it does not."""
