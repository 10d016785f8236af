"""Views for those who have only a SQL client.

What they look like stands in `freshline.runs.views`: `env.py` makes them after the last revision of every upgrade, so
this revision has nothing to do but to be one later.
"""

from alembic import op

from freshline.runs.views import drop_views

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    drop_views(op.get_bind())
