"""What a notebook calls: the service and the queries on the store that the environment names."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, Literal, get_args, overload
from uuid import UUID

from ..lineage.aliases import AliasRecord
from ..lineage.history import VersionRecord
from ..lineage.listing import Listing
from ..lineage.questions import InputVersion, is_run
from ..lineage.reasons import Explanation
from ..lineage.withdrawal import Judged
from ..storage.errors import InvalidInput
from ..storage.ids import id_of
from .aggregate_reports import GroupBy, Statistics
from .aggregates import Moment, statistics_of
from .care.collecting import Collector
from .care.deletion import Deletions
from .care.deletion_reports import Deletion
from .care.retention import Retention
from .comparing import Comparison
from .comparing_many import RunTable
from .composition import opened_already, shared_freshline
from .curation import Curation
from .event_log import EventLog, LoggedEvent
from .explaining import RunExplanation
from .models import Run
from .notebook import RunView, run_html
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


def get(run_id: UUID | str | Run) -> Run:
    """Return a run by its id, with or without `run-`."""
    return shared_freshline().service.get(id_of(run_id))


def html_of(run: Run) -> str:
    """Return a run as a notebook shows it: with metrics and inputs, if its store was opened, else its record alone."""
    try:
        freshline = opened_already()
        view = Queries(freshline.database, tenant_id=freshline.settings.tenant_id).view(run) if freshline else None
    except Exception:
        view = None
    return run_html(view or RunView(run))


def cancel(run_id: UUID | str | Run, *, actor: str = "anonymous") -> Run:
    """Ask for the end of a run."""
    return shared_freshline().service.cancel(id_of(run_id), actor=actor)


def pause(run_id: UUID | str | Run, *, actor: str = "anonymous") -> Run:
    """Ask a running body to pause."""
    return shared_freshline().service.pause(id_of(run_id), actor=actor)


def resume(run_id: UUID | str | Run, *, actor: str = "anonymous") -> Run:
    """Let a paused run go on."""
    return shared_freshline().service.resume(id_of(run_id), actor=actor)


def wait(run_id: UUID | str | Run, *, timeout_s: float = 3600.0, watch: Callable[[Run], object] | None = None) -> Run:
    """Return the run when it has ended; `watch` is told of it until then, four times a second.

    Raises:
        FreshlineError: it had not ended after `timeout_s` seconds.
    """
    return queries().wait(id_of(run_id), timeout_s=timeout_s, watch=watch)


@overload
def events(run_id: UUID | str | Run, *, after: int = 0, follow: Literal[False] = False) -> Listing[LoggedEvent]: ...


@overload
def events(
    run_id: UUID | str | Run, *, after: int = 0, follow: Literal[True], timeout_s: float | None = None
) -> Iterator[LoggedEvent]: ...


def events(
    run_id: UUID | str | Run, *, after: int = 0, follow: bool = False, timeout_s: float | None = None
) -> Listing[LoggedEvent] | Iterator[LoggedEvent]:
    """Return a run's log, the entries with a number above `after`; with `follow`, as they come until the run has ended.

    Errors as of `EventLog.read` and `EventLog.follow`.
    """
    log = event_log()
    if follow:
        return log.follow(id_of(run_id), after=after, timeout_s=timeout_s)
    if timeout_s is not None:
        raise InvalidInput("timeout_s goes with follow=True: what is there already is returned at once")
    return log.read(id_of(run_id), after=after)


def event_log() -> EventLog:
    """Return what reads the logs of the store's runs."""
    freshline = shared_freshline()
    return EventLog(freshline.database, tenant_id=freshline.settings.tenant_id)


def report(run_id: UUID | str | Run) -> RunReport:
    """Return a run with its metrics, its inputs down to the sources, and its artifacts."""
    return queries().report(id_of(run_id))


def latest_metrics(run_id: UUID | str | Run) -> RunMetrics:
    """Return the latest value of each metric of a run, with its convention, and how many values were logged."""
    return series_reader().metrics(id_of(run_id))


def series(run_id: UUID | str | Run, names: str | Iterable[str] | None = None, *, as_: SeriesForm = "pandas") -> Any:
    """Return what a run has logged until now, also while it runs, as pandas or `"arrow"`.

    n rows in the order in which they were logged; columns name, step: int64, value: float64, at: UTC. `names` are the
    only metrics that are wanted: one, or several.
    """
    if as_ not in get_args(SeriesForm):
        raise InvalidInput(f"as_={as_!r}: a series is read as {' or '.join(get_args(SeriesForm))}")
    table = series_reader().series(id_of(run_id), [names] if isinstance(names, str) else names)
    return table if as_ == "arrow" else table.to_pandas()


def series_reader() -> SeriesReader:
    """Return what reads the series of the store's runs; it can follow one while it runs."""
    freshline = shared_freshline()
    return SeriesReader(freshline.database, freshline.objects, tenant_id=freshline.settings.tenant_id)


def inputs(reference: UUID | str | Run, *, recursive: bool = True) -> Listing[InputVersion]:
    """Return what went into a version (`backtest/book`, `backtest/book@v2`) or a run (`run-…`), down to the sources."""
    return queries().inputs(id_of(reference), recursive=recursive)


def explain(subject: UUID | str | Run) -> Explanation | RunExplanation:
    """Return why a deployment is as fresh as it is, or why a run ran, was skipped, refused or waits."""
    meant = id_of(subject)
    return queries().explain_run(meant) if is_run(meant) else queries().explain(str(meant))


@overload
def compare(runs: UUID | str | Run, other: UUID | str | Run) -> Comparison: ...


@overload
def compare(runs: Sequence[UUID | str | Run]) -> RunTable: ...


def compare(
    runs: UUID | str | Run | Sequence[UUID | str | Run], other: UUID | str | Run | None = None
) -> Comparison | RunTable:
    """Return what tells two runs apart, or, given a list, several side by side with the first of them.

    Compared are request, parameters, inputs, code, environment, how they ended, metrics, schema and outputs.

    Raises:
        InvalidInput: one run alone was given, a list of more than fifty, or one run twice in it.
        NotFound: there is no such run.
    """
    is_list = isinstance(runs, Sequence) and not isinstance(runs, str)
    if is_list == (other is not None):
        raise InvalidInput("give two runs, or one list of runs")
    if isinstance(runs, Sequence) and not isinstance(runs, str):
        return queries().compare_all([id_of(run) for run in runs])
    assert other is not None  # as above
    return queries().compare(id_of(runs), id_of(other))


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


def statistics(
    *,
    group_by: str = GroupBy.DEPLOYMENT,
    deployment: str | None = None,
    type: str | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    trend: bool = True,
) -> Statistics:
    """Return how the runs have gone that were created from `since` (30 days ago) until `until` (now).

    By `"deployment"`, `"type"` or `"nothing"`; of one deployment, or of one type, where these are given. A moment is a
    `datetime`, a `date`, or text such as `"2026-11-01"` or `"7d"` (so long ago); without a time zone it is in UTC.

    Raises:
        InvalidInput: a value is none, or the span is empty.
        NotFound: there is no such deployment.
    """
    freshline = shared_freshline()
    return statistics_of(
        freshline.database,
        tenant_id=freshline.settings.tenant_id,
        group_by=group_by,
        deployment=deployment,
        type_=type,
        since=since,
        until=until,
        trend=trend,
    )


def queries() -> Queries:
    """Return the questions that the store can answer."""
    freshline = shared_freshline()
    return Queries(freshline.database, tenant_id=freshline.settings.tenant_id)


def replay(run_id: UUID | str | Run, **options: Any) -> Run:
    """Record a run that repeats a completed one on the versions that it read; options as of `Replays.replay`."""
    freshline = shared_freshline()
    return Replays(freshline.database, tenant_id=freshline.settings.tenant_id).replay(id_of(run_id), **options)


def compare_replay(run_id: UUID | str | Run) -> ReplayComparison:
    """Return what tells the result of a replay from that of the run that it repeats."""
    freshline = shared_freshline()
    return compare_replay_in(freshline.database, freshline.objects, id_of(run_id))


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


def delete(*runs: UUID | str | Run, **options: Any) -> Deletion:
    """Delete runs, softly: `undelete` takes that back until the grace period has passed.

    Options as of `Deletions.delete`.
    """
    return deletions().delete(*map(id_of, runs), **options)


def undelete(*runs: UUID | str | Run, **options: Any) -> list[Run]:
    """Take the deletion of these runs back; options as of `Deletions.restore`."""
    return deletions().restore(*map(id_of, runs), **options)


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
