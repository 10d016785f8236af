"""Facts of a run that name a version: the model that an inference uses, the reference of a monitoring.

They are given as a reference, such as `training/alpha@champion`, or as an id, and stored as an id.
"""

from collections.abc import Mapping
from typing import Any, get_args
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..lineage import references
from ..lineage.models import Deployment, Version
from ..storage.errors import Conflict, NotFound
from ..storage.words import DeploymentKind
from .details import SCHEMA_OF, Detail

_VERSION = Version.__table__  # type: ignore[attr-defined]
_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]

_NAMING: Mapping[DeploymentKind, frozenset[str]] = {
    kind: frozenset(name for name, column in schema.model_fields.items() if UUID in get_args(column.annotation))
    for kind, schema in SCHEMA_OF.items()
}
"""The facts of each kind that name a version."""


def with_version_ids(
    connection: Connection, kind: DeploymentKind | str, facts: Detail | Mapping[str, Any], *, tenant_id: str
) -> Detail | Mapping[str, Any]:
    """Return the facts with the id of each version that they name by a reference; the others are left as they are.

    Raises:
        InvalidInput: a text with a slash is no reference.
        NotFound: there is no such version.
        Conflict: it was withdrawn.
    """
    given = facts.model_dump(exclude_unset=True) if isinstance(facts, Detail) else dict(facts)
    named = {name: given[name] for name in _NAMING[DeploymentKind(kind)] & given.keys()}
    found = {name: _id_of(connection, value, tenant_id=tenant_id) for name, value in named.items()}
    if not found:
        return facts
    return facts.model_copy(update=found) if isinstance(facts, Detail) else given | found


def _id_of(connection: Connection, value: Any, *, tenant_id: str) -> Any:
    if isinstance(value, str) and "/" in value:
        row = references.resolve(connection, value, tenant_id=tenant_id)
        if row.withdrawn_at is not None:
            raise Conflict(f"{value} is version {row.number}, which was withdrawn ({row.withdrawn_reason})")
        return row.id
    if isinstance(value, UUID):
        query = (
            sa.select(_VERSION.c.id)
            .join(_DEPLOYMENT, _DEPLOYMENT.c.id == _VERSION.c.deployment_id)
            .where(_VERSION.c.id == value, _DEPLOYMENT.c.tenant_id == tenant_id)
        )
        if connection.execute(query).first() is None:
            raise NotFound("version", str(value))
    # Whatever else it is, the validation of the facts says what is wrong with it.
    return value
