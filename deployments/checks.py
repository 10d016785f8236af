"""What must hold across the whole catalogue, and between a deployment and its flow.

Owns the sentences in which a catalogue is refused. Reads no file and loads no code.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ..storage.errors import CatalogError, nearest_names
from ..storage.words import DeploymentKind
from .blocks import Block, UpstreamSpec
from .entries import Entry

if TYPE_CHECKING:
    from prefect.flows import Flow

    from .catalog import DeploymentSpec

KIND_ATTRIBUTE = "__freshline_kind__"
"""`@track.<kind>` sets it on a flow's function, to the value of its `DeploymentKind`."""


def check_unique(blocks: Sequence[Block]) -> None:
    """Refuse two deployments with one key."""
    seen: dict[str, Block] = {}
    for block in blocks:
        first = seen.setdefault(block.key, block)
        if first is not block:
            raise CatalogError(
                f"{block.key} is already the key of {first.deployment!r} (line {first.line}); "
                "give one of them another resource `name` or `runs`",
                deployment=block.deployment,
                line=block.lines.get("name") or block.line,
            )


def check_graph(
    blocks: Sequence[Block],
    *,
    registered: Mapping[str, Collection[str]] | Collection[str],
    names: Mapping[str, str],
) -> None:
    """Refuse an upstream that does not exist, and a cycle.

    Args:
        blocks: all blocks of the file.
        registered: keys that exist elsewhere, with their upstreams if they are known.
        names: Prefect's deployment name -> key, to suggest the key to who wrote the name.
    """
    keys = {block.key for block in blocks}
    for block in blocks:
        for edge in block.upstream:
            if edge.key not in keys and edge.key not in registered:
                raise CatalogError(
                    f"upstream {edge.role!r} reads {edge.key!r}, which is no deployment of this file; "
                    + _suggestion(edge.key, [*keys, *registered], names),
                    deployment=block.deployment,
                    line=edge.line,
                )
    graph: dict[str, Collection[str]] = {}
    if isinstance(registered, Mapping):
        graph.update(registered)
    graph.update({block.key: [edge.key for edge in block.upstream] for block in blocks})
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        # Each member is read by the next; shown the other way round, an arrow means "reads".
        _refuse_cycle(list(reversed(error.args[1])), blocks)


def check_policies(blocks: Iterable[Block], check_policy: Callable[[Mapping[str, Any]], object]) -> None:
    """Refuse a freshness policy that `check_policy` refuses."""
    for block in blocks:
        if block.freshness is not None:
            block.at("freshness", check_policy, block.freshness)


def check_prefect_names(specs: Iterable["DeploymentSpec"]) -> None:
    """Refuse two deployments that Prefect would take for one: the second would replace the first."""
    seen: dict[str, DeploymentSpec] = {}
    for spec in specs:
        if spec.prefect_name is None:
            continue
        first = seen.setdefault(spec.prefect_name, spec)
        if first is not spec:
            raise CatalogError(
                f"Prefect would call it {spec.prefect_name!r}, like {first.key} (line {first.line}), and the "
                "second would replace the first; give one of them another `name`",
                deployment=spec.deployment_name,
                line=spec.line,
            )


def check_tracked(flow: "Flow[..., Any]", block: Block, entry: Entry) -> None:
    """Refuse a flow that is not tracked, or is tracked as another kind than the block says."""
    kind = getattr(flow.fn, KIND_ATTRIBUTE, None) or getattr(flow, KIND_ATTRIBUTE, None)
    if kind is None:
        raise entry.error(
            "entrypoint",
            f"the flow {entry.entrypoint!r} is not tracked; decorate its function with @track.{block.runs}, "
            "below @flow",
        )
    if str(kind) != block.runs:
        fix = f"write `runs: {kind}`" if str(kind) in set(DeploymentKind) else "correct the decorator"
        raise CatalogError(
            f"`runs: {block.runs}` disagrees with the flow {entry.entrypoint!r}, which is decorated with "
            f"@track.{kind}; {fix} or name another flow",
            deployment=block.deployment,
            line=block.lines.get("runs") or block.line,
        )


def check_parameters(flow: "Flow[..., Any]", entry: Entry) -> None:
    """Refuse a parameter that the flow does not declare, or a value that Prefect's server would refuse."""
    from prefect.utilities.schema_tools import ValidationError, validate

    declared = tuple(flow.parameters.properties)
    for name in entry.parameters:
        if name not in declared:
            near = nearest_names(name, declared) or declared
            raise entry.error(
                f"parameters.{name}",
                f"the flow declares no parameter {name!r}; "
                + (f"did you mean {' or '.join(near)}?" if near else "it declares none"),
            )
    for name, value in entry.parameters.items():
        if "{{" in str(value):
            continue  # Prefect fills templates in when it deploys
        try:
            # The same check as the server's on a deployment (Prefect 3.8, server/api/deployments.py).
            schema: Any = flow.parameters.model_dump_for_openapi()
            validate({name: _as_json(value)}, schema, raise_on_error=True, ignore_required=True)
        except ValidationError as error:
            raise entry.error(f"parameters.{name}", f"parameter {name!r}: {' '.join(str(error).split())}") from None


def _as_json(value: Any) -> Any:
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value)


def _suggestion(key: str, known: Collection[str], names: Mapping[str, str]) -> str:
    by_name = names.get(key) or names.get(key.rpartition("/")[2])
    near = nearest_names(key, known) or ((by_name,) if by_name else ())
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"known: {', '.join(sorted(known)) or 'none'}"


def _refuse_cycle(path: list[str], blocks: Sequence[Block]) -> None:
    by_key = {block.key: block for block in blocks}
    # The message points at a deployment of this file: a part of the cycle may be registered elsewhere.
    reader, read = next((one, other) for one, other in pairwise(path) if one in by_key)
    block = by_key[reader]
    edge: UpstreamSpec = next(edge for edge in block.upstream if edge.key == read)
    raise CatalogError(
        f"the upstreams form a cycle: {' reads '.join(path)}; take one of these edges away",
        deployment=block.deployment,
        line=edge.line,
    )
