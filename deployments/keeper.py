"""The keeper: a small process that owns the embedded stack's processes, and lets none of them outlive its
caller.

Run as `python -m freshline.deployments.keeper DIRECTORY MARKER`, in a session of its own, by
`local.LocalStack`. Knows nothing of Prefect: it starts what it is told to start.

    caller -> keeper   one JSON object a line: {"start": "server", "argv": [...], "env": {...}, "log": "..."}
    keeper -> caller   {"started": "server", "pid": 1}    {"exited": "server", "code": 1}    {"refused":
    "..."}

When the pipe from the caller closes (the caller ended, however), when the caller's process is gone, or on
SIGTERM, the keeper ends all that it started, last started first, with all descendants: SIGTERM, a grace,
SIGKILL. It finds descendants that lost their parents in two ways: as child subreaper (Linux), and by the
environment variable `FRESHLINE_STACK_MARKER` that everything started here inherits. Should the keeper
itself be killed, the kernel ends what it started (Linux), and the caller sweeps by the same variable.

POSIX only.
"""

import ctypes
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

MARKER_VARIABLE = "FRESHLINE_STACK_MARKER"
"""Set, to the stack's id, in everything that the keeper starts."""
LOCK_NAME = "stack.lock"
"""Locked in the stack's directory for as long as a keeper lives; holds its process id."""
GRACE_S = 6.0
"""How long a process may take to end after SIGTERM."""

_POLL_S = 0.25
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def sweep(marker: str, *, spare: Collection[int] = (), grace_s: float = GRACE_S) -> None:
    """End every process of this user whose environment carries the marker, except those spared."""
    end_all(marked(marker, spare=spare), grace_s=grace_s)
    end_all(marked(marker, spare=spare), grace_s=0)  # what was started meanwhile


def marked(marker: str, *, spare: Collection[int] = ()) -> list[Any]:
    """Return the living processes (`psutil.Process`) whose environment carries the marker."""
    found = []
    for process in psutil.process_iter():
        if process.pid in spare or process.pid == os.getpid():
            continue
        try:
            if process.environ().get(MARKER_VARIABLE) == marker and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):  # of another user, or gone
            continue
    return found


def end_all(processes: Iterable[Any], *, grace_s: float) -> None:
    """End the processes and their descendants: SIGTERM, and SIGKILL for those alive after the grace."""
    tree = {}
    for process in processes:
        try:
            tree.update({one.pid: one for one in [process, *process.children(recursive=True)]})
        except psutil.Error:
            continue
    alive = list(tree.values())
    for step, patience_s in (("terminate", grace_s), ("kill", GRACE_S)):
        for process in alive:
            try:
                getattr(process, step)()
            except psutil.Error:
                continue
        alive = _wait_gone(alive, patience_s=patience_s)


def _wait_gone(processes: list[Any], *, patience_s: float) -> list[Any]:
    deadline = time.monotonic() + patience_s
    while True:
        processes = [process for process in processes if _lives(process)]
        if not processes or time.monotonic() >= deadline:
            return processes
        time.sleep(0.02)


def _lives(process: Any) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _reap() -> list[tuple[int, int]]:
    """Collect the ends of children, orphans that came to us as subreaper among them.

    For the keeper alone: in another process it would take the ends away from those who wait for them.
    """
    ended: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended.append((pid, os.waitstatus_to_exitcode(status)))


class _Keeper:
    """Single-threaded, so that a child can be prepared between fork and exec without a lock held
    elsewhere."""

    def __init__(self, marker: str, *, grace_s: float) -> None:
        self.marker = marker
        self.grace_s = grace_s
        self.parent = os.getppid()
        self.names: dict[int, str] = {}
        self.asked_to_stop = False

    def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        try:
            self._serve()
        finally:
            self._stop()

    def _serve(self) -> None:
        pending = b""
        while not self.asked_to_stop and os.getppid() == self.parent:
            readable, _, _ = select.select([0], [], [], _POLL_S)
            if readable:
                chunk = os.read(0, 65536)
                if not chunk:
                    return
                *lines, pending = (pending + chunk).split(b"\n")
                for line in lines:
                    self._start(json.loads(line))
            for pid, code in _reap():
                if name := self.names.pop(pid, None):
                    _tell({"exited": name, "code": code})

    def _start(self, order: dict[str, Any]) -> None:
        with Path(order["log"]).open("wb") as log:
            try:
                process = subprocess.Popen(
                    order["argv"],
                    env={**order["env"], MARKER_VARIABLE: self.marker},
                    cwd=order["cwd"],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    preexec_fn=_die_with_parent,  # noqa: PLW1509 - there is one thread
                )
            except OSError as error:
                _tell({"refused": f"{order['start']}: {error}"})
                return
        process.returncode = 0  # its end is collected here, not by the Popen object
        self.names[process.pid] = order["start"]
        _tell({"started": order["start"], "pid": process.pid})

    def _stop(self) -> None:
        """End what was started last first: a worker may still tell its server what became of its runs."""
        for pid in list(reversed(self.names)):
            with suppress(psutil.NoSuchProcess):
                self._end([psutil.Process(pid)])
            # Its orphans are our children now, beside what was started before it.
            earlier = {one for one in self.names if one != pid}
            orphans = [child for child in psutil.Process().children() if child.pid not in earlier]
            self._end(orphans)
            self.names = {one: name for one, name in self.names.items() if one != pid}
        self._end(psutil.Process().children())
        sweep(self.marker, grace_s=0)

    def _end(self, processes: Iterable[Any]) -> None:
        end_all(processes, grace_s=self.grace_s)
        _reap()

    def _on_signal(self, number: int, frame: object) -> None:  # noqa: ARG002 - the signature of a handler
        self.asked_to_stop = True


def _die_with_parent() -> None:
    """Let the kernel end this process when the keeper is killed (Linux)."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _tell(message: dict[str, Any]) -> None:
    try:
        os.write(1, json.dumps(message).encode() + b"\n")
    except OSError:  # nobody listens any more
        return


def _lock(directory: Path) -> int | None:
    """Return the open lock file, or None when another keeper holds it."""
    descriptor = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())
    return descriptor


def main(arguments: list[str]) -> int:
    """Keep until told to stop; exit code 0, or 3 when another keeper has the directory."""
    directory, marker = Path(arguments[0]), arguments[1]
    if _lock(directory) is None:
        _tell({"refused": f"another stack runs in {directory}"})
        return 3
    _tell({"ready": os.getpid()})
    _Keeper(marker, grace_s=float(arguments[2]) if len(arguments) > 2 else GRACE_S).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
