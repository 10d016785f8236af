"""Which commit and which environment: found without an error wherever a flow may run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from freshline.flows.provenance import environment_digest, git_commit, provenance


def git(directory: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@freshline.test", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *arguments], cwd=directory, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init")
    (tmp_path / "flow.py").write_text("x = 1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    return tmp_path


def test_commit_of_a_clean_directory_is_its_head(repository):
    git(repository, "tag", "v1.0", "-m", "a tag must not name it")
    commit = git_commit(repository)
    assert commit == git(repository, "rev-parse", "HEAD")
    assert re.fullmatch("[0-9a-f]{40}", commit)


def test_commit_of_a_changed_directory_is_marked(repository):
    (repository / "flow.py").write_text("x = 2\n")
    assert git_commit(repository) == git(repository, "rev-parse", "HEAD") + "+"


def test_commit_is_that_of_a_folder_below(repository):
    (repository / "below").mkdir()
    assert git_commit(repository / "below") == git(repository, "rev-parse", "HEAD")


def test_directory_outside_of_a_repository_has_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit(tmp_path) is None


def test_repository_without_a_commit_has_none(tmp_path):
    git(tmp_path, "init")
    assert git_commit(tmp_path) is None


def test_directory_that_is_gone_has_no_commit(tmp_path):
    assert git_commit(tmp_path / "gone") is None


def test_machine_without_git_gives_no_commit(repository, monkeypatch):
    monkeypatch.setenv("PATH", str(repository))
    assert git_commit(repository) is None


def test_git_that_does_not_answer_gives_no_commit(repository, monkeypatch):
    slow = repository / "git"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{repository}{os.pathsep}{os.environ['PATH']}")
    assert git_commit(repository, timeout_s=0.1) is None


def environment(directory: Path, *distributions: str) -> str:
    directory.mkdir()
    for name in distributions:
        (directory / name).mkdir()
    return environment_digest([str(directory)])


def test_environment_is_told_by_its_distributions_in_any_order(tmp_path):
    one = environment(tmp_path / "1", "pandas-2.2.0.dist-info", "numpy-2.0.0.dist-info", "pandas")
    assert re.fullmatch("[0-9a-f]{64}", one)
    assert environment(tmp_path / "2", "numpy-2.0.0.dist-info", "pandas-2.2.0.dist-info") == one
    assert environment(tmp_path / "3", "numpy-2.0.1.dist-info", "pandas-2.2.0.dist-info") != one
    assert environment(tmp_path / "4", "pandas-2.2.0.dist-info") != one


def test_distribution_that_is_found_first_counts(tmp_path):
    first = environment(tmp_path / "1", "numpy-2.0.0.dist-info")
    environment(tmp_path / "2", "numpy-1.0.0.dist-info")
    assert environment_digest([str(tmp_path / "1"), str(tmp_path / "2"), str(tmp_path / "gone.zip")]) == first


def test_name_of_a_distribution_is_compared_as_pip_does(tmp_path):
    one = environment(tmp_path / "1", "ruamel.yaml-0.18.0.dist-info")
    assert environment(tmp_path / "2", "ruamel_yaml-0.18.0.dist-info") == one


def test_provenance_of_a_process_is_found_once():
    found = provenance()
    assert found["environment_digest"] == environment_digest(sys.path)
    assert set(found) <= {"git_commit", "environment_digest"}
    assert provenance() is found
