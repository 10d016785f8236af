"""The lineage graph and the judgement over it: versions, edges, freshness, staleness and its causes.

Works in the caller's transaction on the database of records; the functions exported here open the store that the
environment names. Knows a run by its id alone, and nothing of Prefect.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .interface import consumers, downstream, expiring, explain, impact, inputs, upstream
    from .lapse import Expiring
    from .models import Activity, CauseKind, Freshness
    from .questions import BuiltVersion, Impact, InputVersion, LinkedDeployment
    from .reasons import Explanation

_HOME = {
    "Activity": "models",
    "BuiltVersion": "questions",
    "CauseKind": "models",
    "Expiring": "lapse",
    "Explanation": "reasons",
    "Freshness": "models",
    "Impact": "questions",
    "InputVersion": "questions",
    "LinkedDeployment": "questions",
    "consumers": "interface",
    "downstream": "interface",
    "expiring": "interface",
    "explain": "interface",
    "impact": "interface",
    "inputs": "interface",
    "upstream": "interface",
}

__all__ = [
    "Activity",
    "BuiltVersion",
    "CauseKind",
    "Expiring",
    "Explanation",
    "Freshness",
    "Impact",
    "InputVersion",
    "LinkedDeployment",
    "consumers",
    "downstream",
    "expiring",
    "explain",
    "impact",
    "inputs",
    "upstream",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
