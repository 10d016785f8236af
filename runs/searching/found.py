"""The runs that a search finds: as records, as a table, and as a notebook shows them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from ...lineage.listing import html_table
from ...storage.ids import show_run_id
from ..models import Run
from ..record import as_run

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 20
"""Runs of a notebook's view."""
_TOLD = (
    *("status", "stop_reason", "type", "trigger", "actor", "project", "created_at", "started_at", "ended_at"),
    *("attempt", "data_as_of", "error_type", "error_message"),
)
"""Columns of a run that stand in the table as they are."""


class _OfRow:
    """Keeps the row of a run beside the fields."""

    __slots__ = ("_row",)
    _row: Any


@dataclass(frozen=True, slots=True)
class FoundRun(_OfRow):
    """A run that was found.

    A record has sixty fields, and of most runs in a list nobody reads any: it is made when it is first asked for.
    """

    run: Run
    deployment: str
    """Key of its deployment."""
    version: int | None
    """Number of the version that it published."""
    metrics: dict[str, float]
    """The latest values that were asked for, by name; NaN where that was logged."""

    @classmethod
    def of(cls, row: Any, metrics: dict[str, float]) -> Self:
        """Return the run of a row with `deployment_key` and `version_number`."""
        found = cls.__new__(cls)
        put = object.__setattr__
        put(found, "_row", row)
        put(found, "deployment", row.deployment_key)
        put(found, "version", row.version_number)
        put(found, "metrics", metrics)
        return found

    if not TYPE_CHECKING:  # it would take any name for an attribute

        def __getattr__(self, name: str) -> Any:
            if name != "run":
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            run = as_run(self._row)
            object.__setattr__(self, "run", run)
            return run

    @property
    def facts(self) -> Any:
        """The row of the run, for which no record is made; of a copy, which has none, the record."""
        row = getattr(self, "_row", None)  # a copy has none
        return self.run if row is None else row

    @property
    def id(self) -> UUID:
        """The run's id."""
        known: UUID = self.facts.id
        return known

    @property
    def duration_s(self) -> float | None:
        """Seconds from the first start of its body to its end."""
        return None if self.run.duration_ns is None else self.run.duration_ns / 1e9


def table_of(runs: Iterable[FoundRun]) -> "pd.DataFrame":
    """Return the runs as a table, a row each: see `Search.to_pandas`."""
    import pandas as pd

    rows = [_row(found) for found in runs]
    fixed = ["run", "deployment", *_TOLD, "duration_s", "version", "tags"]
    added = {name for row in rows for name in row if name not in fixed}
    columns = [*fixed, *sorted(name for name in added if name.startswith("parameters."))]
    columns += sorted(name for name in added if name.startswith("metrics."))
    table = pd.DataFrame({name: [row.get(name) for row in rows] for name in columns})
    for name in columns:
        if name.startswith("metrics.") or name == "duration_s":
            table[name] = table[name].astype("float64")
        elif name.endswith("_at"):
            table[name] = pd.to_datetime(table[name], utc=True)
    return table.astype({"version": "Int64"})


def html_of(runs: Sequence[FoundRun], caption: str, *, has_more: bool) -> str:
    """Return the runs as a table of HTML; what people wrote is text in it."""
    names = sorted({name for found in runs for name in found.metrics})
    rows = [
        (
            show_run_id(found.id),
            found.deployment,
            found.run.status,
            found.run.created_at,
            found.duration_s,
            *(found.metrics.get(name) for name in names),
        )
        for found in runs
    ]
    said = f"{caption}; the first {len(runs)}" if has_more else caption
    return html_table(("run", "deployment", "status", "created at", "duration s", *names), rows, caption=said)


def _row(found: FoundRun) -> dict[str, Any]:
    run = found.run
    return {
        "run": show_run_id(run.id),
        "deployment": found.deployment,
        **{name: getattr(run, name) for name in _TOLD},
        "duration_s": found.duration_s,
        "version": found.version,
        "tags": ", ".join(run.tags),
        **{f"parameters.{name}": value for name, value in run.parameters.items()},
        **{f"metrics.{name}": value for name, value in found.metrics.items()},
    }
