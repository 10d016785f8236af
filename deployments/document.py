"""prefect.yaml as text: read safely, with the line of everything in it.

Owns the bounds on what is read. Knows nothing of what the keys mean.

The reader is the one that Prefect uses (PyYAML's safe loader), so that both see the same values: `yes` is
true, `1:30` is 90. A repeated key, which it lets pass with the last value winning, is an error here.
"""

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # it ships no types

from ..storage.errors import CatalogError

MAX_BYTES = 1024 * 1024
"""A larger file is refused."""
MAX_NODES = 50_000
"""Keys and values with every alias written out; more is refused, since Prefect writes aliases out."""
MAX_DEPTH = 64
"""Levels of nesting."""


class LineDict(dict[str, Any]):
    """A mapping that knows its line, and the line of each key."""

    line: int
    lines: Mapping[Any, int]


class LineList(list[Any]):
    """A list that knows its line, and the line of each item."""

    line: int
    lines: Mapping[Any, int]


def read_text(path: Path) -> str:
    """Return the file's text.

    Raises:
        CatalogError: it is missing, no file, unreadable, larger than `MAX_BYTES` or not UTF-8.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise CatalogError(
            f"there is no file {path}; run this in the directory of prefect.yaml or name the file"
        ) from None
    except OSError as error:
        raise CatalogError(f"{path} cannot be read: {error.strerror or error}") from None
    if len(content) > MAX_BYTES:
        raise CatalogError(f"{path} is larger than {MAX_BYTES // 1024} KiB; split the catalogue")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise CatalogError(f"{path} is not UTF-8 text: {error.reason}", line=line) from None


def read_document(path: Path) -> Mapping[str, Any]:
    """Return the file's top-level mapping; its nodes know their lines (`line_of`). An empty file is empty.

    Raises:
        CatalogError: as `read_text`; or it is not YAML, not a mapping, nested too deep, or grows too large
        when
            its aliases are written out.
    """
    text = read_text(path)
    try:
        root = yaml.load(text, Loader=_loader())
        _check_size(root, sizes={}, depth=0)
    except RecursionError:
        raise CatalogError(f"{path} is nested deeper than {MAX_DEPTH} levels") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = " ".join((error.problem or error.context or "cannot be parsed").split())
        raise CatalogError(f"{path} is not YAML: {problem}", line=mark.line + 1 if mark is not None else None) from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a timestamp such as 2024-13-45
        raise CatalogError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if root is None:
        return {}
    if not isinstance(root, Mapping):
        raise CatalogError(f"{path} must be a mapping with the key `deployments`, not {kind_of(root)}", line=1)
    return root


def line_of(node: Any, key: Any = None) -> int | None:
    """Return the line (from 1) of `key` in a mapping or list, else of the node itself, if it is known."""
    if not isinstance(node, LineDict | LineList):
        return None
    # A key that came through a merge (<<) has no place of its own.
    return node.lines.get(key, node.line)


def plain(node: Any) -> Any:
    """Return the node as plain dict, list, str, bool, int, float, date, datetime or None.

    Raises:
        ValueError: a key is not text, or a value is of another type; the message says which.
    """
    if isinstance(node, dict):
        for key in node:
            if not isinstance(key, str):
                raise ValueError(f"the key {key!r} is not text; quote it")
        return {key: plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [plain(value) for value in node]
    if node is None or isinstance(node, str | int | float | date):
        return node
    raise ValueError(f"a value of type {type(node).__name__} cannot be used; write it as text")


def kind_of(value: Any) -> str:
    """Return what people call the value: a mapping, a list, text, a number, nothing."""
    names: Mapping[type[Any], str] = {
        bool: f"the boolean {str(value).lower()}",  # before the numbers: a bool is an int
        str: f"the text {str(value)!r}",
        int: f"the number {value}",
        float: f"the number {value}",
        Mapping: "a mapping",
        list: "a list",
        type(None): "nothing",
    }
    return next((name for kind, name in names.items() if isinstance(value, kind)), f"a {type(value).__name__}")


def _loader() -> type[Any]:
    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML ships no types
        """PyYAML's safe loader, which keeps lines and refuses repeated keys."""

    Loader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)
    Loader.add_constructor("tag:yaml.org,2002:seq", _construct_list)
    return Loader


def _construct_mapping(loader: Any, node: Any) -> Any:
    made = LineDict()
    made.line, made.lines = node.start_mark.line + 1, {}
    yield made  # in two steps: an alias may stand within what it names
    lines: dict[Any, int] = {}
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        key = loader.construct_object(key_node, deep=True)
        line = key_node.start_mark.line + 1
        if isinstance(key, str) and key in lines:
            raise yaml.constructor.ConstructorError(
                problem=f"the key {key!r} is repeated (first in line {lines[key]})",
                problem_mark=key_node.start_mark,
            )
        if isinstance(key, str | int | float | bool | date | None):
            lines[key] = line
    made.lines = lines
    made.update(loader.construct_mapping(node))


def _construct_list(loader: Any, node: Any) -> Any:
    made = LineList()
    made.line = node.start_mark.line + 1
    made.lines = {index: item.start_mark.line + 1 for index, item in enumerate(node.value)}
    yield made
    made.extend(loader.construct_sequence(node))


def _check_size(node: Any, *, sizes: dict[int, int], depth: int) -> int:
    """Return how many nodes there are with aliases written out; each shared node is visited once."""
    if depth > MAX_DEPTH:
        raise RecursionError
    if not isinstance(node, dict | list):
        return 1
    if id(node) not in sizes:
        children = [*node.keys(), *node.values()] if isinstance(node, dict) else node
        sizes[id(node)] = 1 + sum(_check_size(child, sizes=sizes, depth=depth + 1) for child in children)
        if sizes[id(node)] > MAX_NODES:
            raise yaml.YAMLError(f"its aliases grow to more than {MAX_NODES} values; write less, or alias less")
    return sizes[id(node)]
