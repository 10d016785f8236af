"""Peers as processes, each in a virtual environment of its own below `.bench/` (git-ignored), made when first needed.

Owns how a peer is installed, started and asked. Knows nothing of what it measures.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
CACHE = ROOT / ".bench"

REQUIREMENTS = {
    "mlflow": (
        "mlflow==3.17.2",
        "psycopg2-binary==2.9.13",
        f"prefect=={version('prefect')}",  # ours: what MLflow adds to a flow is set beside what we add
        "fastapi<0.151",  # Prefect does not start with later ones
    ),
}
"""What each peer's environment holds: a ratio names the version that it is against."""


@dataclass(frozen=True)
class Peer:
    """A peer that runs and answers."""

    name: str
    durability: str
    process: "subprocess.Popen[str]"

    def measure(self, what: str = "round") -> float:
        """Have it do one round of what it offers; return its value.

        Raises:
            RuntimeError: it ended.
        """
        assert self.process.stdin is not None
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        return float(_answer(self.process)["value"])


@contextmanager
def peer_process(peer: str, program: str, arguments: Sequence[str]) -> Iterator[Peer]:
    """Start `peers/<peer>_<program>.py` in the peer's environment; end it when the block ends.

    Raises:
        RuntimeError: it cannot be installed, or ended while starting.
    """
    script = Path(__file__).parent / "peers" / f"{peer}_{program}.py"
    command = [str(environment(peer)), str(script), *arguments]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=CACHE, env=_environment()
    )
    try:
        said = _answer(process)
        yield Peer(said["name"], said["durability"], process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def environment(peer: str) -> Path:
    """Return the peer's Python, installed now if it is not there.

    Raises:
        RuntimeError: it cannot be installed.
    """
    requirements = REQUIREMENTS[peer]
    stamp = hashlib.sha256("\n".join((sys.version, *requirements)).encode()).hexdigest()[:12]
    home = CACHE / f"{peer}-{stamp}"
    python = home / "bin" / "python"
    done = home / "installed"
    if done.exists():
        return python
    print(f"installing {' '.join(requirements)} into {home}", flush=True)
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is not None:
        _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(home)])
        _run([uv, "pip", "install", "--quiet", "--python", str(python), *requirements])
    else:
        _run([sys.executable, "-m", "venv", "--clear", str(home)])
        _run([str(python), "-m", "pip", "install", "--quiet", *requirements])
    done.touch()
    return python


def _environment() -> dict[str, str]:
    """No variable that leads a peer elsewhere, and no call home."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PYTHON"))}
    return kept | {"DO_NOT_TRACK": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"`{' '.join(command)}` failed: {done.stderr.strip()[-2000:]}")


def _answer(process: "subprocess.Popen[str]") -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"the peer ended with code {process.wait()}; what it said is above")
    answer: dict[str, Any] = json.loads(line)
    return answer
