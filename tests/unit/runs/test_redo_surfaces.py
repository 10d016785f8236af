"""Replay and backfill as people meet them: the pages of the documentation, and the command line."""

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass

import pandas as pd
import pytest
from click.testing import CliRunner

from freshline.runs import interface
from freshline.runs.cli import cli, redo
from freshline.runs.composition import Freshline
from freshline.runs.redo.backfilling import Backfills
from freshline.runs.result import Result
from freshline.storage.artifacts import ArtifactRecord
from freshline.storage.ids import show_run_id
from freshline.storage.parquet import write_table
from freshline.storage.settings import Settings
from tests.pages import code, read


@pytest.fixture
def shared(world, monkeypatch):
    """The small world is the store that the environment names."""
    made = Freshline(Settings(), world.database, world.objects)
    monkeypatch.setattr(interface, "shared_freshline", lambda: made)
    monkeypatch.setitem(Backfills.wait.__kwdefaults__, "poll_s", 0.02)
    return world


@contextmanager
def worker(world, content=lambda run: {"x": [1.0, 2.0]}):
    """Runs what is pending while the block lasts; `content` is what the body writes, or None to let it fail."""
    closed, failures = threading.Event(), []

    def work():
        world.dispatch()
        for _, run in world.queries.runs(limit=500):
            if run.status != "pending" or run.flow_run_id is None:
                continue
            claim = world.claim(run.flow_run_id)
            frame = content(claim.run)
            if frame is None:
                world.port.fail(run.id, claim.run.fence, ValueError("no data"), "", will_retry=False)
            else:
                stored = write_table(world.objects, pd.DataFrame(frame))
                result = Result(artifacts=[ArtifactRecord.of_table("data", stored)], metrics={"ic": frame["x"][0]})
                world.port.complete(run.id, claim.run.fence, result)
            world.gateway.end(run.flow_run_id)

    def loop():
        try:
            while not closed.wait(0.01):
                work()
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        closed.set()
        thread.join(timeout=30)
    assert failures == []


@dataclass(frozen=True)
class Done:
    output: str
    exit_code: int


def call(*arguments):
    """Call the command line; what a command returns is its exit code, as `main` has it."""
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False, standalone_mode=False)
    return Done(done.stdout, done.return_value or 0)


def completed(world):
    with worker(world):
        return interface.wait(interface.submit("refresh/prices").id, timeout_s=30)


def test_guide_to_replaying_runs(shared, capsys):
    (text,) = code(read("how-to/replay-a-run.md"), "python", "replay")
    names = {"run_id": completed(shared).id}
    with worker(shared, lambda run: {"x": [1.0, 2.5]}):
        exec(compile(text, "replay-a-run.md", "exec"), names)
    told = capsys.readouterr().out.splitlines()
    assert told[0] == names["comparison"].sentence()
    assert told[1:] == ["data x 1 0.5"]


def test_guide_to_backfilling_runs(shared, capsys):
    preview, begin, afterwards = (
        code(read("how-to/backfill-a-range.md"), "python", title)[0] for title in ("preview", "begin", "afterwards")
    )
    names = {}
    exec(compile(preview, "backfill-a-range.md", "exec"), names)
    with worker(shared):
        exec(compile(begin, "backfill-a-range.md", "exec"), names)
    exec(compile(afterwards, "backfill-a-range.md", "exec"), names)
    told = capsys.readouterr().out.splitlines()
    assert told[:2] == ["5 would run, 0 have a run already", "completed 5 of 5"]
    assert [line.split()[:2] for line in told[2:]] == [[f"2025-12-0{day}", "completed"] for day in range(1, 6)]


def test_replay_that_is_equal_exits_0_and_says_so(shared):
    original = completed(shared)
    with worker(shared):
        done = call("replay", show_run_id(original.id), "--wait")
    assert done.exit_code == 0, done.output
    assert f"gave the same result as {show_run_id(original.id)} (with the same code)" in done.output


def test_replay_that_differs_exits_1_with_columns_and_metrics(shared):
    original = completed(shared)
    with worker(shared, lambda run: {"x": [1.5, 2.0]}):
        done = call("replay", str(original.id), "--wait")
    assert done.exit_code == 1
    assert "Columns of data that differ" in done.output
    assert "ic" in done.output
    (replayed,) = [run for _, run in shared.queries.runs() if run.replay_of == original.id]
    again = call("replay", str(replayed.id), "--compare", "--json")
    assert again.exit_code == 1
    told = json.loads(again.output)
    assert told["is_equal"] is False
    assert told["comparison"]["outputs"][0]["table"]["columns"][0]["rows_different"] == 1


def test_replay_that_fails_exits_1_with_the_error(shared):
    original = completed(shared)
    with worker(shared, lambda run: None):
        done = call("replay", str(original.id), "--wait")
    assert done.exit_code == 1
    assert "failed (error): no data" in done.output


def test_replay_without_waiting_names_the_run_and_exits_0(shared):
    original = completed(shared)
    done = call("replay", str(original.id), "--key", "k")
    assert done.exit_code == 0
    assert f"pending: replay of {show_run_id(original.id)}" in done.output
    assert json.loads(call("replay", str(original.id), "--key", "k", "--json").output)["status"] == "pending"


RANGE = ("--from", "2025-12-01", "--to", "2025-12-03")


def test_preview_shows_dates_and_what_is_left_out(shared):
    done = call("backfill", "refresh/prices", *RANGE, "--preview")
    assert done.exit_code == 0
    assert "3 dates of refresh/prices (every 1d) would run; 0 have a run already" in done.output
    assert shared.queries.runs() == []
    with worker(shared):
        call("backfill", "start", "refresh/prices", *RANGE, "--wait")
    told = json.loads(call("backfill", "refresh/prices", "--from", "2025-12-01", "--to", "2025-12-04",
                           "--preview", "--json").output)  # fmt: skip
    assert (told["dates"], len(told["existing"])) == (["2025-12-04"], 3)
    assert (
        "Left out"
        in call("backfill", "refresh/prices", "--from", "2025-12-03", "--to", "2025-12-04", "--preview").output
    )
    again = call("backfill", *RANGE, "refresh/prices", "--again", "--preview")
    assert again.output.startswith("3 dates of refresh/prices")


def test_backfill_that_waits_exits_0_when_all_is_done(shared):
    with worker(shared):
        done = call("backfill", "refresh/prices", *RANGE, "--limit", "2", "--wait")
    assert done.exit_code == 0, done.output
    assert "of refresh/prices is completed, 3 of 3 dates done" in done.output
    assert "2025-12-02" in done.output


def test_backfill_that_fails_exits_1_and_is_resumed(shared):
    with worker(shared, lambda run: None):
        done = call("backfill", "refresh/prices", *RANGE, "--wait", "--json")
    assert done.exit_code == 1
    name = json.loads(done.output)["name"]
    assert "of 2025-12-01 failed (no data)" in json.loads(done.output)["report"]["reason"]
    assert call("backfill", "show", name).exit_code == 1
    with worker(shared):
        assert call("backfill", "resume", name, "--wait").exit_code == 0
    assert "completed 3" in call("backfill", "list").output
    assert json.loads(call("backfill", "list", "refresh/prices", "--json").output)[0]["status"] == "completed"


def test_backfill_is_cancelled_as_one(shared):
    name = json.loads(call("backfill", "refresh/prices", *RANGE, "--json").output)["name"]
    done = call("backfill", "cancel", name)
    assert done.exit_code == 0
    assert "is cancelled, 0 of 3 dates done: cancelled by " in done.output
    assert [run.status for _, run in shared.queries.runs()] == ["cancelled"]


def test_help_of_backfill_says_how_to_begin_one():
    assert "freshline backfill DEPLOYMENT --from 2024-01-02 --to 2024-03-28" in call("backfill", "--help").output
    assert "--max-failures" in call("backfill", "start", "--help").output


def test_group_has_the_commands_that_the_guide_names():
    assert sorted(redo.backfill.commands) == ["cancel", "list", "resume", "show", "start"]
