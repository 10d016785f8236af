"""Indexes to search runs by: metrics in the order of their values, runs by their times, and those that ended badly.

Only what an older program does not see.
"""

import sqlalchemy as sa
from alembic import op

_STARTED = sa.text("started_at IS NOT NULL")
_BADLY = sa.text("status IN ('cancelled', 'failed', 'refused', 'skipped')")

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_metric_name_value_run_id", "metric", ["name", "value", "run_id"])
    op.drop_index("ix_metric_name_value", "metric")
    op.create_index("ix_run_created_at", "run", ["created_at", "id"])
    op.create_index("ix_run_started_at", "run", ["started_at", "id"], sqlite_where=_STARTED, postgresql_where=_STARTED)
    op.create_index("ix_run_ended_badly", "run", ["status", "id"], sqlite_where=_BADLY, postgresql_where=_BADLY)


def downgrade() -> None:
    op.drop_index("ix_run_ended_badly", "run")
    op.drop_index("ix_run_started_at", "run")
    op.drop_index("ix_run_created_at", "run")
    op.create_index("ix_metric_name_value", "metric", ["name", "value"])
    op.drop_index("ix_metric_name_value_run_id", "metric")
