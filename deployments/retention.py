"""How long the versions of a deployment keep their data: a rule in prefect.yaml, of a block or of a kind of run.

Owns what may be written there. What follows from a rule is nothing of this room.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..storage.errors import CatalogError, InvalidInput, nearest_names
from ..storage.words import DeploymentKind
from .document import kind_of, line_of, plain

FOREVER = "forever"
"""The word that keeps everything, also where the project has a default."""
DEFAULT = "default"
"""The key of the project's rule for the kinds of run that have none of their own."""

_KEYS = ("keep_days", "keep_last")
_MOST = 1_000_000


@dataclass(frozen=True)
class RetentionRule:
    """Whatever either of the two keeps stays."""

    keep_days: int | None = None
    """The data of what ended in the last so many days."""
    keep_last: int | None = None
    """The data of the newest so many versions."""

    def sentence(self) -> str:
        """Return the rule in words: `30 days, the last 5`."""
        parts = [f"{self.keep_days} days"] if self.keep_days is not None else []
        parts += [f"the last {self.keep_last}"] if self.keep_last is not None else []
        return ", ".join(parts)


def parse_retention(written: Mapping[str, Any]) -> RetentionRule:
    """Return the rule that is written as `{keep_days: 30, keep_last: 5}`.

    Raises:
        InvalidInput: a key is unknown, or a value is no number from 0 (keep_days) or 1 (keep_last) on.
    """
    for key in written:
        if key not in _KEYS:
            near = nearest_names(str(key), _KEYS) or _KEYS
            raise InvalidInput(f"unknown key {key!r} in `retention`; write {' or '.join(near)}")
    if not written:
        raise InvalidInput("`retention` is empty; write keep_days, keep_last or both, or `retention: forever`")
    for key, least in (("keep_days", 0), ("keep_last", 1)):
        value = written.get(key, least)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _MOST:
            raise InvalidInput(f"`{key}` is {value!r}; write a whole number from {least} to {_MOST:,}")
    return RetentionRule(written.get("keep_days"), written.get("keep_last"))


def read_retention(node: Any, *, fail: Callable[[str], CatalogError]) -> Mapping[str, Any] | None:
    """Return what is written behind `retention:`, checked; None: nothing, and so the project's default.

    Raises:
        CatalogError: made by `fail`.
    """
    if node is None:
        return None
    if isinstance(node, str) and node == FOREVER:
        return {}
    if not isinstance(node, Mapping):
        raise fail(f"`retention` must be a rule like {{keep_days: 30, keep_last: 5}} or `forever`, not {kind_of(node)}")
    try:
        written: dict[str, Any] = plain(node)
        parse_retention(written)
    except ValueError as error:
        raise fail(f"retention: {error}") from None
    except InvalidInput as error:
        raise fail(str(error)) from None
    return written


def read_defaults(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the rules of the top-level key `retention:`: by kind of run, and `default`.

    Raises:
        CatalogError: with the line and the fix.
    """
    node = document.get("retention")
    if node is None:
        return {}
    line = line_of(document, "retention")
    if not isinstance(node, Mapping):
        raise CatalogError(
            "`retention` at the top level maps kinds of run to rules, like {default: {keep_days: 90}, backtest: "
            f"{{keep_last: 5}}}}, not {kind_of(node)}",
            line=line,
        )
    known = (DEFAULT, *DeploymentKind)
    found: dict[str, Mapping[str, Any]] = {}
    for key in node:
        at = line_of(node, key) or line
        if key not in known:
            near = nearest_names(str(key), known) or known
            raise CatalogError(f"unknown kind {plain(key)!r} in `retention`; write {' or '.join(near)}", line=at)

        def fail(message: str, key: Any = key, at: int | None = at) -> CatalogError:
            return CatalogError(f"retention of {key}: {message}", line=at)

        rule = read_retention(node[key], fail=fail)
        if rule is None:
            raise fail("write a rule like {keep_days: 30, keep_last: 5}, or `forever`")
        found[str(key)] = rule
    return found


def rule_for(
    written: Mapping[str, Any] | None, kind: DeploymentKind, defaults: Mapping[str, Mapping[str, Any]]
) -> Mapping[str, Any] | None:
    """Return the rule of a deployment: its own, that of its kind, or the default; None: its data are kept for ever."""
    rule = written if written is not None else defaults.get(kind, defaults.get(DEFAULT))
    return rule or None
