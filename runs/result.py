"""What a body leaves when it returns, and the digests of it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from uuid import UUID

from ..storage.artifacts import ArtifactRecord
from .points.chunks import SeriesTaken
from .steps import StepCount


@dataclass(frozen=True)
class Read:
    """A version that the body read in a role."""

    role: str
    upstream_id: UUID
    version_id: UUID


@dataclass(frozen=True)
class Result:
    """What a body leaves when it returns."""

    artifacts: Sequence[ArtifactRecord] = ()
    reads: Sequence[Read] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    conventions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    detail: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Any] = field(default_factory=dict)
    base_version_id: UUID | None = None
    """The version that a published table was appended to."""
    appends: bool = False
    """A published table was appended to what was current: where that was nothing, it must be nothing still."""
    source_delayed: bool = False
    """The source had nothing new."""
    counters: Mapping[str, float] = field(default_factory=dict)
    """What was counted outside of steps."""
    step_counters: Sequence[StepCount] = ()
    """What was counted in steps."""
    first_output_ns: int | None = None
    """Nanoseconds from the start of the body to its first metric, table or file."""
    series: SeriesTaken | None = None
    """What its table `metrics` holds of that which was sent before; None: nothing was."""


def output_digest(artifacts: Sequence[ArtifactRecord]) -> str:
    """Return the digest of a version: sha256 over (name, digest) of its published outputs, sorted by name."""
    digest = hashlib.sha256()
    for name, content in sorted((artifact.name, artifact.digest) for artifact in artifacts if artifact.publish):
        digest.update(f"{len(name)}:{name}={content};".encode())
    return digest.hexdigest()


def final_state_digest(result: Result) -> str:
    """Return the digest of all that a run left: published artifacts, outputs and metrics.

    Equal digests mean an equal result, whoever ran it and when; unlike a version's digest, metrics count.
    """
    artifacts = sorted((one.name, one.digest) for one in result.artifacts if one.publish)
    outputs = json.dumps(result.outputs, sort_keys=True, default=str)
    return hashlib.sha256(json.dumps([artifacts, outputs, sorted(result.metrics.items())]).encode()).hexdigest()


def data_range(artifacts: Sequence[ArtifactRecord]) -> tuple[date | None, date | None]:
    """Return the first and the last data date of these artifacts; null where none has any."""
    starts = [one.first_data_date for one in artifacts if one.first_data_date is not None]
    ends = [one.last_data_date for one in artifacts if one.last_data_date is not None]
    return min(starts, default=None), max(ends, default=None)
