"""An index of the runs that workers hold, by deployment: each end of a run looks whether another one is under way.

Of a deployment that thousands of runs wait for, it read them all. Only what an older program does not see.
"""

import sqlalchemy as sa
from alembic import op

_LEASED = sa.text("status IN ('cancelling', 'running')")

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_run_leased", "run", ["deployment_id"], sqlite_where=_LEASED, postgresql_where=_LEASED)


def downgrade() -> None:
    op.drop_index("ix_run_leased", "run")
