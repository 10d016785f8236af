"""The route of statistics: how runs have gone, per deployment or per type."""

from datetime import date, datetime
from typing import Annotated

from fastapi import Query
from pydantic import Field

from ..aggregate_reports import GroupBy
from ..aggregates import statistics_of
from .context import Opened
from .documents import Document, Number
from .policies import Routes, read

routes = Routes(tags=["statistics"])

_MOMENT = "A moment such as `2026-11-01T08:00:00Z` (UTC unless it says another zone), or how long ago, such as `7d`"


class Counted(Document):
    """What is told of the runs of a group, and of each of their days."""

    num_runs: int
    statuses: dict[str, int] = Field(description="How many of them have each status now.")
    failure_rate: float | None = Field(description="Failed runs among those that completed or failed; null: none did.")
    p50_s: float | None = Field(description="Seconds that half of the completed runs did not exceed.")
    p95_s: float | None = Field(description="Seconds that 95 of 100 completed runs did not exceed.")
    p99_s: float | None = Field(description="Seconds that 99 of 100 completed runs did not exceed.")


class DayDocument(Counted):
    """The runs of a group that were created on one day."""

    day: date = Field(description="In UTC.")


class GroupDocument(Counted):
    """The runs of a deployment or type."""

    group: str = Field(description="The deployment's key, the type, or `all`.", examples=["backtest/book"])
    mean_s: float | None = Field(description="Mean duration of the completed runs, in seconds.")
    max_s: float | None = Field(description="The longest duration of a completed run, in seconds.")
    num_steps: int = Field(description="Steps of all runs together.")
    num_failed_steps: int
    step_s: float = Field(description="Seconds of all steps together.")
    counters: dict[str, Number] = Field(description="What the bodies counted: name -> sum over all runs.")
    trend: list[DayDocument] | None = Field(
        description="The days on which runs were created, oldest first; null: left out."
    )


class StatisticsDocument(Document):
    """How the runs have gone that were created in a span of time."""

    since: datetime
    until: datetime = Field(description="The first moment that is not counted.")
    group_by: GroupBy
    groups: list[GroupDocument] = Field(description="The group with most runs first.")
    num_without_trend: int = Field(description="Groups whose trend was left out, because there are so many.")


@routes.get("/statistics", summary="Count how runs have gone")
@read
def get_statistics(
    *,
    freshline: Opened,
    group_by: Annotated[GroupBy, Query(description="What runs are counted by.")] = GroupBy.DEPLOYMENT,
    deployment: Annotated[str | None, Query(max_length=600, description="Only the runs of this one.")] = None,
    type_: Annotated[
        str | None, Query(alias="type", max_length=100, description="Only runs of this type.", examples=["BacktestRun"])
    ] = None,
    since: Annotated[str | None, Query(max_length=100, description=f"{_MOMENT}; by default `30d`.")] = None,
    until: Annotated[str | None, Query(max_length=100, description=f"{_MOMENT}; by default now.")] = None,
    trend: Annotated[bool, Query(description="Whether every day is told, too.")] = True,
) -> StatisticsDocument:
    """Count the runs that were created in a span of time: statuses, failures, durations, days, steps and counters.

    A percentile is a duration that a run really took: the shortest that so many percent of the completed runs did not
    exceed.
    """
    found = statistics_of(
        freshline.database,
        tenant_id=freshline.settings.tenant_id,
        group_by=group_by,
        deployment=deployment,
        type_=type_,
        since=since,
        until=until,
        trend=trend,
    )
    return StatisticsDocument.model_validate(found.to_json())
