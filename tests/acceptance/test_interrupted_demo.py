"""`freshline demo`, interrupted: whatever ends it, and whenever, no process stays behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.timeout(700)

MARKER = "INTERRUPTED_DEMO_MARKER"  # not FRESHLINE_…: the demo drops those
WAIT_S = 300.0
"""A whole demo takes a third of this on a quiet machine; other tests may be using this one."""


def marked(value):
    """The processes that inherited the marker."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARKER) == value and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def wait_until(condition, what):
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.1)


def runs_a_flow(value):
    def command(process):
        try:
            return " ".join(process.cmdline())
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return ""

    return any("prefect.engine" in command(process) for process in marked(value))


MOMENTS = {
    "starting": lambda value: len(marked(value)) >= 2,
    "running": runs_a_flow,
}


@pytest.mark.parametrize(
    ("moment", "sent"),
    [
        pytest.param("running", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("running", signal.SIGKILL, marks=pytest.mark.slow),
        pytest.param("running", signal.SIGTERM, marks=pytest.mark.slow),
        ("starting", signal.SIGINT),
        pytest.param("starting", signal.SIGKILL, marks=pytest.mark.slow),
    ],
)
def test_demo_that_is_interrupted_leaves_no_process_behind(tmp_path, moment, sent):
    value = f"{os.getpid()}-{moment}-{sent}"
    command = [Path(sys.executable).with_name("freshline"), "demo", "--directory", tmp_path / "demo"]
    with (tmp_path / "output").open("wb") as output:
        demo = subprocess.Popen(command, env=os.environ | {MARKER: value}, stdout=output, stderr=output, cwd=tmp_path)
    try:
        wait_until(
            lambda: MOMENTS[moment](value) or demo.poll() is not None,
            lambda: f"the demo is not {moment}: {(tmp_path / 'output').read_text()}",
        )
        assert demo.poll() is None, (tmp_path / "output").read_text()
        demo.send_signal(sent)
        code = demo.wait(timeout=WAIT_S)
        wait_until(
            lambda: not marked(value), lambda: f"left behind: {[process.cmdline() for process in marked(value)]}"
        )
    finally:
        for process in marked(value):
            process.kill()
        demo.wait()
    assert code != 0
    if sent == signal.SIGINT:
        shown = (tmp_path / "output").read_text()
        assert code == 130, shown
        assert "Traceback" not in shown
