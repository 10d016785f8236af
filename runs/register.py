"""From a catalogue to registered deployments: Prefect's deploy first, then our records, in one place and order."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Connection

from ..deployments.catalog import Catalog
from ..deployments.gateway import DeploymentFacts, Gateway
from ..lineage import registry
from ..lineage.freshness import parse_policy
from ..storage.errors import CatalogError, InvalidInput
from . import store
from .composition import Freshline
from .request import HIDDEN


@dataclass(frozen=True)
class Registrar:
    """Registers catalogues in one store."""

    freshline: Freshline
    gateway: Gateway

    def load(self, path: Any) -> Catalog:
        """Read and validate a whole prefect.yaml; upstreams may be those of other projects.

        Raises:
            CatalogError: naming the deployment, the line and the fix. Nothing was deployed.
        """
        from ..deployments.catalog import load_catalog

        settings = self.freshline.settings
        with self.freshline.database.read() as connection:
            known = registry.reads_of_others(connection, tenant_id=settings.tenant_id, project=settings.project)
        return load_catalog(path, check_policy=check_policy, registered=known)

    def register(self, catalog: Catalog, facts: Mapping[str, DeploymentFacts]) -> registry.Registered:
        """Write the catalogue in one transaction, and tell each Prefect deployment which store it belongs to.

        `facts` are the Prefect deployments by key, as deployed.

        Raises:
            CatalogError: an upstream is unknown or the edges close a cycle with those registered before.
        """
        database, settings = self.freshline.database, self.freshline.settings
        own_store = database.write(store.store_id)
        for deployed in facts.values():
            self.gateway.write_job_variables(deployed.id, env={"FRESHLINE_STORE_ID": str(own_store)})
        declared = [declared_of(spec, facts.get(spec.key)) for spec in catalog.deployments]

        def work(connection: Connection) -> registry.Registered:
            now = database.now(connection)
            return registry.register(
                connection, declared, tenant_id=settings.tenant_id, project=settings.project, now=now
            )

        try:
            return database.write(work)
        except InvalidInput as error:
            raise CatalogError(str(error)) from None


def check_policy(written: Mapping[str, Any]) -> None:
    """Refuse a freshness policy that cannot be read.

    Raises:
        InvalidInput: naming the value and the fix.
    """
    parse_policy(written)


def declared_of(spec: Any, facts: DeploymentFacts | None) -> registry.Declared:
    """Return what the lineage room needs to know of a deployment in the catalogue."""
    secrets = _secrets(facts)
    return registry.Declared(
        key=spec.key,
        kind=spec.runs,
        resource=spec.resource_name,
        resource_kind=spec.resource_kind,
        declaration_digest=spec.declaration_digest,
        declaration={
            "entrypoint": spec.entrypoint,
            "callables": dict(spec.callables),
            "code_digest": spec.code_digest,
            "secrets": sorted(secrets),
            "parameters": {**spec.parameters, **dict.fromkeys(secrets & spec.parameters.keys(), HIDDEN)},
            "if_ready": {str(trigger): str(word) for trigger, word in spec.if_ready.items()},
            "renamed": dict(spec.renamed),
            "on_stale": {str(trigger): str(mode) for trigger, mode in spec.on_stale.items()},
            "schema": dict(spec.schema),
        },
        parameter_schema=_own_parameters(facts, spec.renamed.keys()),
        policy=dict(spec.freshness) if spec.freshness is not None else None,
        auto_refresh=spec.auto_refresh.to_json() if spec.auto_refresh is not None else None,
        retention=dict(spec.retention) if spec.retention is not None else None,
        edges=[registry.DeclaredEdge(up.role, up.key, up.kind) for up in spec.upstream],
        prefect_name=spec.prefect_name,
        prefect_deployment_id=facts.id if facts is not None else None,
        external=spec.external,
    )


def _secrets(facts: DeploymentFacts | None) -> set[str]:
    """Return the parameters that the flow types as secrets, such as pydantic's SecretStr."""
    properties = facts.parameter_schema.get("properties", {}) if facts is not None else {}
    return {name for name, about in properties.items() if about.get("writeOnly") or about.get("format") == "password"}


def _own_parameters(facts: DeploymentFacts | None, added: Collection[str]) -> dict[str, Any]:
    """Return the schema of the flow's own parameters: the added ones are options of `submit`."""
    if facts is None:
        return {}
    schema = dict(facts.parameter_schema)
    properties = schema.get("properties", {})
    return {**schema, "properties": {name: about for name, about in properties.items() if name not in added}}
