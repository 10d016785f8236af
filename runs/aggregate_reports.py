"""What the questions about how runs have gone answer with: groups of runs, and their days.

Owns the forms alone; what they are made of is in `aggregates`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from ..lineage.listing import html_table
from .status import RunStatus

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 60
"""Rows of a notebook's view."""


class GroupBy(StrEnum):
    """What runs are counted by."""

    DEPLOYMENT = "deployment"
    """The key of their deployment."""
    TYPE = "type"
    """Their type, such as BacktestRun."""
    NOTHING = "nothing"
    """All of them together, as `all`."""


@dataclass(frozen=True)
class DayStatistics:
    """The runs of a group that were created on one day, in UTC."""

    day: date
    num_runs: int
    statuses: Mapping[str, int]
    """Status -> how many runs have it now; those that none has are left out."""
    failure_rate: float | None
    """Failed runs among those that completed or failed; null when there are none."""
    p50_s: float | None
    """Seconds that half of the completed runs did not exceed; null when none completed."""
    p95_s: float | None
    """Seconds that 95 of 100 completed runs did not exceed."""
    p99_s: float | None
    """Seconds that 99 of 100 completed runs did not exceed."""


@dataclass(frozen=True)
class GroupStatistics:
    """The runs of a deployment, or of a type."""

    group: str
    """The deployment's key, the type, or `all`."""
    num_runs: int
    statuses: Mapping[str, int]
    """Status -> how many runs have it now; those that none has are left out."""
    failure_rate: float | None
    """Failed runs among those that completed or failed; null when there are none."""
    mean_s: float | None
    """Mean duration of the completed runs, in seconds; null when none completed."""
    p50_s: float | None
    """Seconds that half of the completed runs did not exceed."""
    p95_s: float | None
    """Seconds that 95 of 100 completed runs did not exceed."""
    p99_s: float | None
    """Seconds that 99 of 100 completed runs did not exceed."""
    max_s: float | None
    """The longest duration of a completed run."""
    num_steps: int
    """Steps of all runs together."""
    num_failed_steps: int
    step_s: float
    """Seconds of all steps together."""
    counters: Mapping[str, float]
    """What the bodies counted, such as tokens: name -> sum over all runs."""
    trend: Sequence[DayStatistics] | None = field(default=(), repr=False)
    """The days on which runs were created, oldest first; null when it was left out."""


@dataclass(frozen=True)
class Statistics:
    """How the runs have gone that were created in a span of time."""

    since: datetime
    until: datetime
    """The first moment that is not counted."""
    group_by: GroupBy
    groups: Sequence[GroupStatistics]
    """The group with most runs first."""
    num_without_trend: int
    """Groups whose trend was left out, because there are so many."""

    def to_json(self) -> dict[str, Any]:
        """Return it in plain types, as the command line and the REST server give it."""
        return asdict(self)

    def to_pandas(self, *, trend: bool = False) -> "pd.DataFrame":
        """Return the groups as a table: a row each, or with `trend` a row for each of their days.

        Columns: the fields; `num_<status>` for each status that occurs; without `trend` also `counter_<name>` for each
        counter.
        """
        import pandas as pd

        if not trend:
            return pd.DataFrame(self._rows((one.group, one) for one in self.groups))
        days = ((group.group, day) for group in self.groups for day in group.trend or ())
        return pd.DataFrame(self._rows(days))

    def _rows(self, items: Iterable[tuple[str, Any]]) -> list[dict[str, Any]]:
        listed = list(items)
        statuses = [status for status in RunStatus if any(status in item.statuses for _, item in listed)]
        rows = []
        for group, item in listed:
            row = {"group": group, **{name: value for name, value in vars(item).items() if name != "trend"}}
            counted = row.pop("statuses")
            row |= {f"num_{status}": counted.get(status, 0) for status in statuses}
            row |= {f"counter_{name}": value for name, value in row.pop("counters", {}).items()}
            rows.append(row)
        return rows

    def _repr_html_(self) -> str:
        columns = ("group", "num_runs", "failure_rate", "p50_s", "p95_s", "p99_s")
        caption = f"Runs from {self.since:%Y-%m-%d %H:%M} to {self.until:%Y-%m-%d %H:%M} UTC"
        shown = [[_brief(getattr(one, name)) for name in columns] for one in self.groups[:_SHOWN]]
        heads = [name.replace("_", " ") for name in columns]
        return html_table(heads, shown, caption=caption, more=len(self.groups) - len(shown))


def _brief(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value
