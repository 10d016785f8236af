"""The code that a catalogue names: flows and callables, loaded and digested.

Owns how code is found from prefect.yaml's directory. Knows nothing of resources or lineage.
"""

import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..storage.errors import InvalidInput, nearest_names

if TYPE_CHECKING:
    from prefect.flows import Flow


def load_flow(entrypoint: str, *, directory: Path) -> "Flow[..., Any]":
    """Return the flow of an entrypoint `path.py:function` (relative to `directory`) or
    `package.module.function`.

    Loads with Prefect's own loader, which runs the module's code. `sys.path` is afterwards as it was before.

    Raises:
        InvalidInput: it cannot be imported, or is no flow; the message says what the import said.
    """
    from prefect.exceptions import ScriptError
    from prefect.flows import load_flow_from_entrypoint

    path, separator, function = entrypoint.rpartition(":")
    target, file = entrypoint, None
    if separator and path.endswith(".py"):
        file = directory / path
        if not file.is_file():
            raise InvalidInput(f"the entrypoint {entrypoint!r} names no file in {directory}; correct it")
        target = f"{file}:{function}"
    elif "." not in entrypoint:
        raise InvalidInput(f"the entrypoint {entrypoint!r} is not `path.py:function` or `package.module.function`")
    try:
        with _importable([directory], script=str(file) if file else None):
            return load_flow_from_entrypoint(target, use_placeholder_flow=False)
    except ScriptError as error:
        reason = _reason(error.user_exc)
    # A module may raise anything, SystemExit too, while it is imported.
    except (Exception, SystemExit) as error:
        reason = _reason(error)
    raise InvalidInput(f"the entrypoint {entrypoint!r} cannot be loaded: {reason}")


def search_path(entrypoint: str, *, directory: Path) -> tuple[Path, ...]:
    """Return what Prefect's worker has first on `sys.path` when it runs this entrypoint.

    A file entrypoint adds its own directory before that of prefect.yaml (Prefect 3.8), so that a callable
    may be named by a module beside the flow's file.
    """
    path, separator, _ = entrypoint.rpartition(":")
    if separator and path.endswith(".py"):
        return ((directory / path).parent.resolve(), directory)
    return (directory,)


def load_callable(path: str, *, search: Sequence[Path]) -> Callable[..., Any]:
    """Return the object called `package.module.name`, imported with `search` first on `sys.path`.

    Raises:
        InvalidInput: it cannot be imported (the message says what the import said), or is not callable.
    """
    module_name, _, name = path.rpartition(".")
    if not module_name or not all(part.isidentifier() for part in path.split(".")):
        raise InvalidInput(f"{path!r} is not a dotted path; write it like package.module.function")
    with _importable(search):
        try:
            module = importlib.import_module(module_name)
        except (Exception, SystemExit) as error:
            reason = _reason(error)
            raise InvalidInput(
                f"{path!r} cannot be imported: {reason}; correct the path or install the package"
            ) from None
    try:
        found = getattr(module, name)
    except AttributeError:
        near = nearest_names(name, (other for other in vars(module) if not other.startswith("_")))
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise InvalidInput(f"{path!r}: module {module_name} has no {name!r}{hint}") from None
    if not callable(found):
        raise InvalidInput(f"{path!r} is not callable, but a {type(found).__name__}; name a function")
    return found  # type: ignore[no-any-return]  # checked just above


def callable_digest(function: Callable[..., Any]) -> str:
    """Return the sha256 (hex) of the source file that defines the callable.

    It covers the whole file, with line ends made alike, and nothing that the file imports: a change in a
    library, or in another module of the project, does not change it. What is wrapped (`functools.wraps`, a
    flow, `partial`) is digested as what it wraps. A callable without source (written in C) is digested by
    its module, name and the version of the package that brought it.
    """
    target = _unwrapped(function)
    try:
        file = inspect.getsourcefile(target if _has_source(target) else type(target))
        if file is not None:
            return hashlib.sha256(Path(file).read_bytes().replace(b"\r\n", b"\n")).hexdigest()
    except (TypeError, OSError):
        pass
    module = getattr(target, "__module__", None) or type(target).__module__
    name = getattr(target, "__qualname__", type(target).__qualname__)
    return hashlib.sha256(f"{module}:{name}@{_version_of(module)}".encode()).hexdigest()


def _unwrapped(function: Any) -> Any:
    while True:
        if inspect.ismethod(function):
            function = function.__func__
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif hasattr(function, "func") and callable(function.func):  # functools.partial
            function = function.func
        elif hasattr(function, "fn") and callable(function.fn):  # a Prefect flow or task
            function = function.fn
        else:
            return function


def _has_source(target: Any) -> bool:
    return inspect.isfunction(target) or inspect.isclass(target) or inspect.ismodule(target)


def _version_of(module: str) -> str:
    from importlib.metadata import packages_distributions, version

    top = module.partition(".")[0]
    names = packages_distributions().get(top)
    return version(names[0]) if names else sys.version.partition(" ")[0]


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {text[:500]}"


@contextmanager
def _importable(search: Sequence[Path], *, script: str | None = None) -> Iterator[None]:
    """Put directories first on `sys.path`, and leave it as it was: Prefect's loader would not."""
    before, loaded = list(sys.path), set(sys.modules)
    sys.path[:0] = [str(directory) for directory in search]
    importlib.invalidate_caches()
    try:
        yield
    except BaseException:
        # Prefect's loader leaves the half-run module behind, which a later import would take for whole.
        for name in [name for name in sys.modules if name not in loaded]:
            if getattr(sys.modules[name], "__file__", None) == script:
                del sys.modules[name]
        raise
    finally:
        sys.path[:] = before
