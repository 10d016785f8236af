"""The `schema:` key of a resource block: which columns the deployment's tables must have.

schema:
  prices:
    columns: {date: date, asset: string, close: float64}
    extra: refuse
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from ..storage.errors import CatalogError, InvalidInput, nearest_names
from ..storage.type_names import canonical_type
from .document import kind_of, line_of, plain

Refusal: TypeAlias = Callable[[int | None, str], CatalogError]
"""Makes the error for a line of the block."""

_EXTRA = ("refuse", "allow")


def read_schema(node: Any, *, line: int | None, refusal: Refusal) -> dict[str, Any]:
    """Return {table: {"columns": {column: canonical type}, "extra": "refuse" or "allow"}} of what is written.

    Raises:
        CatalogError: with the line and the fix.
    """
    example = "like {prices: {columns: {date: date, close: float64}}}"
    if not isinstance(node, Mapping) or not node:
        raise refusal(line, f"`schema` must map tables to their columns, {example}, not {kind_of(node)}")
    found = {}
    for name in node:
        at = line_of(node, name)
        if not isinstance(name, str) or not 1 <= len(name) <= 250 or not name.isprintable():
            raise refusal(at, f"schema: {plain(name)!r} cannot be the name of a table")
        found[str(name)] = _table(str(name), node[name], line=at, refusal=refusal)
    return found


def _table(name: str, node: Any, *, line: int | None, refusal: Refusal) -> dict[str, Any]:
    if not isinstance(node, Mapping):
        raise refusal(
            line, f"schema.{name} must be a mapping like {{columns: {{close: float64}}}}, not {kind_of(node)}"
        )
    for key in node:
        if key not in ("columns", "extra"):
            near = nearest_names(str(key), ("columns", "extra"))
            hint = f"did you mean {near[0]}?" if near else "known: columns, extra"
            raise refusal(line_of(node, key), f"unknown key {plain(key)!r} in schema.{name}; {hint}")
    columns, extra = node.get("columns"), node.get("extra", "refuse")
    if extra not in _EXTRA:
        raise refusal(
            line_of(node, "extra"),
            f"schema.{name}.extra is {kind_of(extra)}; write refuse (no other columns) or allow",
        )
    if not isinstance(columns, Mapping) or not columns:
        raise refusal(
            line_of(node, "columns") or line,
            f"schema.{name}.columns must map columns to types, like {{date: date, close: float64}}, "
            f"not {kind_of(columns)}",
        )
    types = {}
    for column in columns:
        at = line_of(columns, column)
        if not isinstance(column, str):
            raise refusal(at, f"schema.{name}: the column {plain(column)!r} is no text; quote it")
        try:
            types[str(column)] = canonical_type(columns[column])
        except InvalidInput as error:
            raise refusal(at, f"schema.{name}.{column}: {error}") from None
    return {"columns": types, "extra": str(extra)}
