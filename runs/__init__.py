"""The application: run records, the gate, the worker's side, dispatch and reconciliation, and their surfaces.

From here, Python code submits and asks. Names are imported on first use: the command line starts without them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .interface import cancel, explain, get, inputs, pause, report, resume, submit, wait
    from .models import Run
    from .service import RunExecutionService
    from .status import RunStatus, StopReason

_HOME = {
    "Run": "models",
    "RunExecutionService": "service",
    "RunStatus": "status",
    "StopReason": "status",
    "cancel": "interface",
    "explain": "interface",
    "get": "interface",
    "inputs": "interface",
    "pause": "interface",
    "report": "interface",
    "resume": "interface",
    "submit": "interface",
    "wait": "interface",
}

__all__ = [
    "Run",
    "RunExecutionService",
    "RunStatus",
    "StopReason",
    "cancel",
    "explain",
    "get",
    "inputs",
    "pause",
    "report",
    "resume",
    "submit",
    "wait",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
