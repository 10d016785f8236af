"""A workshop in which a tutorial is followed: a store, a Prefect in memory, and a worker that executes real bodies.

A page's blocks are done in their order. A block with the name of a file as its title is written to that file; a shell
block is typed, line by line; Python is one session, except for what has the title `setup`. What stands in a `text`
block with the title `output` must come out of the block before it: `…` stands for anything, and how wide the columns
are does not count. `# exit code 3` behind a call says how it must end.

The calls that start programs which go on (`freshline up`) start the worker here; `freshline deploy` deploys to the
Prefect in memory. All else is the real command.
"""

import io
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any
from uuid import UUID

from freshline.deployments.catalog import load_catalog
from freshline.deployments.gateway import DeploymentFacts, FlowRunFacts, FlowRunState
from freshline.flows import tracking
from freshline.flows.context import RunContext
from freshline.flows.lease import Lease
from freshline.runs.cli import main
from freshline.runs.composition import Freshline
from freshline.runs.dispatcher import Dispatcher
from freshline.runs.execution import Claim
from freshline.runs.gate_artifacts import GateArtifacts
from freshline.runs.intake import FlowCall
from freshline.runs.port import DirectPort
from freshline.runs.redo.backfilling import advance_all
from freshline.runs.register import Registrar, check_policy
from freshline.runs.repair.auto_refresh import refresh_stale
from freshline.runs.run_artifacts import RunArtifacts
from tests.fakes import FakeGateway
from tests.pages import FENCE, read

STARTERS = ("up", "demo", "reconcile", "serve")
"""Programs that go on."""
PAGE_URL = "https://freshline.example.org"
_TICK_S = 0.01
_WAIT_S = 120.0


class RememberingGateway(FakeGateway):
    """A Prefect in memory that remembers each state that a flow run has been in, with its message."""

    def __init__(self) -> None:
        super().__init__()
        self.states: dict[tuple[UUID, str], str] = {}

    def _put(self, flow_run: FlowRunFacts) -> FlowRunFacts:
        name, message = flow_run.state_name, flow_run.state_message
        self.states[flow_run.id, name] = f"{name} | {message}" if message else name
        return super()._put(flow_run)


@dataclass
class Workshop:
    """Where a tutorial is followed. The environment must name the store, and the directory be the current one."""

    freshline: Freshline
    directory: Path
    gateway: RememberingGateway = field(default_factory=RememberingGateway)
    bodies: dict[str, Callable[..., Any]] = field(default_factory=dict)
    """Key of a deployment -> what its flow run executes."""
    deployed: dict[str, DeploymentFacts] = field(default_factory=dict)
    known: dict[str, Any] = field(default_factory=lambda: {"__name__": "tutorial"})
    """The names of the Python session."""
    _last_run: str = ""
    """The first run that the last call has named: what a page writes as `run-…`."""

    @property
    def port(self) -> DirectPort:
        """What a flow needs of Freshline."""
        freshline = self.freshline
        return DirectPort(freshline.database, freshline.objects, self.gateway, spools=freshline.spools)

    def follow(self, page: str) -> None:
        """Do what the page says, in order, and check that what comes out is what it shows."""
        said = ""
        with self.worker():
            for found in FENCE.finditer(read(page)):
                language, title, text = found[1], found[2] or "", found[3]
                if (language, title) == ("text", "output"):
                    check_output(text, said)
                elif "." in title:
                    self.write(title, text)
                elif language == "python" and title != "setup":
                    said = self.execute(text, page)
                elif language == "sh":
                    said = "".join(self.type(line) for line in text.splitlines())

    def write(self, name: str, text: str) -> None:
        """Write a file of the project."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def execute(self, text: str, page: str) -> str:
        """Run a block of the session; return what it prints."""
        with redirect_stdout(io.StringIO()) as out:
            exec(compile(text, page, "exec"), self.known)
        return out.getvalue()

    def type(self, line: str) -> str:
        """Type a line in the shell; return what is printed."""
        call, _, comment = line.partition("  # ")
        expected = int(ended[1]) if (ended := re.search(r"exit code (\d+)", comment)) else 0
        words = [self._last_run if word == "run-…" else word for word in shlex.split(call)]
        if not words or words[0] in ("export", "pip"):
            return ""
        if words[0] != "freshline":
            done = subprocess.run(call, shell=True, cwd=self.directory, capture_output=True, text=True, check=True)
            return done.stdout
        if words[1] in STARTERS:
            return ""
        if words[1] == "deploy" and "--check" not in words:
            self.deploy()
            return ""
        code, said = command(words[1:])
        self._last_run = next(iter(re.findall(r"run-[0-9a-f-]{36}", said)), self._last_run)
        assert code == expected, f"{call!r} ended with {code}: {said}"
        return said

    def deploy(self) -> None:
        """Deploy the project's catalogue to the Prefect in memory, and register it."""
        registrar = Registrar(self.freshline, self.gateway)
        catalog = load_catalog(self.directory / "prefect.yaml", check_policy=check_policy)
        for spec in catalog.deployments:
            if spec.external or spec.key in self.deployed:
                continue
            flow = load(self.directory, spec.entrypoint or "")
            schema = flow.parameters.model_dump()
            facts = self.gateway.add_deployment(spec.prefect_name or "", parameters=schema["properties"])
            self.deployed[spec.key] = facts
            self.bodies[spec.key] = flow.fn.__freshline_body__
        registrar.register(catalog, {spec.key: self.deployed[spec.key] for spec in catalog.deployments})

    def click(self, key: str, **parameters: Any) -> UUID:
        """Press *Run* in Prefect; return the flow run's id."""
        return self.gateway.click(self.deployed[key].id, parameters).id

    def state_when(self, flow_run_id: UUID, name: str) -> str:
        """Wait until the flow run is, or has been, in the state of this name; return it with its message."""
        return str(self._awaited(name, lambda: self.gateway.states.get((flow_run_id, name))))

    def artifact(self, flow_run_id: UUID, key: str) -> str:
        """Wait until the flow run has a Prefect artifact under this key; return it."""
        found = self._awaited(key, lambda: self.gateway.read_artifacts([flow_run_id], prefix=key))
        return str(found[0].data)

    def _awaited(self, what: str, find: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + _WAIT_S
        while not (found := find()):
            assert time.monotonic() < deadline, f"waited {_WAIT_S:g} s in vain for {what}"
            time.sleep(_TICK_S)
        return found

    @contextmanager
    def worker(self) -> Iterator[None]:
        """Dispatch, execute what is due, go on with backfills and refreshes, while the block lasts."""
        closed = threading.Event()
        failures: list[Exception] = []
        database = self.freshline.database
        shown = [GateArtifacts(database, self.gateway), RunArtifacts(database, self.gateway, PAGE_URL)]

        def loop() -> None:
            while not closed.wait(_TICK_S):
                try:
                    Dispatcher(database, self.gateway).pass_once()
                    for flow_run_id in self._due():
                        self.start(flow_run_id)
                    advance_all(database)
                    refresh_stale(database)
                    for artifacts in shown:
                        artifacts.pass_once()
                except Exception as error:
                    failures.append(error)
                    return

        thread = threading.Thread(target=loop)
        thread.start()
        try:
            yield
        finally:
            closed.set()
            thread.join(timeout=30)
        if failures:
            raise failures[0]

    def start(self, flow_run_id: UUID) -> None:
        """Be the worker that starts this flow run: claim, and execute its body as a tracked flow does."""
        flow_run = self.gateway.begin(flow_run_id)
        port = self.port
        claim = port.claim(FlowCall.of_deployment(flow_run))
        if not claim.may_start:
            self._leave(claim, flow_run_id)
            return
        context = RunContext(tracking._identity(claim), port, Lease(lambda: None, interval_s=3600))
        try:
            returned = self.bodies[claim.deployment.key](context, **claim.run.parameters)
            port.complete(claim.run.id, claim.run.fence, context.result(returned))
            self.gateway.end(flow_run_id)
        except Exception as error:
            port.fail(claim.run.id, claim.run.fence, error, f"{error!r}", will_retry=False)
            self.gateway.end(flow_run_id, FlowRunState.FAILED)
        finally:
            context.close()

    def _due(self) -> list[UUID]:
        """The flow runs that wait for a worker, oldest first."""
        known = [facts.id for facts in self.deployed.values()]
        found = self.gateway.recent_flow_runs(known, since=datetime.min.replace(tzinfo=UTC))
        return [flow_run.id for flow_run in found if flow_run.state_type == FlowRunState.SCHEDULED]

    def _leave(self, claim: Claim, flow_run_id: UUID) -> None:
        """Give Prefect the state that a tracked flow ends with when it may not start."""
        if claim.run.status == "waiting":
            self.port.suspend(self.gateway.read_flow_run(flow_run_id), reason=tracking._why_not(claim))
            return
        state = tracking._ended_state(claim)
        self.gateway.end(flow_run_id, FlowRunState(state.type.value), name=state.name, message=state.message)


def command(words: list[str]) -> tuple[int, str]:
    """Call `freshline` as it is installed; return its exit code and what it prints."""
    before, out = sys.argv, io.StringIO()
    sys.argv = ["freshline", *words]
    try:
        with redirect_stdout(out), redirect_stderr(out):
            main()
    except SystemExit as ended:
        code = ended.code
        return (code if isinstance(code, int) else int(code is not None)), out.getvalue()
    finally:
        sys.argv = before
    return 0, out.getvalue()


def check_output(shown: str, said: str) -> None:
    """Check that each line that is shown was said, in this order."""
    rest = said.splitlines()
    for line in filter(str.strip, shown.splitlines()):
        pattern = re.compile(r"\s+".join(re.escape(word).replace("…", r".*?") for word in line.split()))
        while rest and not pattern.search(" ".join(rest[0].split())):
            del rest[0]
        assert rest, f"{line!r} was not said, or not in this order:\n{said}"
        del rest[0]


def load(directory: Path, entrypoint: str) -> Any:
    """The flow that an entrypoint such as `flows.py:prices` names."""
    file, _, name = entrypoint.partition(":")
    spec = spec_from_file_location(Path(file).stem, directory / file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)
