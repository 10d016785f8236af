"""What a notebook calls: the service and the queries on the store that the environment names."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from ..lineage.explain import Explanation
from ..lineage.versions import InputVersion
from .composition import shared_freshline
from .models import Run
from .queries import Queries, RunReport


def submit(deployment: str, parameters: Mapping[str, Any] | None = None, **options: Any) -> Run:
    """Record a run of a deployment and have it dispatched; options as of `RunExecutionService.submit`."""
    return shared_freshline().service.submit(deployment, parameters, **options)


def get(run_id: UUID | str) -> Run:
    """Return a run by its id, with or without `run-`."""
    return shared_freshline().service.get(run_id)


def cancel(run_id: UUID | str, *, actor: str = "anonymous") -> Run:
    """Ask for the end of a run."""
    return shared_freshline().service.cancel(run_id, actor=actor)


def pause(run_id: UUID | str, *, actor: str = "anonymous") -> Run:
    """Ask a running body to pause."""
    return shared_freshline().service.pause(run_id, actor=actor)


def resume(run_id: UUID | str, *, actor: str = "anonymous") -> Run:
    """Let a paused run go on."""
    return shared_freshline().service.resume(run_id, actor=actor)


def wait(run_id: UUID | str, *, timeout_s: float = 3600.0) -> Run:
    """Return the run when it has ended."""
    return queries().wait(run_id, timeout_s=timeout_s)


def report(run_id: UUID | str) -> RunReport:
    """Return a run with its metrics, its inputs down to the sources, and its artifacts."""
    return queries().report(run_id)


def inputs(reference: str, *, recursive: bool = True) -> Sequence[InputVersion]:
    """Return what went into a version: `backtest/book` (the current one) or `backtest/book@v2`."""
    return queries().inputs(reference, recursive=recursive)


def explain(deployment: str) -> Explanation:
    """Return why a deployment is as fresh as it is, down to the run that started it."""
    return queries().explain(deployment)


def queries() -> Queries:
    """Return the questions that the store can answer."""
    freshline = shared_freshline()
    return Queries(freshline.database, tenant_id=freshline.settings.tenant_id)
