"""Metrics of a PipelineRun: what a refresh of a dataset or signal fetched and changed.

Knows tables as pandas frames; must not know where they are stored.
"""

from collections.abc import Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING

from ...storage.errors import InvalidInput
from ...storage.words import UpdateMode
from .model import Metrics, measure

if TYPE_CHECKING:
    import pandas as pd


class PipelineMetrics(Metrics):
    """What a refresh did."""

    rows_fetched: int | None = measure("rows", "rows that the source or transform returned", ge=0)
    rows_inserted: int | None = measure("rows", "fetched rows whose key the dataset did not have", ge=0)
    rows_updated: int | None = measure(
        "rows", "fetched rows whose key the dataset had, with at least one other value (two NaN are equal)", ge=0
    )
    rows_deleted: int | None = measure(
        "rows", "rows of the dataset whose key was not fetched by a full refresh; 0 for an incremental one", ge=0
    )
    last_data_date: date | None = measure("date", "the latest data date of the dataset after the refresh")
    bytes_processed: int | None = measure("bytes", "size of the fetched rows in memory, index included", ge=0)
    duration_s: float | None = measure("s", "wall time of the refresh")


def pipeline_metrics(
    fetched: "pd.DataFrame",
    *,
    current: "pd.DataFrame | None" = None,
    keys: Sequence[str] = (),
    update_mode: UpdateMode = UpdateMode.INCREMENTAL,
    last_data_date: date | None = None,
    bytes_processed: int | None = None,
    duration_s: float | None = None,
) -> PipelineMetrics:
    """Compare what was fetched with what the dataset has.

    A row's key is its index label, or its values in the columns `keys`. Without `current`, all rows are new.
    `last_data_date` is the largest date of the index when not given and the index holds dates.

    Raises:
        InvalidInput: a key column is absent; a key occurs twice, so that rows cannot be matched.
    """
    new = _keyed(fetched, keys, "fetched")
    inserted, updated, deleted = len(new), 0, 0
    if current is not None:
        old = _keyed(current, keys, "current")
        shared = new.index.intersection(old.index)
        inserted, updated = len(new) - len(shared), _changed(new.loc[shared], old.loc[shared])
        if update_mode is UpdateMode.FULL:
            deleted = len(old) - len(shared)
    if bytes_processed is None:
        bytes_processed = int(fetched.memory_usage(index=True, deep=True).sum())
    if last_data_date is None:
        last_data_date = _last_date(
            [fetched] if current is None or update_mode is UpdateMode.FULL else [fetched, current]
        )
    return PipelineMetrics(
        rows_fetched=len(fetched),
        rows_inserted=inserted,
        rows_updated=updated,
        rows_deleted=deleted,
        last_data_date=last_data_date,
        bytes_processed=bytes_processed,
        duration_s=duration_s,
    )


def _keyed(frame: "pd.DataFrame", keys: Sequence[str], which: str) -> "pd.DataFrame":
    absent = [key for key in keys if key not in frame.columns]
    if absent:
        raise InvalidInput(f"the {which} rows have no key column {absent[0]!r}; they have {list(frame.columns)}")
    keyed = frame.set_index(list(keys)) if keys else frame
    twice = keyed.index[keyed.index.duplicated()]
    if len(twice):
        raise InvalidInput(
            f"the {which} rows have {len(twice)} with a key that occurred before, first {twice[0]!r}: "
            f"name the columns that make a row unique with keys=, or drop the duplicates"
        )
    return keyed


def _changed(new: "pd.DataFrame", old: "pd.DataFrame") -> int:
    """Return the number of rows that differ; a column that only one side has makes all rows differ."""
    if set(new.columns) != set(old.columns):
        return len(new)
    other = old[list(new.columns)]
    equal = (new == other) | (new.isna() & other.isna())
    return int((~equal.all(axis=1)).sum())


def _last_date(frames: "Sequence[pd.DataFrame]") -> date | None:
    """Return the largest date of the frames' indexes (of the first level that holds dates), None without any."""
    found: list[date] = []
    for frame in frames:
        for level in range(frame.index.nlevels):
            labels = frame.index.get_level_values(level)
            latest = labels.max() if len(labels) and labels.inferred_type in {"datetime64", "date"} else None
            if isinstance(latest, date):
                found.append(latest.date() if isinstance(latest, datetime) else latest)
                break
    return max(found, default=None)
