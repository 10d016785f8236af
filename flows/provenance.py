"""Where a body comes from: the commit of the working directory, and a digest of the environment that executes it.

Both are facts of the process: found once, in some milliseconds, and the same for every run that it executes.
"""

import hashlib
import os
import platform
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

_GIT_TIMEOUT_S = 2.0
_INSTALLED = (".dist-info", ".egg-info")


@cache
def provenance() -> Mapping[str, str]:
    """Return `git_commit` (absent without one) and `environment_digest` of this process, as a claim records them."""
    commit = git_commit(Path())
    known = {"environment_digest": environment_digest(sys.path)}
    return known if commit is None else {"git_commit": commit, **known}


def git_commit(directory: Path, *, timeout_s: float = _GIT_TIMEOUT_S) -> str | None:
    """Return the commit that is checked out in a directory, with `+` when tracked files have changed since.

    None without Git, outside of a repository, before its first commit, or when Git takes longer than the timeout.
    """
    command = ["git", "describe", "--always", "--abbrev=64", "--exclude=*", "--dirty=+"]
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            check=False,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=timeout_s,
            # A look at the state must not compete with a person's own Git for the index.
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def environment_digest(search_path: Iterable[str]) -> str:
    """Return sha256 over Python's version, the platform and every distribution installed on the search path.

    By the names of their folders, which hold name and version: nothing is opened.
    """
    lines = [platform.python_implementation(), platform.python_version(), sysconfig.get_platform()]
    lines += [f"{name}=={version}" for name, version in sorted(_distributions(search_path).items())]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _distributions(search_path: Iterable[str]) -> dict[str, str]:
    """Return name -> version; of two with one name, that which is imported."""
    found: dict[str, str] = {}
    for entry in dict.fromkeys(search_path):
        try:
            names = os.listdir(entry or ".")
        except OSError:
            continue  # not there, or an archive
        for name in names:
            stem, suffix = os.path.splitext(name)
            if suffix in _INSTALLED:
                distribution, _, rest = stem.partition("-")
                # An egg's name goes on with the version of Python.
                version = rest.partition("-")[0]
                found.setdefault(distribution.lower().replace(".", "_"), version)
    return found
