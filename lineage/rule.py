"""The rule of staleness: a pure function of facts. Digests decide, never timestamps.

Knows no database and no order of events: what is true of a deployment follows from what is recorded of it and of its
direct upstreams.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from .models import CauseKind, Freshness


class FoundCause(NamedTuple):
    """One reason, as the rule finds it and as it is stored."""

    kind: CauseKind
    role: str = ""
    upstream_id: UUID | None = None
    origin_run_id: UUID | None = None
    origin_version_id: UUID | None = None


@dataclass(frozen=True)
class InputFacts:
    """What the current version read in one role."""

    digest: str
    """Digest of the version that was read."""
    upstream_id: UUID
    """The deployment of that version: a role may mean another one by now."""
    withdrawn_version_id: UUID | None = None
    """That version, when it was withdrawn."""


class UpstreamFacts(NamedTuple):
    """What the rule needs to know of an upstream."""

    digest: str | None
    """Digest of its current version; none before the first."""
    version_id: UUID | None
    """Its current version."""
    run_id: UUID | None
    """The run that published it."""
    is_stale: bool
    is_retired: bool


@dataclass(frozen=True)
class DeploymentFacts:
    """What the rule needs to know of the deployment itself."""

    version_id: UUID | None
    """Its current version; without one it is not initialized and never stale."""
    declaration_changed: bool
    """Its declaration is not the one that the current version was built with."""
    lapsed: bool
    """Its policy has lapsed."""
    source_delayed: bool
    upstreams: Mapping[str, UUID]
    """Role -> upstream, by the edges as they are now."""
    inputs: Mapping[str, InputFacts]
    """Role -> what the current version read."""


class Standing(Protocol):
    """What decides on a freshness besides the causes."""

    @property
    def version_id(self) -> UUID | None:
        """The current version; without one it is not initialized and never stale."""

    @property
    def source_delayed(self) -> bool:
        """The source had nothing new."""


def causes_of(facts: DeploymentFacts, upstreams: Mapping[UUID, UpstreamFacts]) -> list[FoundCause]:
    """Apply the rule: return every reason why this deployment is stale."""
    if facts.version_id is None:
        return []
    found: list[FoundCause] = []
    if facts.declaration_changed:
        found.append(FoundCause(CauseKind.DECLARATION_CHANGED))
    if facts.lapsed:
        found.append(FoundCause(CauseKind.EXPIRED))
    for role, read in facts.inputs.items():
        # Whatever was read counts: also by its number, or in a role that is gone.
        if read.withdrawn_version_id is not None:
            found.append(FoundCause(CauseKind.WITHDRAWN, role, read.upstream_id, None, read.withdrawn_version_id))
    for role, upstream_id in facts.upstreams.items():
        upstream = upstreams[upstream_id]
        if upstream.is_retired:
            found.append(FoundCause(CauseKind.MISSING_INPUT, role, upstream_id))
            continue
        last = facts.inputs.get(role)
        of_this = last is not None and last.upstream_id == upstream_id
        # Without a current version there is no such digest; what was withdrawn itself has its own cause.
        is_gone = upstream.digest is None and last is not None and last.withdrawn_version_id is None
        has_moved = upstream.digest is not None and last is not None and last.digest != upstream.digest
        if of_this and (is_gone or has_moved):
            brought = upstream.run_id, upstream.version_id
            found.append(FoundCause(CauseKind.INPUT_CHANGED, role, upstream_id, *brought))
        inherited = inherited_cause(role, upstream_id, upstream)
        if inherited is not None:
            found.append(inherited)
    return found


def inherited_cause(role: str, upstream_id: UUID, upstream: UpstreamFacts) -> FoundCause | None:
    """Return what a deployment inherits in one role: the one part of the rule that asks how its upstream stands."""
    if upstream.is_retired or not upstream.is_stale:
        return None
    return FoundCause(CauseKind.UPSTREAM_STALE, role, upstream_id, upstream.run_id, upstream.version_id)


def freshness_of(standing: Standing, causes: Collection[Any]) -> Freshness:
    """Return the freshness that follows from the causes."""
    if standing.version_id is None:
        return Freshness.NOT_INITIALIZED
    if causes:
        return Freshness.STALE
    return Freshness.SOURCE_DELAYED if standing.source_delayed else Freshness.READY
