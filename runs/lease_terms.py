"""A run's lease: what a beat gives, and what another process needs to renew it (`lease_keeper`)."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any
from uuid import UUID

from ..storage.database import Database
from . import lease_keeper


class Beat(StrEnum):
    """What one try to renew the lease gave."""

    OK = lease_keeper.OK
    """Renewed."""
    CANCEL = lease_keeper.CANCEL
    """Renewed, and the run's cancellation was asked for."""
    PAUSE = lease_keeper.PAUSE
    """Renewed, and the run's pause was asked for."""
    FENCED = lease_keeper.FENCED
    """Somebody else holds the run, or it has ended."""
    AWAY = lease_keeper.AWAY
    """The database could not be reached; it is tried again soon."""
    LOST = lease_keeper.LOST
    """The keeper cannot renew it, now or later."""


@dataclass(frozen=True, kw_only=True)
class LeaseTerms:
    """The terms of one lease. They hold a password or a token: never show them."""

    driver: str
    """`sqlite`, `psycopg`, or `http`."""
    connect: Mapping[str, Any] = field(repr=False)
    """A file's path, the arguments of `psycopg.connect`, or a URL with a token."""
    run_id: UUID
    fence: int
    lease_s: float
    """How long the lease is from each renewal on."""
    interval_s: float
    """How often it is renewed."""

    def as_json(self) -> bytes:
        """Return what the keeper is told of them."""
        return json.dumps({**vars(self), "run_id": str(self.run_id)}).encode()


def keeper_command() -> list[str]:
    """Return how the keeper is started, as a child of this process."""
    return [sys.executable or "", "-I", "-S", lease_keeper.__file__, str(os.getpid())]


def surroundings() -> bytes:
    """Return what else the keeper must know to reach a database as this process would, as JSON.

    It may hold a password, as the terms.
    """
    entries = [os.fspath(entry) for entry in sys.path if entry]
    names = [name for name in os.environ if name.startswith(lease_keeper.ENVIRONMENT)]
    around = {
        "path": [entry if os.path.isabs(entry) else os.path.abspath(entry) for entry in entries],
        "environment": {name: os.environ.get(name, "") for name in names},
    }
    return json.dumps(around).encode()


def lease_terms(
    database: Database, run_id: UUID, fence: int, *, lease_s: float, interval_s: float
) -> LeaseTerms | None:
    """Return the terms, or None when no other process can reach this database or share its clock."""
    url = database.engine.url
    if database._clock is not None:
        return None
    if database.dialect == "sqlite":
        if not url.database or url.query:
            return None  # opened in a way of its own
        driver, connect = "sqlite", {"path": str(Path(url.database).absolute())}
    else:
        _, arguments = database.engine.dialect.create_connect_args(url)
        # SQLAlchemy's own adapters of types are no fact about the connection.
        driver, connect = "psycopg", {name: value for name, value in arguments.items() if name != "context"}
    return LeaseTerms(
        driver=driver, connect=connect, run_id=run_id, fence=fence, lease_s=lease_s, interval_s=interval_s
    )
