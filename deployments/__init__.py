"""Prefect's side of Freshline: the catalogue, the gateway, deploying, and the embedded stack.

The only room that uses Prefect's client, artifacts, deploy command and state changes. Knows nothing of runs or lineage.
Names are imported when they are first asked for: reading a catalogue does not import Prefect, and the keeper imports
neither.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .blocks import UpstreamSpec
    from .catalog import Catalog, DeploymentSpec, load_catalog
    from .client import PrefectGateway
    from .code import callable_digest
    from .deploy import deploy_catalog, read_deployed
    from .gateway import DeploymentFacts, FlowRunFacts, FlowRunState, Gateway, ScheduleFacts
    from .initialize import initialize
    from .local import LocalStack, StackStage

__all__ = [
    "Catalog",
    "DeploymentFacts",
    "DeploymentSpec",
    "FlowRunFacts",
    "FlowRunState",
    "Gateway",
    "LocalStack",
    "PrefectGateway",
    "ScheduleFacts",
    "StackStage",
    "UpstreamSpec",
    "callable_digest",
    "deploy_catalog",
    "initialize",
    "load_catalog",
    "read_deployed",
]

_MODULES = {
    "Catalog": "catalog",
    "DeploymentFacts": "gateway",
    "DeploymentSpec": "catalog",
    "FlowRunFacts": "gateway",
    "FlowRunState": "gateway",
    "Gateway": "gateway",
    "LocalStack": "local",
    "PrefectGateway": "client",
    "ScheduleFacts": "gateway",
    "StackStage": "local",
    "UpstreamSpec": "blocks",
    "callable_digest": "code",
    "deploy_catalog": "deploy",
    "initialize": "initialize",
    "load_catalog": "catalog",
    "read_deployed": "deploy",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
