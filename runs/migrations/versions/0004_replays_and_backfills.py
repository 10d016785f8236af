"""What is done again: a run that replays another one, and ranges of data dates that are run one after the other.

Only additions that an older program does not see. `run.replay_of` has no foreign key: SQLite adds none to a table that
is there without copying it, and no run is ever deleted.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

_JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
_MOMENT = sa.DateTime(timezone=True)

_INDEXES = (
    ("ix_run_replay_of", "run", ["replay_of"], "replay_of IS NOT NULL", False),
    ("ix_backfill_open", "backfill", ["deployment_id"], "ended_at IS NULL", True),
    ("ix_backfill_date_planned", "backfill_date", ["backfill_id", "data_date"], "run_id IS NULL", False),
    (
        "ix_backfill_date_under_way",
        "backfill_date",
        ["backfill_id", "run_id"],
        "run_id IS NOT NULL AND outcome IS NULL",
        False,
    ),
)

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("run", sa.Column("replay_of", sa.Uuid(), nullable=True))
    op.create_table(
        "backfill",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("deployment_id", sa.Uuid(), nullable=False),
        sa.Column("first_date", sa.Date(), nullable=False),
        sa.Column("last_date", sa.Date(), nullable=False),
        sa.Column("calendar", sa.String(), nullable=True),
        sa.Column("every", sa.String(), nullable=True),
        sa.Column("parameters", _JSON, nullable=False),
        sa.Column("on_stale", sa.String(), nullable=False),
        sa.Column("update_mode", sa.String(), nullable=True),
        sa.Column("most_at_once", sa.Integer(), nullable=False),
        sa.Column("max_failures", sa.Integer(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("num_failed", sa.Integer(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("ended_at", _MOMENT, nullable=True),
        sa.ForeignKeyConstraint(
            ["deployment_id"], ["deployment.id"], name=op.f("fk_backfill_deployment_id_deployment")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_backfill")),
    )
    op.create_table(
        "backfill_date",
        sa.Column("backfill_id", sa.Uuid(), nullable=False),
        sa.Column("data_date", sa.Date(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.CheckConstraint("outcome IS NULL OR run_id IS NOT NULL", name=op.f("ck_backfill_date_outcome")),
        sa.ForeignKeyConstraint(["backfill_id"], ["backfill.id"], name=op.f("fk_backfill_date_backfill_id_backfill")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_backfill_date_run_id_run")),
        sa.PrimaryKeyConstraint("backfill_id", "data_date", name=op.f("pk_backfill_date")),
    )
    for name, table, columns, condition, unique in _INDEXES:
        where = sa.text(condition)
        op.create_index(name, table, columns, unique=unique, sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    for name, table, _, _, _ in reversed(_INDEXES):
        op.drop_index(name, table)
    op.drop_table("backfill_date")
    op.drop_table("backfill")
    op.drop_column("run", "replay_of")
