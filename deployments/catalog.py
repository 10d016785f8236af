"""The catalogue: prefect.yaml as typed, frozen specs, validated as a whole.

Owns what a valid catalogue is. Reads the file and loads the code that it names; talks to no server and no
database. Importing this module imports no Prefect: that happens when a flow has to be loaded.

A deployment takes part with a `resource:` block beside Prefect's own keys; the others are none of our
business. What Prefect does not run stands in a list `resources:` at the top level, which Prefect ignores
too, so that `prefect deploy --all` works with the same file:

    resources:
      - {external: true, name: vendor-prices, kind: dataset}
    deployments:
      - name: prices
        entrypoint: flows/refresh.py:refresh
        resource: {name: prices, kind: dataset, runs: refresh, upstream: {raw: refresh/vendor-prices}}
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from ..storage.auto_refresh import AutoRefresh
from ..storage.errors import CatalogError, NotFound
from ..storage.words import DeploymentKind, IfReady, OnStale, ResourceKind, Trigger
from .blocks import Block, UpstreamSpec, read_block, read_external
from .checks import (
    check_graph,
    check_parameters,
    check_policies,
    check_prefect_names,
    check_tracked,
    check_unique,
)
from .code import callable_digest, load_callable, load_flow, search_path
from .document import kind_of, line_of, read_document
from .entries import Entry, read_entry
from .retention import read_defaults, rule_for

Defaults = Mapping[str, Mapping[str, Any]]
"""The retention rules of the whole file: kind of run or `default` -> rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentSpec:
    """One deployment of the catalogue, with its code loaded once and digested."""

    key: str
    """`<runs>/<resource name>`: `refresh/prices`."""
    resource_name: str
    resource_kind: ResourceKind
    runs: DeploymentKind
    external: bool
    """Prefect does not run it; `prefect_name` and `entrypoint` are None."""
    prefect_name: str | None
    """`flow name/deployment name`."""
    deployment_name: str | None
    """Prefect's own name of it, without the flow's."""
    entrypoint: str | None
    work_pool: str | None
    upstream: tuple[UpstreamSpec, ...]
    callables: Mapping[str, str]
    """Block key -> dotted path."""
    parameters: Mapping[str, Any]
    """The deployment's own values, as in prefect.yaml."""
    on_stale: Mapping[Trigger, OnStale]
    """What the file says; the service has the defaults."""
    if_ready: Mapping[Trigger, IfReady]
    """What the file says, as for `on_stale`."""
    renamed: Mapping[str, str]
    """Name in the flow -> Freshline's name of a parameter that `@track` adds."""
    freshness: Mapping[str, Any] | None
    """The policy as written."""
    schema: Mapping[str, Any]
    """Table -> the columns that it must have, in canonical types: what a run writes is checked against them."""
    auto_refresh: AutoRefresh | None
    """How it is refreshed when it becomes stale; None: by hand."""
    retention: Mapping[str, Any] | None
    """How long its versions keep their data: its own rule or the project's; None: for ever."""
    schedules: tuple[Mapping[str, Any], ...]
    description: str | None
    tags: tuple[str, ...]
    code_digests: Mapping[str, str]
    """Of the flow (`flow`) and of each callable: sha256 of its module's file (`code.callable_digest`)."""
    line: int | None
    """Where the deployment begins in prefect.yaml."""

    @property
    def declaration_digest(self) -> str:
        """The sha256 (hex) of what a result of this deployment depends on, apart from its inputs.

        Over the roles, upstreams and edge kinds; callables and parameters; the entrypoint; the declared
        schema; and the code digests. Schedules, policy, auto-refresh, gate, description and tags do not
        count.
        """
        declaration: dict[str, Any] = {
            "upstream": {edge.role: [edge.key, str(edge.kind)] for edge in self.upstream},
            "callables": dict(self.callables),
            "parameters": dict(self.parameters),
            "entrypoint": self.entrypoint,
            "code": dict(self.code_digests),
        }
        if self.schema:  # without one the digest is what it was before there were any
            declaration["schema"] = dict(self.schema)
        text = json.dumps(declaration, sort_keys=True, separators=(",", ":"), default=_json_date)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def code_digest(self) -> str | None:
        """The sha256 (hex) over the digests of the code; None for an external one."""
        if not self.code_digests:
            return None
        text = json.dumps(dict(self.code_digests), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Catalog:
    """A valid prefect.yaml."""

    path: Path
    """The file, absolute."""
    deployments: tuple[DeploymentSpec, ...]
    """In the order of the file, external ones first."""

    @property
    def directory(self) -> Path:
        """Where the file lies; entrypoints are relative to it."""
        return self.path.parent

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of all deployments."""
        return tuple(spec.key for spec in self.deployments)

    def get(self, key: str) -> DeploymentSpec:
        """Return the deployment with this key, or with this Prefect name.

        Raises:
            NotFound: there is none; the nearest keys are suggested.
        """
        for spec in self.deployments:
            if key in (spec.key, spec.prefect_name):
                return spec
        raise NotFound("deployment", key, known=self.keys)


def load_catalog(
    path: Path | str,
    *,
    check_policy: Callable[[Mapping[str, Any]], object],
    registered: Mapping[str, Collection[str]] | Collection[str] = (),
) -> Catalog:
    """Read and validate prefect.yaml as a whole, and load the code that it names.

    Args:
        path: prefect.yaml itself.
        check_policy: raises `InvalidInput` for a `freshness:` block that it cannot read.
        registered: keys of deployments that exist although this file does not have them; as a mapping, with
        the
            keys that each of them reads, so that a cycle through them is found.

    Raises:
        CatalogError: the first thing that is wrong, with the deployment, the line and the fix.
    """
    path = Path(path).absolute()
    document = read_document(path)
    kept = read_defaults(document)
    external = [read_external(node, line=line) for node, line in _entries(document, "resources")]
    tracked = [
        (read_block(node["resource"], deployment=entry.name, line=line), entry)
        for node, line in _entries(document, "deployments")
        if isinstance(node, Mapping) and "resource" in node and (entry := read_entry(node, line=line))
    ]
    if not tracked and not external:
        raise CatalogError(f"{path} has no deployment with a `resource:` block; `freshline init` adds them to a file")
    blocks = [*(block for block, _ in external), *(block for block, _ in tracked)]
    check_unique(blocks)
    check_graph(blocks, registered=registered, names={entry.name: block.key for block, entry in tracked})
    check_policies(blocks, check_policy)
    specs = [_external_spec(block, description, kept) for block, description in external]
    specs += [_loaded_spec(block, entry, kept, directory=path.parent) for block, entry in tracked]
    check_prefect_names(specs)
    return Catalog(path, tuple(specs))


def _entries(document: Mapping[str, Any], key: str) -> Iterable[tuple[Any, int | None]]:
    node = document.get(key)
    if node is None:
        return
    if not isinstance(node, list):
        raise CatalogError(f"`{key}` must be a list, not {kind_of(node)}", line=line_of(document, key))
    for index, entry in enumerate(node):
        yield entry, line_of(node, index)


def _external_spec(block: Block, description: str | None, kept: Defaults) -> DeploymentSpec:
    return DeploymentSpec(
        key=block.key,
        resource_name=block.resource_name,
        resource_kind=block.resource_kind,
        runs=block.runs,
        external=True,
        prefect_name=None,
        deployment_name=None,
        entrypoint=None,
        work_pool=None,
        upstream=(),
        callables={},
        parameters={},
        on_stale={},
        if_ready={},
        renamed={},
        freshness=block.freshness,
        retention=rule_for(block.retention, block.runs, kept),
        schema=block.schema,
        schedules=(),
        description=description,
        tags=(),
        code_digests={},
        auto_refresh=None,
        line=block.line,
    )


def _loaded_spec(block: Block, entry: Entry, kept: Defaults, *, directory: Path) -> DeploymentSpec:
    """Return the spec of one deployment, with its flow and callables loaded."""
    flow = entry.at("entrypoint", load_flow, entry.entrypoint, directory=directory)
    check_tracked(flow, block, entry)
    check_parameters(flow, entry)
    search = search_path(entry.entrypoint, directory=directory)
    digests = {"flow": callable_digest(flow)}
    for key, dotted in block.callables.items():
        digests[key] = callable_digest(block.at(key, load_callable, dotted, search=search))
    return DeploymentSpec(
        key=block.key,
        resource_name=block.resource_name,
        resource_kind=block.resource_kind,
        runs=block.runs,
        external=False,
        prefect_name=f"{flow.name}/{entry.name}",
        deployment_name=entry.name,
        entrypoint=entry.entrypoint,
        work_pool=entry.work_pool,
        upstream=block.upstream,
        callables=block.callables,
        parameters=entry.parameters,
        on_stale=block.on_stale,
        if_ready=block.if_ready,
        renamed=getattr(flow.fn, "__freshline_names__", {}),
        freshness=block.freshness,
        schema=block.schema,
        auto_refresh=block.auto_refresh,
        retention=rule_for(block.retention, block.runs, kept),
        schedules=entry.schedules,
        description=entry.description or flow.description,
        tags=entry.tags,
        code_digests=digests,
        line=block.line,
    )


def _json_date(value: object) -> str:
    if isinstance(value, date):  # a datetime too
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form")
