"""The application: run records, the gate, the worker's side, dispatch and reconciliation, and their surfaces.

From here, Python code submits and asks. Names are imported on first use: the command line starts without them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .aggregate_reports import GroupBy, Statistics
    from .care.collecting import Collector
    from .care.deletion import Deletions
    from .care.deletion_reports import Selection
    from .care.retention import Retention
    from .care.verifying import How, Verifier
    from .comparing import Comparison
    from .comparing_many import RunTable
    from .event_log import EventLog, LoggedEvent
    from .explaining import RunExplanation
    from .interface import (
        aliases,
        backfill,
        backfills,
        cancel,
        collector,
        compare,
        compare_replay,
        delete,
        deletions,
        events,
        explain,
        get,
        inputs,
        label,
        latest_metrics,
        pause,
        preview_backfill,
        publish,
        remove_alias,
        replay,
        report,
        restore,
        resume,
        retention,
        search,
        searches,
        series,
        set_alias,
        statistics,
        submit,
        undelete,
        verifier,
        versions,
        wait,
        withdraw,
    )
    from .models import Run
    from .points.reading import RunMetrics
    from .publication import Publication
    from .redo.backfill_plan import BackfillPreview, BackfillRequest
    from .redo.backfill_reports import BackfillReport
    from .redo.backfilling import Backfills
    from .redo.replay_comparison import ReplayComparison
    from .searching.errors import SearchError
    from .searching.found import FoundRun
    from .searching.searches import Page, Search, Searches
    from .service import RunExecutionService
    from .status import RunStatus, StopReason

_HOME = {
    "GroupBy": "aggregate_reports",
    "Statistics": "aggregate_reports",
    "BackfillPreview": "redo.backfill_plan",
    "BackfillReport": "redo.backfill_reports",
    "BackfillRequest": "redo.backfill_plan",
    "Backfills": "redo.backfilling",
    "Collector": "care.collecting",
    "Comparison": "comparing",
    "Deletions": "care.deletion",
    "EventLog": "event_log",
    "FoundRun": "searching.found",
    "How": "care.verifying",
    "LoggedEvent": "event_log",
    "Page": "searching.searches",
    "Publication": "publication",
    "ReplayComparison": "redo.replay_comparison",
    "Retention": "care.retention",
    "Run": "models",
    "RunExecutionService": "service",
    "RunExplanation": "explaining",
    "RunMetrics": "points.reading",
    "RunStatus": "status",
    "RunTable": "comparing_many",
    "Search": "searching.searches",
    "SearchError": "searching.errors",
    "Searches": "searching.searches",
    "Selection": "care.deletion_reports",
    "StopReason": "status",
    "Verifier": "care.verifying",
    "aliases": "interface",
    "backfill": "interface",
    "backfills": "interface",
    "cancel": "interface",
    "collector": "interface",
    "compare": "interface",
    "compare_replay": "interface",
    "delete": "interface",
    "deletions": "interface",
    "events": "interface",
    "explain": "interface",
    "get": "interface",
    "inputs": "interface",
    "label": "interface",
    "latest_metrics": "interface",
    "pause": "interface",
    "preview_backfill": "interface",
    "publish": "interface",
    "remove_alias": "interface",
    "replay": "interface",
    "report": "interface",
    "restore": "interface",
    "resume": "interface",
    "retention": "interface",
    "search": "interface",
    "searches": "interface",
    "series": "interface",
    "set_alias": "interface",
    "statistics": "interface",
    "submit": "interface",
    "undelete": "interface",
    "verifier": "interface",
    "versions": "interface",
    "wait": "interface",
    "withdraw": "interface",
}

__all__ = [
    "BackfillPreview",
    "BackfillReport",
    "BackfillRequest",
    "Backfills",
    "Collector",
    "Comparison",
    "Deletions",
    "EventLog",
    "FoundRun",
    "GroupBy",
    "How",
    "LoggedEvent",
    "Page",
    "Publication",
    "ReplayComparison",
    "Retention",
    "Run",
    "RunExecutionService",
    "RunExplanation",
    "RunMetrics",
    "RunStatus",
    "RunTable",
    "Search",
    "SearchError",
    "Searches",
    "Selection",
    "Statistics",
    "StopReason",
    "Verifier",
    "aliases",
    "backfill",
    "backfills",
    "cancel",
    "collector",
    "compare",
    "compare_replay",
    "delete",
    "deletions",
    "events",
    "explain",
    "get",
    "inputs",
    "label",
    "latest_metrics",
    "pause",
    "preview_backfill",
    "publish",
    "remove_alias",
    "replay",
    "report",
    "restore",
    "resume",
    "retention",
    "search",
    "searches",
    "series",
    "set_alias",
    "statistics",
    "submit",
    "undelete",
    "verifier",
    "versions",
    "wait",
    "withdraw",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
