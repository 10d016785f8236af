"""The pages of runs in Prefect: when they are written, and that each is written once.

Whoever dispatches and reconciles writes them, a moment after the run has ended: no flow waits for it, no transaction
holds it, no run fails by it. What they say is in `run_pages`.

How far this has come is in the store, in a row of `chore`: all runs that ended until `ended_at` have their pages;
`began_at` is when somebody took the turn to go on. So what could not be written while Prefect was away, or nobody was
there to write it, is written later; of several programs one writes; and each looks at what is there first.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from ..deployments.gateway import Gateway
from ..lineage.models import Deployment, Version
from ..storage.database import Database
from ..storage.errors import InvalidInput, PrefectError
from ..storage.ids import show_run_id
from .care.models import Chore
from .run_pages import PREFIX, Page, pages_of
from .store import RUN, insert_or_ignore

_LOGGER = logging.getLogger(__name__)
_CHORE = Chore.__table__  # type: ignore[attr-defined]
_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]
_VERSION = Version.__table__  # type: ignore[attr-defined]
_NAME = "run_artifacts"
_LOOK_BACK = timedelta(hours=1)
"""In a store where this was never done, runs that ended earlier stay without pages."""
_OVERLAP = timedelta(minutes=1)
"""The end of a run may be seen later than that of another one which ended after it."""
_HOLD = timedelta(seconds=60)
"""How long a turn lasts that nobody gives back."""
_AT_ONCE = 20
_ATTEMPTS = 3


@dataclass
class RunArtifacts:
    """Writes the pages of runs that have ended."""

    database: Database
    gateway: Gateway
    page_url: str | None = None
    """Where people reach Freshline's page; None: no links."""
    _shown: dict[UUID, datetime] = field(default_factory=dict)
    """Runs whose pages are there -> when they ended, as far as a pass looks back."""

    def pass_once(self) -> int:
        """Write the pages that are missing, and return how many; none while it is somebody else's turn.

        Raises:
            PrefectError: Prefect cannot be reached; the next pass goes on where this one stopped.
        """
        begun = self.database.write(lambda connection: _begin(connection, self.database.now(connection)))
        if begun is None:
            return 0
        turn, done = begun
        until, written = turn, 0
        try:
            seen = (done - _OVERLAP, UUID(int=0))
            while runs := self._ended(seen, until):
                written += self._show([run for run in runs if run.id not in self._shown])
                self._shown |= {run.id: run.ended_at for run in runs}
                seen, done = (runs[-1].ended_at, runs[-1].id), max(done, runs[-1].ended_at)
                kept = self._keep(turn, done)
                if kept is None:
                    return written
                turn = kept
            done = until
        finally:
            self.database.write(lambda connection: _give_back(connection, turn, done))
        self._shown = {run_id: at for run_id, at in self._shown.items() if at >= done - _OVERLAP}
        return written

    def _ended(self, after: tuple[datetime, UUID], until: datetime) -> Sequence[Row[Any]]:
        """Return the next runs that were started in Prefect and have ended, in the order in which they did."""
        names = ("id", "flow_run_id", "status", "ended_at", "duration_ns")
        query = (
            sa.select(*(RUN.c[name] for name in names), _DEPLOYMENT.c.key, _VERSION.c.number)
            .join(_DEPLOYMENT, _DEPLOYMENT.c.id == RUN.c.deployment_id)
            .outerjoin(_VERSION, _VERSION.c.id == RUN.c.version_id)
            .where(
                RUN.c.ended_at >= after[0],
                sa.or_(RUN.c.ended_at > after[0], RUN.c.id > after[1]),
                RUN.c.ended_at <= until,
                RUN.c.flow_run_id.is_not(None),
                RUN.c.attempt > 0,
                RUN.c.deleted_at.is_(None),
            )
            .order_by(RUN.c.ended_at, RUN.c.id)
            .limit(_AT_ONCE)
        )
        with self.database.read() as connection:
            return connection.execute(query).all()

    def _show(self, runs: Sequence[Row[Any]]) -> int:
        if not runs:
            return 0
        with self.database.read() as connection:
            pages = pages_of(connection, runs, page_url=self.page_url)
        if not pages:
            return 0
        return sum(self._write(page) for page in self._missing(pages))

    def _missing(self, pages: Sequence[Page]) -> list[Page]:
        """Return those that Prefect does not have."""
        known: dict[tuple[UUID, str], str] = {}
        for artifact in self.gateway.read_artifacts({page.flow_run_id for page in pages}, prefix=PREFIX):
            # A flow run that was started again by hand has the pages of each of its runs.
            of = (artifact.flow_run_id, artifact.key)
            known[of] = known.get(of, "") + artifact.data
        return [page for page in pages if show_run_id(page.run_id) not in known.get((page.flow_run_id, page.key), "")]

    def _write(self, page: Page) -> bool:
        """Write one; return False when Prefect is there, but does not take it: it must not keep the others."""
        for _ in range(_ATTEMPTS):
            try:
                self.gateway.write_markdown_artifact(
                    page.key, page.text, description=page.description, flow_run_id=page.flow_run_id
                )
            except (PrefectError, InvalidInput) as failure:
                if not self.gateway.is_healthy():
                    raise
                if not self._missing([page]):  # only the reply was lost
                    return True
                refusal = failure
            else:
                return True
        _LOGGER.warning("%s of %s is not shown in Prefect: %s", page.key, show_run_id(page.run_id), refusal)
        return False

    def _keep(self, turn: datetime, done: datetime) -> datetime | None:
        """Note how far this has come, and go on for another while; None: somebody else has taken over."""

        def work(connection: Connection) -> datetime | None:
            now = self.database.now(connection)
            return now if _move(connection, turn, began_at=now, ended_at=done) else None

        return self.database.write(work)


def _begin(connection: Connection, now: datetime) -> tuple[datetime, datetime] | None:
    """Take the turn; return it, and the moment up to which nothing is left to do."""
    first = insert_or_ignore(connection, _CHORE).values(name=_NAME, began_at=now, ended_at=now - _LOOK_BACK)
    is_free = sa.and_(_CHORE.c.name == _NAME, _CHORE.c.began_at <= now - _HOLD)
    take = sa.update(_CHORE).where(is_free).values(began_at=now)
    for statement in (first, take):
        row = connection.execute(statement.returning(_CHORE.c.ended_at)).first()
        if row is not None:
            return now, row.ended_at
    return None


def _give_back(connection: Connection, turn: datetime, done: datetime) -> None:
    _move(connection, turn, began_at=turn - _HOLD, ended_at=done)


def _move(connection: Connection, turn: datetime, **values: datetime) -> bool:
    is_ours = sa.and_(_CHORE.c.name == _NAME, _CHORE.c.began_at == turn)
    return connection.execute(sa.update(_CHORE).where(is_ours).values(values)).rowcount == 1
