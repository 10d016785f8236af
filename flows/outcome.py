"""From what a body returned and left to the result that its run publishes."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from ..runs import metrics as standard
from ..runs.details import SCHEMA_OF
from ..runs.execution import Read, Result
from ..runs.port import UpstreamVersion
from ..storage.artifacts import ArtifactRecord
from ..storage.errors import InvalidInput
from ..storage.words import DeploymentKind


def outcome_of(
    returned: Any,
    *,
    kind: DeploymentKind,
    artifacts: Sequence[ArtifactRecord],
    reads: Sequence[Read],
    upstreams: Mapping[str, UpstreamVersion],
    logged: Mapping[str, float],
    described: Mapping[str, Any],
    base_version_id: UUID | None,
    source_delayed: bool,
) -> Result:
    """Return the result: the returned metrics win over logged ones of the same name.

    Raises:
        InvalidInput: the body returned neither metrics of its kind, nor a mapping of numbers, nor nothing.
    """
    values, conventions, facts = _metrics_of(returned, kind)
    columns = SCHEMA_OF[kind].model_fields
    detail = {name: value for name, value in {**facts, **values}.items() if name in columns}
    detail |= _known_facts(columns, artifacts, reads, upstreams) | dict(described)
    return Result(
        artifacts=artifacts,
        reads=reads,
        metrics={**logged, **values},
        conventions=conventions,
        detail=detail,
        outputs={name: value for name, value in facts.items() if name not in values},
        base_version_id=base_version_id,
        source_delayed=source_delayed,
    )


def _metrics_of(returned: Any, kind: DeploymentKind) -> tuple[dict[str, float], dict[str, Any], dict[str, Any]]:
    """Return (numbers, conventions, everything else that was returned)."""
    if returned is None:
        return {}, {}, {}
    expected = standard.METRICS_OF[kind]
    if isinstance(returned, expected):
        values = returned.values()
        facts = returned.model_dump(mode="json", exclude=set(values), exclude_none=True)
        # The convention is stored beside each metric already.
        facts.pop("convention", None)
        return values, returned.conventions(), facts
    if isinstance(returned, Mapping):
        try:
            return {str(name): float(value) for name, value in returned.items()}, {}, {}
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"the flow returned a mapping that does not hold numbers only: {error}") from None
    raise InvalidInput(
        f"a {kind} flow returns {expected.__name__}, a mapping of metric names to numbers, or nothing; "
        f"this one returned {type(returned).__name__}"
    )


def _known_facts(
    columns: Mapping[str, Any],
    artifacts: Sequence[ArtifactRecord],
    reads: Sequence[Read],
    upstreams: Mapping[str, UpstreamVersion],
) -> dict[str, Any]:
    """Return the details that follow from what was written and read."""
    facts: dict[str, Any] = {}
    starts = [item.first_data_date for item in artifacts if item.publish and item.first_data_date is not None]
    ends = [item.last_data_date for item in artifacts if item.publish and item.last_data_date is not None]
    if starts and ends:
        facts |= {"start_date": min(starts), "end_date": max(ends), "last_data_date": max(ends)}
    models = [
        read.version_id for read in reads if read.role in upstreams and upstreams[read.role].key.startswith("training/")
    ]
    if models:
        facts["model_version_id"] = models[0]
    return {name: value for name, value in facts.items() if name in columns}
