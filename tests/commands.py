"""Calls of `freshline` in processes of their own, which are forked from one that has imported what most commands need.

Owns the forking alone. What is imported before reads no setting, neither ours nor Prefect's, and no file: a command
does all that in its own environment and directory, as the installed command does.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

_IMPORTED = (
    *("click", "rich.console", "rich.table", "rich.tree", "yaml", "orjson", "httpx", "jsonschema", "croniter"),
    *(
        "pydantic_settings",
        "sqlmodel",
        "psycopg",
        "sqlalchemy.dialects.sqlite",
        "sqlalchemy.dialects.postgresql.psycopg",
    ),
    *("alembic.command", "alembic.migration", "fsspec", "tzdata", "psutil"),
    *("freshline.runs.cli", "freshline.runs.interface"),
)


_parents: list[subprocess.Popen[str]] = []


def freshline(
    directory: Path, arguments: Sequence[str], environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Call the command in the directory, with nothing in its environment but that."""
    parent = _parent()
    out, err = directory / ".stdout", directory / ".stderr"
    assert parent.stdin is not None
    assert parent.stdout is not None
    call = [str(directory), list(arguments), dict(environment), str(out), str(err)]
    try:
        print(json.dumps(call), file=parent.stdin, flush=True)
        code = int(parent.stdout.readline())
    except BaseException:
        _give_up(parent)  # its answer may still come, and is not the next call's
        raise
    said = out.read_text(), err.read_text()
    out.unlink()
    err.unlink()
    return subprocess.CompletedProcess(["freshline", *arguments], code, *said)


def _parent() -> subprocess.Popen[str]:
    """The one that the others are forked from: started once, it ends when nobody can write to it any more."""
    if not _parents:
        root = Path(__file__).parents[1]
        command = [sys.executable, "-m", "tests.commands"]
        started = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root, start_new_session=True
        )
        atexit.register(started.communicate)
        _parents.append(started)
    return _parents[0]


def _give_up(parent: subprocess.Popen[str]) -> None:
    """End it with the command that it waits for: the next call starts another one."""
    _parents.remove(parent)
    atexit.unregister(parent.communicate)
    os.killpg(parent.pid, signal.SIGKILL)
    parent.communicate()


def _serve() -> None:
    for name in _IMPORTED:
        __import__(name)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _become(*json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _become(directory: str, arguments: list[str], environment: dict[str, str], out: str, err: str) -> NoReturn:
    """Be the installed command, from its first line to its last."""
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    for descriptor, name in ((0, os.devnull), (1, out), (2, err)):
        opened = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(opened, descriptor)
    sys.argv = [str(Path(sys.executable).with_name("freshline")), *arguments]
    sys.modules["__main__"].__spec__ = None  # click would say `python -m`
    code: object = 0
    try:
        from freshline.runs.cli import main

        main()
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    _serve()
