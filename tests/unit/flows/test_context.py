"""What a body tells its run: events, counters, messages, checkpoints, progress; and what it may not."""

import logging
import threading
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pandas as pd
import pytest

from freshline import testing
from freshline.flows import RunContext, track
from freshline.flows.reporting import Reporting
from freshline.runs.author_events import AuthorEvent, CheckpointSaved, NodeEntered, ToolCalled
from freshline.runs.run_events import RunCompleted
from freshline.storage.errors import Fenced, InvalidInput, NotStorable
from tests.pages import code, read


def left_by(act: Callable[[RunContext], Any], **options: Any) -> testing.TestResult:
    """What a body leaves that does only this."""

    @track.refresh
    def body(run: RunContext) -> None:
        act(run)

    return testing.run(body, **options)


def kinds(left: testing.TestResult) -> list[str]:
    return [event.kind for event in left.events]


# Events.


def test_emitted_event_is_recorded_as_it_is():
    entered = NodeEntered(node_id="plan", iteration=2)
    assert left_by(lambda run: run.emit(entered)).events == (entered,)


def test_note_is_an_event_of_the_author_s_own():
    assert left_by(lambda run: run.note("checked", rows=3)).events == (AuthorEvent(name="checked", data={"rows": 3}),)


@pytest.mark.parametrize(
    "event", [RunCompleted(stop_reason="completed"), {"kind": "node_entered", "node_id": "plan"}, "node_entered", None]
)
def test_anything_but_an_event_of_a_body_is_refused(event):
    with pytest.raises(InvalidInput, match="no event that a body may record"):
        left_by(lambda run: run.emit(event))


@pytest.mark.parametrize("value", ["\0", "\ud800", "x" * 300_000])
def test_event_that_no_database_would_take_is_refused(value):
    with pytest.raises(NotStorable):
        left_by(lambda run: run.emit(ToolCalled(tool_name="search", data={"query": value})))


# Counters.


def test_counters_are_summed_from_several_threads():
    def act(run: RunContext) -> None:
        def count() -> None:
            for _ in range(200):
                run.count(rows=1, tokens=0.5)

        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert left_by(act).counters == {"rows": 800, "tokens": 400}


def test_what_a_task_counts_belongs_to_its_step_and_to_the_run(monkeypatch):
    import prefect.context

    assert prefect.context
    steps = [uuid4(), uuid4()]

    def act(run: RunContext) -> None:
        run.count(rows=1)
        for number, step in enumerate([*steps, steps[0]]):
            with monkeypatch.context() as within:
                # How Prefect lets a test say which task executes.
                within.setenv("PREFECT__RUNTIME__TASK_RUN__ID", str(step))
                within.setenv("PREFECT__RUNTIME__TASK_RUN__NAME", f"fit-{number % 2}")
                run.count(rows=10)

    left = left_by(act)
    assert left.counters == {"rows": 31}
    # The run's own are those outside of steps: the record adds the steps' to them.
    assert left.result.counters == {"rows": 1}
    counted = {(one.task_run_id, one.name): one.counters for one in left.result.step_counters}
    assert counted == {(steps[0], "fit-0"): {"rows": 20}, (steps[1], "fit-1"): {"rows": 10}}


@pytest.mark.parametrize(
    "counters", [{"rows": float("nan")}, {"rows": float("inf")}, {"rows": "3"}, {"rows": None}, {"": 1}, {"a\nb": 1}]
)
def test_counter_that_cannot_be_added_is_refused_as_a_whole(counters):
    def act(run: RunContext) -> None:
        with pytest.raises(InvalidInput, match="counter"):
            run.count(good=1, **counters)

    assert left_by(act).counters == {}


# Messages.


def test_messages_are_kept_in_order_with_their_events():
    def act(run: RunContext) -> None:
        run.message("user", "What moved?")
        run.message("assistant", "")

    left = left_by(act)
    assert left.messages == (("user", "What moved?"), ("assistant", ""))
    assert [(event.role, event.content_length) for event in left.events] == [("user", 11), ("assistant", 0)]


@pytest.mark.parametrize(
    ("role", "content"), [("user", "\0"), ("us\0er", "x"), ("user", "x" * 300_000), ("user", None), (1, "x")]
)
def test_message_that_is_no_storable_text_is_refused(role, content):
    with pytest.raises(InvalidInput):
        left_by(lambda run: run.message(role, content))


# Checkpoints.


def test_first_attempt_begins_at_the_start():
    def act(run: RunContext) -> None:
        run.checkpoint({"epoch": 1})
        assert run.resume_from() is None

    left_by(act)


def test_later_attempt_goes_on_from_the_newest_state():
    def act(run: RunContext) -> None:
        assert run.attempt == 2
        state = run.resume_from()
        assert state == {"epoch": 3}
        run.checkpoint({"epoch": 4})
        assert run.resume_from() == {"epoch": 4}

    left = left_by(act, checkpoint={"epoch": 3})
    assert left.checkpoints == ({"epoch": 4},)
    assert kinds(left) == ["checkpoint_restored", "checkpoint_saved", "checkpoint_restored"]
    assert left.events[1] == CheckpointSaved(checkpoint_id="2")


def test_checkpoint_keeps_the_state_as_it_was():
    def act(run: RunContext) -> None:
        state = {"done": [1]}
        run.checkpoint(state)
        state["done"].append(2)

    assert left_by(act).checkpoints == ({"done": [1]},)


@pytest.mark.parametrize(
    "state", [{"loss": float("nan")}, {"model": object()}, {1: "x"}, {"x": "y" * 300_000}, [1, 2], None]
)
def test_state_that_is_no_json_object_is_refused(state):
    with pytest.raises(InvalidInput):
        left_by(lambda run: run.checkpoint(state))


def test_guide_to_tables_shows_a_test_that_passes():
    (text,) = code(read("how-to/tables.md"), "python", "check")
    made: dict[str, Any] = {"__name__": "shown"}
    exec(compile(text, "tables.md", "exec"), made)
    made["test_refresh_corrects_the_last_day"]()


def test_guide_to_checkpoints_shows_a_test_that_passes():
    (text,) = code(read("how-to/checkpoints.md"), "python", "check")
    made: dict[str, Any] = {"__name__": "shown"}
    exec(compile(text, "checkpoints.md", "exec"), made)
    made["test_training_goes_on_where_it_was"]()


# Time to the first output.


@pytest.mark.parametrize(
    "act",
    [
        lambda run: run.log(loss=1.0),
        lambda run: run.write("data", pd.DataFrame({"x": [1]})),
        lambda run: run.save("report", b"x"),
    ],
)
def test_time_to_the_first_output_is_measured(act):
    first: list[int] = []

    def twice(run: RunContext) -> None:
        act(run)
        first.append(run._first_output_ns)
        run.log(loss=2.0)

    result = left_by(twice).result
    assert result.first_output_ns == first[0] > 0


def test_body_without_output_has_no_time_to_it():
    def act(run: RunContext) -> None:
        run.note("hello")
        run.count(rows=1)

    assert left_by(act).result.first_output_ns is None


@pytest.mark.parametrize("name", ["metrics", "traceback"])
def test_names_of_what_freshline_writes_itself_are_taken(name):
    with pytest.raises(InvalidInput, match="choose another one"):
        left_by(lambda run: run.write(name, pd.DataFrame({"x": [1]})))


# Progress.


class Log:
    """A port that keeps what is recorded, call by call."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls: list[tuple[list[float | str], float | None, dict[str, float]]] = []
        self.error = error

    def record(self, run_id: UUID, fence: int, entries=(), *, metrics=None, progress=None) -> None:
        if self.error is not None:
            raise self.error
        self.calls.append(([getattr(one, "progress", one.kind) for one in entries], progress, dict(metrics or {})))


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def reporting(port: Log, clock: Clock | None = None) -> Reporting:
    logger = logging.getLogger("freshline.test")
    return Reporting(port, uuid4(), 1, logger, clock=clock or Clock())  # type: ignore[arg-type]


def test_progress_is_reported_at_most_five_times_a_second():
    port, clock = Log(), Clock()
    report = reporting(port, clock)
    for done in range(1, 1001):
        clock.now_s += 0.004
        report.progress(done / 1000, None)
    report.flush()
    assert 19 <= len(port.calls) <= 21
    assert port.calls[-1] == ([1.0], 1.0, {})


def test_short_loops_one_after_the_other_are_not_reported_each():
    port, clock = Log(), Clock()
    report = reporting(port, clock)
    for _ in range(100):
        clock.now_s += 0.001
        report.progress(1.0, None)
    assert len(port.calls) == 1


def test_progress_that_waits_comes_before_the_next_event_in_the_same_call():
    port = Log()
    report = reporting(port)
    report.progress(0.1, None)
    report.progress(0.2, None)
    report.emit(AuthorEvent(name="half way"))
    report.flush()
    assert port.calls == [([0.1], 0.1, {}), ([0.2, "author_event"], 0.2, {})]


def test_flush_sends_progress_that_waits_once():
    port = Log()
    report = reporting(port)
    report.progress(0.1, None)
    report.progress(0.2, None)
    report.flush()
    report.flush()
    assert port.calls == [([0.1], 0.1, {}), ([0.2], 0.2, {})]


def test_store_that_is_away_ends_no_body(caplog):
    report = reporting(Log(ConnectionError("away")))
    report.emit(AuthorEvent(name="x"))
    report.progress(0.5, None)
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]


def test_run_that_is_held_by_another_ends_the_body():
    with pytest.raises(Fenced):
        reporting(Log(Fenced("held by another"))).emit(AuthorEvent(name="x"))
