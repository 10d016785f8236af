"""Where the parts are put together from the settings: the only module that knows which adapter is used."""

import threading
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ..deployments.gateway import Execution, Gateway
from ..storage.database import Database
from ..storage.settings import Settings, load_settings, overlaid
from .service import RunExecutionService

if TYPE_CHECKING:
    from ..storage.filesystem import ObjectStore
    from .points.spool import Spools

_lock = threading.Lock()
_opened: dict[str, Any] = {}


@dataclass(frozen=True)
class Freshline:
    """One store of records with its object store and Prefect."""

    settings: Settings
    database: Database
    objects: Any
    """An `ObjectStore`."""

    @cached_property
    def spools(self) -> "Spools":
        """The folder on this machine where metric values wait for this store."""
        from .points.spool import Spools
        from .store import store_id

        with self.database.read() as connection:
            return Spools(self.settings.home.expanduser().absolute(), store_id(connection))

    @property
    def service(self) -> RunExecutionService:
        """The service that creates and ends runs."""
        return RunExecutionService(self.database, tenant_id=self.settings.tenant_id)

    def flow_run_page(self, flow_run_id: UUID | None) -> str | None:
        """Return the address of a flow run in Prefect's page; none when there is no flow run, or no server is named."""
        if flow_run_id is None:
            return None
        from ..deployments.connection import flow_run_page

        return flow_run_page(flow_run_id)

    def gateway(self) -> Gateway:
        """Return a client of the Prefect server that the environment names."""
        from ..deployments.client import PrefectGateway

        gateway: Gateway = PrefectGateway()
        return gateway


def open_freshline(settings: Settings | None = None) -> Freshline:
    """Open the store that the settings name; a new one is made, an old one refused with the fix.

    Raises:
        InvalidInput: a setting cannot be used.
        StoreUnavailable: the database cannot be reached.
        StoreVersion: its schema is newer or older than this program.
    """
    from .migrate import ensure_schema

    settings = settings or load_settings()
    database = Database(settings.resolved_database_url(), sqlite_synchronous=settings.sqlite_synchronous)
    ensure_schema(database)
    return Freshline(settings, database, open_objects(settings))


class DriverOptions:
    """What the object store's driver is opened with: the settings, above those of a Prefect block if one is named.

    A pickle holds none of it: the process that receives one reads its own environment.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = settings

    def __call__(self, protocol: str) -> dict[str, Any]:
        """Return the options for stores of a protocol. Contains secrets.

        Raises:
            InvalidInput: the settings contradict each other, or the block is none of credentials.
            NotFound: there is no such block.
            PrefectError: Prefect cannot be asked for it.
        """
        settings = self._settings or load_settings()
        if settings.artifacts_block is None:
            return settings.driver_options(protocol)
        from ..deployments.credentials import block_options

        return overlaid(block_options(settings.artifacts_block, protocol=protocol), settings.driver_options(protocol))

    def __reduce__(self) -> tuple[Any, ...]:
        return DriverOptions, ()


def open_objects(settings: Settings, *, retry_s: float | None = None) -> "ObjectStore":
    """Return the object store that the settings name; nothing is asked of it yet.

    Raises:
        InvalidInput: its URL cannot be used.
    """
    from ..storage.filesystem import ObjectStore
    from ..storage.patience import Patience

    patience = Patience(settings.artifacts_retry_s if retry_s is None else retry_s)
    return ObjectStore(settings.resolved_artifacts_url(), options=DriverOptions(settings), patience=patience)


def shared_freshline() -> Freshline:
    """Return the store that the environment names, opened once per process."""
    settings = load_settings()
    key = _key(settings)
    with _lock:
        if key not in _opened:
            _opened[key] = open_freshline(settings)
        opened: Freshline = _opened[key]
    return opened


def _key(settings: Settings) -> str:
    return settings.resolved_database_url() + "\n" + settings.resolved_artifacts_url()


def opened_already() -> Freshline | None:
    """Return the store that the environment names if this process has opened it; nothing is opened."""
    settings = load_settings()
    with _lock:
        found: Freshline | None = _opened.get(_key(settings))
    return found


def flow_port() -> tuple[Any, Execution | None]:
    """Return the port of this process, and what Prefect executes in this thread, if anything."""
    from .port import DirectPort

    settings = load_settings()
    if settings.api_url is not None:
        return _http_port(settings)
    freshline = shared_freshline()
    gateway = freshline.gateway()
    port = DirectPort(
        freshline.database,
        freshline.objects,
        gateway,
        lease_s=settings.lease_s,
        heartbeat_s=settings.heartbeat_s,
        tenant_id=settings.tenant_id,
        store_id=settings.store_id,
        spools=freshline.spools,
        system_metrics=settings.system_metrics,
    )
    return port, gateway.current_execution()


def _http_port(settings: Settings) -> tuple[Any, Execution | None]:
    """Return the port to the server that the settings name, one per process; no database is opened."""
    from ..deployments.client import PrefectGateway
    from .remote.client import HttpPort

    key = f"{settings.api_url}\n{settings.resolved_artifacts_url()}"
    gateway: Gateway = PrefectGateway()
    with _lock:
        if key not in _opened:
            assert settings.api_url is not None, "whoever calls this has looked"
            _opened[key] = HttpPort(
                settings.api_url,
                settings.api_token.get_secret_value() if settings.api_token is not None else "",
                open_objects(settings),
                gateway,
                home=settings.home.expanduser().absolute(),
                store_id=settings.store_id,
                system_metrics=settings.system_metrics,
            )
        port = _opened[key]
    return port, gateway.current_execution()
