"""The fixture `ways`: a project of small tracked flows, deployed on a real Prefect server with real workers.

One stack serves every test of the ways in and out of a run. Owns the processes, and the words with which the tests look
at the record and at Prefect; what is deployed is in `ways_project`. This process's own environment stays as it is,
except while it deploys.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import httpx
import psutil
import psycopg
import pytest

from freshline.deployments import keeper
from freshline.deployments.activation import without_prefect
from freshline.deployments.client import PrefectGateway
from freshline.deployments.deploy import deploy_catalog, read_deployed
from freshline.deployments.gateway import DeploymentFacts, FlowRunFacts
from freshline.deployments.local import LocalStack
from freshline.runs import store
from freshline.runs.background import Background
from freshline.runs.composition import Freshline, open_freshline
from freshline.runs.models import Run
from freshline.runs.queries import Queries
from freshline.runs.register import Registrar
from freshline.runs.service import as_run
from freshline.runs.status import RunStatus
from freshline.storage.settings import Settings
from tests.acceptance.ways_project import DOOMED_POOL, IDLE_POOL, NARROW_POOL, SCHEDULE, catalogue, write_project

T = TypeVar("T")

WAIT_S = 180.0
"""How long a test waits for anything, before it fails."""
_POLL_S = 0.1
_FIRST_TIME_AFTER_S = 20.0
"""Prefect looks for new schedules every 5 s, and later when it is busy: a time that has passed by then is none."""
_AT_ONCE = 6
"""More flow runs that start at once only make each other late."""
_ANSWER_WITHIN_S = 90.0
"""Longer than Prefect waits for its own database."""


@dataclass(frozen=True)
class Ways:
    """The stack, what is deployed there, and the store of its records."""

    local: LocalStack
    gateway: PrefectGateway
    freshline: Freshline
    project: Path
    deployments: Mapping[str, DeploymentFacts]
    settings: Mapping[str, str]
    """As variables, the same for every process."""
    marker: str
    """What everything that the stack started has in its environment."""
    workers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    """The workers beside the stack's own, by pool."""

    @property
    def queries(self) -> Queries:
        """Answers questions about the records."""
        return Queries(self.freshline.database)

    # What goes on

    def submit(self, name: str, parameters: Mapping[str, Any] | None = None, **options: Any) -> Run:
        """Submit a run of the deployment to the service."""
        key = next(key for key in self.deployments if key.endswith(f"/{name}"))
        return self.freshline.service.submit(key, parameters, actor="ways", **options)

    def create(self, name: str, parameters: Mapping[str, Any] | None = None) -> UUID:
        """Create a flow run in Prefect itself, as its page does, with nothing of ours; return its id."""
        deployment = self.deployment(name)
        made = self.call("POST", f"deployments/{deployment.id}/create_flow_run", parameters=dict(parameters or {}))
        return UUID(made["id"])

    def call(self, method: str, path: str, **content: Any) -> Any:
        """Call Prefect's API and return its answer."""
        url = f"{self.local.api_url}/{path}"

        def send() -> httpx.Response | None:
            answer = httpx.request(method, url, json=content or None, trust_env=False, timeout=_ANSWER_WITHIN_S)
            # Its SQLite file was locked, and the request had no effect.
            return answer if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE else None

        answer = self.wait_for(f"an answer to {method} {path}", send)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def cancel_in_prefect(self, flow_run_id: UUID) -> None:
        """Cancel the flow run as Prefect's page does."""
        state = {"type": "CANCELLING", "name": "Cancelling"}
        self.call("POST", f"flow_runs/{flow_run_id}/set_state", state=state, force=False)

    def kill_flow(self, flow_run_id: UUID) -> None:
        """Send SIGKILL to whatever executes this flow run."""
        processes = self.flow_processes(flow_run_id)
        assert processes
        for process in processes:
            process.kill()

    def start(self, *command: str | Path, **variables: str) -> subprocess.Popen[str]:
        """Start a program in the project's directory, with the stack's Prefect and store."""
        return subprocess.Popen(
            [str(part) for part in command],
            cwd=self.project,
            env=self._environment() | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def start_worker(self, pool: str) -> subprocess.Popen[bytes]:
        """Start a worker of this pool; the stack ends it, and what it left, when it ends itself."""
        command = [sys.executable, "-P", "-m", "prefect", "worker", "start", "--type", "process", "--pool", pool]
        command += ["--name", f"{pool}-worker", "--install-policy", "never"]
        with self.local.log_path(f"worker-{pool}").open("wb") as log:
            worker = subprocess.Popen(
                command,
                cwd=self.project,
                env=self._environment() | {keeper.MARKER_VARIABLE: self.marker},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.workers[pool] = worker
        return worker

    def switch_schedule_on(self) -> None:
        """Have the schedule fire in some seconds, and then every hour."""
        deployment = self.deployment("scheduled")
        (schedule,) = deployment.schedules
        anchor = datetime.now(UTC) + timedelta(seconds=_FIRST_TIME_AFTER_S)
        rule = {"interval": SCHEDULE["interval"], "anchor_date": anchor.isoformat()}
        self.call("PATCH", f"deployments/{deployment.id}/schedules/{schedule.id}", schedule=rule, active=True)
        # Prefect looks at once only at deployments that have changed.
        self.call("PATCH", f"deployments/{deployment.id}", description="Its schedule is on.")

    def register(self, *, edition: int) -> None:
        """Register the catalogue of another edition; Prefect's deployments stay as they are."""
        path = self.project / "prefect.yaml"
        path.write_text(catalogue(edition=edition))
        registrar = Registrar(self.freshline, self.gateway)
        catalog = registrar.load(path)
        registrar.register(catalog, read_deployed(catalog.deployments, self.gateway))

    # What can be seen

    def deployment(self, name: str) -> DeploymentFacts:
        """Return the deployment as it is in Prefect."""
        return next(facts for key, facts in self.deployments.items() if key.endswith(f"/{name}"))

    def runs(self, name: str) -> list[Run]:
        """Return the runs of the deployment, oldest first."""
        key = next(key for key in self.deployments if key.endswith(f"/{name}"))
        return [run for _, run in reversed(self.queries.runs(deployment=key))]

    def runs_of_flow_run(self, flow_run_id: UUID) -> list[Run]:
        """Return the runs that this flow run has, by generation."""
        with self.freshline.database.read() as connection:
            query = store.RUN.select().where(store.RUN.c.flow_run_id == flow_run_id)
            return [as_run(row) for row in connection.execute(query.order_by(store.RUN.c.generation))]

    def children(self, run: Run) -> list[Run]:
        """Return the runs whose parent this is, oldest first."""
        with self.freshline.database.read() as connection:
            query = store.RUN.select().where(store.RUN.c.parent_id == run.id).order_by(store.RUN.c.id)
            return [as_run(row) for row in connection.execute(query)]

    def flow_runs(self, name: str) -> list[FlowRunFacts]:
        """Return Prefect's flow runs of the deployment that were due by now."""
        now = datetime.now(UTC)
        return self.gateway.recent_flow_runs([self.deployment(name).id], since=now - timedelta(hours=1), until=now)

    def the_run(self, flow_run_id: UUID) -> Run:
        """Return the one run of this flow run, as soon as it is recorded."""
        found = self.wait_for("a record of the flow run", lambda: self.runs_of_flow_run(flow_run_id))
        assert len(found) == 1
        return found[0]

    def the_new_run(self, name: str, *, known: Sequence[Run] = ()) -> Run:
        """Return the one run of the deployment beside those known, as soon as it is recorded."""
        before = {run.id for run in known}
        found = self.wait_for(f"a run of {name}", lambda: [run for run in self.runs(name) if run.id not in before])
        assert len(found) == 1
        return found[0]

    def dispatched(self, run: Run) -> Run:
        """Return the run when it has a flow run."""

        def find() -> Run | None:
            now = self.freshline.service.get(run.id)
            return now if now.flow_run_id is not None else None

        return self.wait_for("a flow run", find)

    def running(self, flow_run_id: UUID) -> Run:
        """Return the one run of this flow run when its body is under way."""
        return self.wait_for(
            "the body to run",
            lambda: next((run for run in self.runs_of_flow_run(flow_run_id) if run.status == RunStatus.RUNNING), None),
        )

    def ended(self, run_id: UUID) -> Run:
        """Return the run when it has ended; its flow run has no other one, and its story is whole."""

        def find() -> Run | None:
            run = self.freshline.service.get(run_id)
            return run if RunStatus(run.status).is_terminal else None

        run = self.wait_for("the run to end", find, show=lambda: self._show(run_id))
        if run.flow_run_id is not None:
            generations = [one.generation for one in self.runs_of_flow_run(run.flow_run_id)]
            assert generations == list(range(len(generations)))
        self.check_story(run)
        return run

    def check_story(self, run: Run) -> None:
        """Check that the run's events are numbered without gaps, begin with its submission and end with its end."""
        story = self.queries.events(run.id)
        assert [number for number, _ in story] == list(range(1, run.last_seq + 1))
        kinds = [event.kind for _, event in story]
        ends = [kind for kind in kinds if kind in {f"run_{status}" for status in RunStatus if status.is_terminal}]
        assert (kinds[0], ends, kinds[-1]) == ("run_submitted", [f"run_{run.status}"], f"run_{run.status}")
        assert run.ended_at is not None

    def flow_run_when(self, flow_run_id: UUID, condition: Callable[[FlowRunFacts], bool], what: str) -> FlowRunFacts:
        """Return Prefect's flow run as soon as the condition holds."""

        def find() -> FlowRunFacts | None:
            flow_run = self.gateway.read_flow_run(flow_run_id)
            return flow_run if flow_run is not None and condition(flow_run) else None

        return self.wait_for(what, find)

    def flow_processes(self, flow_run_id: UUID) -> list[psutil.Process]:
        """Return the living processes that execute this flow run."""
        found = []
        for process in keeper.marked(self.marker):
            try:
                if process.environ().get("PREFECT__FLOW_RUN_ID") == str(flow_run_id):
                    found.append(process)
            except psutil.Error:  # it has ended meanwhile
                continue
        return found

    def wait_for(self, what: str, find: Callable[[], T | None], *, show: Callable[[], object] = lambda: "") -> T:
        """Return what `find` finds as soon as it is something."""
        deadline = time.monotonic() + WAIT_S
        while not (found := find()):  # an empty list is nothing yet
            self.local.check()
            assert time.monotonic() < deadline, f"waited {WAIT_S:.0f} s in vain for {what} {show()}"
            time.sleep(_POLL_S)
        return found

    def _show(self, run_id: UUID) -> str:
        run = self.freshline.service.get(run_id)
        flow_run = self.gateway.read_flow_run(run.flow_run_id) if run.flow_run_id is not None else None
        events = [event.kind for _, event in self.queries.events(run_id)]
        state = (flow_run.state_name, flow_run.state_message) if flow_run is not None else None
        return f"(run {run.status}, events {events}, flow run {state})"

    def _environment(self) -> dict[str, str]:
        return without_prefect(os.environ) | self.local.environment() | dict(self.settings)


@pytest.fixture(scope="package")  # not longer: it keeps a processor busy
def ways(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> Iterator[Ways]:
    """One stack for all: Postgres for Prefect and for the records, short leases, two dispatchers and reconcilers.

    Prefect's server stands still for up to a minute when many clients write to its SQLite file at once.
    """
    conninfo = postgres_url.replace("postgresql+psycopg", "postgresql") + "/postgres"
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("CREATE DATABASE ways_records")
        connection.execute("CREATE DATABASE ways_prefect")
    settings = {
        "FRESHLINE_DATABASE_URL": f"{postgres_url}/ways_records",
        "FRESHLINE_LEASE_S": "10",
        "FRESHLINE_HEARTBEAT_S": "1",
        "FRESHLINE_RECONCILE_S": "2",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": postgres_url.replace("psycopg", "asyncpg") + "/ways_prefect",
    }
    with opened(tmp_path_factory.mktemp("ways"), settings=settings, reconcilers=2) as ways:
        ways.start_worker(NARROW_POOL)
        yield ways


@contextmanager
def opened(home: Path, *, settings: Mapping[str, str], reconcilers: int = 1) -> Iterator[Ways]:
    """Start a real Prefect server with a worker, deploy the project, dispatch and reconcile."""
    variables = {
        "FRESHLINE_HOME": str(home),
        "FRESHLINE_DATABASE_URL": f"sqlite:///{home / 'freshline.db'}",
        "FRESHLINE_ARTIFACTS_URL": (home / "artifacts").as_uri(),
        **settings,
    }
    project = home / "project"
    write_project(project)
    with ExitStack() as exits:
        freshline = open_freshline(_settings(variables))
        exits.callback(freshline.database.dispose)
        local = exits.enter_context(LocalStack(home / "stack", worker_limit=_AT_ONCE, env=variables))
        gateway = PrefectGateway(local.api_url)
        exits.callback(gateway.close)
        _make_pools(local)
        registrar = Registrar(freshline, gateway)
        with local.activated():
            catalog = registrar.load(project / "prefect.yaml")
            deployments = deploy_catalog(catalog, gateway)
        registrar.register(catalog, deployments)
        ways = Ways(local, gateway, freshline, project, deployments, variables, _marker_of(local))
        exits.callback(_end_workers, ways.workers)
        for _ in range(reconcilers):
            exits.enter_context(Background(freshline, gateway))
        yield ways


def _settings(variables: Mapping[str, str]) -> Settings:
    """The settings that a process with these variables has."""
    prefix = "FRESHLINE_"
    values = {name.removeprefix(prefix).lower(): value for name, value in variables.items() if name.startswith(prefix)}
    return Settings(**values)


def _marker_of(local: LocalStack) -> str:
    kept = psutil.Process(int((local.directory / keeper.LOCK_NAME).read_text()))
    return kept.children()[0].environ()[keeper.MARKER_VARIABLE]


def _make_pools(local: LocalStack) -> None:
    """Make the other pools after the pattern of the stack's own."""
    with httpx.Client(base_url=f"{local.api_url}/work_pools/", trust_env=False, timeout=30) as client:
        template = client.get("local").raise_for_status().json()["base_job_template"]
        for name, limit in ((IDLE_POOL, None), (NARROW_POOL, 1), (DOOMED_POOL, None)):
            pool = {"name": name, "type": "process", "base_job_template": template, "concurrency_limit": limit}
            client.post("", json=pool).raise_for_status()


def _end_workers(workers: Mapping[str, subprocess.Popen[bytes]]) -> None:
    for worker in workers.values():
        worker.terminate()
    for worker in workers.values():
        worker.wait(timeout=30)
