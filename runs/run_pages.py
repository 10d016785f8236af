"""What each run has to say in Prefect, as markdown: what it read, measured and wrote, and where its own page is.

Reads in the caller's transaction. Names are data: whatever somebody called a metric or a table, it is shown, not run.
Says nothing of a run's parameters.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from ..lineage import pointer
from ..lineage.models import ActKind, Deployment, DeploymentState, Version, VersionAct
from ..storage.ids import show_run_id
from ..storage.models import Artifact
from . import contents, markdown
from .markdown import cell
from .models import RunInput

_INPUT = RunInput.__table__  # type: ignore[attr-defined]
_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]
_VERSION = Version.__table__  # type: ignore[attr-defined]
_STATE = DeploymentState.__table__  # type: ignore[attr-defined]
_ACT = VersionAct.__table__  # type: ignore[attr-defined]
_ARTIFACT = Artifact.__table__  # type: ignore[attr-defined]

PREFIX = "freshline-"
"""Every key begins so, then comes what it is, then the deployment: `freshline-metrics-backtest-book`."""

_INPUTS = ("role", "deployment", "version", "data until", "read", "current when the run ended")
_METRICS = ("metric", "value", "unit", "convention")
_OUTPUTS = ("name", "kind", "rows", "bytes", "digest", "published")
_DIGITS = 16
"""Of a digest; the whole of it is in the record."""


@dataclass(frozen=True)
class Page:
    """One Prefect artifact of a run."""

    run_id: UUID
    flow_run_id: UUID
    key: str
    description: str
    text: str


def pages_of(connection: Connection, runs: Sequence[Row[Any]], *, page_url: str | None) -> list[Page]:
    """Return the pages of runs that have ended: rows of the run's facts, its deployment's key and its version's number.

    What a run has nothing of has no page; without the address of Freshline's page there is no link.
    """
    ids = [run.id for run in runs]
    inputs, artifacts = _inputs_of(connection, runs), _artifacts_of(connection, ids)
    metrics: dict[UUID, list[Row[Any]]] = defaultdict(list)
    for metric in contents.metrics_of(connection, ids):
        metrics[metric.run_id].append(metric)
    pages = []
    for run in runs:
        for what, description, lines in (
            ("inputs", "What the run read", inputs[run.id]),
            ("metrics", "What the run measured", _table(_METRICS, map(_metric, metrics[run.id]))),
            ("outputs", "What the run wrote", _table(_OUTPUTS, map(_output, artifacts[run.id]))),
            ("run", "The run in Freshline", _link(run.id, page_url)),
        ):
            if lines:
                text = "\n".join([*lines, "", _facts(run), ""])
                key = markdown.artifact_key(f"{PREFIX}{what}-", run.key)
                pages.append(Page(run.id, run.flow_run_id, key, description, text))
    return pages


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    found = list(rows)
    return markdown.table(head, found) if found else []


def _metric(metric: Row[Any]) -> list[str]:
    convention: Mapping[str, Any] = metric.convention or {}
    value = contents.metric_value(metric)
    how = ", ".join(f"{name}: {convention[name]}" for name in sorted(convention) if name != "unit")
    shown = "NaN" if math.isnan(value) else f"{value:.6g}"
    return [cell(metric.name), shown, cell(convention.get("unit", "")), cell(how)]


def _output(artifact: Row[Any]) -> list[str]:
    rows = "" if artifact.rows is None else f"{artifact.rows:,}"
    published = "yes" if artifact.publish else "no"
    digest = cell(artifact.digest[:_DIGITS])
    return [cell(artifact.name), artifact.kind, rows, f"{artifact.size_bytes:,}", digest, published]


def _link(run_id: UUID, page_url: str | None) -> list[str]:
    if page_url is None:
        return []
    shown = show_run_id(run_id)
    return [f"[Show {shown} in Freshline]({page_url.rstrip('/')}/runs/{shown})"]


def _facts(run: Row[Any]) -> str:
    said = [f"{show_run_id(run.id)} of {cell(run.key)}", run.status]
    if run.number is not None:
        said.append(f"v{run.number}")
    said.append(f"ended {markdown.moment(run.ended_at)}")
    if run.duration_ns is not None:
        said.append(f"took {run.duration_ns / 1e9:.1f} s")
    return " · ".join(said)


def _artifacts_of(connection: Connection, run_ids: Sequence[UUID]) -> dict[UUID, list[Row[Any]]]:
    columns = ("owner_id", "name", "kind", "rows", "size_bytes", "digest", "publish")
    query = sa.select(*(_ARTIFACT.c[name] for name in columns)).where(_ARTIFACT.c.owner_id.in_(run_ids))
    found: dict[UUID, list[Row[Any]]] = defaultdict(list)
    for row in connection.execute(query.order_by(_ARTIFACT.c.name)):
        found[row.owner_id].append(row)
    return found


def _inputs_of(connection: Connection, runs: Sequence[Row[Any]]) -> dict[UUID, list[str]]:
    """Return the lines of each run's table of inputs."""
    query = (
        sa.select(
            _INPUT.c.run_id,
            _INPUT.c.role,
            _INPUT.c.read,
            _DEPLOYMENT.c.key,
            _VERSION.c.deployment_id,
            _VERSION.c.number,
            _VERSION.c.data_end,
            _VERSION.c.digest,
        )
        .join(_DEPLOYMENT, _DEPLOYMENT.c.id == _INPUT.c.upstream_id)
        .join(_VERSION, _VERSION.c.id == _INPUT.c.version_id)
        .where(_INPUT.c.run_id.in_([run.id for run in runs]))
        .order_by(_INPUT.c.role)
    )
    reads: dict[UUID, list[Row[Any]]] = defaultdict(list)
    for row in connection.execute(query):
        reads[row.run_id].append(row)
    then = _Then(connection, {row.deployment_id for rows in reads.values() for row in rows}, runs)
    lines: dict[UUID, list[str]] = defaultdict(list)
    for run in runs:
        lines[run.id] = _table(
            _INPUTS, (_input(row, then.current(row.deployment_id, run.ended_at)) for row in reads[run.id])
        )
    return lines


def _input(read: Row[Any], current: Row[Any] | None) -> list[str]:
    if current is None:
        held = "no: there was none"
    else:
        held = "yes" if current.digest == read.digest else f"no: v{current.number} was"
    data_end = "" if read.data_end is None else str(read.data_end)
    return [cell(read.role), cell(read.key), f"v{read.number}", data_end, "yes" if read.read else "no", held]


class _Then:
    """Which version was current when: what is so now, unless something has happened since."""

    def __init__(self, connection: Connection, deployment_ids: set[UUID], runs: Sequence[Row[Any]]) -> None:
        self._connection = connection
        now = (
            sa.select(_VERSION.c.deployment_id, _VERSION.c.number, _VERSION.c.digest, _VERSION.c.created_at)
            .join(_STATE, _STATE.c.version_id == _VERSION.c.id)
            .where(_STATE.c.deployment_id.in_(deployment_ids), _STATE.c.partition == "")
        )
        self._now = {row.deployment_id: row for row in connection.execute(now)} if deployment_ids else {}
        withdrawn = (
            sa.select(_VERSION.c.deployment_id)
            .join(_ACT, _ACT.c.version_id == _VERSION.c.id)
            .where(
                _VERSION.c.deployment_id.in_(deployment_ids),
                _ACT.c.kind.in_([ActKind.WITHDRAWN.value, ActKind.RESTORED.value]),
                _ACT.c.at > min(run.ended_at for run in runs),
            )
        )
        self._moved_back = set(connection.execute(withdrawn).scalars()) if deployment_ids else set()

    def current(self, deployment_id: UUID, moment: datetime) -> Row[Any] | None:
        """Return number and digest of the version that was current at a moment."""
        now = self._now.get(deployment_id)
        if deployment_id in self._moved_back or (now is not None and now.created_at > moment):
            return pointer.current_at(self._connection, deployment_id, moment)
        return now
