"""Functions by their dotted paths: how a body gets what its deployment declares."""

import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any


def import_callable(path: str) -> Callable[..., Any]:
    """Return the function that a dotted path names, from the project's own folders too."""
    # Prefect has the working directory on sys.path while it loads a module entrypoint, and not when the body runs.
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    module, _, function = path.rpartition(".")
    found: Callable[..., Any] = getattr(import_module(module), function)
    return found
