"""Everything on one machine: Prefect's server and worker, our store, dispatcher and reconciler, in one directory.

The user's Prefect profile and Freshline settings are not touched: this process and its children get an environment of
their own while the stack is up.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..deployments.client import PrefectGateway
from ..deployments.deploy import deploy_catalog
from ..deployments.gateway import Gateway
from ..deployments.local import LocalStack
from ..lineage.registry import Registered
from ..storage.settings import load_settings
from .background import Background
from .composition import Freshline, open_freshline
from .queries import Queries
from .register import Registrar
from .service import RunExecutionService

Stage = Callable[[str], None]
"""Told what is going on, for a progress bar."""


@dataclass(frozen=True)
class Embedded:
    """A stack that is up."""

    directory: Path
    freshline: Freshline
    gateway: Gateway
    stack: LocalStack

    @property
    def service(self) -> RunExecutionService:
        """Submits runs."""
        return self.freshline.service

    @property
    def queries(self) -> Queries:
        """Answers questions."""
        return Queries(self.freshline.database, tenant_id=self.freshline.settings.tenant_id)

    def deploy(self, catalogue: Path, *, schedules: bool = True) -> Registered:
        """Deploy and register a prefect.yaml; with `schedules=False` its schedules are paused.

        Raises:
            CatalogError: naming the deployment, the line and the fix. Nothing was deployed.
        """
        registrar = Registrar(self.freshline, self.gateway)
        catalog = registrar.load(catalogue)
        deployed = deploy_catalog(catalog, self.gateway)
        if not schedules:
            for facts in deployed.values():
                self.gateway.pause_schedules(facts.id)
        return registrar.register(catalog, deployed)


@contextmanager
def embedded(
    directory: Path,
    *,
    port: int | None = None,
    stage: Stage = lambda _: None,
    worker_limit: int | None = None,
    reconcile_s: float | None = None,
    isolated: bool = False,
    page_url: str | None = None,
) -> Iterator[Embedded]:
    """Start everything in a directory, and end it when the block ends, however it does.

    With `isolated`, Freshline's own settings in the environment do not count: records and objects stay here. At
    `page_url` the caller serves the page: links in Prefect lead there.

    Raises:
        StackError: the directory cannot be written, the port is in use, or Prefect did not start.
        StoreVersion: the directory holds records of a newer Freshline.
    """
    home = directory.expanduser().absolute()
    ours = {"FRESHLINE_HOME": str(home)}
    stack = LocalStack(home, api_port=port, worker_limit=worker_limit, env=ours)
    with ExitStack() as exits:
        exits.enter_context(_environment(ours, isolated=isolated))
        stage("Prefect server")
        exits.callback(stack.stop)
        stack.start()
        exits.enter_context(stack.activated())
        stage("records")
        freshline = open_freshline(load_settings())
        exits.callback(freshline.database.dispose)
        gateway = PrefectGateway()
        exits.callback(gateway.close)
        exits.enter_context(Background(freshline, gateway, reconcile_s=reconcile_s, page_url=page_url))
        yield Embedded(home, freshline, gateway, stack)


@contextmanager
def _environment(ours: Mapping[str, str], *, isolated: bool) -> Iterator[None]:
    """Set our variables for a while; isolated: drop the user's, so that a demo never writes to a production store."""
    before = {name: value for name, value in os.environ.items() if name.startswith("FRESHLINE_")}
    for name in before if isolated else ():
        del os.environ[name]
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)
        os.environ.update(before)
