"""Alembic's environment: runs on the connection and in the transaction that `migrate.upgrade` gives it.

The SQL views are made anew around the revisions, so that none of them has to think of a view. SQLite looks at all views
when it renames a table, as a batch of changes does in the end, or drops a column: there they are away meanwhile. On
Postgres they stay, with those who were granted them: a revision that drops a column which a view shows, or changes its
type, calls `drop_views` first.
"""

from alembic import context
from sqlmodel import SQLModel

from freshline.lineage import models as _lineage  # noqa: F401 - every table must be known
from freshline.runs import author_models as _author  # noqa: F401
from freshline.runs import details as _details  # noqa: F401
from freshline.runs import models as _runs  # noqa: F401
from freshline.runs.care import models as _care  # noqa: F401
from freshline.runs.points import models as _points  # noqa: F401
from freshline.runs.redo import backfill_models as _redo  # noqa: F401
from freshline.runs.views import drop_views, make_views
from freshline.storage import models as _storage  # noqa: F401

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=SQLModel.metadata,
    render_as_batch=True,
    transactional_ddl=True,
    compare_type=True,
)
with context.begin_transaction():
    if connection.dialect.name == "sqlite":
        drop_views(connection)
    context.run_migrations()
    if context.get_context().get_current_revision() == context.get_head_revision():
        make_views(connection)
