"""What flow authors import (`track`, `RunContext`, `testing`), and the flows that ship ready to deploy."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import testing
    from .calls import run_as
    from .context import RunContext
    from .tracking import track

__all__ = ["RunContext", "run_as", "testing", "track"]


def __getattr__(name: str) -> Any:
    # On first use: importing one of the shipped modules must not import all that a run needs.
    if name == "testing":
        return import_module(".testing", __name__)
    if name in __all__:
        modules = {"RunContext": ".context", "run_as": ".calls", "track": ".tracking"}
        return getattr(import_module(modules[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
