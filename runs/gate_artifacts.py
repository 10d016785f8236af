"""The gate's decisions as people see them in Prefect: a markdown artifact on the flow run of each run that asked.

Owns what such a page says and when it is written. Whoever dispatches and reconciles writes it, a moment after the
decision: no flow waits for it, no transaction holds it, and what cannot be written is left out. Nothing here is needed
by anything else. Says nothing of a run's parameters.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Row

from ..deployments.gateway import Gateway
from ..lineage.models import Deployment
from ..storage.database import Database
from ..storage.errors import InvalidInput, PrefectError
from ..storage.ids import show_run_id
from . import markdown, store
from .markdown import cell, text
from .status import RunStatus

_LOGGER = logging.getLogger(__name__)
_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]

PREFIX = "freshline-gate-"
"""Every key begins so: `freshline-gate-backtest-book`. Prefect shows the artifacts of one key as one history."""

_SHOWN = ("id", "flow_run_id", "attempt", "status", "error_message", "decision", "created_at")
_TOLD_APART = frozenset({RunStatus.WAITING, RunStatus.REFUSED, RunStatus.SKIPPED})
"""Statuses in which the gate may have said something else than before."""
_LOOK_BACK = timedelta(hours=1)
_OVERLAP = timedelta(minutes=1)
_AT_ONCE = 50
_ATTEMPTS = 3

_LATER = frozenset({"at", "fail", "grace", "of", "sessions", "timezone", "warn"})
"""Keys of a policy that stand behind the one that says its kind: a database does not keep their order."""
_HEAD = ("role", "upstream", "version", "data until", "freshness", "why", "policy", "holds until")


@dataclass
class GateArtifacts:
    """Writes what is not shown in Prefect yet. Several may run at once: each looks at what is there first."""

    database: Database
    gateway: Gateway
    _looked_at: datetime | None = None
    """The last pass that came through."""
    _shown: dict[UUID, str] = field(default_factory=dict)
    """Runs whose decision is shown -> at which point of their lives it was made."""
    _failed: dict[UUID, int] = field(default_factory=dict)
    """Runs whose artifact Prefect would not take -> how often."""

    def pass_once(self) -> int:
        """Write the artifacts that are missing; return how many.

        Raises:
            PrefectError: Prefect cannot be reached; the next pass goes on.
        """
        now, points = self._points()
        news = [run_id for run_id, point in points.items() if self._shown.get(run_id) != point]
        written = sum(self._show(news[start : start + _AT_ONCE], points) for start in range(0, len(news), _AT_ONCE))
        self._shown = {run_id: point for run_id, point in self._shown.items() if run_id in points}
        self._failed = {run_id: count for run_id, count in self._failed.items() if run_id in points}
        self._looked_at = now
        return written

    def _points(self) -> tuple[datetime, dict[UUID, str]]:
        """Return the time, and the runs that may have asked the gate, oldest first -> the point of their lives."""
        run = store.RUN
        asked = sa.select(run.c.id, run.c.flow_run_id, run.c.attempt, run.c.status)
        with self.database.read() as connection:
            now = self.database.now(connection)
            since = now - _LOOK_BACK if self._looked_at is None else max(now - _LOOK_BACK, self._looked_at - _OVERLAP)
            # Two short reads, each with an index of its own. Which of them have a flow run is asked below: as a
            # condition it would make SQLite take another index, and read every run.
            rows = connection.execute(
                sa.union(asked.where(run.c.ended_at.is_(None)), asked.where(run.c.ended_at >= since))
            ).all()
        return now, {
            row.id: f"{row.attempt} {row.status if row.status in _TOLD_APART else ''}"
            for row in sorted(rows, key=lambda row: row.id)
            # A pending one asks again when it is claimed.
            if row.flow_run_id is not None and row.status != RunStatus.PENDING
        }

    def _show(self, run_ids: Sequence[UUID], points: Mapping[UUID, str]) -> int:
        runs = [row for row in self._read(run_ids) if row.decision is not None and row.decision["upstreams"]]
        known: set[tuple[UUID, str]] = set()
        if runs:
            there = self.gateway.read_artifacts({row.flow_run_id for row in runs}, prefix=PREFIX)
            known = {(artifact.flow_run_id, artifact.data) for artifact in there}
        written = 0
        for row in runs:
            page = gate_page(row, row.key)
            if (row.flow_run_id, page) not in known:
                if self._write(row, page):
                    written += 1
                elif self._failed[row.id] < _ATTEMPTS:
                    continue
            self._shown[row.id] = points[row.id]
        # What the gate was not asked about, or has no upstreams, has nothing to show.
        self._shown |= {run_id: points[run_id] for run_id in set(run_ids) - {row.id for row in runs}}
        return written

    def _write(self, run: Row[Any], page: str) -> bool:
        """Write one; return False when Prefect is there, but does not take it."""
        try:
            self.gateway.write_markdown_artifact(
                artifact_key(run.key), page, description="What the gate saw", flow_run_id=run.flow_run_id
            )
        except (PrefectError, InvalidInput) as failure:
            if not self.gateway.is_healthy():
                raise
            # Something about this one: it must not keep the others.
            self._failed[run.id] = self._failed.get(run.id, 0) + 1
            level = logging.WARNING if self._failed[run.id] == _ATTEMPTS else logging.DEBUG
            _LOGGER.log(level, "the gate's decision on %s is not shown in Prefect: %s", show_run_id(run.id), failure)
            return False
        return True

    def _read(self, run_ids: Sequence[UUID]) -> list[Row[Any]]:
        run = store.RUN
        query = (
            sa.select(*(run.c[name] for name in _SHOWN), _DEPLOYMENT.c.key)
            .join(_DEPLOYMENT, _DEPLOYMENT.c.id == run.c.deployment_id)
            .where(run.c.id.in_(run_ids))
            .order_by(run.c.id)
        )
        with self.database.read() as connection:
            return list(connection.execute(query))


def artifact_key(deployment: str) -> str:
    """Return the key of the artifacts of a deployment, in the characters that Prefect allows."""
    return markdown.artifact_key(PREFIX, deployment)


def gate_page(run: Row[Any], deployment: str) -> str:
    """Return the decision on a run as markdown: the verdict in one sentence, and a table of what the gate saw."""
    decision: Mapping[str, Any] = run.decision
    lines = [f"### The gate: {decision['verdict']}", "", text(decision["reason"]), ""]
    if run.status == RunStatus.REFUSED and run.error_message and run.error_message != decision["reason"]:
        lines += [f"The run was refused: {text(run.error_message)}", ""]
    if decision.get("forced_by"):
        lines += [f"It was forced by {text(decision['forced_by'])}.", ""]
    lines += markdown.table(_HEAD, [_cells(upstream) for upstream in decision["upstreams"]])
    facts = [f"{show_run_id(run.id)} of {deployment}", f"`on_stale`: {decision['on_stale']}"]
    if decision.get("as_of"):
        facts.append(f"as of {_moment(decision['as_of'])}")
    return "\n".join([*lines, "", " · ".join(facts), ""])


def _cells(upstream: Mapping[str, Any]) -> list[str]:
    # A decision of an earlier release has less to say.
    policy = upstream.get("policy") or {}
    number = upstream.get("version")
    return [
        cell(upstream["role"]),
        cell(upstream["deployment"]),
        f"v{number}" if number is not None else "",
        cell(upstream.get("data_end") or ""),
        cell(upstream["freshness"]),
        cell(upstream.get("reason") or upstream.get("warning") or ""),
        cell(", ".join(f"{name}: {policy[name]}" for name in sorted(policy, key=lambda name: (name in _LATER, name)))),
        _moment(upstream["lapses_at"]) if upstream.get("lapses_at") else "",
    ]


def _moment(written: str) -> str:
    return markdown.moment(datetime.fromisoformat(written))
