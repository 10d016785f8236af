"""The fixture `stack`: a real Prefect server and worker for the whole session, with small flows deployed.

`stack_directory` makes directories for other stacks.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import dedent
from typing import Any
from uuid import UUID

import pytest

from freshline.deployments.activation import without_prefect
from freshline.deployments.catalog import load_catalog
from freshline.deployments.client import PrefectGateway
from freshline.deployments.deploy import deploy_catalog
from freshline.deployments.gateway import DeploymentFacts, FlowRunFacts
from freshline.deployments.local import LocalStack

IDLE_POOL = "idle"
"""A work pool without a worker: its flow runs stay scheduled."""
WAIT_S = 180.0
"""How long a test waits for the worker, before it fails."""

FLOWS = """
import time
from pathlib import Path
from uuid import UUID

from prefect import flow


@flow
def counting(n: int = 1, label: str = "x"):
    return n


@flow
def holding(release: str, suspend: bool = False):
    if suspend and not Path(release).exists():
        from freshline.deployments.client import PrefectGateway

        gateway = PrefectGateway()
        current = gateway.current_flow_run()
        gateway.write_table_artifact("holding", [{"id": str(current.id)}])
        gateway.suspend(current.id, message="waits for refresh/prices", timeout_s=600)
    while not Path(release).exists():
        time.sleep(0.05)


counting.fn.__freshline_kind__ = "refresh"
holding.fn.__freshline_kind__ = "refresh"
"""

CATALOGUE = """
deployments:
  - name: idle
    entrypoint: stack_flows.py:counting
    work_pool: {name: idle}
    schedules: [{cron: "0 18 * * 1-5", timezone: America/New_York, active: false}]
    tags: [idle]
    resource: {name: idle, kind: dataset, runs: refresh}
  - name: other
    entrypoint: stack_flows.py:counting
    work_pool: {name: idle, job_variables: {env: {KEPT: "1"}}}
    resource: {name: other, kind: dataset, runs: refresh, upstream: {x: refresh/idle}}
  - name: holding
    entrypoint: stack_flows.py:holding
    work_pool: {name: local}
    resource: {name: holding, kind: dataset, runs: refresh}
"""


@dataclass(frozen=True)
class RunningStack:
    """The session's stack, a gateway to it, and what is deployed there."""

    local: LocalStack
    gateway: PrefectGateway
    directory: Path
    deployments: Mapping[str, DeploymentFacts]

    def wait_for(self, flow_run_id: UUID, condition: Callable[[FlowRunFacts], bool]) -> FlowRunFacts:
        """Return the flow run as soon as the condition holds."""
        deadline = time.monotonic() + WAIT_S
        while True:
            flow_run = self.gateway.read_flow_run(flow_run_id)
            assert flow_run is not None
            if condition(flow_run):
                return flow_run
            self.local.check()
            assert time.monotonic() < deadline, f"still {flow_run.state_name}: {flow_run.state_message}"
            time.sleep(0.05)

    def wait_for_any(
        self, deployment_id: UUID, condition: Callable[[FlowRunFacts], bool], *, within_s: float
    ) -> FlowRunFacts:
        """Return the first flow run of the deployment for which the condition holds."""
        began, deadline = datetime.now(UTC), time.monotonic() + within_s
        while True:
            found = self.gateway.recent_flow_runs([deployment_id], since=began - timedelta(minutes=1))
            for flow_run in found:
                if condition(flow_run):
                    return flow_run
            self.local.check()
            assert time.monotonic() < deadline, f"none of {[one.state_name for one in found]}"
            time.sleep(0.1)

    def deployment_json(self, deployment_id: UUID) -> dict[str, Any]:
        """Return the deployment as the server's API shows it."""
        import httpx

        answer = httpx.get(f"{self.gateway.api_url}/deployments/{deployment_id}", trust_env=False)
        found: dict[str, Any] = answer.raise_for_status().json()
        return found


@pytest.fixture(scope="session")
def prefect_database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database of Prefect's server, migrated by Prefect: half of what a server's start takes.

    Kept with pytest's cache, for the installed version of Prefect.
    """
    cache = getattr(request.config, "cache", None)  # it can be switched off
    directory = cache.mkdir("prefect") if cache is not None else tmp_path_factory.mktemp("prefect")
    kept: Path = directory / f"{version('prefect')}.db"
    if not kept.exists():
        with TemporaryDirectory(dir=directory) as home:
            made = Path(home) / "prefect.db"
            environment = without_prefect(os.environ) | {
                "PREFECT_HOME": home,
                "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{made}",
                "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            }
            command = [sys.executable, "-P", "-m", "prefect", "server", "database", "upgrade", "--yes"]
            done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            made.replace(kept)
    return kept


@pytest.fixture(scope="session")
def stack_directory(tmp_path_factory: pytest.TempPathFactory, prefect_database: Path) -> Callable[[str], Path]:
    """Make a directory of this name in which a stack starts with a database that is migrated already."""

    def make(name: str) -> Path:
        directory = tmp_path_factory.mktemp(name)
        shutil.copyfile(prefect_database, directory / "prefect.db")
        return directory

    return make


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, stack_directory: Callable[[str], Path]) -> Iterator[RunningStack]:
    """A real Prefect server and worker. Use `stack.local.activated()` to make this process talk to it."""
    directory = tmp_path_factory.mktemp("stack-project")
    (directory / "stack_flows.py").write_text(dedent(FLOWS))
    (directory / "prefect.yaml").write_text(CATALOGUE)
    with LocalStack(stack_directory("stack")) as local:
        gateway = PrefectGateway(local.api_url)
        with local.activated():
            _make_pool(IDLE_POOL)
            catalog = load_catalog(directory / "prefect.yaml", check_policy=lambda policy: None)
            deployments = deploy_catalog(catalog, gateway)
        yield RunningStack(local, gateway, directory, deployments)
        gateway.close()


def _make_pool(name: str) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate

    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name=name, type="process"))
