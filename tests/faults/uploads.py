"""A writer in a process of its own, which dies where it is told to: at a point of an upload, or of recording it."""

import os
import signal
from collections.abc import Mapping
from uuid import UUID

import numpy as np
import pyarrow as pa

from freshline.storage import faults, s3
from freshline.storage.artifacts import ArtifactRecord, insert_artifacts
from freshline.storage.database import Database
from freshline.storage.files import save_file
from freshline.storage.filesystem import ObjectStore
from freshline.storage.parquet import write_table
from tests.faults import crew

TABLE = pa.table({"day": np.arange(2000), "close": np.random.default_rng(3).normal(size=2000)})
PART_BYTES = 5 * 2**20
"""The smallest that S3 takes."""
LARGE = np.random.default_rng(4).bytes(PART_BYTES + 1000)
"""Sent in two parts."""
RECORDED = "recorded"
"""The point in the transaction that records what was uploaded, before its commit."""


def write(store: ObjectStore, database: Database, owner_id: UUID) -> list[ArtifactRecord]:
    """Upload a table and a large file, and record them."""
    with database.read() as connection:
        began = database.now(connection)
    artifacts = [
        ArtifactRecord.of_file("model", save_file(store, LARGE)),
        ArtifactRecord.of_table("prices", write_table(store, TABLE)),
    ]

    def record(connection):
        insert_artifacts(connection, owner_id, artifacts, now=database.now(connection), since=began)
        faults.reach(RECORDED)

    database.write(record)
    return artifacts


def killed_at(point: str, url: str, environment: Mapping[str, str], database_url: str, owner_id: UUID) -> bool:
    """Let a process write and die at this point, the first time that it is reached; return whether it died there."""
    process = crew.FORKS.Process(target=_write_and_die, args=(point, url, dict(environment), database_url, owner_id))
    process.start()
    process.join(60)
    if process.exitcode is None:
        process.kill()
        process.join()
    return process.exitcode == -signal.SIGKILL


def _write_and_die(point: str, url: str, environment: Mapping[str, str], database_url: str, owner_id: UUID) -> None:
    os.environ.update(environment)
    s3.PART_BYTES = PART_BYTES

    def reach(reached: str) -> None:
        if reached == point:
            os.kill(os.getpid(), signal.SIGKILL)

    with faults.watched(reach):
        write(ObjectStore(url), Database(database_url, sqlite_synchronous="OFF"), owner_id)
