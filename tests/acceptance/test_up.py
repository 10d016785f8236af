"""`freshline up` as a program: its page, its API and its health answer, and it ends when it is told to."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.timeout(600)]

WAIT_S = 120.0


@pytest.fixture
def up(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FRESHLINE_")}
    environment |= {"FRESHLINE_HOME": str(tmp_path / "home"), "FRESHLINE_API_PORT": "0", "FRESHLINE_RECONCILE_S": "1"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "from freshline.runs.cli import main; main()", "up", "--port", str(port)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    yield process
    if process.poll() is None:
        process.terminate()
    process.communicate(timeout=WAIT_S)


def test_server_of_up_answers_is_well_and_ends_at_sigterm(up):
    assert up.stdout is not None
    address = next(line for line in up.stdout if line.startswith("Page: ")).split()[1]
    token = Path(up.stdout.readline().removeprefix("Token: ").strip()).read_text().strip()
    with httpx.Client(base_url=address, timeout=WAIT_S, trust_env=False) as client:
        assert "<title>" in client.get("/").text
        assert client.get("/api/v1/runs").json() == {"items": [], "next_cursor": None}
        assert client.post("/api/v1/runs", json={"deployment": "refresh/x"}).status_code == 401
        known = {"Authorization": f"Bearer {token}"}
        assert client.post("/api/v1/runs", json={"deployment": "refresh/x"}, headers=known).status_code == 404
        deadline = time.monotonic() + WAIT_S
        while (health := client.get("/health")).status_code != 200 and time.monotonic() < deadline:
            time.sleep(0.25)
        assert {name: one["status"] for name, one in health.json()["checks"].items()} == dict.fromkeys(
            ("database", "object_store", "prefect", "reconciler"), "ok"
        )
    up.send_signal(signal.SIGTERM)
    said, errors = up.communicate(timeout=WAIT_S)
    assert up.returncode == 0, errors
    assert token
    assert token not in said + errors
