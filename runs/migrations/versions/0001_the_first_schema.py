"""The first schema."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

_JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")

# What the service refuses, the database refuses too: the transitions as they are in this revision.
_ALLOWED = {
    "pending": ("running", "waiting", "skipped", "refused", "cancelled", "failed"),
    "waiting": ("pending", "skipped", "refused", "cancelled", "failed"),
    "running": ("completed", "failed", "retrying", "paused", "cancelling"),
    "retrying": ("running", "failed", "cancelled"),
    "paused": ("running", "failed", "cancelled"),
    "cancelling": ("cancelled", "completed", "failed"),
}

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "artifact",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("publish", sa.Boolean(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("media_type", sa.String(), nullable=False),
        sa.Column("table_schema", _JSON, nullable=True),
        sa.Column("stored_json", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_artifact")),
        sa.UniqueConstraint("owner_id", "name", name=op.f("uq_artifact_owner_id_name")),
    )
    op.create_table(
        "resource",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_resource")),
        sa.UniqueConstraint("tenant_id", "kind", "name", name=op.f("uq_resource_tenant_id_kind_name")),
    )
    op.create_table(
        "store",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_store")),
    )
    op.create_table(
        "stored_object",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("condemned_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("swept_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_stored_object")),
    )
    with op.batch_alter_table("stored_object", schema=None) as batch_op:
        batch_op.create_index("ix_stored_object_condemned_at", ["condemned_at"], unique=False)

    op.create_table(
        "artifact_object",
        sa.Column("artifact_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("object_name", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifact.id"], name=op.f("fk_artifact_object_artifact_id_artifact")),
        sa.ForeignKeyConstraint(
            ["object_name"], ["stored_object.name"], name=op.f("fk_artifact_object_object_name_stored_object")
        ),
        sa.PrimaryKeyConstraint("artifact_id", "position", name=op.f("pk_artifact_object")),
    )
    with op.batch_alter_table("artifact_object", schema=None) as batch_op:
        batch_op.create_index("ix_artifact_object_object_name", ["object_name"], unique=False)

    op.create_table(
        "deployment",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("resource_id", sa.Uuid(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("prefect_name", sa.String(), nullable=True),
        sa.Column("prefect_deployment_id", sa.Uuid(), nullable=True),
        sa.Column("external", sa.Boolean(), nullable=False),
        sa.Column("declaration", _JSON, nullable=False),
        sa.Column("declaration_digest", sa.String(), nullable=False),
        sa.Column("parameter_schema", _JSON, nullable=False),
        sa.Column("policy", _JSON, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("registered_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["resource_id"], ["resource.id"], name=op.f("fk_deployment_resource_id_resource")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deployment")),
        sa.UniqueConstraint("tenant_id", "key", name=op.f("uq_deployment_tenant_id_key")),
    )
    with op.batch_alter_table("deployment", schema=None) as batch_op:
        batch_op.create_index("ix_deployment_prefect_deployment_id", ["prefect_deployment_id"], unique=False)

    op.create_table(
        "edge",
        sa.Column("deployment_id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("upstream_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("observed", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployment.id"], name=op.f("fk_edge_deployment_id_deployment")),
        sa.ForeignKeyConstraint(["upstream_id"], ["deployment.id"], name=op.f("fk_edge_upstream_id_deployment")),
        sa.PrimaryKeyConstraint("deployment_id", "role", name=op.f("pk_edge")),
    )
    with op.batch_alter_table("edge", schema=None) as batch_op:
        batch_op.create_index("ix_edge_upstream_id", ["upstream_id"], unique=False)

    op.create_table(
        "version",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("deployment_id", sa.Uuid(), nullable=False),
        sa.Column("partition", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("base_version_id", sa.Uuid(), nullable=True),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("declaration_digest", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=True),
        sa.Column("rows", sa.BigInteger(), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("data_start", sa.Date(), nullable=True),
        sa.Column("data_end", sa.Date(), nullable=True),
        sa.Column("withdrawn_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("withdrawn_reason", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["base_version_id"], ["version.id"], name=op.f("fk_version_base_version_id_version")),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployment.id"], name=op.f("fk_version_deployment_id_deployment")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_version")),
        sa.UniqueConstraint(
            "deployment_id", "partition", "fence", name=op.f("uq_version_deployment_id_partition_fence")
        ),
        sa.UniqueConstraint(
            "deployment_id", "partition", "number", name=op.f("uq_version_deployment_id_partition_number")
        ),
        sa.UniqueConstraint("run_id", name=op.f("uq_version_run_id")),
    )
    op.create_table(
        "cause",
        sa.Column("deployment_id", sa.Uuid(), nullable=False),
        sa.Column("partition", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("upstream_id", sa.Uuid(), nullable=True),
        sa.Column("origin_run_id", sa.Uuid(), nullable=True),
        sa.Column("origin_version_id", sa.Uuid(), nullable=True),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployment.id"], name=op.f("fk_cause_deployment_id_deployment")),
        sa.ForeignKeyConstraint(["origin_version_id"], ["version.id"], name=op.f("fk_cause_origin_version_id_version")),
        sa.ForeignKeyConstraint(["upstream_id"], ["deployment.id"], name=op.f("fk_cause_upstream_id_deployment")),
        sa.PrimaryKeyConstraint("deployment_id", "partition", "kind", "role", name=op.f("pk_cause")),
    )
    op.create_table(
        "deployment_state",
        sa.Column("deployment_id", sa.Uuid(), nullable=False),
        sa.Column("partition", sa.String(), nullable=False),
        sa.Column("freshness", sa.String(), nullable=False),
        sa.Column("activity", sa.String(), nullable=False),
        sa.Column("version_id", sa.Uuid(), nullable=True),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("next_fence", sa.BigInteger(), nullable=False),
        sa.Column("next_number", sa.Integer(), nullable=False),
        sa.Column("source_delayed", sa.Boolean(), nullable=False),
        sa.Column("lapses_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_run_id", sa.Uuid(), nullable=True),
        sa.Column("last_run_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_stop_reason", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["deployment_id"], ["deployment.id"], name=op.f("fk_deployment_state_deployment_id_deployment")
        ),
        sa.ForeignKeyConstraint(["version_id"], ["version.id"], name=op.f("fk_deployment_state_version_id_version")),
        sa.PrimaryKeyConstraint("deployment_id", "partition", name=op.f("pk_deployment_state")),
    )
    with op.batch_alter_table("deployment_state", schema=None) as batch_op:
        batch_op.create_index("ix_deployment_state_lapses_at", ["lapses_at"], unique=False)

    op.create_table(
        "run",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("deployment_id", sa.Uuid(), nullable=False),
        sa.Column("partition", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("trigger", sa.String(), nullable=False),
        sa.Column("trigger_name", sa.String(), nullable=True),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("parent_id", sa.Uuid(), nullable=True),
        sa.Column("retry_of", sa.Uuid(), nullable=True),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("stop_reason", sa.String(), nullable=True),
        sa.Column("parameters", _JSON, nullable=False),
        sa.Column("request", _JSON, nullable=False),
        sa.Column("outputs", _JSON, nullable=True),
        sa.Column("tags", _JSON, nullable=False),
        sa.Column("decision", _JSON, nullable=True),
        sa.Column("data_as_of", sa.Date(), nullable=True),
        sa.Column("idempotency_key", sa.String(), nullable=True),
        sa.Column("request_sha256", sa.String(), nullable=True),
        sa.Column("flow_run_id", sa.Uuid(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=True),
        sa.Column("declaration_digest", sa.String(), nullable=True),
        sa.Column("base_version_id", sa.Uuid(), nullable=True),
        sa.Column("version_id", sa.Uuid(), nullable=True),
        sa.Column("lease_owner", sa.String(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancel_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("progress", sa.Float(), nullable=True),
        sa.Column("error_type", sa.String(), nullable=True),
        sa.Column("error_message", sa.String(), nullable=True),
        sa.Column("error_traceback", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_seq", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "(status IN ('cancelled', 'completed', 'failed', 'refused', 'skipped')) = (ended_at IS NOT NULL)",
            name=op.f("ck_run_ended"),
        ),
        sa.CheckConstraint(
            "(status IN ('cancelled', 'completed', 'failed', 'refused', 'skipped')) = (stop_reason IS NOT NULL)",
            name=op.f("ck_run_stop_reason"),
        ),
        sa.CheckConstraint(
            "(status IN ('cancelling', 'running')) = (lease_until IS NOT NULL)", name=op.f("ck_run_leased")
        ),
        sa.ForeignKeyConstraint(["base_version_id"], ["version.id"], name=op.f("fk_run_base_version_id_version")),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployment.id"], name=op.f("fk_run_deployment_id_deployment")),
        sa.ForeignKeyConstraint(["parent_id"], ["run.id"], name=op.f("fk_run_parent_id_run")),
        sa.ForeignKeyConstraint(["retry_of"], ["run.id"], name=op.f("fk_run_retry_of_run")),
        sa.ForeignKeyConstraint(["version_id"], ["version.id"], name=op.f("fk_run_version_id_version")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run")),
        sa.UniqueConstraint("flow_run_id", "generation", name=op.f("uq_run_flow_run_id_generation")),
        sa.UniqueConstraint("tenant_id", "idempotency_key", name=op.f("uq_run_tenant_id_idempotency_key")),
    )
    with op.batch_alter_table("run", schema=None) as batch_op:
        batch_op.create_index(
            "ix_run_active",
            ["deployment_id"],
            unique=False,
            sqlite_where=sa.text("ended_at IS NULL"),
            postgresql_where=sa.text("ended_at IS NULL"),
        )
        batch_op.create_index("ix_run_deployment_id_id", ["deployment_id", "id"], unique=False)
        batch_op.create_index(
            "ix_run_lease_until",
            ["lease_until"],
            unique=False,
            sqlite_where=sa.text("status IN ('cancelling', 'running')"),
            postgresql_where=sa.text("status IN ('cancelling', 'running')"),
        )
        batch_op.create_index(batch_op.f("ix_run_parent_id"), ["parent_id"], unique=False)

    op.create_table(
        "version_input",
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("upstream_id", sa.Uuid(), nullable=False),
        sa.Column("input_version_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["input_version_id"], ["version.id"], name=op.f("fk_version_input_input_version_id_version")
        ),
        sa.ForeignKeyConstraint(
            ["upstream_id"], ["deployment.id"], name=op.f("fk_version_input_upstream_id_deployment")
        ),
        sa.ForeignKeyConstraint(["version_id"], ["version.id"], name=op.f("fk_version_input_version_id_version")),
        sa.PrimaryKeyConstraint("version_id", "role", name=op.f("pk_version_input")),
    )
    with op.batch_alter_table("version_input", schema=None) as batch_op:
        batch_op.create_index("ix_version_input_input_version_id", ["input_version_id"], unique=False)

    op.create_table(
        "backtest_run",
        sa.Column("start_date", sa.Date(), nullable=True),
        sa.Column("end_date", sa.Date(), nullable=True),
        sa.Column("num_trades", sa.Integer(), nullable=True),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_backtest_run_run_id_run")),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_backtest_run")),
    )
    op.create_table(
        "experiment_run",
        sa.Column("rows_computed", sa.Integer(), nullable=True),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_experiment_run_run_id_run")),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_experiment_run")),
    )
    op.create_table(
        "inference_run",
        sa.Column("num_predictions", sa.Integer(), nullable=True),
        sa.Column("model_version_id", sa.Uuid(), nullable=True),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_version_id"], ["version.id"], name=op.f("fk_inference_run_model_version_id_version")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_inference_run_run_id_run")),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_inference_run")),
    )
    op.create_table(
        "metric",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("convention", _JSON, nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_metric_run_id_run")),
        sa.PrimaryKeyConstraint("run_id", "name", name=op.f("pk_metric")),
    )
    with op.batch_alter_table("metric", schema=None) as batch_op:
        batch_op.create_index("ix_metric_name_value", ["name", "value"], unique=False)

    op.create_table(
        "monitoring_run",
        sa.Column("monitoring_type", sa.String(), nullable=True),
        sa.Column("alerts", _JSON, nullable=True),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_monitoring_run_run_id_run")),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_monitoring_run")),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("dedupe_key", sa.String(), nullable=False),
        sa.Column("payload", _JSON, nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("claim_token", sa.Uuid(), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_error", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_outbox_run_id_run")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        sa.UniqueConstraint("dedupe_key", name=op.f("uq_outbox_dedupe_key")),
    )
    with op.batch_alter_table("outbox", schema=None) as batch_op:
        batch_op.create_index(
            "ix_outbox_due_at",
            ["due_at"],
            unique=False,
            sqlite_where=sa.text("state = 'due'"),
            postgresql_where=sa.text("state = 'due'"),
        )
        batch_op.create_index(batch_op.f("ix_outbox_run_id"), ["run_id"], unique=False)

    op.create_table(
        "pipeline_run",
        sa.Column("update_mode", sa.String(), nullable=True),
        sa.Column("last_data_date", sa.Date(), nullable=True),
        sa.Column("rows_inserted", sa.Integer(), nullable=True),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_pipeline_run_run_id_run")),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_pipeline_run")),
    )
    op.create_table(
        "portfolio_optimization_run",
        sa.Column("solver_status", sa.String(), nullable=True),
        sa.Column("constraints", _JSON, nullable=True),
        sa.Column("turnover", sa.Float(), nullable=True),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_portfolio_optimization_run_run_id_run")),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_portfolio_optimization_run")),
    )
    op.create_table(
        "run_dependency",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("upstream_id", sa.Uuid(), nullable=False),
        sa.Column("upstream_run_id", sa.Uuid(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_run_dependency_run_id_run")),
        sa.ForeignKeyConstraint(
            ["upstream_id"], ["deployment.id"], name=op.f("fk_run_dependency_upstream_id_deployment")
        ),
        sa.ForeignKeyConstraint(["upstream_run_id"], ["run.id"], name=op.f("fk_run_dependency_upstream_run_id_run")),
        sa.PrimaryKeyConstraint("run_id", "upstream_id", name=op.f("pk_run_dependency")),
    )
    with op.batch_alter_table("run_dependency", schema=None) as batch_op:
        batch_op.create_index("ix_run_dependency_upstream_id", ["upstream_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_run_dependency_upstream_run_id"), ["upstream_run_id"], unique=False)

    op.create_table(
        "run_event",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("payload", _JSON, nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_run_event_run_id_run")),
        sa.PrimaryKeyConstraint("run_id", "seq", name=op.f("pk_run_event")),
    )
    op.create_table(
        "run_input",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("upstream_id", sa.Uuid(), nullable=False),
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("pinned", sa.Boolean(), nullable=False),
        sa.Column("read", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_run_input_run_id_run")),
        sa.ForeignKeyConstraint(["upstream_id"], ["deployment.id"], name=op.f("fk_run_input_upstream_id_deployment")),
        sa.ForeignKeyConstraint(["version_id"], ["version.id"], name=op.f("fk_run_input_version_id_version")),
        sa.PrimaryKeyConstraint("run_id", "role", name=op.f("pk_run_input")),
    )
    with op.batch_alter_table("run_input", schema=None) as batch_op:
        batch_op.create_index("ix_run_input_version_id", ["version_id"], unique=False)

    op.create_table(
        "training_run",
        sa.Column("num_features", sa.Integer(), nullable=True),
        sa.Column("training_samples", sa.Integer(), nullable=True),
        sa.Column("validation_samples", sa.Integer(), nullable=True),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_training_run_run_id_run")),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_training_run")),
    )
    _guard_transitions()


def downgrade() -> None:
    _drop_guard()
    op.drop_table("training_run")
    with op.batch_alter_table("run_input", schema=None) as batch_op:
        batch_op.drop_index("ix_run_input_version_id")

    op.drop_table("run_input")
    op.drop_table("run_event")
    with op.batch_alter_table("run_dependency", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_run_dependency_upstream_run_id"))
        batch_op.drop_index("ix_run_dependency_upstream_id")

    op.drop_table("run_dependency")
    op.drop_table("portfolio_optimization_run")
    op.drop_table("pipeline_run")
    with op.batch_alter_table("outbox", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_outbox_run_id"))
        batch_op.drop_index(
            "ix_outbox_due_at", sqlite_where=sa.text("state = 'due'"), postgresql_where=sa.text("state = 'due'")
        )

    op.drop_table("outbox")
    op.drop_table("monitoring_run")
    with op.batch_alter_table("metric", schema=None) as batch_op:
        batch_op.drop_index("ix_metric_name_value")

    op.drop_table("metric")
    op.drop_table("inference_run")
    op.drop_table("experiment_run")
    op.drop_table("backtest_run")
    with op.batch_alter_table("version_input", schema=None) as batch_op:
        batch_op.drop_index("ix_version_input_input_version_id")

    op.drop_table("version_input")
    with op.batch_alter_table("run", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_run_parent_id"))
        batch_op.drop_index(
            "ix_run_lease_until",
            sqlite_where=sa.text("status IN ('cancelling', 'running')"),
            postgresql_where=sa.text("status IN ('cancelling', 'running')"),
        )
        batch_op.drop_index("ix_run_deployment_id_id")
        batch_op.drop_index(
            "ix_run_active", sqlite_where=sa.text("ended_at IS NULL"), postgresql_where=sa.text("ended_at IS NULL")
        )

    op.drop_table("run")
    with op.batch_alter_table("deployment_state", schema=None) as batch_op:
        batch_op.drop_index("ix_deployment_state_lapses_at")

    op.drop_table("deployment_state")
    op.drop_table("cause")
    op.drop_table("version")
    with op.batch_alter_table("edge", schema=None) as batch_op:
        batch_op.drop_index("ix_edge_upstream_id")

    op.drop_table("edge")
    with op.batch_alter_table("deployment", schema=None) as batch_op:
        batch_op.drop_index("ix_deployment_prefect_deployment_id")

    op.drop_table("deployment")
    with op.batch_alter_table("artifact_object", schema=None) as batch_op:
        batch_op.drop_index("ix_artifact_object_object_name")

    op.drop_table("artifact_object")
    with op.batch_alter_table("stored_object", schema=None) as batch_op:
        batch_op.drop_index("ix_stored_object_condemned_at")

    op.drop_table("stored_object")
    op.drop_table("store")
    op.drop_table("resource")
    op.drop_table("artifact")


def _guard_transitions() -> None:
    moves = " OR ".join(
        f"(OLD.status = '{source}' AND NEW.status IN ({', '.join(repr(target) for target in targets)}))"
        for source, targets in _ALLOWED.items()
    )
    ended = "OLD.ended_at IS NOT NULL"
    jumped = f"OLD.status <> NEW.status AND NOT ({moves})"
    if op.get_bind().dialect.name == "sqlite":
        for name, condition, message in (
            ("run_is_final", ended, "a run that has ended does not change"),
            ("run_transition", jumped, "the status of a run cannot change so"),
        ):
            op.execute(
                f"CREATE TRIGGER {name} BEFORE UPDATE ON run WHEN {condition} "
                f"BEGIN SELECT RAISE(ABORT, '{message}'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION guard_run() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF {ended} THEN RAISE check_violation USING MESSAGE = 'a run that has ended does not change'; END IF; "
        f"IF {jumped} THEN RAISE check_violation USING MESSAGE = 'the status of a run cannot change so'; END IF; "
        "RETURN NEW; END $$"
    )
    op.execute("CREATE TRIGGER run_guard BEFORE UPDATE ON run FOR EACH ROW EXECUTE FUNCTION guard_run()")


def _drop_guard() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TRIGGER run_is_final")
        op.execute("DROP TRIGGER run_transition")
    else:
        op.execute("DROP TRIGGER run_guard ON run")
        op.execute("DROP FUNCTION guard_run()")
