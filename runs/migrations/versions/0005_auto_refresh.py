"""Deployments that are refreshed by themselves: what was declared, and what is remembered of the runs that followed.

Only additions that an older program does not see. The index on causes leaves out the inherited ones, of which there
are as many as deployments downstream.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

_JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
_MOMENT = sa.DateTime(timezone=True)

_INDEXES = (
    ("ix_deployment_auto_refresh", "deployment", ["id"], "auto_refresh IS NOT NULL"),
    ("ix_cause_own", "cause", ["deployment_id"], "kind <> 'upstream_stale'"),
    ("ix_auto_refresh_waiting_since", "auto_refresh", ["waiting_since"], "waiting_since IS NOT NULL"),
)

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("deployment", sa.Column("auto_refresh", _JSON, nullable=True))
    op.create_table(
        "auto_refresh",
        sa.Column("deployment_id", sa.Uuid(), nullable=False),
        sa.Column("num_runs", sa.Integer(), nullable=False),
        sa.Column("last_run_id", sa.Uuid(), nullable=True),
        sa.Column("last_run_at", _MOMENT, nullable=True),
        sa.Column("tried_for", sa.String(), nullable=True),
        sa.Column("num_tries", sa.Integer(), nullable=False),
        sa.Column("waiting_since", _MOMENT, nullable=True),
        sa.ForeignKeyConstraint(
            ["deployment_id"], ["deployment.id"], name=op.f("fk_auto_refresh_deployment_id_deployment")
        ),
        sa.ForeignKeyConstraint(["last_run_id"], ["run.id"], name=op.f("fk_auto_refresh_last_run_id_run")),
        sa.PrimaryKeyConstraint("deployment_id", name=op.f("pk_auto_refresh")),
    )
    for name, table, columns, condition in _INDEXES:
        where = sa.text(condition)
        op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    for name, table, _, _ in reversed(_INDEXES):
        op.drop_index(name, table)
    op.drop_table("auto_refresh")
    op.drop_column("deployment", "auto_refresh")
