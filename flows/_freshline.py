"""Freshline: trustworthy Prefect deployments. The wheel installs this file as `freshline/__init__.py`.

The rooms are imported on first use, so that `import freshline` stays cheap and a worker that only runs flows
never loads the command line. It stands above all of them: here storage, which imports no other room, is told who
knows what a reference means.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .storage import resolving

if TYPE_CHECKING:
    from . import deployments, flows, lineage, runs, storage
    from .flows import testing

__all__ = ["deployments", "flows", "lineage", "runs", "storage", "testing"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'freshline' has no attribute {name!r}")
    return import_module(".flows.testing" if name == "testing" else f".{name}", __name__)


def _resolve(reference: Any, **options: Any) -> resolving.Resolved:
    from .runs.resolving import resolve

    return resolve(reference, **options)


resolving.provide(_resolve)
