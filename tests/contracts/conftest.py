"""The object stores that the contract runs on.

`--object-store URL` adds any other one, such as s3://bucket/prefix; its credentials are those of the settings and of
the environment. Nothing is assumed of it but its protocol, and what the tests write there is removed.
"""

from collections.abc import Iterator

import pytest

from freshline.runs.composition import open_objects
from freshline.storage.filesystem import ObjectStore
from freshline.storage.ids import new_id
from freshline.storage.settings import load_settings
from tests.contracts.s3_servers import S3Server, moto_server, rclone_server

_STORES = ("file", "memory", "moto", "rclone")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that takes a store on every backend, unless it says on which."""
    said = any(mark.args[0] == "store" for mark in metafunc.definition.iter_markers("parametrize"))
    if "store" in metafunc.fixturenames and not said:
        given = metafunc.config.getoption("--object-store")
        metafunc.parametrize("store", [*_STORES, "given"] if given else _STORES, indirect=True)


@pytest.fixture(scope="session")
def moto() -> Iterator[S3Server]:
    """A moto server for the whole session."""
    with moto_server() as server:
        yield server


@pytest.fixture(scope="session")
def rclone() -> Iterator[S3Server]:
    """An rclone server for the whole session."""
    with rclone_server() as server:
        yield server


@pytest.fixture
def store(request, tmp_path, monkeypatch) -> Iterator[ObjectStore]:
    """An empty object store on each backend."""
    if request.param == "given":
        url = f"{request.config.getoption('--object-store').rstrip('/')}/{new_id()}"
        opened = open_objects(load_settings().model_copy(update={"artifacts_url": url}))
        yield opened
        for prefix in ("objects/", "other/", "vendor/", "vendor2/", "doctor/"):
            for item in opened.list(prefix):
                opened.delete(item.name)
    else:
        yield _own_store(request, tmp_path, monkeypatch)


def _own_store(request, tmp_path, monkeypatch) -> ObjectStore:
    if request.param == "file":
        return ObjectStore((tmp_path / "objects").as_uri())
    if request.param == "memory":
        return ObjectStore(f"memory://{new_id()}")
    server: S3Server = request.getfixturevalue(request.param)
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    return ObjectStore(f"{server.url}/{new_id()}")
