"""What is done again: a backfill over past dates, a replay on the same versions, a refresh that nobody asked for.

Against a real Prefect server and worker, in nine flow runs: everything is done before the first test, and each test
then looks at the record, at Prefect and at the tables. Two dispatchers, reconcilers and sweeps work side by side.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from textwrap import dedent
from typing import TypeVar

import pytest

from freshline import runs, storage
from freshline.deployments.gateway import FlowRunFacts, FlowRunState
from freshline.runs.background import Background
from freshline.runs.embedded import Embedded, embedded
from freshline.runs.models import Run
from freshline.runs.redo.backfill_plan import BackfillPreview
from freshline.runs.redo.backfill_reports import BackfillReport
from freshline.runs.redo.replay_comparison import ReplayComparison
from freshline.runs.repair.auto_refresh import refresh_stale
from freshline.runs.status import RunStatus
from freshline.storage.errors import InvalidInput
from freshline.storage.ids import show_run_id

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.timeout(900)]

T = TypeVar("T")

WAIT_S = 240.0
"""How long anything is waited for, before the tests fail."""
SOURCE, DAYS, FOLLOWER = "refresh/source", "refresh/days", "refresh/follower"
FIRST, SECOND, LAST = (date(2025, 12, day) for day in (1, 2, 3))

FLOWS = """
from datetime import date
from pathlib import Path

import pyarrow as pa
from prefect import flow

from freshline.flows import RunContext, track


@flow
@track.refresh
def sourcing(run: RunContext, edition: int = 1):
    days = [date(2025, 12, day) for day in (1, 2, 3)]
    run.write("values", pa.table({"date": days, "value": [edition * day.day for day in days]}))


@flow
@track.refresh
def summing(run: RunContext, mended: str):
    values = run.read("source", as_="arrow")["value"].to_pylist()
    if run.data_as_of == date(2025, 12, 2) and not Path(mended).exists():
        raise RuntimeError("not mended yet")
    run.write("sums", pa.table({"date": [run.data_as_of], "sum": [sum(values)]}))


@flow
@track.refresh
def following(run: RunContext):
    total = sum(run.read("source", as_="arrow")["value"].to_pylist())
    run.log(total=total)
    run.write("total", pa.table({"total": [total]}))
"""


@dataclass(frozen=True)
class Done:
    """The stack, still up, and what was done there."""

    stack: Embedded
    published: Run
    """The first run of the source."""
    asked_for: Run
    """The follower's first run: that one is the user's to start."""
    backfilled: BackfillReport
    """With a date that failed."""
    left: BackfillPreview
    """Of the same range, then."""
    changed: Run
    """The source's second run, with other values."""
    redone: BackfillReport
    """The same backfill, resumed after that."""
    replay: Run
    """Of `asked_for`, when its deployment had been refreshed."""
    comparison: ReplayComparison

    def of(self, key: str) -> list[Run]:
        """The runs of a deployment, oldest first."""
        return [run for _, run in reversed(self.stack.queries.runs(deployment=key))]

    def refreshed(self) -> Run:
        """The one run of the follower that nobody asked for."""
        (run,) = [run for run in self.of(FOLLOWER) if run.trigger == "cascade"]
        return run

    def in_prefect(self, run: Run) -> FlowRunFacts:
        """The run's flow run, when it has ended there too."""
        assert run.flow_run_id is not None
        flow_run_id = run.flow_run_id

        def find() -> FlowRunFacts | None:
            found = self.stack.gateway.read_flow_run(flow_run_id)
            return found if found is not None and found.has_ended else None

        return until("the flow run to end", find)

    def flow_runs(self, key: str) -> set[object]:
        """The ids of all flow runs that Prefect has of a deployment."""
        deployment_id = self.in_prefect(self.of(key)[0]).deployment_id
        assert deployment_id is not None
        since = datetime.now(UTC) - timedelta(hours=1)
        return {one.id for one in self.stack.gateway.recent_flow_runs([deployment_id], since=since)}

    def reads(self, run: Run) -> list[tuple[str, int | None, int | None]]:
        """What a run read of the source: deployment, pinned number, number that was read."""
        return [(one.key, one.pinned, one.read) for one in self.stack.queries.report(run.id).reads]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    directory = tmp_path_factory.mktemp("done-again")
    mended = directory / "mended"
    (directory / "again_flows.py").write_text(dedent(FLOWS).lstrip())
    (directory / "prefect.yaml").write_text(catalogue(mended))
    with embedded(directory / "home", isolated=True, reconcile_s=2.0, worker_limit=4) as stack:
        stack.deploy(directory / "prefect.yaml")
        with Background(stack.freshline, stack.gateway, reconcile_s=2.0):
            yield do(stack, mended)


def catalogue(mended: Path) -> str:
    def entry(name: str, flow: str, **more: object) -> dict[str, object]:
        upstream = {} if name == "source" else {"upstream": {"source": SOURCE}}
        parameters = {"parameters": {"mended": str(mended)}} if name == "days" else {}
        resource = {"name": name, "kind": "dataset", "runs": "refresh", **upstream, **more}
        pool = {"name": "local"}
        return {"name": name, "entrypoint": f"again_flows.py:{flow}", "work_pool": pool, "resource": resource} | (
            parameters
        )

    terms = {"quiet": "2s", "wait_at_most": "1m", "at_most_every": "1s"}
    entries = [
        entry("source", "sourcing"),
        entry("days", "summing"),
        entry("follower", "following", auto_refresh=terms),
    ]
    return json.dumps({"deployments": entries}, indent=1)  # JSON is YAML


def do(stack: Embedded, mended: Path) -> Done:
    published = completed(runs.submit(SOURCE, actor="ada"))
    asked_for = runs.submit(FOLLOWER, actor="ada")
    begun = runs.backfill(DAYS, FIRST, LAST, every="1d", limit=2, max_failures=1, actor="ada")
    # Whoever began it does no more than look: the reconcilers start the dates.
    backfilled = until("the backfill to end", lambda: ended(begun))
    left = runs.preview_backfill(DAYS, FIRST, LAST, every="1d")
    asked_for = completed(asked_for)

    changed = completed(runs.submit(SOURCE, {"edition": 2}, actor="ada"))
    mended.touch()
    redone = runs.backfills().resume(begun.id)
    redone = until("the resumed backfill to end", lambda: ended(redone))
    until("the follower to be refreshed by itself", lambda: versions_of(FOLLOWER) == [2, 1])
    replay = completed(runs.replay(asked_for.id, actor="ada"))
    return Done(
        stack=stack,
        published=published,
        asked_for=asked_for,
        backfilled=backfilled,
        left=left,
        changed=changed,
        redone=redone,
        replay=replay,
        comparison=runs.compare_replay(replay.id),
    )


def completed(run: Run) -> Run:
    run = runs.wait(run.id, timeout_s=WAIT_S)
    assert run.status == RunStatus.COMPLETED, run.error_message
    return run


def ended(backfill: BackfillReport) -> BackfillReport | None:
    now = runs.backfills().get(backfill.id)
    return now if now.ended_at is not None else None


def until(what: str, find: Callable[[], T | None]) -> T:
    deadline = time.monotonic() + WAIT_S
    while not (found := find()):
        assert time.monotonic() < deadline, f"waited {WAIT_S:.0f} s in vain for {what}"
        time.sleep(0.2)
    return found


def versions_of(key: str) -> list[int]:
    return [version.number for version in runs.versions(key)]


def current_of(key: str) -> int:
    (current,) = [version.number for version in runs.versions(key) if version.is_current]
    return current


def sum_of(run_id: object) -> int:
    found: int = storage.read(f"run-{run_id}", as_="arrow")["sum"][0].as_py()
    return found


# Backfill.


def test_backfill_is_one_run_and_one_flow_run_for_each_date(done: Done) -> None:
    first = [done.stack.service.get(one.run_id) for one in done.backfilled.dates if one.run_id is not None]
    assert [run.data_as_of for run in first] == [FIRST, SECOND, LAST]
    assert {(run.trigger, run.trigger_name, run.actor) for run in first} == {("backfill", done.backfilled.name, "ada")}
    flow_runs = [done.in_prefect(run) for run in first]
    assert [one.parameters["data_as_of"] for one in flow_runs] == ["2025-12-01", "2025-12-02", "2025-12-03"]
    assert [one.state_type for one in flow_runs] == [
        FlowRunState.COMPLETED,
        FlowRunState.FAILED,
        FlowRunState.COMPLETED,
    ]
    # The fourth is that of the date that was done again.
    assert len(done.of(DAYS)) == 4
    assert done.flow_runs(DAYS) == {run.flow_run_id for run in done.of(DAYS)}


def test_date_that_fails_does_not_stop_the_others_when_one_may(done: Done) -> None:
    report = done.backfilled
    assert (report.status, report.reason) == ("completed", "1 of its dates did not end well")
    assert [(one.data_date, one.status, one.tries) for one in report.dates] == [
        (FIRST, "completed", 1),
        (SECOND, "failed", 1),
        (LAST, "completed", 1),
    ]
    assert "not mended yet" in (report.dates[1].reason or "")
    assert done.left.dates == (SECOND,)
    assert [one.data_date for one in done.left.existing] == [FIRST, LAST]


def test_last_date_of_a_backfill_runs_alone_after_the_others(done: Done) -> None:
    *before, last = (done.stack.service.get(one.run_id) for one in done.backfilled.dates if one.run_id is not None)
    for run in before:
        assert run.ended_at is not None
        assert last.started_at is not None
        assert run.ended_at <= last.started_at


def test_resumed_backfill_does_the_failed_date_again_and_no_other(done: Done) -> None:
    report = done.redone
    assert (report.id, report.status, report.reason) == (done.backfilled.id, "completed", None)
    assert [(one.status, one.tries) for one in report.dates] == [("completed", 1), ("completed", 2), ("completed", 1)]
    before, after = ([one.run_id for one in report.dates] for report in (done.backfilled, done.redone))
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False, True]


def test_each_date_reads_versions_of_its_own_and_nothing_later_than_itself(done: Done) -> None:
    first, again, last = (done.stack.service.get(one.run_id) for one in done.redone.dates if one.run_id is not None)
    # The source had moved on when the second date was done again.
    assert [done.reads(run) for run in (first, again, last)] == [[(SOURCE, 1, 1)], [(SOURCE, 2, 2)], [(SOURCE, 1, 1)]]
    assert [sum_of(run.id) for run in (first, again, last)] == [1, 2 * (1 + 2), 1 + 2 + 3]


def test_date_that_is_done_again_does_not_take_the_place_of_a_later_one(done: Done) -> None:
    _, again, last = (done.stack.service.get(one.run_id) for one in done.redone.dates if one.run_id is not None)
    (current,) = [version for version in runs.versions(DAYS) if version.is_current]
    assert (current.run_id, current.data_end) == (last.id, LAST)
    assert (again.status, again.stop_reason) == ("completed", "superseded")


def test_second_backfill_of_the_same_range_starts_nothing(done: Done) -> None:
    before = [run.id for run in done.of(DAYS)]
    with pytest.raises(InvalidInput, match="each of the 3 dates has a run already"):
        runs.backfill(DAYS, FIRST, LAST, every="1d", actor="ada")
    assert [run.id for run in done.of(DAYS)] == before
    assert [one.id for one in runs.backfills().newest()] == [done.redone.id]
    assert runs.preview_backfill(DAYS, FIRST, LAST, every="1d").dates == ()


# Auto-refresh.


def test_changed_upstream_is_followed_by_one_run_that_nobody_asked_for(done: Done) -> None:
    run = done.refreshed()
    assert (run.trigger, run.trigger_name, run.status) == ("cascade", "auto_refresh", "completed")
    assert run.actor == show_run_id(done.changed.id)
    told = runs.explain(run.id)
    assert told.asked_by == (
        "its deployment is refreshed by itself, and was stale: refresh/source is at v2 now, with other content than "
        "was read"
    )
    assert done.reads(run) == [(SOURCE, 2, 2)]


def test_follower_is_ready_again_and_has_no_other_run(done: Done) -> None:
    (status,) = done.stack.queries.status(deployment=FOLLOWER)
    assert (status.freshness, status.auto_refresh, status.version) == ("ready", None, 2)
    assert refresh_stale(done.stack.freshline.database) == 0
    assert [run.id for run in done.of(FOLLOWER)] == [done.asked_for.id, done.refreshed().id, done.replay.id]
    assert done.flow_runs(FOLLOWER) == {run.flow_run_id for run in done.of(FOLLOWER)}


def test_stale_deployment_that_does_not_ask_for_it_gets_no_run(done: Done) -> None:
    (status,) = done.stack.queries.status(deployment=DAYS)
    assert (status.freshness, status.auto_refresh) == ("stale", None)
    assert {run.trigger for run in done.of(DAYS)} == {"backfill"}


# Replay.


def test_replay_reads_the_versions_that_were_read_and_not_those_that_are_current(done: Done) -> None:
    assert done.reads(done.asked_for) == done.reads(done.replay) == [(SOURCE, 1, 1)]
    assert current_of(SOURCE) == 2
    assert (done.replay.replay_of, done.replay.trigger) == (done.asked_for.id, "submitted")
    assert done.in_prefect(done.replay).state_type == FlowRunState.COMPLETED


def test_replay_gives_the_same_digest_and_the_same_metrics(done: Done) -> None:
    assert done.comparison.is_equal
    assert [(one.name, one.original_digest == one.replay_digest) for one in done.comparison.outputs] == [
        ("total", True)
    ]
    assert {one.name: (one.original, one.replay) for one in done.comparison.metrics if one.counts} == {"total": (6, 6)}
    digest = {version.run_id: version.digest for version in runs.versions(FOLLOWER)}
    assert digest[done.replay.id] == digest[done.asked_for.id] != digest[done.refreshed().id]


def test_replay_leaves_the_current_version_although_it_ran_last(done: Done) -> None:
    assert done.replay.stop_reason == "superseded"
    assert [(version.number, version.is_current) for version in runs.versions(FOLLOWER)] == [
        (3, False),
        (2, True),
        (1, False),
    ]
