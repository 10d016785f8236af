"""The embedded stack: a Prefect server and a process worker of our own, as child processes.

Owns where they live, how they are reached and that none of them outlives the caller (with `keeper`). The
stack has its own `PREFECT_HOME`, profiles, database and address; the user's Prefect settings, profiles and
servers are neither read nor changed.

    with LocalStack(directory) as stack, stack.activated():
        ...  # this process and its children talk to the stack's server

POSIX only.
"""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from select import select
from types import TracebackType
from typing import IO, Any, Self
from uuid import uuid4

from ..storage.errors import StackError
from . import keeper
from .activation import activated, without_prefect

_HOST = "127.0.0.1"
_START_WITHIN_S = 120.0
_POLL_S = 0.1
_KEEPER_STOPS_WITHIN_S = 4 * keeper.GRACE_S
_PORT_ATTEMPTS = 3


class StackStage(StrEnum):
    """What `LocalStack.start` waits for, in order."""

    SERVER = "server"
    """Prefect's server migrates its database and answers."""
    WORK_POOL = "work_pool"
    """The work pool is made."""
    WORKER = "worker"
    """The worker has started; it takes runs within seconds."""


Progress = Callable[[StackStage, float], None]
"""Called several times a second with the stage and the seconds since `start` was called."""


class LocalStack:
    """A Prefect server and a process worker in one directory.

    Args:
        directory: where the stack keeps everything; made if missing. One stack at a time.
        api_port: port on 127.0.0.1; None takes a free one.
        work_pool: name of the process work pool that the worker serves.
        worker_limit: how many flow runs may run at once; None for no limit.
        query_s: how often the worker looks for runs, in seconds.
        env: variables that the server, the worker and the flow runs get beside this process's own.
        worker: False starts the server alone.
    """

    def __init__(
        self,
        directory: Path | str,
        *,
        api_port: int | None = None,
        work_pool: str = "local",
        worker_limit: int | None = None,
        query_s: float = 1.0,
        env: Mapping[str, str] | None = None,
        worker: bool = True,
    ) -> None:
        self.directory = Path(directory).expanduser().absolute()
        self.work_pool = work_pool
        self._asked_port = api_port
        self._port: int | None = None
        self._worker_limit = worker_limit
        self._query_s = query_s
        self._env = dict(env or {})
        self._with_worker = worker
        self._marker = uuid4().hex
        self._keeper: subprocess.Popen[bytes] | None = None
        self._ended: dict[str, int] = {}

    @property
    def api_url(self) -> str:
        """The server's API, `http://127.0.0.1:<port>/api`.

        Raises:
            StackError: the stack is not started.
        """
        return f"{self.ui_url}/api"

    @property
    def ui_url(self) -> str:
        """The server's page.

        Raises:
            StackError: the stack is not started.
        """
        if self._port is None:
            raise StackError("the embedded stack is not started; call start() first")
        return f"http://{_HOST}:{self._port}"

    def log_path(self, name: str) -> Path:
        """Return the log file of `server`, `worker` or `keeper`; begun anew at every start."""
        return self.directory / "logs" / f"{name}.log"

    def environment(self) -> dict[str, str]:
        """Return the variables with which a process talks to this stack and to no other Prefect.

        The process must have no other variable that begins with `PREFECT_`: see `activated`.
        """
        home = self.directory / "prefect-home"
        exempt = ",".join(filter(None, [os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), _HOST]))
        return {
            "PREFECT_HOME": str(home),
            "PREFECT_PROFILES_PATH": str(home / "profiles.toml"),
            "PREFECT_API_URL": self.api_url,
            # Empty, not absent: a prefect.toml or .env in the working directory may set them.
            "PREFECT_API_KEY": "",
            "PREFECT_API_AUTH_STRING": "",
            "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{self.directory / 'prefect.db'}",
            "PREFECT_SERVER_DATABASE_TIMEOUT": "30",
            # The page asks port 4200 otherwise.
            "PREFECT_SERVER_UI_API_URL": self.api_url,
            "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "PREFECT_CLI_PROMPT": "false",
            "PREFECT_WORKER_QUERY_SECONDS": str(self._query_s),
            "NO_PROXY": exempt,
            "no_proxy": exempt,
        }

    @contextmanager
    def activated(self) -> Iterator[None]:
        """Make this process, and the children that it starts meanwhile, talk to this stack.

        Changes `os.environ`, and Prefect's settings of the whole process where Prefect is imported already;
        both are put back afterwards. Not for use in two threads at once.
        """
        with activated(self.environment()):
            yield

    def start(self, *, progress: Progress | None = None) -> None:
        """Start server, work pool and worker; returns when the server answers and the worker is starting.

        Raises:
            StackError: the directory cannot be written, the port or the directory is in use, or a process
            ended
                while starting; the message names its log and the last line of it. Nothing is left running.
        """
        if self._keeper is not None:
            raise StackError(f"the embedded stack in {self.directory} is started already")
        self._make_directory()
        try:
            self._start(progress or _ignore_progress)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End everything that the stack started, and wait for it. Idempotent."""
        kept, self._keeper = self._keeper, None
        if kept is None:
            return
        for pipe in (kept.stdin, kept.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        try:
            kept.wait(timeout=_KEEPER_STOPS_WITHIN_S)
        except subprocess.TimeoutExpired:
            kept.kill()
            kept.wait()
        keeper.sweep(self._marker)
        self._port = None

    def check(self) -> None:
        """Return if everything that was started still runs.

        Raises:
            StackError: the server, the worker or the keeper ended; the message names its log and the last
            line.
        """
        if self._keeper is None:
            raise StackError("the embedded stack is not started; call start() first")
        self._listen(patience_s=0)
        for name, code in self._ended.items():
            raise StackError(self._obituary(name, code))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _make_directory(self) -> None:
        try:
            (self.directory / "logs").mkdir(parents=True, exist_ok=True)
            (self.directory / "prefect-home").mkdir(mode=0o700, exist_ok=True)
            self.log_path("keeper").write_bytes(b"")
        except OSError as error:
            raise StackError(
                f"the directory {self.directory} cannot be written ({error.strerror or error}); choose another"
            ) from None

    def _start(self, progress: Progress) -> None:
        began = time.monotonic()
        self._start_keeper()
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            self._port = self._asked_port if self._asked_port is not None else _free_port()
            _check_port_free(self._port)
            self._order("server", [sys.executable, "-P", "-m", "prefect", "server", "start"])
            template = self._job_template()  # imports Prefect while the server starts
            try:
                self._wait_for_server(lambda: progress(StackStage.SERVER, time.monotonic() - began))
                break
            except StackError:
                # A free port may be taken by somebody else before our server binds it.
                taken = self._asked_port is None and b"already in use" in self.log_path("server").read_bytes()
                if not taken or attempt == _PORT_ATTEMPTS:
                    raise
                self._ended.clear()
        progress(StackStage.WORK_POOL, time.monotonic() - began)
        self._make_work_pool(template)
        progress(StackStage.WORKER, time.monotonic() - began)
        if self._with_worker:
            command = [sys.executable, "-P", "-m", "prefect", "worker", "start", "--type", "process"]
            command += ["--pool", self.work_pool, "--name", f"{self.work_pool}-worker", "--install-policy", "never"]
            if self._worker_limit is not None:
                command += ["--limit", str(self._worker_limit)]
            self._order("worker", command)
        self.check()

    def _start_keeper(self) -> None:
        with self.log_path("keeper").open("wb") as log:
            self._keeper = subprocess.Popen(
                [sys.executable, "-P", "-m", keeper.__name__, str(self.directory), self._marker],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=without_prefect(os.environ),
                start_new_session=True,  # Ctrl-C in the terminal is for the caller, which then closes the pipe
            )
        self._ended.clear()
        self._listen(patience_s=_START_WITHIN_S, until="ready")

    def _order(self, name: str, argv: list[str]) -> None:
        """Have the keeper start a process."""
        env = without_prefect(os.environ) | self.environment() | self._env
        if name == "server":
            argv = [*argv, "--host", _HOST, "--port", str(self._port)]
        order = {
            "start": name,
            "argv": argv,
            "env": env,
            "cwd": str(self.directory),
            "log": str(self.log_path(name)),
        }
        assert self._keeper is not None
        assert self._keeper.stdin is not None
        try:
            self._keeper.stdin.write(json.dumps(order).encode() + b"\n")
            self._keeper.stdin.flush()
        except BrokenPipeError:
            raise StackError(self._obituary("keeper", self._keeper.wait())) from None
        self._listen(patience_s=_START_WITHIN_S, until="started")

    def _listen(self, *, patience_s: float, until: str | None = None) -> None:
        """Take in what the keeper says; returns at a message with the key `until`, or after the patience.

        Raises:
            StackError: the keeper refused, or ended.
        """
        assert self._keeper is not None
        pipe: IO[bytes] | None = self._keeper.stdout
        assert pipe is not None
        deadline = time.monotonic() + patience_s
        while select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
            line = _read_line(pipe.fileno())
            if not line:
                raise StackError(self._obituary("keeper", self._keeper.wait()))
            message = json.loads(line)
            if "refused" in message:
                raise StackError(f"{message['refused']}; stop it, or choose another directory")
            if "exited" in message:
                self._ended[message["exited"]] = message["code"]
            if until is not None and until in message:
                return
        if until is not None:
            raise StackError(f"the keeper said nothing for {patience_s:.0f} s; see {self.log_path('keeper')}")

    def _wait_for_server(self, tick: Callable[[], None]) -> None:
        deadline = time.monotonic() + _START_WITHIN_S
        while not _answers(self._port):
            tick()
            self._listen(patience_s=_POLL_S)
            for name, code in self._ended.items():
                raise StackError(self._obituary(name, code))
            if time.monotonic() > deadline:
                raise StackError(
                    f"Prefect's server did not answer within {_START_WITHIN_S:.0f} s; see {self.log_path('server')}"
                )
        self.check()  # somebody else's server may answer on the port that ours did not get

    def _job_template(self) -> dict[str, Any]:
        """Return the work pool's template: Prefect's own, with the command that starts a flow run directly.

        Without a command, Prefect 3.8 prepares a workspace first, which takes about 5 s more for each run.
        """
        with self.activated():
            from prefect.utilities.processutils import command_to_string
            from prefect.workers.process import ProcessWorker

            template = ProcessWorker.get_default_base_job_template()
        command = command_to_string([sys.executable, "-m", "prefect.engine"])
        template["variables"]["properties"]["command"]["default"] = command
        return template

    def _make_work_pool(self, template: dict[str, Any]) -> None:
        with self.activated():
            from prefect.client.orchestration import get_client
            from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
            from prefect.exceptions import ObjectAlreadyExists

            with get_client(sync_client=True) as client:
                try:
                    client.create_work_pool(
                        WorkPoolCreate(name=self.work_pool, type="process", base_job_template=template)
                    )
                except ObjectAlreadyExists:
                    client.update_work_pool(self.work_pool, WorkPoolUpdate(base_job_template=template))

    def _obituary(self, name: str, code: int) -> str:
        path = self.log_path(name)
        try:
            lines = [line.strip() for line in path.read_text(errors="replace").splitlines()]
        except OSError:
            lines = []
        last = next((line for line in reversed(lines) if line), "nothing was logged")
        return f"the {name} of the embedded stack ended with code {code}: {last} (log: {path})"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def _check_port_free(port: int) -> None:
    if not 0 < port < 65536:
        raise StackError(f"{port} is no port; choose one from 1 to 65535")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            raise StackError(
                f"port {port} on {_HOST} cannot be used ({error.strerror}); "
                "stop what listens there, or choose another port"
            ) from None


def _answers(port: int | None) -> bool:
    connection = http.client.HTTPConnection(_HOST, port, timeout=2)
    try:
        connection.request("GET", "/api/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _read_line(descriptor: int) -> bytes:
    """Read up to a line's end, past Python's buffer: `select` does not see what is buffered."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(descriptor, 1)
        if not byte:
            return b""
        line += byte
    return line


def _ignore_progress(stage: StackStage, elapsed_s: float) -> None:
    """Show nothing."""
