"""Which run a body is, as the claim of its run said."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from uuid import UUID

from ..storage.declared import DeclaredTable
from ..storage.words import DeploymentKind, UpdateMode


@dataclass(frozen=True)
class RunIdentity:
    """Which run this is, as its claim said."""

    id: UUID
    fence: int
    deployment_id: UUID
    deployment: str
    """Key of the deployment."""
    kind: DeploymentKind
    attempt: int = 1
    update_mode: UpdateMode = UpdateMode.INCREMENTAL
    data_as_of: date | None = None
    base_version_id: UUID | None = None
    callables: Mapping[str, str] = field(default_factory=dict)
    """Name -> dotted path, from the deployment's declaration."""
    schema: Mapping[str, DeclaredTable] = field(default_factory=dict)
    """The tables whose columns the deployment declares, by name."""
