"""The whole record: configuration, provenance, durations, steps, messages and checkpoints.

Only additions, each with a default that the database knows: a program of the first schema goes on writing.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

_JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
_MOMENT = sa.DateTime(timezone=True)

_KINDS = {
    "PipelineRun": "refresh",
    "ExperimentRun": "preview",
    "TrainingRun": "training",
    "InferenceRun": "inference",
    "MonitoringRun": "monitoring",
    "PortfolioOptimizationRun": "optimize",
    "BacktestRun": "backtest",
}

_INDEXES = (
    ("ix_run_ended_at", "run", "ended_at", "ended_at IS NOT NULL"),
    ("ix_step_open", "step", "run_id", "status IN ('pending', 'retrying', 'running')"),
)

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in _run_columns():
        op.add_column("run", column)
    for table, columns in _detail_columns().items():
        with op.batch_alter_table(table) as batch:
            for column in columns:
                batch.add_column(column)
            if table == "monitoring_run":
                batch.create_foreign_key(
                    op.f("fk_monitoring_run_reference_version_id_version"), "version", ["reference_version_id"], ["id"]
                )
    op.create_table(
        "step",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("task_run_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("started_at", _MOMENT, nullable=True),
        sa.Column("ended_at", _MOMENT, nullable=True),
        sa.Column("duration_ns", sa.BigInteger(), nullable=True),
        sa.Column("message", sa.String(), nullable=True),
        sa.Column("counters", _JSON, server_default="{}", nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_step_run_id_run")),
        sa.PrimaryKeyConstraint("run_id", "task_run_id", name=op.f("pk_step")),
    )
    op.create_table(
        "run_usage",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("num_steps", sa.Integer(), nullable=False),
        sa.Column("num_failed_steps", sa.Integer(), nullable=False),
        sa.Column("step_ns", sa.BigInteger(), nullable=False),
        sa.Column("step_names", _JSON, server_default="[]", nullable=False),
        sa.Column("counters", _JSON, server_default="{}", nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_run_usage_run_id_run")),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_run_usage")),
    )
    op.create_table(
        "run_message",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("content", sa.String(), nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_run_message_run_id_run")),
        sa.PrimaryKeyConstraint("run_id", "number", name=op.f("pk_run_message")),
    )
    op.create_table(
        "checkpoint",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("state", _JSON, nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_checkpoint_run_id_run")),
        sa.PrimaryKeyConstraint("run_id", "number", name=op.f("pk_checkpoint")),
    )
    for name, table, indexed, condition in _INDEXES:
        where = sa.text(condition)
        op.create_index(name, table, [indexed], sqlite_where=where, postgresql_where=where)
    _fill_kind()


def downgrade() -> None:
    for name, table, _, _ in _INDEXES:
        op.drop_index(name, table)
    for table in ("checkpoint", "run_message", "run_usage", "step"):
        op.drop_table(table)
    for table, columns in reversed(_detail_columns().items()):
        with op.batch_alter_table(table) as batch:
            if table == "monitoring_run":
                batch.drop_constraint(op.f("fk_monitoring_run_reference_version_id_version"), type_="foreignkey")
            for column in reversed(columns):
                batch.drop_column(column.name)
    for column in reversed(_run_columns()):
        op.drop_column("run", column.name)


def _fill_kind() -> None:
    """Say of which kind the runs of the first schema are; the guard of ended runs is lifted meanwhile."""
    branches = " ".join(f"WHEN '{name}' THEN '{kind}'" for name, kind in _KINDS.items())
    fill = f"UPDATE run SET kind = CASE type {branches} ELSE '' END WHERE kind = ''"
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE run DISABLE TRIGGER run_guard")
        op.execute(fill)
        op.execute("ALTER TABLE run ENABLE TRIGGER run_guard")
        return
    guard = op.get_bind().exec_driver_sql("SELECT sql FROM sqlite_master WHERE name = 'run_is_final'").scalar_one()
    op.execute("DROP TRIGGER run_is_final")
    op.execute(fill)
    op.get_bind().exec_driver_sql(guard)


def _run_columns() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("kind", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.Column("workflow", _JSON, server_default="{}", nullable=False),
        sa.Column("metadata", _JSON, server_default="{}", nullable=False),
        sa.Column("background", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("subscription_id", sa.Uuid(), nullable=True),
        sa.Column("callback_url", sa.String(), nullable=True),
        sa.Column("callback_sent_at", _MOMENT, nullable=True),
        sa.Column("callback_status_code", sa.Integer(), nullable=True),
        sa.Column("callback_error", sa.String(), nullable=True),
        sa.Column("pause_requested_at", _MOMENT, nullable=True),
        sa.Column("resume_due_at", _MOMENT, nullable=True),
        sa.Column("traceback_ref", sa.String(), nullable=True),
        sa.Column("git_commit", sa.String(), nullable=True),
        sa.Column("code_digest", sa.String(), nullable=True),
        sa.Column("environment_digest", sa.String(), nullable=True),
        sa.Column("final_state_digest", sa.String(), nullable=True),
        sa.Column("duration_ns", sa.BigInteger(), nullable=True),
        sa.Column("first_output_ns", sa.BigInteger(), nullable=True),
    )


def _detail_columns() -> dict[str, tuple[sa.Column[Any], ...]]:
    return {
        "pipeline_run": (
            sa.Column("first_data_date", sa.Date(), nullable=True),
            sa.Column("rows_processed", sa.BigInteger(), nullable=True),
        ),
        "experiment_run": (
            sa.Column("start_date", sa.Date(), nullable=True),
            sa.Column("end_date", sa.Date(), nullable=True),
        ),
        "training_run": (
            sa.Column("start_date", sa.Date(), nullable=True),
            sa.Column("end_date", sa.Date(), nullable=True),
            sa.Column("model_digest", sa.String(), nullable=True),
        ),
        "inference_run": (
            sa.Column("start_date", sa.Date(), nullable=True),
            sa.Column("end_date", sa.Date(), nullable=True),
        ),
        "monitoring_run": (
            sa.Column("start_date", sa.Date(), nullable=True),
            sa.Column("end_date", sa.Date(), nullable=True),
            sa.Column("reference_version_id", sa.Uuid(), nullable=True),
        ),
        "portfolio_optimization_run": (
            sa.Column("start_date", sa.Date(), nullable=True),
            sa.Column("end_date", sa.Date(), nullable=True),
            sa.Column("objective", sa.String(), nullable=True),
            sa.Column("weights", _JSON, nullable=True),
        ),
        "backtest_run": (
            sa.Column("initial_capital", sa.Float(), nullable=True),
            sa.Column("benchmark", sa.String(), nullable=True),
        ),
    }
