"""Alembic's environment: runs on the connection and in the transaction that `migrate.upgrade` gives it."""

from alembic import context
from sqlmodel import SQLModel

from freshline.lineage import models as _lineage  # noqa: F401 - every table must be known
from freshline.runs import details as _details  # noqa: F401
from freshline.runs import models as _runs  # noqa: F401
from freshline.runs.care import models as _care  # noqa: F401
from freshline.runs.points import models as _points  # noqa: F401
from freshline.runs.redo import backfill_models as _redo  # noqa: F401
from freshline.storage import models as _storage  # noqa: F401

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    render_as_batch=True,
    transactional_ddl=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
