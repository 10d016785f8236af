"""The public names of a room, each with its signature and docstring."""

import inspect
from collections.abc import Iterator
from enum import Enum
from functools import cached_property
from importlib import import_module
from typing import Any

from .docstrings import annotations, described, in_a_cell, in_markdown, raised, signature
from .tables import table


def room(module: str) -> str:
    """Every public name of a module."""
    found = import_module(module)
    short = module.partition(".")[2]
    return "\n\n".join(
        part for name in sorted(found.__all__) for part in _name(f"{short}.{name}", getattr(found, name))
    )


def _name(name: str, item: Any) -> Iterator[str]:
    yield f"### `{name}`"
    if inspect.isclass(item):
        yield in_markdown(inspect.getdoc(item) or "")
        yield from _fields(item)
        yield from _methods(item)
    elif inspect.isfunction(item):
        yield f"```text\n{name}{signature(item)}\n```"
        yield in_markdown(inspect.getdoc(item) or "")
    else:  # a module, or the one object of its class
        yield in_markdown(inspect.getdoc(item) or "")


def _fields(item: type) -> Iterator[str]:
    if issubclass(item, Enum):
        rows = [(f"`{member.value}`", in_a_cell(described(item)[member.name])) for member in item]
        yield table(("member", "meaning"), rows)
    elif hasattr(item, "__table__"):
        yield "Its fields are [the record](record.md)."
    elif fields := {name: text for name, text in described(item).items() if name in item.__annotations__}:
        types = annotations(item)
        rows = [(f"`{name}`", types[name], in_a_cell(text) if text else "") for name, text in fields.items()]
        yield table(("field", "type", "meaning"), rows)


def _methods(item: type) -> Iterator[str]:
    rows = []
    for name, value in vars(item).items():
        if name.startswith("_"):
            continue
        function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        if inspect.isfunction(function):
            spelled = f"{name}{signature(function)}"
        elif isinstance(value, property | cached_property):
            spelled = name
        else:
            continue
        said = inspect.getdoc(function) or ""
        named = ", ".join(f"`{name}`" for name in raised(said))
        rows.append((f"`{spelled}`".replace("|", "\\|"), in_a_cell(said.partition("\n\n")[0]), named))
    if rows:
        yield table(("attribute", "what it is", "raises"), rows)
