"""How the columns of a table changed from one version to the next, and which change loses nothing.

Works on canonical type names (`digest.type_name`), as records hold them; knows no Arrow and no file.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Columns = Sequence[Sequence[str]]
"""[[name, canonical type], …] in their order."""

_INTEGERS = ("int8", "int16", "int32", "int64")
_UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
_FLOATS = ("float16", "float32", "float64")
_UNITS = ("s", "ms", "us", "ns")
_WITH_UNIT = re.compile(r"(timestamp|time|duration)\[(s|ms|us|ns)(?:, (.+))?\]")
_DECIMAL = re.compile(r"decimal\d+\((\d+), (-?\d+)\)")


@dataclass(frozen=True, kw_only=True)
class SchemaDiff:
    """What is different in the columns of one table."""

    added: tuple[tuple[str, str], ...] = ()
    """(column, type)."""
    removed: tuple[tuple[str, str], ...] = ()
    """(column, type that it had)."""
    widened: tuple[tuple[str, str, str], ...] = ()
    """(column, type before, type now): every old value has exactly one new form."""
    changed: tuple[tuple[str, str, str], ...] = ()
    """(column, type before, type now), where values may be lost or mean something else."""
    reordered: bool = False
    """The columns that both have stand in another order."""

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.widened or self.changed or self.reordered)

    def to_json(self) -> dict[str, Any]:
        """Return it as a version's record holds it: only what there is."""
        lists = ("added", "removed", "widened", "changed")
        found: dict[str, Any] = {name: [list(one) for one in getattr(self, name)] for name in lists}
        return {name: value for name, value in (found | {"reordered": self.reordered}).items() if value}


def schema_diff(before: Columns, after: Columns) -> SchemaDiff:
    """Return how the columns changed; false when they did not."""
    known, given = {one[0]: one[1] for one in before}, {one[0]: one[1] for one in after}
    other = [(name, known[name], given[name]) for name in given if name in known and known[name] != given[name]]
    return SchemaDiff(
        added=tuple((name, kind) for name, kind in given.items() if name not in known),
        removed=tuple((name, kind) for name, kind in known.items() if name not in given),
        widened=tuple(one for one in other if is_widening(one[1], one[2])),
        changed=tuple(one for one in other if not is_widening(one[1], one[2])),
        reordered=[name for name in known if name in given] != [name for name in given if name in known],
    )


def schema_diffs(before: Mapping[str, Columns], after: Mapping[str, Columns]) -> dict[str, dict[str, Any]]:
    """Return how the columns of several tables changed, by table, as JSON; those that did not are left out.

    All columns of a table that is new are added, those of one that is gone are removed.
    """
    names = [*before, *(name for name in after if name not in before)]
    found = {name: schema_diff(before.get(name, ()), after.get(name, ())) for name in names}
    return {name: diff.to_json() for name, diff in found.items() if diff}


def is_widening(before: str, after: str) -> bool:
    """Return whether every value of one type has exactly one form in the other, such as int32 in int64.

    >>> is_widening("int32", "int64"), is_widening("int64", "float64"), is_widening("timestamp[ms]", "timestamp[ns]")
    (True, False, True)
    """
    if before == after:
        return False
    if before == "null" or after in _WIDER.get(before, ()):
        return True
    return _is_finer_unit(before, after) or _is_longer_decimal(before, after)


def _wider() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for ladder in (_INTEGERS, _UNSIGNED, _FLOATS):
        for step, name in enumerate(ladder):
            found[name] = set(ladder[step + 1 :])
    for step, name in enumerate(_UNSIGNED):
        found[name] |= set(_INTEGERS[step + 1 :])
    for name in ("int8", "uint8", "int16", "uint16"):
        found[name] |= {"float32", "float64"}
    for name in ("int32", "uint32"):
        found[name] |= {"float64"}
    return {name: frozenset(wider) for name, wider in found.items()}


_WIDER = _wider()


def _is_finer_unit(before: str, after: str) -> bool:
    old, new = _WITH_UNIT.fullmatch(before), _WITH_UNIT.fullmatch(after)
    if old is None or new is None or (old[1], old[3]) != (new[1], new[3]):
        return False
    return _UNITS.index(old[2]) < _UNITS.index(new[2])


def _is_longer_decimal(before: str, after: str) -> bool:
    old, new = _DECIMAL.fullmatch(before), _DECIMAL.fullmatch(after)
    if old is None or new is None:
        return False
    precision, scale = int(new[1]) - int(old[1]), int(new[2]) - int(old[2])
    return scale >= 0 and precision >= scale
