"""From a row of `run` to the typed record."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm.attributes import manager_of_class

from .models import Run

_MANAGER = manager_of_class(Run)
_COLUMN_OF = {attribute.key: attribute.columns[0].name for attribute in sa.inspect(Run).column_attrs}
"""Attribute of a `Run` -> column: `metadata_` has another name, SQLModel needs its own for itself."""


def as_run(row: Any) -> Run:
    """Return a row of `run` as its typed record, made as SQLAlchemy makes what it loads: nothing is validated."""
    run: Run = Run.__new__(Run)
    _MANAGER.setup_instance(run)
    values = row._asdict()
    run.__dict__.update({name: values[column] for name, column in _COLUMN_OF.items()})
    return run
