"""What every test shares: a Prefect that knows nothing of the user's profile."""

import atexit
import gc
import os
import tempfile
from collections.abc import Iterator

import pytest

# Before anything imports Prefect, which reads its profile and home once.
for _name in [name for name in os.environ if name.startswith("PREFECT_")]:
    del os.environ[_name]
_home = tempfile.TemporaryDirectory(prefix="freshline-tests-")
atexit.register(_home.cleanup)
os.environ["PREFECT_HOME"] = _home.name
os.environ["PREFECT_PROFILES_PATH"] = f"{_home.name}/profiles.toml"
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ["DO_NOT_TRACK"] = "1"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the contract of the object store run on any other one too."""
    parser.addoption(
        "--object-store",
        metavar="URL",
        help="run the object store's contract there too, such as s3://bucket/prefix; the FRESHLINE_S3_* settings, the "
        "AWS_* variables and FRESHLINE_ARTIFACTS_OPTIONS say how it is reached; what the tests write is removed",
    )


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collect tests without collecting garbage: that went through all that is imported, a third of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.fixture(autouse=True)
def width_of_no_terminal() -> Iterator[None]:
    """Take away a width that a library may leave in the environment: tables are as wide as they need."""
    # Not with the fixture `monkeypatch`: what a test replaces would stay so while its other fixtures end.
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("COLUMNS", raising=False)
        os.unsetenv("COLUMNS")  # one that was set without Python
        yield


pytest_plugins = ["tests.browser", "tests.databases", "tests.sharing", "tests.stack"]
