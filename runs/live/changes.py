"""What has changed in a project since it was last looked at: runs and deployments, the newest state of each.

There is no order across runs but time, and transactions become visible out of the order of their times. So nothing is
read "after" a position in the database: the runs that may have changed are compared with what was known of them, and
each difference gets the next number here, when it is seen. The numbers belong to this process; a cursor of another one
is not understood, and whoever brings it is told to look at everything again.
"""

import secrets
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.engine import Connection

from ...lineage.reasons import sentences_of
from ...storage.ids import show_run_id
from . import rows

_KEPT = 5_000
"""Changes that a subscriber that comes back is still told."""
_OVERLAP = timedelta(seconds=60)
"""How long a transaction that ends a run may take until it is visible, from its own time on."""
_MOST_MESSAGE = 500
_RUN_IDS = ("id", "parent_id", "retry_of", "replay_of")
_LONGEST_PAUSE = timedelta(minutes=10)
"""After a longer one nothing is compared: everybody looks at everything again."""


@dataclass(frozen=True, slots=True)
class Change:
    """The newest state of a run or a deployment."""

    number: int
    cursor: str
    event: str
    """`run`, `run_deleted`, `deployment` or `deployment_retired`."""
    key: str
    """What it is about: a later change of the same key replaces it."""
    deployment: str
    data: Mapping[str, Any]
    text: str
    """The same as JSON, written once for all who get it."""


_Head = tuple[int, bool, bool]
"""The number of a run's last event, whether it has ended, whether it is deleted."""
_Told = tuple[str, str, str, Mapping[str, Any]]
"""Of a change that has no number yet: event, key, deployment and data."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at the project has found; known when it is taken in."""

    at: datetime
    is_first: bool
    """What was before is not known: whoever watches has to look at everything."""
    heads: Mapping[UUID, _Head]
    states: Mapping[UUID, tuple[Any, ...]]
    told: Sequence[_Told]


class Changes:
    """Compares the project with what was known of it."""

    def __init__(self, *, tenant_id: str, kept: int = _KEPT) -> None:
        self._tenant_id = tenant_id
        self._kept: deque[Change] = deque(maxlen=kept)
        self._epoch = ""
        self._number = 0
        self._seen_at: datetime | None = None
        self._heads: Mapping[UUID, _Head] = {}
        """Of each run that may change."""
        self._states: Mapping[UUID, tuple[Any, ...]] = {}

    @property
    def cursor(self) -> str:
        """The position after all that was seen."""
        return self._cursor(self._number)

    def after(self, cursor: str) -> list[Change] | None:
        """Return the changes that followed a cursor; None: they are not kept, or it is none of this process."""
        epoch, _, number = cursor.rpartition(".")
        if epoch != self._epoch or not (number.isascii() and number.isdigit()):
            return None
        position = int(number)
        first_kept = self._kept[0].number if self._kept else self._number + 1
        if not first_kept - 1 <= position <= self._number:
            return None
        return [change for change in self._kept if change.number > position]

    def look(self, connection: Connection, *, now: datetime, deployments: bool) -> Look:
        """Return what differs from what is known; the first look, and one after a long pause, only learns.

        Deployments are compared only when it is asked for: that reads the state of each of them.
        """
        is_first = self._seen_at is None or now - self._seen_at > _LONGEST_PAUSE
        since = (now if is_first or self._seen_at is None else self._seen_at) - _OVERLAP
        found = rows.runs_changed(connection, tenant_id=self._tenant_id, since=since)
        heads = {row.id: (row.last_seq, row.ended_at is not None, row.deleted_at is not None) for row in found}
        states = rows.states(connection, tenant_id=self._tenant_id) if is_first or deployments else self._states
        told: list[_Told] = []
        if not is_first:
            told = self._runs(connection, self._changed_runs(heads)) + self._deployments(connection, states)
        return Look(now, is_first, heads, states, told)

    def take_in(self, look: Look) -> list[Change]:
        """Know what was seen, and return what has changed; of a look that failed nothing is known."""
        if look.is_first:
            self._epoch, self._number = secrets.token_urlsafe(6), 0
            self._kept.clear()
        self._seen_at, self._heads, self._states = look.at, look.heads, look.states
        made = [self._change(*one) for one in look.told]
        self._kept.extend(made)
        return made

    def _changed_runs(self, heads: Mapping[UUID, _Head]) -> list[UUID]:
        # Under way until now, and not among them: it ended by a clock that is far behind, or longer ago than that.
        lost = [run_id for run_id, (_, has_ended, _) in self._heads.items() if not has_ended and run_id not in heads]
        return [run_id for run_id, head in heads.items() if self._heads.get(run_id) != head] + lost

    def _runs(self, connection: Connection, run_ids: Sequence[UUID]) -> list[_Told]:
        if not run_ids:
            return []
        made: list[_Told] = []
        for row in rows.summaries_of(connection, run_ids):
            shown = show_run_id(row.id)
            if row.deleted_at is not None:
                made.append(("run_deleted", shown, row.deployment, {"id": shown}))
                continue
            made.append(("run", shown, row.deployment, _summary(row)))
        return made

    def _deployments(self, connection: Connection, states: Mapping[UUID, tuple[Any, ...]]) -> list[_Told]:
        changed = [one for one, state in states.items() if self._states.get(one) != state]
        retired = [one for one in self._states if one not in states]
        made: list[_Told] = []
        if retired:
            for row in rows.deployments_of(connection, retired):
                made.append(("deployment_retired", row.key, row.key, {"key": row.key}))
        if changed:
            why = sentences_of(connection, changed)
            for row in rows.deployments_of(connection, changed):
                data = row._asdict()
                deployment_id = data.pop("id")
                data |= {
                    "last_run_id": row.last_run_id and show_run_id(row.last_run_id),
                    "why": why.get(deployment_id, ""),
                }
                made.append(("deployment", row.key, row.key, data))
        return made

    def _change(self, event: str, key: str, deployment: str, data: Mapping[str, Any]) -> Change:
        self._number += 1
        return Change(self._number, self._cursor(self._number), event, key, deployment, data, rows.as_text(data))

    def _cursor(self, number: int) -> str:
        return f"{self._epoch}.{number}"


def _summary(row: Any) -> dict[str, Any]:
    """Return what a list shows of a run; a long message is cut, because many of them are held."""
    data = row._asdict()
    data.pop("deleted_at")
    took, message = data.pop("duration_ns"), row.error_message
    data |= {name: data[name] and show_run_id(data[name]) for name in _RUN_IDS}
    data["duration_s"] = None if took is None else took / 1e9
    if message is not None and len(message) > _MOST_MESSAGE:
        data["error_message"] = f"{message[:_MOST_MESSAGE]}…"
    return data  # type: ignore[no-any-return]
