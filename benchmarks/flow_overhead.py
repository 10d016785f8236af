"""What tracking adds to a Prefect flow: its milliseconds with and without it, on a real Prefect server.

A flow with one task that does nothing is executed in this process, plain and tracked, with 10 parameters; the tracked
one logs 10 metrics. Its flow run is made from a deployment beforehand, which is not timed; recording the run, the gate,
the claim and the publication are. Ours keeps its records in SQLite with the settings that ship. The peer runs the same
flow, plain and with MLflow, in a process of its own on the same server.

Two threads of Prefect's are off: Prefect waits for them at the end of a flow and they sleep in steps, so that whatever
is shorter than a step disappears. The flow heartbeat sleeps a second at a time; the watch for a suspension, which flow
runs of a deployment have, 0.2 s. The control is the plain flow with a known delay: unless it shows, something hides
differences again, and no target is judged.
"""

import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any
from uuid import UUID

from freshline.deployments.client import PrefectGateway
from freshline.deployments.deploy import deploy_catalog
from freshline.deployments.local import LocalStack
from freshline.runs.composition import Freshline, shared_freshline
from freshline.runs.register import Registrar

from . import durability
from .comparisons import Comparison, Kind
from .environments import peer_process
from .harness import FLOOR, OURS, PEER, Setting, Subject, Subjects, Work
from .lives import PARAMETERS

PEER_ALONE = "peer's floor"
"""The plain flow in the peer's process: what the peer adds is measured against this one."""
CONTROL = "control"
"""The plain flow, with a known delay."""
DELAY_MS = 20.0

_POOL = "local"
_PLAIN = "overhead_flows.py:plain"
_CATALOGUE = f"""
deployments:
  - name: bench
    entrypoint: overhead_flows.py:tracked
    work_pool: {{name: {_POOL}}}
    resource: {{name: bench, kind: dataset, runs: refresh}}
"""


@dataclass(frozen=True)
class Flow:
    """A flow with a deployment whose flow runs are executed in this process."""

    made: Any
    deployment_id: UUID

    def measure_ms(self, **more: float) -> float:
        """Return how many milliseconds one flow takes; `more` are parameters beside the 10 that all have."""
        from prefect.client.orchestration import get_client
        from prefect.flow_engine import run_flow
        from prefect.states import Pending

        with get_client(sync_client=True) as client:
            flow_run = client.create_flow_run_from_deployment(
                self.deployment_id, parameters=PARAMETERS | more, state=Pending()
            )
        with _nothing_joined():
            began = perf_counter()
            state: Any = run_flow(self.made, flow_run=flow_run, return_type="state")
            took_ms = (perf_counter() - began) * 1000
        assert state.name == "Completed", state  # not refused, not skipped
        return took_ms


@contextmanager
def prepare(setting: Setting) -> Iterator[Subjects]:
    """Start Prefect's server, deploy and register the tracked flow, and deploy the plain one."""
    with ExitStack() as exits:
        stack = exits.enter_context(LocalStack(setting.directory / "stack", worker=False))
        exits.enter_context(stack.activated())
        exits.enter_context(_freshline_in(setting.directory / "home"))
        exits.enter_context(_quiet("prefect"))
        freshline = shared_freshline()
        exits.callback(freshline.database.dispose)
        plain, tracked = _flows(setting.directory, freshline)
        said = durability.of_database(freshline.database)
        subjects = {
            OURS: Subject("flow with one task, tracked", tracked.measure_ms, said),
            FLOOR: Subject("the same flow, plain", lambda: plain.measure_ms(asleep_ms=0.0), None),
            CONTROL: Subject(
                f"the plain flow with a delay of {DELAY_MS:.0f} ms",
                lambda: plain.measure_ms(asleep_ms=DELAY_MS),
                None,
            ),
        }
        if setting.with_peers:
            url = f"sqlite:///{setting.directory / 'mlflow.db'}"
            settings = ("WAL", freshline.settings.sqlite_synchronous)
            peer = exits.enter_context(peer_process("mlflow", "flow_overhead", [url, *settings]))
            subjects[PEER] = Subject(peer.name, lambda: peer.measure("tracked"), peer.durability)
            subjects[PEER_ALONE] = Subject("the plain flow in the peer's process", lambda: peer.measure("plain"), None)
        yield subjects


WORK = Work(
    name="flow_overhead",
    what="a Prefect flow with one task that does nothing; tracked: with 10 parameters and 10 metrics",
    unit="ms",
    higher_is_better=False,
    prepare=prepare,
    comparisons=(
        Comparison(Kind.DIFFERENCE, OURS, FLOOR, target=10.0),
        Comparison(Kind.DIFFERENCE, PEER, PEER_ALONE),
        Comparison(Kind.DIFFERENCE, CONTROL, FLOOR, known=DELAY_MS),
    ),
    rounds=10,
    turns=5,
)


def _flows(directory: Path, freshline: Freshline) -> tuple[Flow, Flow]:
    """Deploy both; return plain and tracked."""
    from prefect.client.orchestration import get_client

    from . import overhead_flows

    project = directory / "project"
    project.mkdir()
    (project / "prefect.yaml").write_text(_CATALOGUE)
    shutil.copy(str(overhead_flows.__file__), project)
    gateway = PrefectGateway()
    try:
        registrar = Registrar(freshline, gateway)
        catalog = registrar.load(project / "prefect.yaml")
        deployed = deploy_catalog(catalog, gateway)
        registrar.register(catalog, deployed)
    finally:
        gateway.close()
    with get_client(sync_client=True) as client:
        # In the same work pool: Prefect looks after the pool and the queue of each flow run that has them.
        plain_id = client.create_deployment(
            client.create_flow(overhead_flows.plain), name="bench", work_pool_name=_POOL, entrypoint=_PLAIN
        )
    (facts,) = deployed.values()
    return Flow(overhead_flows.plain, plain_id), Flow(overhead_flows.tracked, facts.id)


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Let a logger say errors only: Prefect has several lines for each flow."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _nothing_joined() -> Iterator[None]:
    """Switch off the threads of Prefect's that a flow waits for at its end."""
    from prefect import flow_engine
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    watch = "observe_flow_run_suspension"  # Prefect has no setting for this one
    before = getattr(flow_engine, watch, None)
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        if before is not None:
            setattr(flow_engine, watch, lambda *_args, **_options: nullcontext())
        try:
            yield
        finally:
            if before is not None:
                setattr(flow_engine, watch, before)


@contextmanager
def _freshline_in(home: Path) -> Iterator[None]:
    """Have this process's Freshline keep everything in one directory, whatever the user's variables say."""
    before = _variables()
    for name in before:
        del os.environ[name]
    os.environ["FRESHLINE_HOME"] = str(home)
    try:
        yield
    finally:
        for name in _variables():
            del os.environ[name]
        os.environ.update(before)


def _variables() -> Mapping[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("FRESHLINE_")}
