"""Metric values over time, which arrive while their run lives: how far each attempt has come, and its chunks.

Only additions that an older program does not see.
"""

import sqlalchemy as sa
from alembic import op

_MOMENT = sa.DateTime(timezone=True)

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "metric_stream",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("end_point", sa.BigInteger(), nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_metric_stream_run_id_run")),
        sa.PrimaryKeyConstraint("run_id", "fence", name=op.f("pk_metric_stream")),
    )
    op.create_table(
        "metric_chunk",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("first_point", sa.BigInteger(), nullable=False),
        sa.Column("num_points", sa.Integer(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("num_points > 0", name=op.f("ck_metric_chunk_num_points")),
        sa.ForeignKeyConstraint(
            ["run_id", "fence"],
            ["metric_stream.run_id", "metric_stream.fence"],
            name=op.f("fk_metric_chunk_run_id_metric_stream"),
        ),
        sa.PrimaryKeyConstraint("run_id", "fence", "first_point", name=op.f("pk_metric_chunk")),
    )
    if op.get_bind().dialect.name == "postgresql":
        # It is compressed already: a second attempt would only take time.
        op.execute("ALTER TABLE metric_chunk ALTER COLUMN payload SET STORAGE EXTERNAL")


def downgrade() -> None:
    op.drop_table("metric_chunk")
    op.drop_table("metric_stream")
