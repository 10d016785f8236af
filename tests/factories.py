"""Makes what tests need, showing only what matters: a graph of deployments, and versions published on it."""

import hashlib
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from sqlalchemy.engine import Connection

from freshline.lineage import registry, staleness, versions
from freshline.lineage.models import Freshness
from freshline.storage.database import Database
from freshline.storage.ids import new_id
from freshline.storage.words import DeploymentKind, ResourceKind
from tests.registered import register_again

START = datetime(2026, 1, 5, 12, tzinfo=UTC)

_RESOURCE_KIND = {
    DeploymentKind.REFRESH: ResourceKind.DATASET,
    DeploymentKind.PREVIEW: ResourceKind.EXPERIMENT,
    DeploymentKind.TRAINING: ResourceKind.MODEL,
    DeploymentKind.INFERENCE: ResourceKind.MODEL,
    DeploymentKind.MONITORING: ResourceKind.MODEL,
    DeploymentKind.OPTIMIZE: ResourceKind.OPTIMIZER,
    DeploymentKind.BACKTEST: ResourceKind.BACKTEST,
}


def declared(
    key: str,
    upstream: Mapping[str, str] | Iterable[str] = (),
    *,
    digest: str = "declaration-1",
    policy: Mapping[str, object] | None = None,
    on_stale: Mapping[str, str] | None = None,
    external: bool = False,
    parameters: Iterable[str] = (),
    schema: Mapping[str, object] | None = None,
) -> registry.Declared:
    """Declare a deployment; upstreams given without roles have their resource's name as role."""
    kind = DeploymentKind(key.partition("/")[0])
    roles = upstream if isinstance(upstream, Mapping) else {up.partition("/")[2]: up for up in upstream}
    return registry.Declared(
        key=key,
        kind=kind,
        resource=key.partition("/")[2],
        resource_kind=_RESOURCE_KIND[kind],
        declaration_digest=digest,
        declaration={"on_stale": dict(on_stale or {}), **({"schema": schema} if schema else {})},
        parameter_schema={"type": "object", "properties": {name: {"type": "integer"} for name in parameters}},
        policy=policy,
        edges=[registry.DeclaredEdge(role, up) for role, up in roles.items()],
        prefect_name=None if external else f"flow/{key}",
        prefect_deployment_id=None if external else new_id(),
        external=external,
    )


class Graph:
    """A registered graph whose clock stands still until it is moved."""

    def __init__(self, database: Database, *deployments: registry.Declared) -> None:
        self.database = database
        self.now = START
        self.declared = {item.key: item for item in deployments}
        database.write(
            lambda connection: register_again(
                connection, deployments, lambda within: self._register(within, deployments)
            )
        )

    def register(self, *deployments: registry.Declared, project: str = "default") -> registry.Registered:
        """Register these as the whole catalogue of a project."""
        self.declared = {item.key: item for item in deployments}
        return self.database.write(lambda connection: self._register(connection, deployments, project))

    def _register(
        self, connection: Connection, deployments: Iterable[registry.Declared], project: str = "default"
    ) -> registry.Registered:
        return registry.register(connection, deployments, tenant_id="default", project=project, now=self.now)

    def id(self, key: str) -> UUID:
        """The id of a deployment."""
        with self.database.read() as connection:
            rows = registry.deployments(connection, tenant_id="default", include_retired=True)
            return next(row.id for row in rows if row.key == key)

    def publish(
        self,
        key: str,
        content: str,
        *,
        reads: Mapping[str, UUID] | None = None,
        fence: int | None = None,
        base: UUID | None = None,
        data_end: date | None = None,
    ) -> versions.Published:
        """Publish a version with this content, built on the upstreams' current versions, or on `reads`."""

        def work(connection):
            deployment = registry.deployment(connection, key, tenant_id="default")
            staleness.lock_affected(connection, [deployment.id])
            inputs = versions.pins_of(connection, deployment.id)
            if reads is not None:
                inputs = [versions.Input(i.role, i.upstream_id, reads.get(i.role, i.version_id)) for i in inputs]
            current = versions.current_version(connection, deployment.id)
            new = versions.NewVersion(
                deployment_id=deployment.id,
                run_id=new_id(),
                fence=fence if fence is not None else (current.fence if current else 0) + 1,
                digest=hashlib.sha256(content.encode()).hexdigest(),
                declaration_digest=deployment.declaration_digest,
                inputs=inputs,
                base_version_id=base,
                data_end=data_end,
            )
            published = versions.publish(connection, new, now=self.now)
            staleness.propagate(connection, [deployment.id], now=self.now)
            return published

        return self.database.write(work)

    def publish_all(self, *keys: str, content: str = "1") -> None:
        """Publish one version of each, in this order."""
        for key in keys:
            self.publish(key, f"{key}:{content}")

    def pass_time(self, elapsed: timedelta) -> None:
        """Move the clock."""
        self.now += elapsed

    def freshness(self) -> dict[str, Freshness]:
        """The freshness of every deployment, by key."""
        import sqlalchemy as sa

        from freshline.lineage.models import Deployment, DeploymentState

        deployment, state = Deployment.__table__, DeploymentState.__table__
        query = sa.select(deployment.c.key, state.c.freshness).join(state, state.c.deployment_id == deployment.c.id)
        with self.database.read() as connection:
            return {row.key: Freshness(row.freshness) for row in connection.execute(query)}

    def causes(self, key: str) -> list[tuple[str, str]]:
        """(kind, role) of every stored cause."""
        import sqlalchemy as sa

        from freshline.lineage.models import Cause

        cause = Cause.__table__
        stored = cause.c.deployment_id == self.id(key)
        query = sa.select(cause.c.kind, cause.c.role).where(stored).order_by("kind", "role")
        with self.database.read() as connection:
            return [(row.kind, row.role) for row in connection.execute(query)]
