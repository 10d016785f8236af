"""The object stores that the contract runs on.

FRESHLINE_TEST_ARTIFACTS_URL adds any other one; its credentials are those of the environment.
"""

import os
from collections.abc import Iterator

import pytest

from freshline.storage.filesystem import ObjectStore
from freshline.storage.ids import new_id
from tests.contracts.s3_servers import S3Server, moto_server, rclone_server

_CONFIGURED = "FRESHLINE_TEST_ARTIFACTS_URL"
_STORES = ["file", "memory", "moto", "rclone"] + (["configured"] if os.environ.get(_CONFIGURED) else [])


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


@pytest.fixture(params=_STORES)
def store(request, tmp_path, monkeypatch) -> ObjectStore:
    """An empty object store on each backend."""
    if request.param == "file":
        return ObjectStore((tmp_path / "objects").as_uri())
    if request.param == "memory":
        return ObjectStore(f"memory://{new_id()}")
    if request.param == "configured":
        return ObjectStore(f"{os.environ[_CONFIGURED].rstrip('/')}/{new_id()}")
    server: S3Server = request.getfixturevalue(request.param)
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    return ObjectStore(f"{server.url}/{new_id()}")
