"""The signature that a tracked function shows: its own without `run`, and Freshline's parameters behind it.

Owns the types, defaults and descriptions of what is added, and the refusal of a function that cannot be tracked.
"""

import inspect
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any, Literal, NoReturn

Function = Callable[..., Any]

ADDED: Mapping[str, tuple[Any, Any, str]] = {
    "update_mode": (
        Literal["incremental", "full"],
        "incremental",
        "Bring only what is new, or everything.",
    ),
    "if_ready": (
        Literal["run", "skip"] | None,
        None,
        "What to do when the result is ready already; empty: the deployment's default.",
    ),
    "on_stale": (
        Literal["refuse", "wait", "refresh", "force"] | None,
        None,
        "What to do when an upstream is not ready; empty: the deployment's default.",
    ),
    "data_as_of": (
        date | None,
        None,
        "A data date: nothing later is read.",
    ),
}
"""Name -> (type, default, description) of the parameters that are added."""


def signature_of(function: Function, names: Mapping[str, str]) -> inspect.Signature:
    """Return the signature that is shown; `names` maps the shown names of the added parameters to ours.

    Raises:
        TypeError: the first parameter is not `run`, or one of the others clashes with an added one.
    """
    signature = inspect.signature(function, eval_str=True)
    own = list(signature.parameters.values())
    if not own or own[0].name != "run":
        _refuse(function, "its first parameter is `run: RunContext`")
    clash = sorted({parameter.name for parameter in own[1:]} & names.keys())
    if clash:
        name = clash[0]
        _refuse(
            function,
            f"its parameter {name!r} clashes with Freshline's; decorate with rename={{{name!r}: ...}}",
        )
    added = [
        inspect.Parameter(shown, inspect.Parameter.KEYWORD_ONLY, default=ADDED[name][1], annotation=ADDED[name][0])
        for shown, name in names.items()
    ]
    rest = [parameter for parameter in own[1:] if parameter.kind != inspect.Parameter.VAR_KEYWORD]
    return signature.replace(parameters=[*rest, *added, *(p for p in own[1:] if p not in rest)])


def _refuse(function: Function, problem: str) -> NoReturn:
    raise TypeError(f"{function.__module__}.{function.__qualname__} cannot be tracked: {problem}")


def documented(doc: str | None, names: Mapping[str, str]) -> str:
    """Return the docstring with the added parameters in its Args section, from where Prefect's form takes them."""
    # Prefect reads an Args section only behind a summary.
    lines = inspect.cleandoc(doc or "A run that Freshline tracks.").splitlines()
    added = [f"    {shown}: {ADDED[name][2]}" for shown, name in names.items()]
    if "Args:" not in lines:
        return "\n".join([*lines, "", "Args:", *added])
    start = lines.index("Args:") + 1
    end = start
    while end < len(lines) and (lines[end].startswith(" ") or not lines[end]):
        end += 1
    while not lines[end - 1]:
        end -= 1
    return "\n".join([*lines[:end], *added, *lines[end:]])
