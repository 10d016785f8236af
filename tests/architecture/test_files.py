"""What holds for every file: its size, its docstring, and that it speaks of no machine and of no package registry."""

import ast
import re
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT, sources

MAX_LINES = 400
LONGER = {
    "runs/migrations/versions/0001_the_first_schema.py": "one revision is one function, however many tables it makes",
}
UNWANTED_NAMES = {"base", "client_utils", "common", "helpers", "manager", "misc", "util", "utils"}
KEPT = ("deployments", "flows", "lineage", "runs", "storage", "tests", "benchmarks", "docs", ".ci")
TEXT = {
    ".cfg", ".css", ".html", ".ini", ".js", ".json", ".lock", ".mako", ".md", ".py", ".sh", ".sql", ".svg", ".toml",
    ".txt", ".yaml", ".yml", "",
}  # fmt: skip

# In parts, so that this file does not find itself.
REGISTRIES = re.compile(
    "|".join([r"\bpy" + r"pi\.org", "python" + r"hosted\.org", "npm" + r"js\.org", r"/sim" + r"ple/?[\s\"']",
              r"--(?:extra-)?index" + r"-url[ =]", r"--trusted" + "-host"])
)  # fmt: skip
DEVELOPERS_PATH = re.compile(r"(?<![\w.~}/])/(?:ho" + r"me|Us" + r"ers|ro" + r"ot|wo" + r"rk)/[\w.-]+")


def written_files():
    """Every text file that people write: of the kept folders and at the root."""
    files = [path for path in ROOT.iterdir() if path.is_file()]
    files += [path for folder in KEPT for path in (ROOT / folder).rglob("*") if path.is_file()]
    return sorted(path for path in files if path.suffix in TEXT and not _is_made(path))


def _is_made(path: Path) -> bool:
    parts = path.relative_to(ROOT).parts
    return "__pycache__" in parts or parts[:2] == ("benchmarks", "results") or parts[0] == ".git"


def matches(pattern):
    """file:line of every match in what people write."""
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"
        for path in written_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if pattern.search(line)
    ]


def test_files_have_at_most_400_lines():
    too_long = {
        source.name: count
        for source in sources()
        if (count := len(source.path.read_text().splitlines())) > MAX_LINES and source.name not in LONGER
    }
    assert too_long == {}


def test_modules_are_named_after_what_they_own():
    assert [source.name for source in sources() if source.path.stem in UNWANTED_NAMES] == []


def test_every_module_says_what_it_owns():
    assert [source.name for source in sources() if not ast.get_docstring(source.tree)] == []


def test_no_file_names_a_package_registry():
    assert matches(REGISTRIES) == []


def test_no_file_has_a_path_of_a_developers_machine():
    assert matches(DEVELOPERS_PATH) == []


def test_lock_pins_every_package_with_its_hashes():
    lock = (ROOT / "requirements.lock").read_text()
    packages = re.findall(r"^[a-z0-9].*$", lock, re.MULTILINE)
    assert len(packages) > 50
    assert [line for line in packages if not re.match(r"^[a-z0-9._-]+==\S+ ", line)] == []
    assert lock.count("--hash=sha256:") >= len(packages)
    assert "://" not in lock


@pytest.mark.parametrize("line", ["see https://py" + "pi.org/project/x", "pip install --index" + "-url x"])
def test_registry_pattern_finds_a_registry(line):
    assert REGISTRIES.search(line)


@pytest.mark.parametrize("path", ["/ho" + "me/ann/data", "'/wo" + "rk/main'", "=/Us" + "ers/ann"])
def test_path_pattern_finds_a_developers_path(path):
    assert DEVELOPERS_PATH.search(path)
