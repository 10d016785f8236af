"""One `resource:` block of prefect.yaml: from what is written to typed words.

Owns which keys a block may have and what they may say. Loads no code and compares no two blocks: `catalog`
does.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar

from ..storage.auto_refresh import AutoRefresh, read_auto_refresh
from ..storage.errors import CatalogError, InvalidInput, nearest_names
from ..storage.words import DeploymentKind, EdgeKind, IfReady, OnStale, ResourceKind, Trigger
from .document import kind_of, line_of, plain
from .retention import read_retention
from .schemas import read_schema

P = ParamSpec("P")
T = TypeVar("T")
Word = TypeVar("Word", bound=StrEnum)

CALLABLE_KEYS: Mapping[DeploymentKind, tuple[str, ...]] = MappingProxyType(
    {
        DeploymentKind.REFRESH: ("source", "transform"),
        DeploymentKind.PREVIEW: ("study",),
        DeploymentKind.TRAINING: ("trainer",),
        DeploymentKind.INFERENCE: ("predictor",),
        DeploymentKind.OPTIMIZE: ("optimizer",),
        DeploymentKind.BACKTEST: ("strategy",),
        DeploymentKind.MONITORING: ("monitor",),
    }
)
"""The keys that name code, by kind; at most one of them, since a deployment does one thing."""

RESOURCE_KINDS: Mapping[DeploymentKind, tuple[ResourceKind, ...]] = MappingProxyType(
    {
        DeploymentKind.REFRESH: (ResourceKind.DATASET, ResourceKind.SIGNAL),
        DeploymentKind.PREVIEW: (ResourceKind.EXPERIMENT,),
        DeploymentKind.TRAINING: (ResourceKind.MODEL,),
        DeploymentKind.INFERENCE: (ResourceKind.MODEL,),
        DeploymentKind.OPTIMIZE: (ResourceKind.OPTIMIZER,),
        DeploymentKind.BACKTEST: (ResourceKind.BACKTEST,),
        DeploymentKind.MONITORING: (ResourceKind.MODEL, ResourceKind.DATASET, ResourceKind.SIGNAL),
    }
)
"""Which resources a kind of deployment can run."""

_BLOCK_KEYS = (
    *("name", "kind", "runs", "upstream", "on_stale", "if_ready", "freshness", "schema", "auto_refresh", "retention"),
    "external",
)
_EXTERNAL_KEYS = ("external", "name", "kind", "freshness", "schema", "retention", "description")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamSpec:
    """One declared edge: what a deployment reads."""

    role: str
    """The name that the flow reads it by: `run.read("signal")`."""
    key: str
    """The deployment that is read: `refresh/prices`."""
    kind: EdgeKind
    line: int | None
    """Where it is written in prefect.yaml."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A `resource:` block, checked on its own."""

    deployment: str
    """The `name:` of the deployment that it stands in, for messages."""
    resource_name: str
    resource_kind: ResourceKind
    runs: DeploymentKind
    upstream: tuple[UpstreamSpec, ...]
    callables: Mapping[str, str]
    """Key -> dotted path: `{"source": "package.module.function"}`."""
    on_stale: Mapping[Trigger, OnStale]
    """Only what is written; the service has the defaults."""
    if_ready: Mapping[Trigger, IfReady]
    """Only what is written; else a trigger runs it again."""
    freshness: Mapping[str, Any] | None
    """The policy as written; None without one."""
    schema: Mapping[str, Any]
    """Table -> columns that it must have (`schemas.read_schema`); only what is declared."""
    auto_refresh: AutoRefresh | None
    """How it is refreshed when it becomes stale; None: by hand."""
    retention: Mapping[str, Any] | None
    """The rule as written, empty for `forever`; None without one: the project's default holds."""
    external: bool
    line: int | None
    lines: Mapping[str, int | None]
    """Where each key is written."""

    @property
    def key(self) -> str:
        """`<runs>/<resource name>`, the deployment's key in Freshline."""
        return f"{self.runs}/{self.resource_name}"

    def at(self, key: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the function; its `InvalidInput` gets the place of this key of the block.

        Raises:
            CatalogError: the function raised `InvalidInput`.
        """
        try:
            return function(*args, **kwargs)
        except InvalidInput as error:
            raise CatalogError(str(error), deployment=self.deployment, line=self.lines.get(key) or self.line) from None


def read_block(node: Any, *, deployment: str, line: int | None) -> Block:
    """Return the block of one deployment.

    Raises:
        CatalogError: with the deployment, the line and the fix.
    """
    block = _Reader(node, deployment=deployment, line=line)
    if is_true(block.get("external")):
        raise block.error(
            "external",
            "Prefect does not run an external resource: move the block out of `deployments:` into the list "
            "`resources:` at the top level of the file",
        )
    runs = block.word("runs", DeploymentKind)
    kind = block.word("kind", ResourceKind)
    if kind not in RESOURCE_KINDS[runs]:
        raise block.error(
            "runs",
            f"`runs: {runs}` does not fit `kind: {kind}`; it runs {' or '.join(RESOURCE_KINDS[runs])}",
        )
    every_callable = {key for keys in CALLABLE_KEYS.values() for key in keys}
    for key in block.lines():
        if key in every_callable and key not in CALLABLE_KEYS[runs]:
            raise block.error(key, f"`{key}` is not for `runs: {runs}`, which takes {' or '.join(CALLABLE_KEYS[runs])}")
    block.refuse_unknown((*_BLOCK_KEYS, *CALLABLE_KEYS[runs]))
    callables = {key: block.text(key) for key in CALLABLE_KEYS[runs] if block.has(key)}
    if len(callables) > 1:
        raise block.error(list(callables)[-1], f"has both {' and '.join(callables)}; keep the one that makes the rows")
    return Block(
        deployment=deployment,
        resource_name=block.name(),
        resource_kind=kind,
        runs=runs,
        upstream=_upstream(block),
        callables=callables,
        on_stale=_per_trigger(block, "on_stale", OnStale),
        if_ready=_per_trigger(block, "if_ready", IfReady),
        freshness=_freshness(block),
        schema=_schema(block),
        auto_refresh=_auto_refresh(block),
        retention=_retention(block),
        external=False,
        line=line,
        lines=block.lines(),
    )


def read_external(node: Any, *, line: int | None) -> tuple[Block, str | None]:
    """Return the block of one entry of the top-level list `resources:`, and its description.

    Raises:
        CatalogError: with the resource, the line and the fix.
    """
    name = node.get("name") if isinstance(node, Mapping) else None
    block = _Reader(node, deployment=name if isinstance(name, str) else "resources", line=line)
    if not is_true(block.get("external")):
        raise block.error(
            "external",
            "a resource in `resources:` is one that Prefect does not run: write `external: true`, or put "
            "its block into a deployment",
        )
    block.refuse_unknown(_EXTERNAL_KEYS)
    kind = block.word("kind", ResourceKind)
    if kind not in RESOURCE_KINDS[DeploymentKind.REFRESH]:
        fitting = " or ".join(RESOURCE_KINDS[DeploymentKind.REFRESH])
        raise block.error("kind", f"an external resource is a {fitting}, not a {kind}")
    found = Block(
        deployment=block.deployment,
        resource_name=block.name(),
        resource_kind=kind,
        runs=DeploymentKind.REFRESH,
        upstream=(),
        callables={},
        on_stale={},
        if_ready={},
        freshness=_freshness(block),
        schema=_schema(block),
        auto_refresh=None,
        retention=_retention(block),
        external=True,
        line=line,
        lines=block.lines(),
    )
    return found, block.text("description") if block.has("description") else None


def is_true(value: Any) -> bool:
    """Return whether the YAML value is the boolean true."""
    return value is True


def _upstream(block: "_Reader") -> tuple[UpstreamSpec, ...]:
    node = block.get("upstream")
    if node is None:
        return ()
    if not isinstance(node, Mapping):
        raise block.error(
            "upstream",
            f"`upstream` must map roles to deployments, like {{prices: refresh/prices}}, not {kind_of(node)}",
        )
    return tuple(_edge(block, node, role) for role in node)


def _edge(block: "_Reader", node: Mapping[Any, Any], role: Any) -> UpstreamSpec:
    line = line_of(node, role)
    if not isinstance(role, str) or not _NAME.fullmatch(role):
        raise block.error(line, f"the role {plain(role)!r} of an upstream must be letters, digits, `.`, `_` or `-`")
    written = node[role]
    kind = EdgeKind.DATA
    if isinstance(written, Mapping):
        for key in written:
            if key not in ("deployment", "kind"):
                raise block.error(
                    line_of(written, key),
                    f"unknown key {plain(key)!r} in upstream {role!r}; known: deployment, kind",
                )
        if "kind" in written:
            kind = block.parse(written["kind"], EdgeKind, f"upstream.{role}.kind", line_of(written, "kind"))
        written = written.get("deployment")
    if not isinstance(written, str) or not written:
        raise block.error(line, f"upstream {role!r} must name a deployment like refresh/prices, not {kind_of(written)}")
    return UpstreamSpec(role=str(role), key=str(written), kind=kind, line=line)


def _per_trigger(block: "_Reader", key: str, words: type[Word]) -> dict[Trigger, Word]:
    """Return what is written for each trigger; one word stands for all of them."""
    node = block.get(key)
    if node is None:
        return {}
    if not isinstance(node, Mapping):
        return dict.fromkeys(Trigger, block.word(key, words))
    found = {}
    for trigger in node:
        line = line_of(node, trigger)
        found[block.parse(trigger, Trigger, key, line)] = block.parse(
            node[trigger], words, f"{key}.{plain(trigger)}", line
        )
    return found


def _freshness(block: "_Reader") -> dict[str, Any] | None:
    node = block.get("freshness")
    if node is None:
        return None
    if not isinstance(node, Mapping):
        raise block.error("freshness", f"`freshness` must be a policy like {{max_age: 1d}}, not {kind_of(node)}")
    try:
        policy: dict[str, Any] = _dates_as_text(plain(node))
    except ValueError as error:
        raise block.error("freshness", f"freshness: {error}") from None
    return policy


def _schema(block: "_Reader") -> dict[str, Any]:
    if not block.has("schema"):
        return {}
    return read_schema(block.get("schema"), line=line_of(block.node, "schema"), refusal=block.error)


def _auto_refresh(block: "_Reader") -> AutoRefresh | None:
    node = block.get("auto_refresh")
    if isinstance(node, bool) or node is None:
        return AutoRefresh() if node else None
    if not isinstance(node, Mapping):
        raise block.error(
            "auto_refresh",
            "`auto_refresh` must be true, false or options like {quiet: 30s, at_most_every: 10m}, not "
            f"{kind_of(node)}",
        )
    try:
        return read_auto_refresh(plain(node))
    except (InvalidInput, ValueError) as error:
        raise block.error("auto_refresh", str(error)) from None


def _retention(block: "_Reader") -> Mapping[str, Any] | None:
    return read_retention(block.get("retention"), fail=lambda message: block.error("retention", message))


def _dates_as_text(value: Any) -> Any:
    """Return the value with the dates that YAML reads as text again: it is stored as JSON."""
    if isinstance(value, dict):
        return {key: _dates_as_text(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_dates_as_text(item) for item in value]
    return value.isoformat() if isinstance(value, date) else value


class _Reader:
    """A mapping of the document that raises errors with its place."""

    def __init__(self, node: Any, *, deployment: str, line: int | None) -> None:
        self.deployment = deployment
        self.line = line
        if not isinstance(node, Mapping):
            raise self.error(None, f"the resource block must be a mapping, not {kind_of(node)}")
        self.node = node

    def error(self, place: str | int | None, message: str) -> CatalogError:
        """Return the error; `place` is a key of the block or a line."""
        line = line_of(self.node, place) if isinstance(place, str) else place
        return CatalogError(message, deployment=self.deployment, line=line or self.line)

    def get(self, key: str) -> Any:
        return self.node.get(key)

    def has(self, key: str) -> bool:
        return key in self.node

    def lines(self) -> dict[str, int | None]:
        return {str(key): line_of(self.node, key) for key in self.node}

    def refuse_unknown(self, known: tuple[str, ...]) -> None:
        for key in self.node:
            if key not in known:
                near = nearest_names(str(key), known)
                hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
                raise self.error(key, f"unknown key {plain(key)!r} in the resource block; {hint}")

    def text(self, key: str) -> str:
        value = self.get(key)
        if not isinstance(value, str) or not value.strip():
            raise self.error(key, f"`{key}` must be text, not {kind_of(value)}")
        return str(value)

    def name(self) -> str:
        if "name" not in self.node:
            raise self.error(None, "the resource block has no `name`; add the resource's name")
        name = self.text("name")
        if not _NAME.fullmatch(name):
            raise self.error(
                "name",
                f"the resource name {name!r} must be up to 128 letters, digits, `.`, `_` or `-`, "
                "beginning with a letter or digit",
            )
        return name

    def word(self, key: str, words: type[Word]) -> Word:
        if key not in self.node:
            raise self.error(None, f"the resource block has no `{key}`; write one of {', '.join(words)}")
        return self.parse(self.get(key), words, key, line_of(self.node, key))

    def parse(self, value: Any, words: type[Word], label: str, line: int | None) -> Word:
        if isinstance(value, str):
            try:
                return words(str(value))
            except ValueError:
                pass
        near = nearest_names(value, words) if isinstance(value, str) else ()
        hint = f"did you mean {' or '.join(near)}?" if near else f"write one of {', '.join(words)}"
        raise self.error(line, f"`{label}` is {kind_of(value)}; {hint}")
