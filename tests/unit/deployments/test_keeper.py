"""Whatever becomes of its caller, the keeper leaves nothing running."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from freshline.deployments import keeper

WAIT_S = 60.0
GRACE_S = 0.5

# A caller of the keeper: it starts the keeper, gives the orders, says the keeper's process id, and waits.
CALLER = """
import os, subprocess, sys, time
kept = subprocess.Popen(sys.argv[3:], stdin=subprocess.PIPE, start_new_session=True)
if sys.argv[2] == "leaky":  # a forked child holds the pipe open
    if os.fork() == 0:
        time.sleep(600)
kept.stdin.write(open(sys.argv[1], "rb").read())
kept.stdin.flush()
print(kept.pid, flush=True)
time.sleep(600)
"""

# A process that starts a child, an orphan in a session of its own, and ignores SIGTERM if it is told to.
TREE = """
import os, signal, subprocess, sys, time
from pathlib import Path
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
os.wait()
Path(sys.argv[1]).touch()
time.sleep(600)
"""


class Caller:
    """A process that owns a keeper with two trees of processes."""

    def __init__(self, directory: Path, *, leaky: bool = False) -> None:
        self.directory = directory
        self.marker = uuid4().hex
        self.ready = [directory / "server-ready", directory / "worker-ready"]
        orders = directory / "orders"
        orders.write_text(
            "".join(
                json.dumps(order(directory, name, TREE, str(ready), flag)) + "\n"
                for name, ready, flag in zip(("server", "worker"), self.ready, ("", "stubborn"), strict=True)
            )
        )
        command = keeper_command(directory, self.marker)
        self.process = subprocess.Popen(
            [sys.executable, "-c", CALLER, str(orders), "leaky" if leaky else "", *command], stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        line = b""
        while not line.strip().isdigit():  # the keeper speaks on the same pipe
            line = self.process.stdout.readline()
        self.keeper = psutil.Process(int(line))

    def wait_until_all_run(self) -> None:
        wait_until(lambda: all(path.exists() for path in self.ready))
        assert len(keeper.marked(self.marker)) == 6

    def assert_nothing_runs(self) -> None:
        wait_until(lambda: not keeper.marked(self.marker) and not self.keeper_lives())

    def keeper_lives(self) -> bool:
        # A zombie only waits to be collected by whoever its parent is now.
        return self.keeper.is_running() and self.keeper.status() != psutil.STATUS_ZOMBIE

    def clean_up(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        keeper.sweep(self.marker, grace_s=0)


def keeper_command(directory: Path, marker: str) -> list[str]:
    return [sys.executable, "-P", "-m", keeper.__name__, str(directory), marker, str(GRACE_S)]


def order(directory: Path, name: str, *arguments: str) -> dict[str, object]:
    return {
        "start": name,
        "argv": [sys.executable, "-c", *arguments],
        "env": dict(os.environ),
        "cwd": str(directory),
        "log": str(directory / f"{name}.log"),
    }


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def caller(tmp_path: Path) -> Iterator[Caller]:
    made = Caller(tmp_path)
    yield made
    made.clean_up()


def test_keeper_whose_caller_is_killed_leaves_nothing(caller: Caller) -> None:
    caller.wait_until_all_run()
    caller.process.kill()
    caller.assert_nothing_runs()


def test_keeper_whose_caller_is_killed_at_once_leaves_nothing(caller: Caller) -> None:
    caller.process.kill()
    caller.assert_nothing_runs()


def test_keeper_whose_caller_is_killed_while_another_process_holds_the_pipe_leaves_nothing(
    tmp_path: Path,
) -> None:
    caller = Caller(tmp_path, leaky=True)
    holder = psutil.Process(caller.process.pid).children()
    try:
        caller.wait_until_all_run()
        caller.process.kill()
        caller.assert_nothing_runs()
    finally:
        caller.clean_up()
        for process in holder:
            if process.is_running():
                process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_keeper_that_gets_a_signal_leaves_nothing(caller: Caller, number: int) -> None:
    caller.wait_until_all_run()
    caller.keeper.send_signal(number)
    caller.assert_nothing_runs()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of this platform does not end orphans")
def test_keeper_that_is_killed_leaves_only_what_its_caller_sweeps(caller: Caller) -> None:
    caller.wait_until_all_run()
    server = caller.keeper.children()[0]
    caller.keeper.kill()
    wait_until(lambda: not server.is_running())
    keeper.sweep(caller.marker, grace_s=GRACE_S)
    assert keeper.marked(caller.marker) == []


def test_sweep_spares_what_it_is_told_and_other_markers(tmp_path: Path) -> None:
    marker = uuid4().hex
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    ours, spared, other = (
        subprocess.Popen(command, env={**os.environ, keeper.MARKER_VARIABLE: value})
        for value in (marker, marker, "another")
    )
    try:
        wait_until(lambda: len(keeper.marked(marker)) == 2)
        keeper.sweep(marker, spare=[spared.pid], grace_s=GRACE_S)
        assert ours.poll() == -signal.SIGTERM
        assert spared.poll() is None
        assert other.poll() is None
    finally:
        for process in (ours, spared, other):
            process.kill()
            process.wait()


def test_keeper_tells_of_starts_refusals_and_ends_and_takes_one_directory(tmp_path: Path) -> None:
    first = start_keeper(tmp_path)
    try:
        assert tell(first, order(tmp_path, "server", "import sys; sys.exit(7)")) == {"started", "pid"}
        assert read(first) == {"exited": "server", "code": 7}
        missing = order(tmp_path, "worker", "") | {"argv": ["/nonexistent/program"]}
        assert tell(first, missing) == {"refused"}

        second = start_keeper(tmp_path, ready=False)
        assert "another stack runs in" in str(read(second)["refused"])
        assert close(second) == 3
    finally:
        assert close(first) == 0
    third = start_keeper(tmp_path)
    assert close(third) == 0


def start_keeper(directory: Path, *, ready: bool = True) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(keeper_command(directory, uuid4().hex), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    if ready:
        assert read(process) == {"ready": process.pid}
    return process


def read(process: "subprocess.Popen[bytes]") -> dict[str, object]:
    assert process.stdout is not None
    found: dict[str, object] = json.loads(process.stdout.readline())
    return found


def tell(process: "subprocess.Popen[bytes]", message: dict[str, object]) -> set[str]:
    assert process.stdin is not None
    process.stdin.write(json.dumps(message).encode() + b"\n")
    process.stdin.flush()
    return set(read(process))


def close(process: "subprocess.Popen[bytes]") -> int:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    code = process.wait(WAIT_S)
    process.stdout.close()
    return code
