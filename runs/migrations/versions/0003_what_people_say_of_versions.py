"""What people say of versions: labels, aliases, withdrawals, each with who and why; and the schema of their tables.

Columns and tables that an older program does not see: it goes on publishing versions.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

_JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
_MOMENT = sa.DateTime(timezone=True)
_HAS_LABEL = sa.text("label IS NOT NULL")

_HISTORIES = {
    "version_act": "what was done to a version stays recorded",
    "alias_move": "the moves of an alias stay recorded",
}
"""Tables whose rows are never changed or deleted, and what the database says of it."""

_FIXED = ("id", "deployment_id", "partition", "number", "run_id", "fence", "digest", "declaration_digest")
_PUBLISHED = " OR ".join(f"OLD.{name} <> NEW.{name}" for name in _FIXED)
_RELABELLED = "OLD.label IS NOT NULL AND (NEW.label IS NULL OR NEW.label <> OLD.label)"

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("version", sa.Column("table_schema", _JSON, nullable=True))
    op.add_column("version", sa.Column("source_delayed", sa.Boolean(), nullable=True))
    op.add_column("version", sa.Column("may_become_current", sa.Boolean(), nullable=True))
    op.create_index(
        "ix_version_label",
        "version",
        ["deployment_id", "partition", "label"],
        unique=True,
        sqlite_where=_HAS_LABEL,
        postgresql_where=_HAS_LABEL,
    )
    op.create_table(
        "version_act",
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["version_id"], ["version.id"], name=op.f("fk_version_act_version_id_version")),
        sa.PrimaryKeyConstraint("version_id", "number", name=op.f("pk_version_act")),
    )
    op.create_table(
        "alias",
        sa.Column("deployment_id", sa.Uuid(), nullable=False),
        sa.Column("partition", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployment.id"], name=op.f("fk_alias_deployment_id_deployment")),
        sa.ForeignKeyConstraint(["version_id"], ["version.id"], name=op.f("fk_alias_version_id_version")),
        sa.PrimaryKeyConstraint("deployment_id", "partition", "name", name=op.f("pk_alias")),
    )
    op.create_table(
        "alias_move",
        sa.Column("deployment_id", sa.Uuid(), nullable=False),
        sa.Column("partition", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("from_version_id", sa.Uuid(), nullable=True),
        sa.Column("to_version_id", sa.Uuid(), nullable=True),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["deployment_id"], ["deployment.id"], name=op.f("fk_alias_move_deployment_id_deployment")
        ),
        sa.ForeignKeyConstraint(
            ["from_version_id"], ["version.id"], name=op.f("fk_alias_move_from_version_id_version")
        ),
        sa.ForeignKeyConstraint(["to_version_id"], ["version.id"], name=op.f("fk_alias_move_to_version_id_version")),
        sa.PrimaryKeyConstraint("deployment_id", "partition", "name", "number", name=op.f("pk_alias_move")),
    )
    _guard()


def downgrade() -> None:
    _drop_guard()
    for table in ("alias_move", "alias", "version_act"):
        op.drop_table(table)
    op.drop_index("ix_version_label", "version")
    op.drop_column("version", "may_become_current")
    op.drop_column("version", "source_delayed")
    op.drop_column("version", "table_schema")


def _guard() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for table, message in _HISTORIES.items():
            for act in ("UPDATE", "DELETE"):
                op.execute(
                    f"CREATE TRIGGER {table}_{act.lower()} BEFORE {act} ON {table} "
                    f"BEGIN SELECT RAISE(ABORT, '{message}'); END"
                )
        for name, condition, message in (
            ("version_is_final", _PUBLISHED, "a version that was published does not change"),
            ("version_label", _RELABELLED, "the label of a version does not change"),
        ):
            op.execute(
                f"CREATE TRIGGER {name} BEFORE UPDATE ON version WHEN {condition} "
                f"BEGIN SELECT RAISE(ABORT, '{message}'); END"
            )
        return
    for table, message in _HISTORIES.items():
        op.execute(
            f"CREATE FUNCTION guard_{table}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"RAISE check_violation USING MESSAGE = '{message}'; END $$"
        )
        op.execute(
            f"CREATE TRIGGER {table}_guard BEFORE UPDATE OR DELETE ON {table} "
            f"FOR EACH ROW EXECUTE FUNCTION guard_{table}()"
        )
    op.execute(
        "CREATE FUNCTION guard_version() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF {_PUBLISHED} THEN RAISE check_violation "
        "USING MESSAGE = 'a version that was published does not change'; END IF; "
        f"IF {_RELABELLED} THEN RAISE check_violation "
        "USING MESSAGE = 'the label of a version does not change'; END IF; "
        "RETURN NEW; END $$"
    )
    op.execute("CREATE TRIGGER version_guard BEFORE UPDATE ON version FOR EACH ROW EXECUTE FUNCTION guard_version()")


def _drop_guard() -> None:
    if op.get_bind().dialect.name == "sqlite":
        names = [f"{table}_{act}" for table in _HISTORIES for act in ("update", "delete")]
        for name in (*names, "version_is_final", "version_label"):
            op.execute(f"DROP TRIGGER {name}")
        return
    for table in _HISTORIES:
        op.execute(f"DROP TRIGGER {table}_guard ON {table}")
        op.execute(f"DROP FUNCTION guard_{table}()")
    op.execute("DROP TRIGGER version_guard ON version")
    op.execute("DROP FUNCTION guard_version()")
