"""From a row of `run` to the typed record."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm.attributes import manager_of_class

from .models import Run

_MANAGER = manager_of_class(Run)
_COLUMN_OF = {attribute.key: attribute.columns[0].name for attribute in sa.inspect(Run).column_attrs}
_RENAMED = [(attribute, column) for attribute, column in _COLUMN_OF.items() if attribute != column]
"""Attributes of a `Run` with another name than their column: `metadata_`, SQLModel needs its own for itself."""


def as_run(row: Any) -> Run:
    """Return a row of `run` as its typed record, made as SQLAlchemy makes what it loads: nothing is validated."""
    run: Run = Run.__new__(Run)
    _MANAGER.setup_instance(run)
    values = row._asdict()
    for attribute, column in _RENAMED:
        values[attribute] = values.pop(column)
    # Taken out, and not copied anew: pages of runs are made of these.
    for name in values.keys() - _COLUMN_OF.keys():
        del values[name]
    assert len(values) == len(_COLUMN_OF), "the row has not all columns of a run"
    run.__dict__.update(values)
    return run
