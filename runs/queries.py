"""What the records answer: runs with their metrics and inputs, deployments with their freshness.

Each question is answered from one snapshot. What is asked of the graph alone is in `lineage.questions`; why
a run ran is in `explaining`, what tells two runs apart in `comparing`.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from ..lineage import graph, questions, reasons, registry, versions
from ..lineage.listing import Listing
from ..lineage.models import Deployment, DeploymentState, Version
from ..storage.artifacts import ArtifactRecord, artifacts_of
from ..storage.database import Database
from ..storage.errors import FreshlineError
from ..storage.ids import parse_run_id, show_run_id
from . import comparing, comparing_many, contents, explaining, notebook, steps, store
from . import run_events as events
from .care import acts
from .models import Run, RunUsage, Step
from .reads import RunRead, reads_of
from .record import as_run
from .repair.auto_refresh_due import due
from .repair.auto_refresh_rows import is_wanted, stale_among
from .searching.matching import without_index
from .status import RunStatus

_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]
_STATE = DeploymentState.__table__  # type: ignore[attr-defined]
_VERSION = Version.__table__  # type: ignore[attr-defined]

_POLL_S = 0.25


@dataclass(frozen=True)
class DeploymentStatus:
    """One deployment as it is now."""

    key: str
    freshness: str
    activity: str
    version: int | None
    data_end: date | None
    last_run_at: datetime | None
    last_stop_reason: str | None
    lapses_at: datetime | None
    why: str
    """One sentence on its freshness."""
    auto_refresh: str | None = None
    """One sentence on the run that follows by itself; null when none does, because it is ready or nobody wants it."""
    external: bool = False
    """Prefect does not run it: its versions are published by hand."""


@dataclass(frozen=True)
class GraphNow:
    """All deployments that are not retired, and which of them read which."""

    deployments: Sequence[DeploymentStatus]
    """By key."""
    edges: Sequence[graph.NamedEdge]
    """By reader and role."""
    at: datetime
    """When it was so, by the database's clock."""


@dataclass(frozen=True)
class RunReport:
    """A run with what belongs to it."""

    run: Run
    deployment: str
    metrics: dict[str, float]
    conventions: dict[str, dict[str, Any]]
    detail: dict[str, Any]
    version: int | None
    schema_diff: dict[str, Any] | None
    """How the columns of its version differ from those of the one before: see `VersionRecord.schema_diff`."""
    inputs: Sequence[questions.InputVersion]
    """The versions that it read, down to the sources."""
    reads: Sequence[RunRead]
    """What its claim pinned and what its body read, role by role."""
    artifacts: Sequence[ArtifactRecord]
    steps: Sequence[Step]
    """Prefect's task runs, in the order in which they started."""
    usage: RunUsage
    """What the steps and the counters add up to."""

    def _repr_html_(self) -> str:
        metrics = [(name, value, self.conventions.get(name, {}).get("unit")) for name, value in self.metrics.items()]
        return notebook.run_html(
            notebook.RunView(self.run, self.deployment, self.version, metrics=metrics, inputs=self.inputs)
        )


@dataclass(frozen=True)
class Queries:
    """Reads, each in one snapshot."""

    database: Database
    tenant_id: str = "default"

    def runs(self, *, deployment: str | None = None, limit: int = 50) -> list[tuple[str, Run]]:
        """Return (deployment key, run), newest first; deleted runs not."""
        # Most runs are the tenant's, and SQLite takes any index to be selective: it is to read in order.
        tenant = without_index(store.RUN.c.tenant_id) if self.database.dialect == "sqlite" else store.RUN.c.tenant_id
        query = (
            sa.select(store.RUN, _DEPLOYMENT.c.key)
            .join(_DEPLOYMENT, _DEPLOYMENT.c.id == store.RUN.c.deployment_id)
            .where(tenant == self.tenant_id, store.RUN.c.deleted_at.is_(None))
            .order_by(store.RUN.c.id.desc())
            .limit(limit)
        )
        with self.database.read() as connection:
            if deployment is not None:
                found = registry.deployment(connection, deployment, tenant_id=self.tenant_id)
                query = query.where(store.RUN.c.deployment_id == found.id)
            return [(row.key, as_run(row)) for row in connection.execute(query)]

    def report(self, run_id: UUID | str) -> RunReport:
        """Return a run with its metrics, inputs and artifacts.

        Raises:
            NotFound: there is no such run.
        """
        with self.database.read() as connection:
            row = self._run(connection, run_id)
            target = connection.execute(sa.select(_DEPLOYMENT).where(_DEPLOYMENT.c.id == row.deployment_id)).one()
            metrics = contents.metrics_of(connection, [row.id])
            version = versions.version_of_run(connection, row.id)
            detail = dict(contents.detail_of(connection, target.kind, row.id)._mapping)
            detail.pop("run_id")
            usage = steps.usage_of(connection, row.id)
            return RunReport(
                run=as_run(row),
                deployment=target.key,
                metrics={metric.name: contents.metric_value(metric) for metric in metrics},
                conventions={metric.name: metric.convention for metric in metrics if metric.convention},
                detail=detail,
                version=version.number if version is not None else None,
                schema_diff=version.schema_diff if version is not None else None,
                inputs=questions.inputs_of(connection, version.id) if version is not None else [],
                reads=reads_of(connection, row.id),
                artifacts=artifacts_of(connection, row.id),
                steps=[Step(**step._mapping) for step in steps.steps_of(connection, [row.id])],
                usage=RunUsage(**usage._mapping) if usage is not None else RunUsage(run_id=row.id),
            )

    def view(self, run: Run) -> notebook.RunView:
        """Return what a notebook shows of a run, whose record was read at some time.

        Raises:
            NotFound: there is no such run here.
            RunDeleted: it was deleted since.
        """
        with self.database.read() as connection:
            row = self._run(connection, run.id)
            inputs = self._inputs(connection, row)
            version = versions.version_of_run(connection, row.id)
            key = sa.select(_DEPLOYMENT.c.key).where(_DEPLOYMENT.c.id == row.deployment_id)
            metrics = contents.metrics_of(connection, [row.id])
            nearest = notebook.nearest_of(inputs)
            return notebook.RunView(
                run=run,
                deployment=connection.execute(key).scalar_one(),
                version=version.number if version is not None else None,
                metrics=[(one.name, contents.metric_value(one), (one.convention or {}).get("unit")) for one in metrics],
                inputs=inputs,
                edges=questions.edges_among(connection, [one.version_id for one in nearest]),
                status_now=row.status,
            )

    def metrics(self, run_ids: Iterable[UUID]) -> dict[UUID, dict[str, float]]:
        """Return the latest values of these runs."""
        found: dict[UUID, dict[str, float]] = {}
        with self.database.read() as connection:
            for metric in contents.metrics_of(connection, run_ids):
                found.setdefault(metric.run_id, {})[metric.name] = contents.metric_value(metric)
        return found

    def events(self, run_id: UUID | str, *, after: int = 0) -> list[tuple[int, events.Event]]:
        """Return (number, event) of the run's log entries with a number above `after`."""
        with self.database.read() as connection:
            rows = store.events_of(connection, parse_run_id(run_id), after=after)
            return [(row.seq, events.parse_event(row.kind, row.payload)) for row in rows]

    def status(self, *, deployment: str | None = None) -> list[DeploymentStatus]:
        """Return every deployment that is not retired, ordered by key, or one of them.

        Raises:
            NotFound: there is no such deployment; the message has the nearest keys.
        """
        with self.database.read() as connection:
            if deployment is None:
                return self._status(connection)
            return self._status(connection, registry.deployment(connection, deployment, tenant_id=self.tenant_id).id)

    def graph(self) -> GraphNow:
        """Return every deployment that is not retired, and the edges between them."""
        with self.database.read() as connection:
            deployments = self._status(connection)
            edges = graph.named_edges(connection, tenant_id=self.tenant_id)
            return GraphNow(deployments, edges, at=self.database.now(connection))

    def explain(self, deployment: str) -> reasons.Explanation:
        """Return why a deployment is as fresh as it is, down to the runs and versions that started it.

        Raises:
            NotFound: there is no such deployment; the message has the nearest keys.
        """
        with self.database.read() as connection:
            found = registry.deployment(connection, deployment, tenant_id=self.tenant_id)
            explained = reasons.explain(connection, found.id)
            stale = stale_among(connection, [found.id]) if found.auto_refresh is not None else {}
            return replace(explained, auto_refresh=due(stale[found.id]).sentence()) if stale else explained

    def explain_run(self, run_id: UUID | str) -> explaining.RunExplanation:
        """Return why a run ran, was skipped, refused, waits or failed.

        Raises:
            NotFound: there is no such run.
        """
        with self.database.read() as connection:
            return explaining.explain_run(connection, self._run(connection, run_id), now=self.database.now(connection))

    def compare(self, run_a: UUID | str, run_b: UUID | str) -> comparing.Comparison:
        """Return what tells two runs apart: request, inputs, code, environment, metrics, outputs.

        Raises:
            NotFound: there is no such run.
        """
        with self.database.read() as connection:
            a, b = self._run(connection, run_a), self._run(connection, run_b)
            return comparing.compare(comparing.facts_of(connection, a), comparing.facts_of(connection, b))

    def compare_all(self, run_ids: Sequence[UUID | str]) -> comparing_many.RunTable:
        """Return what tells several runs apart from the first of them, side by side.

        Raises:
            InvalidInput: they are fewer than two, more than fifty, or one comes twice.
            NotFound: there is no such run.
        """
        comparing_many.check(run_ids)
        with self.database.read() as connection:
            facts = [comparing.facts_of(connection, self._run(connection, run_id)) for run_id in run_ids]
            return comparing_many.compare_all(facts)

    def inputs(self, reference: str | UUID, *, recursive: bool = True) -> Listing[questions.InputVersion]:
        """Return what went into a version or a run, nearest first, down to the sources.

        `backtest/book` is the current version, `backtest/book@v2` that one, `run-…` what a run has read: of a run that
        has published no version, what it has pinned or read until now.

        Raises:
            InvalidInput: the text is neither a version nor a run.
            NotFound: there is no such deployment, version or run; the message has what is near.
        """
        with self.database.read() as connection:
            if questions.is_run(reference):
                run = self._run(connection, questions.run_named(reference))
                return self._inputs(connection, run, recursive=recursive)
            version_id = questions.version_named(connection, reference, tenant_id=self.tenant_id)
            return questions.inputs_of(connection, version_id, recursive=recursive)

    def consumers(self, reference: str | UUID) -> Listing[questions.BuiltVersion]:
        """Return the versions that read this one directly; a run means the version that it published."""
        with self.database.read() as connection:
            return questions.consumers_of(connection, self._version(connection, reference))

    def impact(self, reference: str | UUID) -> questions.Impact:
        """Return everything that was built from a version, directly or through others, and what of it is current."""
        with self.database.read() as connection:
            return questions.impact_of(connection, self._version(connection, reference))

    def upstream(self, deployment: str, *, recursive: bool = True) -> Listing[questions.LinkedDeployment]:
        """Return the deployments that this one reads, directly or through others, nearest first."""
        with self.database.read() as connection:
            found = registry.deployment(connection, deployment, tenant_id=self.tenant_id)
            return questions.deployments_above(connection, found.id, recursive=recursive)

    def downstream(self, deployment: str, *, recursive: bool = True) -> Listing[questions.LinkedDeployment]:
        """Return the deployments that read this one, directly or through others, nearest first."""
        with self.database.read() as connection:
            found = registry.deployment(connection, deployment, tenant_id=self.tenant_id)
            return questions.deployments_below(connection, found.id, recursive=recursive)

    def wait(
        self, run_id: UUID | str, *, timeout_s: float = 3600.0, watch: Callable[[Run], object] | None = None
    ) -> Run:
        """Return the run when it has ended; `watch` is told of it until then, four times a second.

        Raises:
            FreshlineError: it had not ended after `timeout_s` seconds.
        """
        wanted = parse_run_id(run_id)
        deadline = time.monotonic() + timeout_s
        while True:
            with self.database.read() as connection:
                row = store.get_run(connection, wanted)
            if RunStatus(row.status).is_terminal:
                return as_run(row)
            if watch is not None:
                watch(as_run(row))
            if time.monotonic() > deadline:
                raise FreshlineError(f"{show_run_id(wanted)} is still {row.status} after {timeout_s:g} s")
            time.sleep(_POLL_S)

    def _status(self, connection: Connection, only: UUID | None = None) -> list[DeploymentStatus]:
        query = (
            sa.select(
                _DEPLOYMENT.c.id,
                _DEPLOYMENT.c.key,
                _DEPLOYMENT.c.external,
                _STATE.c.freshness,
                _STATE.c.activity,
                _STATE.c.last_run_at,
                _STATE.c.last_stop_reason,
                _STATE.c.lapses_at,
                _VERSION.c.number,
                _VERSION.c.data_end,
            )
            .join(_STATE, _STATE.c.deployment_id == _DEPLOYMENT.c.id)
            .outerjoin(_VERSION, _VERSION.c.id == _STATE.c.version_id)
            .where(_DEPLOYMENT.c.tenant_id == self.tenant_id, _DEPLOYMENT.c.retired_at.is_(None))
            .order_by(_DEPLOYMENT.c.key)
        )
        if only is not None:
            query = query.where(_DEPLOYMENT.c.id == only)
        rows = list(connection.execute(query))
        why = reasons.sentences_of(connection, [row.id for row in rows])
        stale = stale_among(connection, [row.id for row in rows]) if is_wanted(connection) else {}
        return [
            DeploymentStatus(
                key=row.key,
                freshness=row.freshness,
                activity=row.activity,
                version=row.number,
                data_end=row.data_end,
                last_run_at=row.last_run_at,
                last_stop_reason=row.last_stop_reason,
                lapses_at=row.lapses_at,
                why=why[row.id],
                auto_refresh=due(stale[row.id]).sentence() if row.id in stale else None,
                external=row.external,
            )
            for row in rows
        ]

    def _inputs(
        self, connection: Connection, run: Row[Any], *, recursive: bool = True
    ) -> Listing[questions.InputVersion]:
        if run.version_id is not None:
            return questions.inputs_of(connection, run.version_id, recursive=recursive)
        reads = [(row.role, row.version_id) for row in contents.inputs_of(connection, run.id)]
        return questions.inputs_from(connection, reads, recursive=recursive)

    def _version(self, connection: Connection, reference: str | UUID) -> UUID:
        if questions.is_run(reference):
            self._run(connection, questions.run_named(reference))
        return questions.version_named(connection, reference, tenant_id=self.tenant_id)

    def _run(self, connection: Connection, run_id: UUID | str) -> Row[Any]:
        """Return the row of a run of this tenant; errors as `acts.readable_run`."""
        return acts.readable_run(connection, run_id, tenant_id=self.tenant_id)
