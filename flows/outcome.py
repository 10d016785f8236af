"""What an attempt leaves: the result that its run publishes, or the traceback of its failure."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from ..runs import metrics as standard
from ..runs.details import SCHEMA_OF
from ..runs.points.chunks import SeriesTaken
from ..runs.port import UpstreamVersion
from ..runs.result import Read, Result
from ..runs.steps import StepCount
from ..storage import files
from ..storage.artifacts import ArtifactRecord
from ..storage.errors import InvalidInput
from ..storage.filesystem import ObjectStore
from ..storage.words import DeploymentKind
from .writing import TRACEBACK

_LOGGER = logging.getLogger(__name__)


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
    appends: bool,
    source_delayed: bool,
    counters: Mapping[str, float],
    step_counters: Sequence[StepCount],
    first_output_ns: int | None,
    series: SeriesTaken | None = None,
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
        appends=appends,
        source_delayed=source_delayed,
        counters=counters,
        step_counters=step_counters,
        first_output_ns=first_output_ns,
        series=series,
    )


def stored_traceback(objects: ObjectStore, trace: str) -> ArtifactRecord | None:
    """Store the whole traceback of an attempt that failed; None when it cannot be, which must not hide the error."""
    content = trace.encode("utf-8", "backslashreplace")
    try:
        stored = files.save_file(objects, content, media_type="text/plain")
    except Exception:
        _LOGGER.warning("the traceback could not be stored; its end is on the run", exc_info=True)
        return None
    return ArtifactRecord.of_file(TRACEBACK, stored, publish=False)


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
