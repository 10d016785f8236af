"""The flow that brings a dataset or signal up to date.

What it brings comes from the deployment's `resource:` block, which names one of

- `source`: a function of `since` and `until` that returns the rows with since < date <= until;
- `transform`: a function of the upstream tables, by role, that returns the whole table.
"""

import time
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from prefect import flow

from ..runs.metrics import PipelineMetrics, pipeline_metrics
from ..storage.errors import InvalidInput, NotFound
from ..storage.words import UpdateMode
from .context import RunContext
from .inputs import read_roles, resource_name
from .panels import DATE
from .tracking import track


@flow(name="refresh")
@track.refresh
def refresh(run: RunContext) -> PipelineMetrics:
    """Bring a dataset or signal up to date.

    From a source, an incremental run fetches the rows after the last date of the current version and appends
    them, so that the new version shares the old rows' files; a full run fetches and writes everything. A transform
    always computes the whole table: its inputs may have changed anywhere. Nothing dated after `data_as_of` is
    fetched. The table is called like the resource.
    """
    began = time.monotonic()
    try:
        source = run.callable("source")
    except NotFound:
        return _transformed(run, began)
    name = resource_name(run)
    current = run.current(name)
    since = current.last_data_date if current is not None and run.update_mode is UpdateMode.INCREMENTAL else None
    run.logger.info("fetching the rows after %s until %s", since or "the beginning", run.data_as_of or "now")
    fetched = _checked(source(since=since, until=run.data_as_of), since=since, until=run.data_as_of)
    run.write(name, fetched, mode="append" if since is not None else "overwrite")
    if fetched.empty and (run.data_as_of is None or since is None or since < run.data_as_of):
        run.source_delayed(since)
    if since is not None or current is None:
        # Rows after the last date are all new: there is nothing to compare them with.
        last = _last_date(fetched) or since
        return pipeline_metrics(_numbered(fetched), last_data_date=last, duration_s=time.monotonic() - began)
    return _replaced(fetched, current.last_data_date, began)


def _transformed(run: RunContext, began: float) -> PipelineMetrics:
    transform = run.callable("transform")
    name = resource_name(run)
    current = run.current(name)
    table = _checked(transform(**read_roles(run)), since=None, until=run.data_as_of)
    run.write(name, table)
    if current is None:
        return pipeline_metrics(_numbered(table), last_data_date=_last_date(table), duration_s=time.monotonic() - began)
    return _replaced(table, current.last_data_date, began)


def _replaced(table: pd.DataFrame, known_until: date | None, began: float) -> PipelineMetrics:
    """Return the metrics of a table that replaced another one, which is not read again for them.

    Rows after its last date are new; whether earlier ones changed is not known.
    """
    dates = _dates(table)
    new = None if dates is None or known_until is None else int((dates > pd.Timestamp(known_until)).sum())
    return PipelineMetrics(
        rows_fetched=len(table),
        rows_inserted=new,
        last_data_date=_last_date(table),
        bytes_processed=int(table.memory_usage(index=True, deep=True).sum()),
        duration_s=time.monotonic() - began,
    )


def _checked(table: Any, *, since: date | None, until: date | None) -> pd.DataFrame:
    """Return the table when it keeps to its bounds.

    Raises:
        InvalidInput: it is no table, or has rows that were not asked for: those would be there twice, or show the
            future.
    """
    if not isinstance(table, pd.DataFrame):
        raise InvalidInput(f"a source or transform returns a DataFrame; this one returned {type(table).__name__}")
    dates = _dates(table)
    if dates is None:
        if since is not None:
            raise InvalidInput(f"the rows have no {DATE!r} any more, in the index or as a column; run it in full")
        return table
    outside = np.zeros(len(dates), dtype=bool)
    if since is not None:
        outside |= (dates <= pd.Timestamp(since)).to_numpy()
    if until is not None:
        outside |= (dates > pd.Timestamp(until)).to_numpy()
    if outside.any():
        raise InvalidInput(
            f"{outside.sum()} rows lie outside {since or 'the beginning'} < date <= {until or 'the end'}, the first on "
            f"{dates[outside].iloc[0]:%Y-%m-%d}: a source or transform returns only what it was asked for"
        )
    return table


def _dates(table: pd.DataFrame) -> "pd.Series[pd.Timestamp] | None":
    """Return the rows' dates, from the column or index `date`; none when the table has none."""
    if DATE in table.columns:
        return pd.Series(pd.to_datetime(table[DATE]).to_numpy())
    if DATE in table.index.names:
        return pd.Series(pd.to_datetime(table.index.get_level_values(DATE)).to_numpy())
    return None


def _last_date(table: pd.DataFrame) -> date | None:
    dates = _dates(table)
    return None if dates is None or dates.empty else dates.max().date()


def _numbered(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows under labels that are unique; a long table has a date many times."""
    return table.reset_index() if table.index.has_duplicates else table
