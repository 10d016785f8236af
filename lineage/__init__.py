"""The lineage graph and the judgement over it: versions, edges, freshness, staleness and its causes.

Works in the caller's transaction on the database of records. Knows a run by its id alone, and nothing of Prefect.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .explain import Explanation
    from .models import Activity, CauseKind, Freshness
    from .versions import InputVersion

_HOME = {
    "Activity": "models",
    "CauseKind": "models",
    "Explanation": "explain",
    "Freshness": "models",
    "InputVersion": "versions",
}

__all__ = ["Activity", "CauseKind", "Explanation", "Freshness", "InputVersion"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
