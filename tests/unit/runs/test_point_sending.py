"""The way of metric values: into memory, onto the disk, into the store; and what is lost on it, which is nothing."""

import errno
import json
import logging
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from freshline.flows import sending
from freshline.flows.sending import PointSender
from freshline.runs import composition
from freshline.runs.background import Background
from freshline.runs.care.deletion import Deletions
from freshline.runs.composition import Freshline
from freshline.runs.points import spool as spool_module
from freshline.runs.points.chunks import MOST_POINTS, Chunk
from freshline.runs.points.left_behind import LeftBehind
from freshline.runs.points.reading import SeriesReader
from freshline.runs.points.recording import PointRecording
from freshline.runs.points.spool import Spool, Spools
from freshline.runs.result import Result
from freshline.storage.artifacts import ArtifactRecord
from freshline.storage.errors import Conflict, NotFound, StoreUnavailable
from freshline.storage.faults import Guard, switched_off
from freshline.storage.ids import new_id
from freshline.storage.parquet import write_table
from freshline.storage.settings import Settings
from tests.unit.runs.conftest import World

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""For what does not depend on the database."""
LOGGER = logging.getLogger("freshline.test")


@dataclass
class Line:
    """The port of a worker, whose way to the store can be cut, and whose replies can be lost."""

    world: World
    spools: Spools
    is_cut: bool = False
    loses_replies: bool = False
    sent: list[Chunk] = field(default_factory=list)
    tries: int = 0

    def record_points(self, run_id: UUID, fence: int, chunk: Chunk, latest: Any) -> int:
        self.tries += 1
        if self.is_cut:
            raise StoreUnavailable("the store is away")
        end = PointRecording(self.world.database).record(run_id, fence, chunk, latest)
        self.sent.append(chunk)
        if self.loses_replies:
            raise StoreUnavailable("the reply was lost")
        return end

    def sent_points(self, run_id: UUID) -> Any:
        if self.is_cut:
            raise StoreUnavailable("the store is away")
        return PointRecording(self.world.database).chunks(run_id)

    def open_spool(self, run_id: UUID, fence: int) -> Spool:
        return self.spools.create(run_id, fence)


class Attempt:
    """One attempt of a run of `refresh/prices` that logs, spools and sends when it is told to: no thread does."""

    def __init__(self, world: World, directory: Path) -> None:
        self.world = world
        self.run = world.service.submit("refresh/prices")
        self.now_s = 1000.0
        self.claim_and_begin(world.start(self.run), directory)

    def claim_and_begin(self, claim: Any, directory: Path) -> None:
        self.claim = claim
        self.line = Line(self.world, Spools(directory, UUID(int=1)))
        self.sender = PointSender(
            self.line,  # type: ignore[arg-type]
            claim.run.id,
            claim.run.fence,
            LOGGER,
            has_history=claim.run.attempt > 1,
            clock=lambda: self.now_s,
        )
        self.sender._threads = [threading.Lock()]  # that of one that never works: these tests do without

    def log(self, *values: float, name: str = "loss") -> None:
        for value in values:
            self.sender.series.add(None, {name: value})

    def complete(self) -> None:
        """What a tracked flow does at its end."""
        remaining = self.sender.remaining()
        result = Result()
        if remaining is not None:
            table = write_table(self.world.objects, remaining[0])
            record = ArtifactRecord.of_table("metrics", table, publish=False)
            result = Result(artifacts=[record], series=remaining[1], metrics=self.sender.series.latest)
        self.world.port.complete(self.run.id, self.claim.run.fence, result)

    @property
    def reader(self) -> SeriesReader:
        return SeriesReader(self.world.database, self.world.objects)

    def series(self, *names: str) -> list[float]:
        return self.reader.series(self.run.id, names or None)["value"].to_pylist()

    def latest(self) -> dict[str, float]:
        return {one.name: one.value for one in self.reader.metrics(self.run.id).latest}

    def files(self, suffix: str = ".spool") -> list[Path]:
        return sorted(self.line.spools.directory.glob(f"*{suffix}"))

    def send_left_behind(self) -> int:
        return LeftBehind(self.line.spools, PointRecording(self.world.database)).pass_once()

    def die(self) -> None:
        """What is left of a process that was killed: its locks are gone, its memory too."""
        if self.sender._spool is not None:
            os.close(self.sender._spool._descriptor)


@pytest.fixture
def attempt(world: World, tmp_path: Path) -> Attempt:
    return Attempt(world, tmp_path)


# While the run lives.


def test_values_are_readable_while_the_run_lives(attempt):
    attempt.log(3.0, math.nan)
    attempt.log(math.inf, name="worst")
    attempt.sender.spool()
    assert attempt.sender.send()
    assert attempt.series("worst") == [math.inf]
    values = attempt.series("loss")
    assert values[0] == 3.0
    assert math.isnan(values[1])
    assert attempt.latest()["worst"] == math.inf
    assert math.isnan(attempt.latest()["loss"])
    (name, step, value, at) = attempt.reader.series(attempt.run.id).schema
    assert (name.type, step.type, value.type, at.type) == ("string", "int64", "double", at.type)
    assert str(at.type) == "timestamp[us, tz=UTC]"


@on_sqlite
def test_what_the_store_has_does_not_stay_on_the_disk(attempt):
    attempt.log(*range(1000))
    attempt.sender.spool()
    (file,) = attempt.files()
    spooled = file.stat().st_size
    attempt.sender.send()
    assert file.stat().st_size < spooled / 2
    attempt.sender.discard()
    assert attempt.files() == []


def test_small_chunks_become_long_ones_and_nothing_changes(attempt):
    for number in range(100):
        attempt.log(float(number))
        attempt.sender.spool()
        attempt.sender.send()
    with attempt.world.database.read() as connection:
        from freshline.runs.points import sent

        kept = sent.chunks_of_run(connection, attempt.run.id)
    assert len(kept) < 20
    assert attempt.series() == [float(number) for number in range(100)]
    # Each value travelled a few times, not as often as there were chunks.
    assert sum(chunk.rows for chunk in attempt.line.sent) < 4 * 100


def test_reply_that_is_lost_stores_nothing_twice(attempt):
    for number in range(40):
        attempt.log(float(number))
        attempt.sender.spool()
        attempt.line.loses_replies = number % 3 == 0
        attempt.sender.send()
        attempt.now_s += 60
    attempt.line.loses_replies = False
    attempt.sender.send()
    assert attempt.series() == [float(number) for number in range(40)]


@pytest.mark.parametrize("is_on", [True, False])
def test_values_that_come_again_after_the_end_are_known_by_their_numbers(attempt, is_on):
    attempt.log(1.0, 2.0)
    attempt.sender.spool()
    attempt.sender.send()
    attempt.complete()
    (chunk,) = attempt.line.sent
    with nullcontext() if is_on else switched_off(Guard.POINT_NUMBERS):
        assert PointRecording(attempt.world.database).record(attempt.run.id, attempt.claim.run.fence, chunk, {}) == 2
    assert attempt.series() == [1.0, 2.0] * (1 if is_on else 2)


@on_sqlite
def test_chunk_that_begins_in_the_middle_of_a_stored_one_changes_nothing(attempt):
    attempt.log(1.0, 2.0, 3.0)
    attempt.sender.spool()
    attempt.sender.send()
    (chunk,) = attempt.line.sent
    record = PointRecording(attempt.world.database).record
    held = (attempt.run.id, attempt.claim.run.fence)
    assert record(*held, Chunk(1, 3, chunk.payload), {"loss": 9.0}) == 3
    assert record(*held, Chunk(2, 1, chunk.payload), {"loss": 9.0}) == 3
    assert (attempt.series(), attempt.latest()) == ([1.0, 2.0, 3.0], {"loss": 3.0})


# The store or the disk is away.


@on_sqlite
def test_store_that_is_away_for_ten_minutes_loses_nothing_and_is_not_asked_all_the_time(attempt, caplog):
    attempt.line.is_cut = True
    for second in range(0, 600, 4):
        attempt.log(float(second))
        attempt.sender.spool()
        attempt.sender.send()
        attempt.now_s += 4
    assert 15 <= attempt.line.tries <= 60
    assert [record.levelname for record in caplog.records if "cannot be sent" in record.message] == ["WARNING"]
    attempt.line.is_cut = False
    attempt.now_s += 60
    assert attempt.sender.send()
    assert attempt.series() == [float(second) for second in range(0, 600, 4)]
    assert attempt.latest() == {"loss": 596.0}
    # What waited goes in few chunks.
    assert len(attempt.line.sent) == 1


@on_sqlite
def test_what_waits_long_is_on_the_disk_alone(attempt, monkeypatch):
    monkeypatch.setattr(sending, "_KEPT_POINTS", 20)
    attempt.line.is_cut = True
    for value in range(50):
        attempt.log(float(value))
        attempt.sender.spool()
    assert sum(one.rows for one in attempt.sender._waiting if one.chunk is not None) == 20
    attempt.line.is_cut = False
    assert attempt.sender.send()
    assert attempt.series() == [float(value) for value in range(50)]


@on_sqlite
def test_value_that_is_spooled_while_a_chunk_is_made_ready_is_the_latest(attempt, monkeypatch):
    next_chunk = attempt.sender._next_chunk

    def after_one_more(*arguments: Any) -> Any:
        attempt.log(2.0)
        attempt.sender.spool()
        return next_chunk(*arguments)

    attempt.log(1.0)
    attempt.sender.spool()
    with monkeypatch.context() as patched:
        patched.setattr(attempt.sender, "_next_chunk", after_one_more)
        attempt.sender.send()
    attempt.sender.send()
    assert (attempt.series(), attempt.latest()) == ([1.0, 2.0], {"loss": 2.0})


@on_sqlite
def test_no_chunk_is_longer_than_it_may_be(attempt):
    wide = {f"m{number}": float(number) for number in range(4096)}
    for step in range(33):
        attempt.sender.series.add(step, wide)
        if step % 8 == 7:
            attempt.sender.spool()
    attempt.sender.spool()
    assert attempt.sender.send()
    assert [chunk.rows for chunk in attempt.line.sent] == [MOST_POINTS, MOST_POINTS, 4096]
    assert attempt.reader.metrics(attempt.run.id).num_points == 33 * 4096


def test_run_that_ends_while_its_store_stumbles_still_has_its_whole_series(attempt):
    attempt.log(1.0)
    attempt.sender.spool()
    attempt.sender.send()
    attempt.log(2.0)
    attempt.sender.spool()
    attempt.line.loses_replies = True
    attempt.sender.send()
    attempt.log(3.0)
    attempt.sender.spool()
    attempt.line.is_cut = True
    attempt.sender.send()
    attempt.log(4.0)
    attempt.line.is_cut = attempt.line.loses_replies = False
    attempt.complete()
    attempt.sender.discard()
    assert attempt.series() == [1.0, 2.0, 3.0, 4.0]
    with attempt.world.database.read() as connection:
        from freshline.runs.points import sent

        assert sent.count_points(connection, attempt.run.id) == 0
    assert attempt.files() == []


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bool], None]]:
    """A disk that can be full: half of what is written still fits."""
    is_full = [False]
    write = spool_module._write_all

    def writes(descriptor: int, content: bytes, offset: int) -> None:
        if is_full[0]:
            write(descriptor, content[: len(content) // 2], offset)
            raise OSError(errno.ENOSPC, "No space left on device")
        write(descriptor, content, offset)

    monkeypatch.setattr(spool_module, "_write_all", writes)
    return lambda full: is_full.__setitem__(0, full)


@on_sqlite
def test_full_disk_keeps_values_in_memory_and_takes_them_up_again(attempt, full_disk, caplog):
    attempt.line.is_cut = True
    attempt.log(1.0)
    attempt.sender.spool()
    full_disk(True)
    for value in (2.0, 3.0):
        attempt.log(value)
        attempt.sender.spool()
    assert len([record for record in caplog.records if "cannot be spooled" in record.message]) == 1
    full_disk(False)
    attempt.log(4.0)
    attempt.sender.spool()
    attempt.die()
    assert attempt.send_left_behind() == 1
    assert attempt.series() == [1.0, 2.0, 3.0, 4.0]


@on_sqlite
def test_memory_that_would_overflow_drops_the_oldest_and_says_how_many(attempt, full_disk, monkeypatch, caplog):
    monkeypatch.setattr(sending, "MOST_UNSPOOLED", 3)
    attempt.line.is_cut = True
    full_disk(True)
    for value in range(6):
        attempt.log(float(value))
        attempt.sender.spool()
    assert attempt.sender.dropped == 3
    assert len([record for record in caplog.records if "are dropped" in record.message]) == 1
    attempt.line.is_cut = False
    attempt.sender.send()
    assert attempt.series() == [3.0, 4.0, 5.0]


# Its process is gone.


def test_next_start_sends_what_a_killed_process_left_and_removes_it(attempt):
    attempt.log(1.0, 2.0)
    attempt.sender.spool()
    attempt.sender.send()
    attempt.line.is_cut = True
    attempt.log(3.0)
    attempt.sender.spool()
    assert attempt.send_left_behind() == 0, "its writer lives"
    attempt.die()
    assert attempt.send_left_behind() == 1
    assert attempt.series() == [1.0, 2.0, 3.0]
    assert attempt.latest() == {"loss": 3.0}
    assert attempt.files() == []


@on_sqlite
def test_spool_of_a_run_that_failed_completes_its_series_for_a_week(attempt):
    attempt.log(1.0)
    attempt.sender.spool()
    attempt.die()
    attempt.world.port.fail(attempt.run.id, attempt.claim.run.fence, ValueError("x"), "x", will_retry=False)
    attempt.world.pass_time(timedelta(days=6))
    assert attempt.send_left_behind() == 1
    assert (attempt.series(), attempt.latest()) == ([1.0], {"loss": 1.0})


@on_sqlite
def test_spool_of_a_run_that_ended_long_ago_is_set_aside(attempt, caplog):
    attempt.log(1.0)
    attempt.sender.spool()
    attempt.die()
    attempt.world.port.fail(attempt.run.id, attempt.claim.run.fence, ValueError("x"), "x", will_retry=False)
    attempt.world.pass_time(timedelta(days=8))
    assert attempt.send_left_behind() == 0
    assert (attempt.files(), len(attempt.files(".refused"))) == ([], 1)
    assert "more than 7 days ago" in caplog.text
    assert attempt.series() == []


def test_run_that_is_deleted_for_good_leaves_no_values_and_takes_none(attempt, caplog):
    attempt.log(1.0)
    attempt.sender.spool()
    assert attempt.sender.send()
    attempt.log(2.0)
    attempt.sender.spool()
    attempt.die()
    attempt.world.port.fail(attempt.run.id, attempt.claim.run.fence, ValueError("x"), "x", will_retry=False)
    attempt.world.dispatch()
    deletions = Deletions(attempt.world.database)
    deletions.delete(attempt.run.id)
    assert len(deletions.erase(attempt.run.id)) == 1
    assert PointRecording(attempt.world.database).chunks(attempt.run.id) == []
    assert attempt.send_left_behind() == 0
    assert "was deleted for good: its points are not taken any more" in caplog.text
    assert PointRecording(attempt.world.database).chunks(attempt.run.id) == []


def test_spool_of_a_completed_run_changes_nothing_of_what_it_has(attempt):
    attempt.log(1.0, 2.0)
    attempt.sender.spool()
    attempt.complete()
    attempt.die()  # before it could remove its spool
    assert attempt.send_left_behind() == 1
    assert attempt.series() == [1.0, 2.0]
    assert attempt.files() == []


@on_sqlite
def test_spool_that_begins_before_what_the_store_has_gives_the_rest(attempt):
    attempt.log(1.0, 2.0)
    attempt.complete()
    attempt.log(3.0)  # a thread of the body's that does not know yet; and the answer was lost
    attempt.sender.spool()
    attempt.die()
    assert attempt.send_left_behind() == 1
    assert attempt.series() == [1.0, 2.0, 3.0]
    assert attempt.files() == []


def test_earlier_attempt_s_spool_that_comes_after_the_end_is_added_and_no_latest_value_changes(attempt, tmp_path):
    attempt.log(1.0)
    attempt.log(7.0, name="early")
    attempt.sender.spool()
    attempt.die()
    flow_run_id = attempt.claim.run.flow_run_id
    attempt.world.port.fail(attempt.run.id, attempt.claim.run.fence, ValueError("x"), "x", will_retry=True)
    second = attempt.world.claim(flow_run_id)
    assert second.run.attempt == 2
    elsewhere = attempt.line.spools
    attempt.claim_and_begin(second, tmp_path / "elsewhere")
    attempt.log(2.0)
    attempt.complete()
    attempt.sender.discard()
    attempt.line.spools = elsewhere
    assert attempt.send_left_behind() == 1
    assert attempt.series("loss") == [2.0, 1.0]
    assert attempt.latest() == {"loss": 2.0}


@on_sqlite
def test_values_of_all_attempts_are_in_the_table(attempt, tmp_path):
    attempt.log(1.0)
    attempt.sender.keep()
    attempt.world.port.fail(attempt.run.id, attempt.claim.run.fence, ValueError("x"), "x", will_retry=True)
    attempt.claim_and_begin(attempt.world.claim(attempt.claim.run.flow_run_id), tmp_path / "other")
    attempt.log(2.0)
    attempt.complete()
    assert attempt.series() == [1.0, 2.0]
    assert attempt.reader.metrics(attempt.run.id).num_points == 2


def test_fence_that_no_attempt_has_drawn_is_refused(attempt):
    attempt.log(1.0)
    attempt.sender.spool()
    attempt.sender.send()
    (chunk,) = attempt.line.sent
    record = PointRecording(attempt.world.database).record
    with pytest.raises(Conflict, match=r"no attempt of run-.* has drawn the fence 99"):
        record(attempt.run.id, 99, chunk, {})
    with pytest.raises(NotFound):
        record(new_id(), attempt.claim.run.fence, chunk, {})
    assert attempt.series() == [1.0]
    with switched_off(Guard.POINT_FENCE):
        record(attempt.run.id, 99, chunk, {})
    assert attempt.series() == [1.0, 1.0]


@on_sqlite
def test_end_that_finds_the_store_away_leaves_the_values_to_the_next_start(attempt, caplog):
    attempt.line.is_cut = True
    attempt.log(1.0, 2.0)
    attempt.sender.keep()
    assert "2 metric values wait in" in caplog.text
    assert attempt.send_left_behind() == 1
    assert attempt.series() == [1.0, 2.0]


def test_values_that_are_sent_while_a_newer_attempt_completes_are_kept(attempt, tmp_path):
    for value in range(14):
        attempt.log(float(value))
        attempt.sender.spool()
        attempt.sender.send()
    zombie, flow_run_id = attempt.sender, attempt.claim.run.flow_run_id
    attempt.world.port.fail(attempt.run.id, attempt.claim.run.fence, ValueError("x"), "x", will_retry=True)
    attempt.claim_and_begin(attempt.world.claim(flow_run_id), tmp_path / "elsewhere")
    attempt.log(100.0)
    remaining = attempt.sender.remaining()
    # The table holds fourteen; two more come, and all are one chunk now.
    for value in (14.0, 15.0):
        zombie.series.add(None, {"loss": value})
        zombie.spool()
        assert zombie.send()
    table = write_table(attempt.world.objects, remaining[0])
    record = ArtifactRecord.of_table("metrics", table, publish=False)
    result = Result(artifacts=[record], series=remaining[1])
    attempt.world.port.complete(attempt.run.id, attempt.claim.run.fence, result)
    assert attempt.series() == [*map(float, range(14)), 100.0, 14.0, 15.0]
    assert attempt.reader.metrics(attempt.run.id).num_points == 17


class _Unwilling(Spool):
    """A file on a disk that has gone away."""

    def close(self, *, remove: bool) -> None:
        super().close(remove=False)
        raise OSError(errno.EIO, "Input/output error")


@on_sqlite
@pytest.mark.parametrize("end", ["discard", "keep", "close"])
def test_disk_that_fails_at_the_end_does_not_fail_the_run(attempt, monkeypatch, end, caplog):
    attempt.log(1.0)
    attempt.sender.spool()
    monkeypatch.setattr(attempt.sender._spool, "__class__", _Unwilling)
    getattr(attempt.sender, end)()
    assert "Input/output error" in caplog.text


@on_sqlite
def test_run_that_ends_at_once_leaves_no_file_and_needs_no_statement_of_its_own(attempt):
    attempt.line.is_cut = True
    attempt.log(1.0)
    batches, taken = attempt.sender.remaining()
    assert ([batch.num_rows for batch in batches], taken) == ([1], None)
    attempt.sender.discard()
    assert (attempt.line.tries, attempt.line.spools.directory.exists()) == (0, False)


@on_sqlite
def test_process_that_is_killed_loses_no_more_than_the_last_second(world, tmp_path):
    """A real process with its real threads is killed while it logs; the store is away, so that only its disk helps."""
    attempt = Attempt(world, tmp_path)
    program = f"""
import logging, time
import pyarrow  # as a flow has it, for its tables
from pathlib import Path
from uuid import UUID
from freshline.flows.sending import PointSender
from freshline.runs.points.spool import Spools

class Away:
    def record_points(self, *_):
        raise ConnectionError("away")
    def open_spool(self, run_id, fence):
        return Spools(Path({str(tmp_path)!r}), UUID(int=1)).create(run_id, fence)

logging.disable()
sender = PointSender(Away(), UUID({attempt.run.id.hex!r}), {attempt.claim.run.fence}, logging.getLogger())
number = 0
while True:
    sender.series.add(number, {{"at": time.time()}})
    print(time.time(), flush=True)
    number += 1
    time.sleep(0.01)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        first = float(child.stdout.readline())
        said = next(at for at in map(float, child.stdout) if at > first + 4)
        child.kill()
        said = [said, *map(float, child.stdout)][-1]
        child.wait()  # its output closes before its file does
    assert attempt.send_left_behind() == 1
    times = attempt.series("at")
    assert attempt.reader.series(attempt.run.id)["step"].to_pylist() == list(range(len(times)))
    assert said - times[-1] < 3.5, "the last second, and what a busy machine adds"


# The files.


def spooled(attempt: Attempt, *values: float) -> Path:
    for value in values:
        attempt.log(value)
        attempt.sender.spool()
    (file,) = attempt.files()
    return file


@on_sqlite
def test_half_a_frame_at_the_end_costs_no_more_than_itself(attempt):
    file = spooled(attempt, 1.0, 2.0, 3.0)
    attempt.die()
    os.truncate(file, file.stat().st_size - 5)
    assert attempt.send_left_behind() == 1
    assert attempt.series() == [1.0, 2.0]
    assert attempt.files() == []


@on_sqlite
@pytest.mark.parametrize("at", [-5, "length of the last"])
def test_damaged_file_is_set_aside_after_what_stands_before_the_damage_was_sent(attempt, caplog, at):
    file = spooled(attempt, 1.0)
    before = file.stat().st_size
    spooled(attempt, 2.0)
    attempt.die()
    content = bytearray(file.read_bytes())
    content[before if isinstance(at, str) else at] ^= 0xFF
    file.write_bytes(content)
    attempt.send_left_behind()
    assert attempt.series() == [1.0]
    assert (attempt.files(), len(attempt.files(".corrupt"))) == ([], 1)
    assert "damaged at byte" in caplog.text


@on_sqlite
@pytest.mark.parametrize("content", [b"", b"hello", b"\0" * 100, json.dumps({"format": 9}).encode()])
def test_file_that_is_no_spool_is_set_aside(attempt, content, caplog):
    file = spooled(attempt, 1.0)
    attempt.die()
    file.write_bytes(content)
    assert attempt.send_left_behind() == 0
    assert (attempt.files(), len(attempt.files(".corrupt"))) == ([], 1)
    assert "is no spool" in caplog.text


@on_sqlite
def test_folders_are_private_and_other_stores_are_left_alone(attempt, tmp_path):
    file = spooled(attempt, 1.0)
    assert [folder.stat().st_mode & 0o777 for folder in (file.parent, file.parent.parent)] == [0o700, 0o700]
    assert file.stat().st_mode & 0o777 == 0o600
    attempt.die()
    other = Spools(tmp_path, UUID(int=2))
    assert LeftBehind(other, PointRecording(attempt.world.database)).pass_once() == 0
    assert file.exists()


@on_sqlite
def test_folder_of_somebody_else_is_not_used(attempt, monkeypatch, caplog):
    private = attempt.line.spools.directory.parent
    private.mkdir(parents=True)
    (private.parent / "target").mkdir()
    private.rmdir()
    private.symlink_to(private.parent / "target")
    attempt.log(1.0)
    attempt.sender.spool()
    assert "belongs to somebody else" in caplog.text
    attempt.sender.send()
    assert attempt.series() == [1.0]


@on_sqlite
def test_link_in_the_folder_is_not_followed(attempt, tmp_path):
    file = spooled(attempt, 1.0)
    attempt.die()
    moved = tmp_path / "elsewhere"
    file.rename(moved)
    file.symlink_to(moved)
    assert attempt.send_left_behind() == 0
    assert moved.exists()


# Following.


@on_sqlite
def test_follower_sees_each_value_once_until_the_run_has_ended(attempt):
    log = iter([[1.0], [2.0, 3.0], [], [4.0]])

    def sleep(_seconds: float) -> None:
        values = next(log, None)
        if values is None:
            attempt.complete()
        else:
            attempt.log(*values)
            attempt.sender.spool()
            attempt.sender.send()
            attempt.log(*values)  # one more that is in the table alone

    parts = [part["value"].to_pylist() for part in attempt.reader.follow(attempt.run.id, ["loss"], sleep=sleep)]
    assert [value for part in parts for value in part] == attempt.series("loss")
    assert len(parts) == 5


@on_sqlite
def test_metric_that_was_not_logged_is_not_found_with_the_nearest(attempt):
    attempt.log(1.0)
    attempt.sender.spool()
    attempt.sender.send()
    with pytest.raises(NotFound, match="Did you mean 'loss'"):
        attempt.reader.series(attempt.run.id, ["los"])


# Who sends what is left behind.


@on_sqlite
def test_background_and_ports_have_the_spools_of_the_home(attempt, tmp_path, monkeypatch):
    program = Freshline(Settings(home=tmp_path / "home"), attempt.world.database, attempt.world.objects)
    monkeypatch.setattr(composition, "shared_freshline", lambda: program)
    port, _ = composition.flow_port()
    attempt.line.open_spool = port.open_spool  # type: ignore[method-assign]
    attempt.log(1.0)
    attempt.sender.spool()
    attempt.die()
    assert program.spools.has_files()
    with Background(program, attempt.world.gateway, reconcile_s=60):
        deadline = time.monotonic() + 30
        while program.spools.has_files():
            assert time.monotonic() < deadline
            time.sleep(0.005)
    assert attempt.series() == [1.0]
