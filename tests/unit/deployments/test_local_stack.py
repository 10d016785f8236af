"""The embedded stack for real: it starts beside a hostile profile, and nothing outlives its caller."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import psutil
import pytest

from freshline.deployments import keeper
from freshline.deployments.local import LocalStack
from freshline.storage.errors import StackError
from tests.stack import CATALOGUE, FLOWS, RunningStack

pytestmark = pytest.mark.stack

WAIT_S = 120.0


def program(body: str) -> str:
    return dedent(
        """
        import sys
        from pathlib import Path
        from freshline.deployments.local import LocalStack

        seen = set()

        def progress(stage, elapsed_s):
            if stage not in seen:
                seen.add(stage)
                print(f"stage {stage}", flush=True)

        stack = LocalStack(Path(sys.argv[1]) / "stack")
        print(f"marker {stack._marker}", flush=True)
        stack.start(progress=progress)
        """
    ) + dedent(body)


RUN_A_FLOW = """
        from freshline.deployments.catalog import load_catalog
        from freshline.deployments.client import PrefectGateway
        from freshline.deployments.deploy import deploy_catalog
        import time

        def run(name, parameters):
            catalog = load_catalog(Path(sys.argv[1]) / "prefect.yaml", check_policy=lambda policy: None)
            gateway = PrefectGateway()
            facts = deploy_catalog(catalog, gateway, keys=[name])[name]
            flow_run = gateway.create_flow_run(facts.id, parameters=parameters, idempotency_key="k", labels={})
            while not flow_run.has_ended:
                print(f"state {flow_run.state_type}", flush=True)
                stack.check()
                time.sleep(0.1)
                flow_run = gateway.read_flow_run(flow_run.id)
            print(f"state {flow_run.state_type}", flush=True)
"""


class Program:
    """A process that runs such a program in a project of its own."""

    def __init__(self, directory: Path, body: str, *, env: dict[str, str] | None = None) -> None:
        (directory / "stack_flows.py").write_text(dedent(FLOWS))
        (directory / "prefect.yaml").write_text(CATALOGUE)
        self.process = subprocess.Popen(
            [sys.executable, "-c", program(body), str(directory)],
            cwd=directory,
            env={**os.environ, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said: list[str] = []
        self.marker = self.wait_for("marker ").split()[1]

    def wait_for(self, beginning: str) -> str:
        """Return the first line that begins so."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            if line.startswith(beginning):
                return line
        raise AssertionError(f"no line {beginning!r} in: {''.join(self.said)}")

    def finish(self) -> int:
        assert self.process.stdout is not None
        self.said += self.process.stdout.readlines()
        return self.process.wait(WAIT_S)

    def clean_up(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        keeper.sweep(self.marker, grace_s=0)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    made: list[Program] = []

    def begin(body: str = "", **options: dict[str, str]) -> Program:
        made.append(Program(tmp_path, body, **options))
        return made[-1]

    yield begin
    for one in made:
        one.clean_up()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def keeper_lives(directory: Path) -> bool:
    lock = directory / "stack" / keeper.LOCK_NAME
    try:
        process = psutil.Process(int(lock.read_text()))
        # A process of that id that is no keeper came later; a zombie only waits to be collected by pid 1.
        return process.status() != psutil.STATUS_ZOMBIE and keeper.__name__ in process.cmdline()
    except (FileNotFoundError, ValueError, psutil.Error):
        return False


def assert_nothing_runs(program: Program, directory: Path) -> None:
    wait_until(lambda: not keeper.marked(program.marker) and not keeper_lives(directory))


def test_stack_beside_a_hostile_profile_runs_a_flow_and_touches_nothing_of_it(
    start: Callable[..., Program], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    profiles = home / ".prefect" / "profiles.toml"
    profiles.parent.mkdir(parents=True)
    profiles.write_text(
        'active = "cloud"\n[profiles.cloud]\nPREFECT_API_URL = "http://127.0.0.1:9/api"\n'
        'PREFECT_API_KEY = "s3cret"\nPREFECT_SERVER_API_PORT = "9"\nPREFECT_LOGGING_LEVEL = "CRITICAL"\n'
        'PREFECT_SERVER_DATABASE_CONNECTION_URL = "sqlite+aiosqlite:////nonexistent/x.db"\n'
    )
    before = profiles.read_bytes()
    proxy = "http://127.0.0.1:9"
    hostile = {
        "HOME": str(home),
        "PREFECT_HOME": str(profiles.parent),
        "PREFECT_PROFILES_PATH": str(profiles),
        "PREFECT_PROFILE": "cloud",
        "PREFECT_API_URL": "http://127.0.0.1:9/api",
        "PREFECT_SERVER_EPHEMERAL_ENABLED": "not a boolean",
        "HTTP_PROXY": proxy,
        "http_proxy": proxy,
        "ALL_PROXY": proxy,
        "no_proxy": "",
    }
    said = start(
        RUN_A_FLOW
        + """
        with stack.activated():
            run("refresh/holding", {"release": __import__("os").devnull})
        stack.stop()
        """,
        env=hostile,
    )
    assert said.finish() == 0, "".join(said.said)
    assert said.said[-1] == "state COMPLETED\n"
    assert profiles.read_bytes() == before
    assert [file.name for file in profiles.parent.iterdir()] == ["profiles.toml"]
    assert_nothing_runs(said, tmp_path)


def test_caller_killed_while_the_server_starts_leaves_nothing(start: Callable[..., Program], tmp_path: Path) -> None:
    program = start()
    program.wait_for("stage server")
    wait_until(lambda: bool(keeper.marked(program.marker)))
    program.process.kill()
    assert_nothing_runs(program, tmp_path)


@pytest.mark.slow
def test_caller_killed_while_a_flow_runs_leaves_nothing(start: Callable[..., Program], tmp_path: Path) -> None:
    program = start(
        RUN_A_FLOW
        + """
        with stack.activated():
            run("refresh/holding", {"release": "/nonexistent/never"})
        """
    )
    program.wait_for("state RUNNING")
    commands = [" ".join(process.cmdline()) for process in keeper.marked(program.marker)]
    for part in ("server start", "worker start", "prefect.engine"):
        assert any(part in command for command in commands), commands
    program.process.kill()
    assert_nothing_runs(program, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("stage", ["stage server", "stage work_pool", "stage worker", "up"])
def test_caller_that_gets_a_signal_at_any_stage_leaves_nothing(
    start: Callable[..., Program], tmp_path: Path, stage: str, number: int
) -> None:
    program = start("print('up', flush=True)\nimport time\ntime.sleep(600)")
    program.wait_for(stage)
    program.process.send_signal(number)
    assert program.process.wait(WAIT_S) != 0
    assert_nothing_runs(program, tmp_path)


def test_directory_of_a_running_stack_is_refused(stack: RunningStack) -> None:
    with pytest.raises(StackError, match=r"another stack runs in .*; stop it, or choose another directory"):
        LocalStack(stack.local.directory).start()
    stack.local.check()


def test_stack_that_is_started_twice_is_refused(stack: RunningStack) -> None:
    with pytest.raises(StackError, match="is started already"):
        stack.local.start()
    stack.local.check()


def test_server_that_ends_while_starting_names_its_log_and_last_line(tmp_path: Path) -> None:
    (tmp_path / "prefect.db").write_bytes(b"this is no database " * 100)
    stack = LocalStack(tmp_path)
    with pytest.raises(
        StackError, match=r"the server of the embedded stack ended with code \d+: .*server\.log"
    ) as said:
        stack.start()
    assert "\n" not in str(said.value)
    assert keeper.marked(stack._marker) == []


def test_page_asks_this_server_and_no_other(stack: RunningStack) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{stack.local.ui_url}/ui-settings") as answer:
        settings = answer.read().decode()
    assert stack.local.api_url in settings
    with opener.open(f"{stack.local.ui_url}/") as answer:
        assert b"<html" in answer.read().lower()


@pytest.mark.slow
def test_stack_started_again_in_its_directory_has_its_records_and_tells_of_a_dead_worker(tmp_path: Path) -> None:
    from freshline.deployments.client import PrefectGateway

    with LocalStack(tmp_path, work_pool="first"):
        pass
    with LocalStack(tmp_path, work_pool="second") as stack:
        gateway = PrefectGateway(stack.api_url)
        assert {"first", "second"} <= set(gateway.read_work_pool_names())
        gateway.close()
        (worker,) = (one for one in keeper.marked(stack._marker) if "worker" in one.cmdline())
        worker.kill()
        with pytest.raises(StackError, match="the worker of the embedded stack ended with code -9"):
            wait_until(lambda: stack.check() is not None)
