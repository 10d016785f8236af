"""The contract of RunPort: what a flow asks for gives the same, whether its worker has the database or a server."""

import math
import threading
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pandas as pd
import pytest

from freshline.deployments.gateway import FlowRunFacts
from freshline.runs import author_events
from freshline.runs import run_events as events
from freshline.runs.curation import Curation
from freshline.runs.intake import FlowCall
from freshline.runs.lease_terms import Beat
from freshline.runs.points.chunks import Chunk, chunks_of
from freshline.runs.points.recording import PointRecording
from freshline.runs.points.spool import Spools
from freshline.runs.port import DirectPort
from freshline.runs.remote.client import HttpPort
from freshline.runs.remote.tokens import mint
from freshline.runs.result import Read, Result
from freshline.runs.steps import StepCount
from freshline.storage.artifacts import ArtifactRecord
from freshline.storage.errors import (
    Conflict,
    Fenced,
    InvalidInput,
    NotFound,
    StoreError,
    StoreMismatch,
    StoreUnavailable,
)
from freshline.storage.files import save_file
from freshline.storage.folders import save_folder
from freshline.storage.ids import new_id
from freshline.storage.parquet import write_table
from tests.asking import TOKEN
from tests.contracts.servers import serving
from tests.unit.runs.conftest import World, make_world

POINTS = [("loss", 1, 0.5, 10**18), ("loss", 2, math.nan, 10**18 + 1), ("system/cpu", 2, 1.0, 10**18 + 2)]


@pytest.fixture
def world(database_url):
    made = make_world(database_url)
    yield made
    made.database.dispose()


@pytest.fixture(params=["direct", "http"])
def port(request, world, tmp_path):
    if request.param == "direct":
        spools = Spools(tmp_path, new_id())
        yield DirectPort(world.database, world.objects, world.gateway, spools=spools)
        return
    with serving(world, tmp_path) as url:
        opened = HttpPort(url, TOKEN, world.objects, world.gateway, home=tmp_path, again_for_s=0.0)
        yield opened
        opened.close()


def begin(world: World, key: str = "refresh/prices", **options) -> FlowRunFacts:
    """The flow run of a run that was submitted and dispatched, as its worker sees it."""
    run = world.service.submit(key, **options)
    world.dispatch()
    return world.gateway.begin(world.flow_run_of(run).id)


def held(world: World, port, key: str = "refresh/prices"):
    """A run that the port's worker holds."""
    claim = port.claim(begin(world, key))
    assert claim.may_start
    return claim


def result(world: World, content: float = 1.0, **options) -> Result:
    stored = write_table(world.objects, pd.DataFrame({"x": [content]}))
    return Result(artifacts=[ArtifactRecord.of_table("data", stored)], **options)


def published(world: World, port, content: float = 1.0, key: str = "refresh/prices"):
    """A run of the deployment that has completed."""
    claim = held(world, port, key)
    port.complete(claim.run.id, claim.run.fence, result(world, content))
    world.gateway.end(claim.run.flow_run_id)
    return claim.run.id


def test_claim_gives_the_run_and_its_deployment_as_they_are_recorded(world, port):
    claim = port.claim(begin(world, actor="ways"), provenance={"git_commit": "abc"})
    run = world.service.get(claim.run.id)
    assert (run.status, run.git_commit) == ("running", "abc")
    for name in ("id", "fence", "attempt", "status", "request", "heartbeat_at", "base_version_id", "error_message"):
        assert getattr(claim.run, name) == getattr(run, name), name
    assert (claim.deployment.key, claim.deployment.kind) == ("refresh/prices", "refresh")
    assert claim.deployment.declaration.get("callables", {}) == {}
    assert claim.decision is not None
    assert claim.decision.verdict == "run"


def test_claim_of_a_click_records_its_one_run(world, port):
    facts = world.gateway.read_deployment("flow/refresh-prices")
    flow_run = world.gateway.begin(world.gateway.click(facts.id).id)
    first, again = port.claim(flow_run), port.claim(flow_run)
    assert first.run.id == again.run.id
    assert again.run.fence > first.run.fence
    assert [run.trigger for _, run in world.queries.runs()] == ["manual"]


def test_claim_that_is_refused_says_why(world, port):
    claim = port.claim(FlowCall.of_deployment(begin(world, "backtest/book", on_stale="force")))
    assert claim.may_start
    world.gateway.end(claim.run.flow_run_id)
    facts = world.gateway.read_deployment("flow/backtest-book")
    refused = port.claim(world.gateway.begin(world.gateway.click(facts.id).id))
    assert not refused.may_start
    assert (refused.run.status, refused.pins) == ("refused", ())
    assert "refresh/momentum" in refused.decision.reason
    assert {upstream.role for upstream in refused.decision.upstreams} == {"momentum", "prices"}


def test_claim_in_another_store_is_refused(world, port):
    other = str(new_id())
    port._store_id = other
    with pytest.raises(StoreMismatch, match=other):
        port.claim(begin(world))


def test_claim_of_what_is_not_registered_is_not_found(world, port):
    facts = world.gateway.add_deployment("flow/unknown")
    with pytest.raises(NotFound, match="registered deployment"):
        port.claim(world.gateway.begin(world.gateway.click(facts.id).id))


def test_pins_are_the_versions_that_were_current_at_the_claim(world, port):
    published(world, port)
    claim = held(world, port, "refresh/momentum")
    pins = port.pins(claim.run.id)
    assert [(pin.role, pin.key, pin.number) for pin in pins.values()] == [("prices", "refresh/prices", 1)]
    assert {one.upstream_id for one in claim.pins} == {pins["prices"].upstream_id}
    record = pins["prices"].artifacts["data"]
    assert (
        record
        == DirectPort(world.database, world.objects, world.gateway).pins(claim.run.id)["prices"].artifacts["data"]
    )
    assert record.stored_table().rows == 1
    assert port.version(pins["prices"].version_id).number == 1


def test_version_that_was_not_declared_is_found_or_refused(world, port):
    published(world, port)
    assert port.resolve("refresh/prices@v1").number == 1
    with pytest.raises(NotFound, match="refresh/price"):
        port.resolve("refresh/price")
    with pytest.raises(InvalidInput):
        port.resolve("refresh/prices@")
    Curation(world.database).withdraw("refresh/prices@v1", "wrong", actor="ways")
    with pytest.raises(Conflict, match="withdrawn"):
        port.resolve("refresh/prices@v1")


def test_file_and_folder_arrive_as_they_were_recorded(world, port, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("a")
    file = ArtifactRecord.of_file("file", save_file(world.objects, tmp_path / "in" / "a.txt"))
    folder = ArtifactRecord.of_file("folder", save_folder(world.objects, tmp_path / "in"), publish=False)
    claim = held(world, port)
    port.complete(claim.run.id, claim.run.fence, Result(artifacts=[file, folder]))
    assert port.resolve("refresh/prices").artifacts == {"file": file, "folder": folder}


def test_events_values_and_progress_are_recorded(world, port):
    claim = held(world, port)
    entries = [author_events.AuthorEvent(name="fold", data={"n": 1}), events.ProgressReported(progress=0.5)]
    values = {"a": 1.5, "b": math.nan, "c": math.inf}
    port.record(claim.run.id, claim.run.fence, entries, metrics=values, progress=0.5)
    report = world.queries.report(claim.run.id)
    assert report.run.progress == 0.5
    assert (report.metrics["a"], report.metrics["c"]) == (1.5, math.inf)
    assert math.isnan(report.metrics["b"])
    assert [event for _, event in world.queries.events(claim.run.id)][-2:] == entries


def test_messages_and_checkpoints_are_kept(world, port):
    claim = held(world, port)
    run_id, fence = claim.run.id, claim.run.fence
    assert port.newest_checkpoint(run_id) is None
    port.add_message(run_id, fence, "user", "héllo")
    number = port.save_checkpoint(run_id, fence, {"epoch": 3, "best": 0.25})
    saved = port.newest_checkpoint(run_id)
    assert (saved.checkpoint_id, saved.attempt, saved.state) == (str(number), 1, {"epoch": 3, "best": 0.25})
    assert world.kinds(run_id)[-2:] == ["message_added", "checkpoint_saved"]


def test_metric_values_are_kept_once_however_often_they_are_sent(world, port):
    claim = held(world, port)
    (chunk,) = chunks_of(POINTS, first=0)
    for _ in range(2):
        assert port.record_points(claim.run.id, claim.run.fence, chunk, {"loss": math.nan}) == len(POINTS)
    (sent,) = port.sent_points(claim.run.id)
    assert (sent.first, sent.rows, sent.fence) == (0, len(POINTS), claim.run.fence)
    assert sent.payload == chunk.payload
    assert math.isnan(world.queries.report(claim.run.id).metrics["loss"])


def test_spool_that_was_left_behind_is_sent(world, port):
    claim = held(world, port)
    (chunk,) = chunks_of(POINTS, first=0)
    spool = port.open_spool(claim.run.id, claim.run.fence)
    spool.append(chunk)
    spool.close(remove=False)
    port.send_left_behind()
    for thread in threading.enumerate():
        if thread.name == "freshline-spools":
            thread.join(timeout=60)
    assert PointRecording(world.database).end_of(claim.run.id, claim.run.fence) == len(POINTS)


def test_result_is_published_once(world, port):
    claim = held(world, port)
    whole = result(
        world,
        metrics={"sharpe": 1.25, "nan": math.nan},
        conventions={"sharpe": {"unit": "1"}},
        outputs={"note": "ok"},
        counters={"rows": 3.0},
        step_counters=[StepCount(new_id(), "fit", {"n": 1.0})],
        first_output_ns=7,
    )
    for _ in range(2):
        port.complete(claim.run.id, claim.run.fence, whole)
    report = world.queries.report(claim.run.id)
    assert (report.run.status, report.version, report.run.outputs) == ("completed", 1, {"note": "ok"})
    assert report.metrics["sharpe"] == 1.25
    assert report.conventions["sharpe"] == {"unit": "1"}
    assert report.usage.counters == {"rows": 3.0, "n": 1.0}
    assert [one.name for one in report.artifacts] == ["data"]


def test_what_was_read_is_recorded_with_the_result(world, port):
    published(world, port)
    claim = held(world, port, "refresh/momentum")
    pin = port.pins(claim.run.id)["prices"]
    reads = [Read("prices", pin.upstream_id, pin.version_id)]
    port.complete(claim.run.id, claim.run.fence, result(world, reads=reads))
    (read,) = world.queries.report(claim.run.id).reads
    assert (read.role, read.pinned, read.read) == ("prices", 1, 1)


@pytest.mark.parametrize("will_retry", [False, True])
def test_error_is_recorded_with_what_the_body_left(world, port, will_retry):
    claim = held(world, port)
    due = claim.run.heartbeat_at + timedelta(seconds=30) if will_retry else None
    for _ in range(2):  # the first answer was lost
        port.fail(
            claim.run.id,
            claim.run.fence,
            KeyError("x\udc00"),
            "trace",
            will_retry=will_retry,
            counters={"rows": 2.0},
            resume_due_at=due,
        )
    run = world.service.get(claim.run.id)
    assert run.status == ("retrying" if will_retry else "failed")
    assert (run.error_type, run.error_traceback, run.resume_due_at) == ("KeyError", "trace", due)
    assert "x" in run.error_message


def test_pause_and_cancellation_are_heard_at_the_next_heartbeat(world, port):
    claim = held(world, port)
    run_id, fence = claim.run.id, claim.run.fence
    assert port.heartbeat(run_id, fence) is None
    world.service.pause(run_id)
    assert port.heartbeat(run_id, fence) == Beat.PAUSE
    world.service.cancel(run_id)
    assert port.heartbeat(run_id, fence) == Beat.CANCEL
    port.acknowledge_cancel(run_id, fence)
    assert world.service.get(run_id).status == "cancelled"


def test_paused_run_gives_its_lease_back(world, port):
    claim = held(world, port)
    port.pause(claim.run.id, claim.run.fence)
    assert world.service.get(claim.run.id).status == "paused"


def test_whoever_does_not_hold_the_run_is_fenced(world, port):
    flow_run = begin(world)
    old = port.claim(flow_run)
    new = port.claim(flow_run)
    run_id, fence = old.run.id, old.run.fence
    calls = {
        "heartbeat": lambda: port.heartbeat(run_id, fence),
        "record": lambda: port.record(run_id, fence, progress=0.1),
        "add_message": lambda: port.add_message(run_id, fence, "user", "x"),
        "save_checkpoint": lambda: port.save_checkpoint(run_id, fence, {}),
        "complete": lambda: port.complete(run_id, fence, result(world)),
        "fail": lambda: port.fail(run_id, fence, ValueError("x"), "", will_retry=False),
        "pause": lambda: port.pause(run_id, fence),
        "acknowledge_cancel": lambda: port.acknowledge_cancel(run_id, fence),
    }
    passed = []
    for name, call in calls.items():
        with suppress(Fenced):
            call()
            passed.append(name)
    assert passed == ["pause", "acknowledge_cancel"]  # which have nothing to say to their caller, and change nothing
    assert world.service.get(run_id).status == "running"
    assert port.heartbeat(run_id, new.run.fence) is None


def test_terms_let_another_process_renew_the_lease(world, port, tmp_path):
    claim = held(world, port)
    terms = port.lease_terms(claim.run.id, claim.run.fence)
    if terms is None:
        assert isinstance(port, DirectPort)  # its clock stands still: no other process shares it
        return
    from freshline.runs.lease_keeper import beat_once, store_of

    written = {**vars(terms), "run_id": str(terms.run_id)}
    assert beat_once(store_of(written)) == (Beat.OK, "")
    world.service.cancel(claim.run.id)
    assert beat_once(store_of(written)) == (Beat.CANCEL, "")
    wrong = written | {"connect": {**terms.connect, "token": "wrong"}}
    assert beat_once(store_of(wrong))[0] == Beat.AWAY
    port.acknowledge_cancel(claim.run.id, claim.run.fence)
    assert beat_once(store_of(written))[0] == Beat.FENCED


# What only a server has.


@pytest.fixture
def served(world, tmp_path):
    """A server, and what makes a port to it."""
    with serving(world, tmp_path) as url:
        ports = []

        def make(token: str = TOKEN, to: str = url) -> HttpPort:
            ports.append(HttpPort(to, token, world.objects, world.gateway, home=tmp_path, again_for_s=0.0))
            return ports[-1]

        yield make
        for port in ports:
            port.close()


def test_worker_without_the_servers_token_claims_nothing(world, served):
    flow_run = begin(world)
    for token in ("", "not-the-token-at-all"):
        with pytest.raises(StoreError, match="FRESHLINE_API_TOKEN"):
            served(token).claim(flow_run)
    assert world.queries.runs()[0][1].status != "running"


def test_token_of_one_attempt_speaks_for_no_other(world, served):
    port = served()
    claim, other = held(world, port), held(world, port, "refresh/calendar")
    stranger = served("")
    at = (other.run.id, other.run.fence)
    stranger._tokens[at] = port._tokens[claim.run.id, claim.run.fence]
    with pytest.raises(StoreError):
        stranger.heartbeat(other.run.id, other.run.fence)
    stranger._tokens[at] = port._tokens[at]
    assert stranger.heartbeat(other.run.id, other.run.fence) is None
    # Nor for a later attempt of the same run, nor for what is not the run's.
    stranger._tokens[at] = mint(TOKEN, other.run.id, other.run.fence + 1)
    with pytest.raises(StoreError):
        stranger.heartbeat(other.run.id, other.run.fence)
    with pytest.raises(StoreError):
        served(port._tokens[at]).claim(begin(world))


def test_server_that_cannot_be_reached_is_an_unavailable_store(world, served):
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:9"):
        served(to="http://127.0.0.1:9").claim(begin(world))


def test_chunk_that_is_no_chunk_is_refused(world, served):
    port = served()
    claim = held(world, port)
    (chunk,) = chunks_of(POINTS, first=0)
    for bad in (Chunk(0, 2, chunk.payload), replace(chunk, payload=b"\x01nonsense")):
        with pytest.raises(InvalidInput):
            port.record_points(claim.run.id, claim.run.fence, bad, {})
    assert port.sent_points(claim.run.id) == []
