"""The server over a real port: it answers, it ends soon, and it says clearly why it cannot start."""

import gc
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import nullcontext
from types import SimpleNamespace

import httpx
import pytest
from click.testing import CliRunner
from pydantic import SecretStr

from freshline.runs import composition, embedded, logs
from freshline.runs.api import serving as serving_module
from freshline.runs.api.serving import Serving
from freshline.runs.cli import cli
from freshline.runs.cli import serving as serve_program
from freshline.runs.cli import stack as up_program
from freshline.runs.cli.stack import settled
from freshline.runs.composition import Freshline
from freshline.storage.database import Database
from freshline.storage.errors import InvalidInput, StackError
from freshline.storage.settings import Settings


@pytest.fixture
def freshline(tmp_path, sqlite_template):
    database = Database(f"sqlite:///{sqlite_template}")
    yield Freshline(Settings(home=tmp_path, api_port=0), database, None)
    database.dispose()


def test_server_ends_its_streams_and_does_not_wait_for_them(freshline, monkeypatch):
    monkeypatch.setattr(serving_module, "_END_S", 600.0)  # what it would wait for a stream that goes on
    heard: list[bytes] = []
    begun = threading.Event()

    def listen(url: str) -> None:
        with httpx.stream("GET", f"{url}/api/v1/stream", timeout=60) as answer:
            for part in answer.iter_bytes():
                heard.append(part)
                if b"event: resync" in b"".join(heard):
                    begun.set()

    with Serving(freshline) as serving:
        listener = threading.Thread(target=listen, args=(serving.url,))
        listener.start()
        assert begun.wait(60)
    # The stream was ended, not broken off: whoever listens raises otherwise, and the test with it.
    listener.join(timeout=60)
    assert not listener.is_alive()


def test_server_answers_at_its_address_with_its_token(freshline):
    with Serving(freshline) as serving, httpx.Client(base_url=f"{serving.url}/api/v1", timeout=60) as client:
        token = (freshline.settings.home / "api-token").read_text().strip()
        assert serving.page_url == f"{serving.url}/#token={token}"
        assert client.get("/session").json() == {"authenticated": False, "may_read": True}
        known = {"Authorization": f"Bearer {token}"}
        assert client.get("/session", headers=known).json()["authenticated"] is True
        # A longer one than any client of ours sends.
        connection = http.client.HTTPConnection("127.0.0.1", serving.port)
        connection.request("GET", "/api/v1/runs?query=" + "x" * 70_000)
        assert connection.getresponse().status == 413
        connection.close()
        assert "server" not in client.get("/deployments").headers
        begun = client.head("/deployments")
        assert (begun.status_code, begun.content) == (200, b"")
        assert begun.headers["content-length"] == client.get("/deployments").headers["content-length"]


def test_address_with_the_token_is_for_a_terminal_alone(freshline):
    with Serving(freshline) as serving:
        assert serving.told(to_terminal=True) == [f"Page: {serving.page_url}"]
    own = Freshline(freshline.settings.model_copy(update={"api_token": SecretStr("s" * 20)}), freshline.database, None)
    with Serving(own) as serving:
        assert serving.told(to_terminal=False) == [f"Page: {serving.url}", "Token: the setting FRESHLINE_API_TOKEN"]


def test_port_that_is_taken_is_named_with_the_setting(freshline):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StackError, match=rf"127.0.0.1:{port} .*FRESHLINE_API_PORT"):
            Serving(freshline, port=port)
    with pytest.raises(StackError, match="cannot listen at 'no such host'"):
        Serving(freshline, host="no such host")


def test_server_with_a_token_that_cannot_be_used_leaves_its_port(freshline):
    (freshline.settings.home / "api-token").write_text("short")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(InvalidInput, match="api-token"):
        Serving(freshline, port=port)
    with socket.socket() as again:
        again.bind(("127.0.0.1", port))


def test_serve_prints_where_it_is_and_ends_at_sigterm(tmp_path):
    environment = os.environ | {"FRESHLINE_HOME": str(tmp_path), "PREFECT_HOME": str(tmp_path)}
    command = [
        sys.executable,
        "-W",
        "error",
        "-c",
        "from freshline.runs.cli import main; main()",
        "serve",
        "--port",
        "0",
    ]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(3)]
        assert said[0].startswith("API: http://127.0.0.1:"), said
        address = said[0].split()[1]
        assert said[1:] == [f"Page: {address.removesuffix('/api/v1')}\n", f"Token: {tmp_path / 'api-token'}\n"]
        assert httpx.get(f"{address}/runs").json() == {"items": [], "next_cursor": None}
        process.send_signal(signal.SIGTERM)
        rest, errors = process.communicate(timeout=30)
        assert process.returncode == 0, errors
        assert (tmp_path / "api-token").read_text().strip() not in "".join(said) + rest + errors
    finally:
        process.kill()
        process.communicate()


def test_garbage_collection_of_a_server_leaves_out_what_was_there_and_is_the_usual_one_afterwards():
    usual, left_out = gc.get_threshold(), gc.get_freeze_count()
    with settled():
        assert gc.get_freeze_count() > left_out + 10_000
        assert gc.get_threshold() == (10_000, *usual[1:])
    assert (gc.get_threshold(), gc.get_freeze_count()) == (usual, 0)


@pytest.mark.parametrize("program", ["serve", "up"])
def test_program_that_serves_leaves_out_of_the_garbage_collection_what_was_there(freshline, monkeypatch, program):
    left_out = []

    class Closed:
        """Is terminated as soon as it waits for that."""

        def wait(self, _timeout):
            left_out.append(gc.get_freeze_count())
            return True

    stack = SimpleNamespace(ui_url="http://prefect.example.org", api_url="http://prefect.example.org/api")
    began = SimpleNamespace(freshline=freshline, stack=stack, directory=freshline.settings.home)
    monkeypatch.setattr(embedded, "embedded", lambda *_, **__: nullcontext(began))
    monkeypatch.setattr(composition, "open_freshline", lambda: freshline)
    monkeypatch.setattr(logs, "configure", lambda _: None)
    for module in (serve_program, up_program):
        monkeypatch.setattr(module, "on_terminate", Closed)
    assert CliRunner().invoke(cli, [program], catch_exceptions=False).exit_code == 0
    assert left_out[0] > 10_000
    assert gc.get_freeze_count() == 0
