"""What is shipped: sdist and wheel are built, and the wheel does the main job where no checkout is.

The demo runs in an empty directory, under an active Prefect profile that leads to a server which does not answer.
"""

import io
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from freshline.runs.migrate import known_revisions

ROOT = Path(__file__).parents[2]
FOLDERS = ("deployments", "flows", "lineage", "runs", "storage")
MARKER = "FRESHLINE_TEST_MARKER"
"""An environment variable that every process of the demo inherits."""

# A server that refuses connections, with a key that must go nowhere.
HOSTILE_PROFILES = """\
active = "hostile"

[profiles.hostile]
PREFECT_API_URL = "http://127.0.0.1:9/api"
PREFECT_API_KEY = "pnu_not_yours"
PREFECT_LOGGING_LEVEL = "CRITICAL"
"""


@dataclass(frozen=True)
class Built:
    """The two archives."""

    sdist: Path
    wheel: Path

    def wheel_names(self):
        """The paths in the wheel, the metadata aside."""
        with zipfile.ZipFile(self.wheel) as archive:
            return {name for name in archive.namelist() if ".dist-info/" not in name}

    def sdist_names(self):
        """The paths in the sdist, below its one folder."""
        with tarfile.open(self.sdist) as archive:
            return {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}


@dataclass(frozen=True)
class Installed:
    """A virtual environment with the wheel, and a directory and a home where nothing else is."""

    python: Path
    home: Path
    directory: Path
    marker: str

    @property
    def profiles(self):
        return self.home / "prefect"

    def environment(self):
        """The user's environment: an active Prefect profile, nothing of this test run's."""
        ours = ("PREFECT_", "FRESHLINE_", "PYTHON", "VIRTUAL_ENV", "PYTEST_", "UV_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        bin_directory = str(self.python.parent)
        return kept | {
            "HOME": str(self.home),
            "PATH": f"{bin_directory}{os.pathsep}{os.environ['PATH']}",
            "PREFECT_HOME": str(self.profiles),
            MARKER: self.marker,
        }

    def run(self, *arguments, timeout=180, **environment):
        """Run the installed command line."""
        return subprocess.run(
            [self.python.with_name("freshline"), *arguments],
            cwd=self.directory,
            env=self.environment() | environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def survivors(self):
        """The processes that still carry the marker."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARKER) == self.marker and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The sdist, built from a copy of what a clone has, and the wheel, built from the sdist."""
    target = tmp_path_factory.mktemp("dist")
    # `uv build` without --wheel or --sdist builds the wheel from the sdist: what the sdist lacks is missing.
    run([uv(), "build", "--quiet", "--python", sys.executable, "--out-dir", target, ROOT])
    (sdist,), (wheel,) = target.glob("*.tar.gz"), target.glob("*.whl")
    return Built(sdist, wheel)


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """The wheel far from the checkout, which finds what it needs where the tests do: there the lock is installed."""
    found = installation(built, tmp_path_factory.mktemp("installed"))
    (packages,) = found.python.parents[1].glob("lib/python*/site-packages")
    # A path, and no more: of the files there that lead to the checkout none is read.
    (packages / "beside.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return found


@pytest.fixture(scope="module")
def installed_whole(built, tmp_path_factory):
    """The wheel with the locked versions of what it needs, far from the checkout."""
    place = tmp_path_factory.mktemp("installed-whole")
    found = installation(built, place)
    run([uv(), "pip", "install", "--quiet", "--python", found.python, "--require-hashes", "-r", copy_of_lock(place)])
    return found


def installation(built, place):
    """An environment with nothing but the wheel, a home with a hostile profile, and an empty directory."""
    python = place / "venv" / "bin" / "python"
    run([uv(), "venv", "--quiet", "--python", sys.executable, place / "venv"])
    run([uv(), "pip", "install", "--quiet", "--python", python, "--no-deps", "--offline", built.wheel])
    (place / "home" / "prefect").mkdir(parents=True)
    (place / "home" / "prefect" / "profiles.toml").write_text(HOSTILE_PROFILES)
    (place / "empty").mkdir()
    return Installed(python, place / "home", place / "empty", marker=uuid4().hex)


def copy_of_lock(place):
    """The lock; all of it is installed, so that the versions are those that the tests ran with."""
    target = place / "requirements.lock"
    shutil.copy(ROOT / "requirements.lock", target)
    return target


def uv():
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    assert found is not None, "uv is not installed: `make install` does it"
    return found


def run(command):
    done = subprocess.run(list(map(str, command)), check=False, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]


def test_wheel_has_the_package_and_nothing_else(built):
    names = built.wheel_names()
    assert {name.split("/")[0] for name in names} == {"freshline"}
    assert {name.split("/")[1] for name in names} == {*FOLDERS, "__init__.py", "prefect.yaml", "py.typed"}
    unwanted = ("_freshline", "/tests/", "/test_", "__pycache__")
    assert [name for name in names if any(part in name for part in unwanted)] == []


def test_wheel_has_every_module_of_the_checkout(built):
    modules = {
        f"freshline/{path.relative_to(ROOT)}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        if path.name != "_freshline.py"
    }
    assert modules <= built.wheel_names()


def test_wheel_has_the_migrations_with_their_template(built):
    names = built.wheel_names()
    assert "freshline/runs/migrations/script.py.mako" in names
    versions = [name for name in names if name.startswith("freshline/runs/migrations/versions/0")]
    assert len(versions) == len(known_revisions())


def test_wheel_has_the_same_package_file_and_catalogue_as_the_checkout(built):
    with zipfile.ZipFile(built.wheel) as archive:
        assert archive.read("freshline/__init__.py") == (ROOT / "flows" / "_freshline.py").read_bytes()
        assert archive.read("freshline/prefect.yaml") == (ROOT / "prefect.yaml").read_bytes()


def test_wheel_says_its_license_and_its_command(built):
    with zipfile.ZipFile(built.wheel) as archive:
        names = archive.namelist()
        (metadata,) = [archive.read(name).decode() for name in names if name.endswith(".dist-info/METADATA")]
        (commands,) = [archive.read(name).decode() for name in names if name.endswith("/entry_points.txt")]
    assert "License-Expression: Apache-2.0" in metadata
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert "freshline = freshline.runs.cli:main" in commands


def test_sdist_has_what_building_and_testing_need(built):
    names = built.sdist_names()
    needed = {
        "pyproject.toml",
        "hatch_build.py",
        "prefect.yaml",
        "Makefile",
        "requirements.lock",
        "LICENSE",
        "README.md",
    }
    needed |= {"flows/_freshline.py", "flows/py.typed", "runs/migrations/script.py.mako", "tests/conftest.py"}
    assert needed - names == set()


def test_sdist_has_nothing_that_was_made_in_the_checkout(built):
    made = ("__pycache__", ".venv", ".dev/", ".bench", "benchmarks/results", ".pyc", ".mypy_cache")
    assert [name for name in built.sdist_names() if any(part in name for part in made)] == []


def test_archives_hold_no_path_of_this_checkout(built):
    with zipfile.ZipFile(built.wheel) as archive:
        assert [name for name in archive.namelist() if str(ROOT).encode() in archive.read(name)] == []
    with tarfile.open(built.sdist) as archive:
        members = [member for member in archive.getmembers() if member.isfile()]
        assert [one.name for one in members if str(ROOT).encode() in _content(archive, one)] == []


def test_installed_command_says_its_version_and_imports_from_the_environment(installed):
    done = installed.run("--version")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1].startswith("0.")
    where = subprocess.run(
        [installed.python, "-c", "import freshline; print(freshline.__file__)"],
        cwd=installed.directory,
        env=installed.environment(),
        check=True,
        capture_output=True,
        text=True,
    )
    assert Path(where.stdout.strip()).is_relative_to(installed.python.parents[1])


def test_package_has_consistent_requirements():
    run([uv(), "pip", "check", "--python", sys.executable])


@pytest.mark.slow
def test_wheel_and_the_lock_have_consistent_requirements(installed_whole):
    run([uv(), "pip", "check", "--python", installed_whole.python])


def test_demo_in_a_directory_that_cannot_be_written_is_one_line(installed, tmp_path):
    occupied = tmp_path / "file"
    occupied.write_text("")
    done = installed.run("demo", "--directory", str(occupied / "below"))
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error:")]
    assert str(occupied) in line
    assert "Traceback" not in done.stdout + done.stderr
    assert installed.survivors() == []


# Slow: the same main job runs from the checkout in tests/acceptance; what the wheel holds is tested above.
@pytest.mark.slow
@pytest.mark.stack
@pytest.mark.timeout(900)
def test_demo_from_the_wheel_does_the_main_job_and_leaves_the_users_prefect_alone(installed_whole, tmp_path):
    installed = installed_whole
    before = contents(installed.profiles)
    kept = tmp_path / "kept"

    done = installed.run("demo", "--directory", str(kept), timeout=800)
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-6000:]}\n{logs(kept)}"

    assert contents(installed.profiles) == before
    assert list(installed.directory.iterdir()) == [], "the demo wrote into the working directory"
    assert not (installed.home / ".prefect").exists()
    assert not (installed.home / ".freshline").exists()
    assert installed.survivors() == []
    assert "Traceback" not in done.stdout + done.stderr

    shown = installed.run("runs", "--json", FRESHLINE_HOME=str(kept))
    assert shown.returncode == 0, shown.stderr
    assert {run["status"] for run in flattened(json.loads(shown.stdout))} == {"completed"}


def contents(directory):
    """Every file with its bytes."""
    return {path: path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


def logs(directory):
    """The ends of the stack's logs, for a failure."""
    found = sorted(directory.glob("logs/*.log"))
    return "\n".join(f"== {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in found)


def flattened(value):
    """Every mapping with a status in what a command printed as JSON."""
    if isinstance(value, dict):
        if "status" in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from flattened(item)


def _content(archive, member):
    file = archive.extractfile(member)
    assert isinstance(file, io.BufferedReader)
    return file.read()
