"""Real S3 servers on loopback: moto, which knows conditional writes, and rclone, which keeps objects as files."""

import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

BUCKET = "freshline-tests"


@dataclass(frozen=True)
class S3Server:
    """A running server with an empty bucket."""

    endpoint_url: str
    access_key: str
    secret_key: str
    url: str = f"s3://{BUCKET}"
    """What an object store is opened with."""

    def environment(self) -> dict[str, str]:
        """The variables that lead a client here, whatever the machine's own say."""
        nowhere = os.devnull
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": nowhere,
            "AWS_SHARED_CREDENTIALS_FILE": nowhere,
            "AWS_EC2_METADATA_DISABLED": "true",
            # Newer SDKs add checksums that not every S3 server understands.
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        }

    def client(self) -> Any:
        """A client of another library, to look from outside."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
            config=Config(
                retries={"total_max_attempts": 1},
                connect_timeout=2,
                read_timeout=10,
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )


@contextmanager
def moto_server() -> Iterator[S3Server]:
    """Run moto: everything in memory, any credentials accepted."""
    port = _free_port()
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _running(command, S3Server(f"http://127.0.0.1:{port}", "any-access-key", "any-secret-key")) as server:
        yield server


@contextmanager
def rclone_server() -> Iterator[S3Server]:
    """Run rclone: signatures are checked, objects are files in a folder of its own."""
    port = _free_port()
    server = S3Server(f"http://127.0.0.1:{port}", "rclone-access-key", "rclone-secret-key")
    folder = tempfile.mkdtemp(prefix="freshline-rclone-")
    command = [str(Path(sysconfig.get_path("scripts"), "rclone")), "serve", "s3", folder]
    command += ["--addr", f"127.0.0.1:{port}", "--auth-key", f"{server.access_key},{server.secret_key}"]
    command += ["--config", os.devnull]
    try:
        with _running(command, server) as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _running(command: Sequence[str], server: S3Server) -> Iterator[S3Server]:
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _wait_until_ready(process, server)
            yield server
        except RuntimeError as error:
            log.seek(0)
            raise RuntimeError(f"{error}: {log.read()[-2000:].decode()}") from None
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], server: S3Server) -> None:
    client = server.client()
    try:
        for _ in range(300):
            if process.poll() is not None:
                raise RuntimeError(f"the S3 server {process.args} did not start")
            try:
                client.create_bucket(Bucket=BUCKET)
            except (BotoCoreError, ClientError):
                try:
                    process.wait(timeout=0.1)
                except subprocess.TimeoutExpired:
                    continue
            else:
                return
    finally:
        client.close()
    raise RuntimeError(f"the S3 server {process.args} was not ready in time")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
