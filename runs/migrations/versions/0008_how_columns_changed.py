"""How the columns of a version's tables differ from those of the version that was current before it.

Only an addition that an older program does not see.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

_JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("version", sa.Column("schema_diff", _JSON, nullable=True))


def downgrade() -> None:
    op.drop_column("version", "schema_diff")
