"""What a notebook calls: the service and the queries on the store that the environment names."""

from collections.abc import Iterable, Mapping
from datetime import date
from typing import TYPE_CHECKING, Any, get_args
from uuid import UUID

from ..lineage.aliases import AliasRecord
from ..lineage.history import VersionRecord
from ..lineage.listing import Listing
from ..lineage.questions import InputVersion, is_run
from ..lineage.reasons import Explanation
from ..lineage.withdrawal import Judged
from ..storage.errors import InvalidInput
from .care.collecting import Collector
from .care.deletion import Deletions
from .care.deletion_reports import Deletion
from .care.retention import Retention
from .comparing import Comparison
from .composition import shared_freshline
from .curation import Curation
from .explaining import RunExplanation
from .models import Run
from .points.reading import RunMetrics, SeriesForm, SeriesReader
from .queries import Queries, RunReport
from .redo.backfill_plan import BackfillPreview, BackfillRequest
from .redo.backfill_reports import BackfillReport
from .redo.backfilling import Backfills
from .redo.replay_comparison import ReplayComparison
from .redo.replay_comparison import compare_replay as compare_replay_in
from .redo.replaying import Replays
from .searching.searches import Search, Searches

if TYPE_CHECKING:
    from .care.verifying import Verifier
    from .publication import Publication


def submit(deployment: str, parameters: Mapping[str, Any] | None = None, **options: Any) -> Run:
    """Record a run of a deployment and have it dispatched; options as of `RunExecutionService.submit`."""
    return shared_freshline().service.submit(deployment, parameters, **options)


def publish(name: str, *, uri: str, **options: Any) -> "Publication":
    """Publish what lies at a URI as a version of an external resource; options as of `Publisher.publish`."""
    # Reading tables takes longer to import than everything else here.
    from .publishing import Publisher

    freshline = shared_freshline()
    settings = freshline.settings
    publisher = Publisher(freshline.database, freshline.objects, tenant_id=settings.tenant_id, lease_s=settings.lease_s)
    return publisher.publish(name, uri=uri, **options)


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


def latest_metrics(run_id: UUID | str) -> RunMetrics:
    """Return the latest value of each metric of a run, with its convention, and how many values were logged."""
    return series_reader().metrics(run_id)


def series(run_id: UUID | str, names: str | Iterable[str] | None = None, *, as_: SeriesForm = "pandas") -> Any:
    """Return what a run has logged until now, also while it runs, as pandas or `"arrow"`.

    n rows in the order in which they were logged; columns name, step: int64, value: float64, at: UTC. `names` are the
    only metrics that are wanted: one, or several.
    """
    if as_ not in get_args(SeriesForm):
        raise InvalidInput(f"as_={as_!r}: a series is read as {' or '.join(get_args(SeriesForm))}")
    table = series_reader().series(run_id, [names] if isinstance(names, str) else names)
    return table if as_ == "arrow" else table.to_pandas()


def series_reader() -> SeriesReader:
    """Return what reads the series of the store's runs; it can follow one while it runs."""
    freshline = shared_freshline()
    return SeriesReader(freshline.database, freshline.objects, tenant_id=freshline.settings.tenant_id)


def inputs(reference: UUID | str, *, recursive: bool = True) -> Listing[InputVersion]:
    """Return what went into a version (`backtest/book`, `backtest/book@v2`) or a run (`run-…`), down to the sources."""
    return queries().inputs(reference, recursive=recursive)


def explain(subject: UUID | str) -> Explanation | RunExplanation:
    """Return why a deployment is as fresh as it is, or why a run ran, was skipped, refused or waits."""
    return queries().explain_run(subject) if is_run(subject) else queries().explain(str(subject))


def compare(run_a: UUID | str, run_b: UUID | str) -> Comparison:
    """Return what tells two runs apart: request, inputs, code, environment, metrics, schema, outputs."""
    return queries().compare(run_a, run_b)


def search(
    query: str | None = None,
    *,
    order_by: str | None = None,
    limit: int | None = None,
    metrics: Iterable[str] | None = None,
) -> Search:
    """Return the runs for which a query holds, read when they are asked for: `sharpe_ratio > 1 and started_at > -7d`.

    As of `Searches.search`.
    """
    return searches().search(query, order_by=order_by, limit=limit, metrics=metrics)


def searches() -> Searches:
    """Return what searches through the runs of the store."""
    freshline = shared_freshline()
    return Searches(freshline.database, tenant_id=freshline.settings.tenant_id)


def queries() -> Queries:
    """Return the questions that the store can answer."""
    freshline = shared_freshline()
    return Queries(freshline.database, tenant_id=freshline.settings.tenant_id)


def replay(run_id: UUID | str, **options: Any) -> Run:
    """Record a run that repeats a completed one on the versions that it read; options as of `Replays.replay`."""
    freshline = shared_freshline()
    return Replays(freshline.database, tenant_id=freshline.settings.tenant_id).replay(run_id, **options)


def compare_replay(run_id: UUID | str) -> ReplayComparison:
    """Return what tells the result of a replay from that of the run that it repeats."""
    freshline = shared_freshline()
    return compare_replay_in(freshline.database, freshline.objects, run_id)


def backfill(
    deployment: str, first: date | str, last: date | str, *, actor: str = "anonymous", **options: Any
) -> BackfillReport:
    """Run a deployment for each data date from `first` to `last`; options as of `BackfillRequest`."""
    request = BackfillRequest(deployment=deployment, first=first, last=last, **options)
    return backfills().start(request, actor=actor)


def preview_backfill(deployment: str, first: date | str, last: date | str, **options: Any) -> BackfillPreview:
    """Return what `backfill` would run; nothing is recorded."""
    return backfills().preview(BackfillRequest(deployment=deployment, first=first, last=last, **options))


def backfills() -> Backfills:
    """Return the backfills of the store: get, newest, cancel, resume, wait."""
    freshline = shared_freshline()
    return Backfills(freshline.database, tenant_id=freshline.settings.tenant_id)


def versions(deployment: str, *, limit: int = 50) -> Listing[VersionRecord]:
    """Return the versions of a deployment, newest first, with labels, aliases and what was withdrawn."""
    return curation().versions(deployment, limit=limit)


def aliases(deployment: str) -> list[AliasRecord]:
    """Return the aliases of a deployment, by name, with who moved them last."""
    return curation().aliases(deployment)


def set_alias(version: str, name: str, **options: Any) -> VersionRecord:
    """Let an alias such as `champion` name a version from now on; options as of `Curation.set_alias`."""
    return curation().set_alias(version, name, **options)


def remove_alias(alias: str, **options: Any) -> int:
    """Remove an alias such as `training/alpha@champion`; return the number of the version that it named."""
    return curation().remove_alias(alias, **options)


def label(version: str, label: str, *, actor: str = "anonymous", reason: str = "") -> VersionRecord:
    """Give a version its label, such as `v1.2.3`, once and for good."""
    return curation().label(version, label, actor=actor, reason=reason)


def withdraw(version: str, reason: str, *, actor: str = "anonymous") -> Judged:
    """Declare a version wrong: the newest that holds is current, and whoever read it is stale."""
    return curation().withdraw(version, reason, actor=actor)


def restore(version: str, reason: str, *, actor: str = "anonymous") -> Judged:
    """Take the withdrawal of a version back."""
    return curation().restore(version, reason, actor=actor)


def delete(*runs: UUID | str, **options: Any) -> Deletion:
    """Delete runs, softly: `undelete` takes that back until the grace period has passed.

    Options as of `Deletions.delete`.
    """
    return deletions().delete(*runs, **options)


def undelete(*runs: UUID | str, **options: Any) -> list[Run]:
    """Take the deletion of these runs back; options as of `Deletions.restore`."""
    return deletions().restore(*runs, **options)


def deletions() -> Deletions:
    """Return the deletions of the store: delete, delete_all, restore, erase, deleted."""
    freshline = shared_freshline()
    return Deletions(freshline.database, tenant_id=freshline.settings.tenant_id)


def retention() -> Retention:
    """Return what carries out the retention rules of the store: plan, apply."""
    freshline = shared_freshline()
    return Retention(freshline.database, tenant_id=freshline.settings.tenant_id)


def collector() -> Collector:
    """Return what collects the garbage of the store: collect, preview."""
    freshline = shared_freshline()
    return Collector(freshline.database, freshline.objects)


def verifier() -> "Verifier":
    """Return what compares the stored bytes with the records: verify, verify_all."""
    # Reading tables takes longer to import than everything else here.
    from .care.verifying import Verifier

    freshline = shared_freshline()
    return Verifier(freshline.database, freshline.objects, tenant_id=freshline.settings.tenant_id)


def curation() -> Curation:
    """Return what people say of the store's versions: aliases with their moves, labels, withdrawals."""
    freshline = shared_freshline()
    return Curation(freshline.database, tenant_id=freshline.settings.tenant_id)
