"""What is removed: runs that are deleted, softly and for good, and versions and artifacts whose data are gone.

Only additions that an older program does not see. The guard of ended runs has two ways through: the mark of a deletion
may be set and taken away, and a marked run may be erased, once, down to what others need. An older program changes no
run that has ended, so both guards treat it alike.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

_JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
_MOMENT = sa.DateTime(timezone=True)
_DELETED = sa.text("deleted_at IS NOT NULL AND erased_at IS NULL")

_STAYS = (
    "id",
    "tenant_id",
    "project",
    "deployment_id",
    "partition",
    "type",
    "kind",
    "trigger",
    "actor",
    "parent_id",
    "retry_of",
    "replay_of",
    "generation",
    "status",
    "stop_reason",
    "data_as_of",
    "flow_run_id",
    "attempt",
    "fence",
    "base_version_id",
    "version_id",
    "created_at",
    "started_at",
    "ended_at",
    "last_seq",
    "deleted_at",
)
"""What an erasure leaves of a run."""

_ENDED = "a run that has ended does not change"
_UNDER_WAY = "a run that has not ended is not deleted"
_ACTS = "what was done to a run stays recorded"

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("run", sa.Column("deleted_at", _MOMENT, nullable=True))
    op.add_column("run", sa.Column("erased_at", _MOMENT, nullable=True))
    op.create_index("ix_run_deleted_at", "run", ["deleted_at"], sqlite_where=_DELETED, postgresql_where=_DELETED)
    for table in ("version", "artifact"):
        op.add_column(table, sa.Column("removed_at", _MOMENT, nullable=True))
        op.add_column(table, sa.Column("removal", sa.String(), nullable=True))
        op.add_column(table, sa.Column("removed_reason", sa.String(), nullable=True))
    op.add_column("deployment", sa.Column("retention", _JSON, nullable=True))
    op.add_column("stored_object", sa.Column("verified_at", _MOMENT, nullable=True))
    op.add_column("stored_object", sa.Column("damage", sa.String(), nullable=True))
    op.create_table(
        "run_act",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("facts", _JSON, nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_run_act_run_id_run")),
        sa.PrimaryKeyConstraint("run_id", "number", name=op.f("pk_run_act")),
    )
    op.create_table(
        "chore",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("began_at", _MOMENT, nullable=False),
        sa.Column("ended_at", _MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_chore")),
    )
    if op.get_bind().dialect.name == "sqlite":
        _guard_on_sqlite()
    else:
        _guard_on_postgres()


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for name in ("run_act_update", "run_act_delete", "run_is_deleted", "run_is_final"):
            op.execute(f"DROP TRIGGER {name}")
        op.execute(
            "CREATE TRIGGER run_is_final BEFORE UPDATE ON run WHEN OLD.ended_at IS NOT NULL "
            f"BEGIN SELECT RAISE(ABORT, '{_ENDED}'); END"
        )
    else:
        op.execute("DROP TRIGGER run_act_guard ON run_act")
        op.execute("DROP FUNCTION guard_run_act()")
        op.execute("DROP TRIGGER run_removal_guard ON run")
        op.execute("DROP FUNCTION guard_run_removal()")
        op.execute("DROP TRIGGER run_guard ON run")
        op.execute("CREATE TRIGGER run_guard BEFORE UPDATE ON run FOR EACH ROW EXECUTE FUNCTION guard_run()")
    op.drop_table("chore")
    op.drop_table("run_act")
    op.drop_column("stored_object", "damage")
    op.drop_column("stored_object", "verified_at")
    op.drop_column("deployment", "retention")
    for table in ("artifact", "version"):
        for column in ("removed_reason", "removal", "removed_at"):
            op.drop_column(table, column)
    op.drop_index("ix_run_deleted_at", "run")
    op.drop_column("run", "erased_at")
    op.drop_column("run", "deleted_at")


def _guard_on_sqlite() -> None:
    columns = [column["name"] for column in sa.inspect(op.get_bind()).get_columns("run")]
    same = " AND ".join(f'NEW."{name}" IS OLD."{name}"' for name in columns if name != "deleted_at")
    stays = " AND ".join(f'NEW."{name}" IS OLD."{name}"' for name in _STAYS)
    marks = f"NEW.deleted_at IS NOT OLD.deleted_at AND OLD.erased_at IS NULL AND {same}"
    erases = f"OLD.deleted_at IS NOT NULL AND OLD.erased_at IS NULL AND NEW.erased_at IS NOT NULL AND {stays}"
    op.execute("DROP TRIGGER run_is_final")
    # Not as text with parameters: a colon in it would be taken for one.
    execute = op.get_bind().exec_driver_sql
    execute(
        f"CREATE TRIGGER run_is_final BEFORE UPDATE ON run WHEN OLD.ended_at IS NOT NULL AND NOT ({marks}) "
        f"AND NOT ({erases}) BEGIN SELECT RAISE(ABORT, '{_ENDED}'); END"
    )
    execute(
        "CREATE TRIGGER run_is_deleted BEFORE UPDATE ON run WHEN OLD.ended_at IS NULL AND "
        "(NEW.deleted_at IS NOT NULL OR NEW.erased_at IS NOT NULL) "
        f"BEGIN SELECT RAISE(ABORT, '{_UNDER_WAY}'); END"
    )
    for act in ("UPDATE", "DELETE"):
        execute(
            f"CREATE TRIGGER run_act_{act.lower()} BEFORE {act} ON run_act BEGIN SELECT RAISE(ABORT, '{_ACTS}'); END"
        )


def _guard_on_postgres() -> None:
    stays = " AND ".join(f'NEW."{name}" IS NOT DISTINCT FROM OLD."{name}"' for name in _STAYS)
    op.execute("DROP TRIGGER run_guard ON run")
    # The guard of 0001 as before, but for what is about a deletion; that has one of its own.
    op.execute(
        "CREATE TRIGGER run_guard BEFORE UPDATE ON run FOR EACH ROW "
        "WHEN (NEW.deleted_at IS NOT DISTINCT FROM OLD.deleted_at "
        "AND NEW.erased_at IS NOT DISTINCT FROM OLD.erased_at) "
        "EXECUTE FUNCTION guard_run()"
    )
    op.execute(
        "CREATE FUNCTION guard_run_removal() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF OLD.ended_at IS NULL THEN RAISE check_violation USING MESSAGE = '{_UNDER_WAY}'; END IF; "
        "IF OLD.erased_at IS NULL AND to_jsonb(NEW) - 'deleted_at' = to_jsonb(OLD) - 'deleted_at' "
        "THEN RETURN NEW; END IF; "
        "IF OLD.deleted_at IS NOT NULL AND OLD.erased_at IS NULL AND NEW.erased_at IS NOT NULL "
        f"AND {stays} THEN RETURN NEW; END IF; "
        f"RAISE check_violation USING MESSAGE = '{_ENDED}'; END $$"
    )
    op.execute(
        "CREATE TRIGGER run_removal_guard BEFORE UPDATE ON run FOR EACH ROW "
        "WHEN (NEW.deleted_at IS DISTINCT FROM OLD.deleted_at OR NEW.erased_at IS DISTINCT FROM OLD.erased_at) "
        "EXECUTE FUNCTION guard_run_removal()"
    )
    op.execute(
        "CREATE FUNCTION guard_run_act() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"RAISE check_violation USING MESSAGE = '{_ACTS}'; END $$"
    )
    op.execute(
        "CREATE TRIGGER run_act_guard BEFORE UPDATE OR DELETE ON run_act FOR EACH ROW EXECUTE FUNCTION guard_run_act()"
    )
