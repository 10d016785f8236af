"""The embedded stack's own rules, as far as no server has to start."""

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from freshline.deployments.local import LocalStack
from freshline.storage.errors import StackError

HOSTILE = {
    "PREFECT_API_URL": "http://127.0.0.1:9/api",
    "PREFECT_API_KEY": "s3cret",
    "PREFECT_PROFILE": "cloud",
    "PREFECT_SERVER_API_PORT": "not a port",
    "PREFECT__FLOW_RUN_ID": "x",
}


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)
    yield
    monkeypatch.undo()
    if "prefect.context" in sys.modules:  # it could not go back to settings that cannot be read
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()


def test_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        stack = LocalStack(tmp_path / "stack", api_port=port)
        with pytest.raises(StackError, match=rf"^port {port} on 127\.0\.0\.1 cannot be used \(Address already") as said:
            stack.start()
    assert "\n" not in str(said.value)
    stack.stop()


@pytest.mark.parametrize("port", [0, -1, 65536, 1_000_000])
def test_port_that_is_none_is_refused(tmp_path: Path, port: int) -> None:
    with pytest.raises(StackError, match=f"^{port} is no port"):
        LocalStack(tmp_path, api_port=port).start()


def test_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match=r"cannot be written .*; choose another") as said:
        LocalStack(tmp_path / "file" / "stack").start()
    assert "\n" not in str(said.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_directory_that_is_not_writable_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StackError, match="Permission denied"):
        LocalStack(tmp_path / "stack").start()


def test_stack_that_is_not_started_has_no_address(tmp_path: Path) -> None:
    stack = LocalStack(tmp_path)
    for use in (lambda: stack.api_url, lambda: stack.ui_url, stack.environment, stack.check):
        with pytest.raises(StackError, match=r"not started; call start\(\) first"):
            use()
    stack.stop()


def started(directory: Path) -> LocalStack:
    """A stack that believes to be started: only its environment is looked at."""
    stack = LocalStack(directory, query_s=2)
    stack._port = 4321
    return stack


def test_environment_has_its_own_home_address_and_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", "internal.test")
    environment = started(tmp_path).environment()
    assert environment["PREFECT_API_URL"] == "http://127.0.0.1:4321/api"
    assert environment["PREFECT_SERVER_UI_API_URL"] == "http://127.0.0.1:4321/api"
    for name in ("PREFECT_HOME", "PREFECT_PROFILES_PATH", "PREFECT_SERVER_DATABASE_CONNECTION_URL"):
        assert str(tmp_path) in environment[name]
    assert environment["PREFECT_API_KEY"] == ""
    assert environment["PREFECT_WORKER_QUERY_SECONDS"] == "2"
    assert environment["no_proxy"] == "internal.test,127.0.0.1"


@pytest.mark.usefixtures("hostile")
def test_activation_replaces_hostile_variables_and_puts_them_back(tmp_path: Path) -> None:
    before = dict(os.environ)
    stack = started(tmp_path)
    with stack.activated():
        prefects = {name: value for name, value in os.environ.items() if name.startswith("PREFECT_")}
        wanted = {name: value for name, value in stack.environment().items() if name.startswith("PREFECT_")}
        assert prefects == wanted
    assert dict(os.environ) == before


@pytest.mark.usefixtures("hostile")
def test_activation_ends_with_an_error_and_the_environment_is_put_back(tmp_path: Path) -> None:
    before = dict(os.environ)
    with pytest.raises(RuntimeError, match="no luck"), started(tmp_path).activated():
        raise RuntimeError("no luck")
    assert dict(os.environ) == before


def test_activation_reaches_an_imported_prefect_in_every_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from prefect.settings import get_current_settings

    def settings() -> tuple[str | None, str]:
        current = get_current_settings()
        key = current.api.key
        return current.api.url, key.get_secret_value() if key is not None else ""

    def everywhere() -> list[tuple[str | None, str]]:
        with ThreadPoolExecutor(1) as pool:
            return [settings(), pool.submit(settings).result()]

    before = everywhere()
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setenv("PREFECT_API_KEY", "s3cret")
    with started(tmp_path).activated():
        assert everywhere() == [("http://127.0.0.1:4321/api", "")] * 2
    monkeypatch.delenv("PREFECT_API_URL")
    monkeypatch.delenv("PREFECT_API_KEY")
    with started(tmp_path).activated():
        pass
    assert everywhere() == before
