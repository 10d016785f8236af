"""How the parts are is asked in bounded time, once for many; the numbers for monitoring are those of the store."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from freshline.runs.composition import Freshline
from freshline.runs.gauges import Gauges
from freshline.runs.health import Condition, Finding, HealthCheck, Question, questions_of
from freshline.storage.errors import PrefectError, StoreUnavailable
from freshline.storage.settings import Settings
from tests.unit.runs.conftest import World


def ok() -> Finding:
    return Finding(Condition.OK)


@dataclass
class Asked:
    """A question that counts how often it is asked, and can hang."""

    answer: Callable[[], Finding] = ok
    count: int = 0

    def __call__(self) -> Finding:
        self.count += 1
        return self.answer()


def test_everything_that_answers_is_ok() -> None:
    found = HealthCheck({"database": ok, "prefect": ok}).look()
    assert found.is_ok
    assert {name: one.condition for name, one in found.checks.items()} == {"database": "ok", "prefect": "ok"}
    assert all(one.took_s is not None for one in found.checks.values())


def test_question_that_hangs_is_down_in_time_and_not_asked_again_meanwhile() -> None:
    go_on = threading.Event()
    hanging = Asked(lambda: Finding(Condition.OK) if go_on.wait(30) else Finding(Condition.DOWN))
    other = Asked()
    # A busy machine too answers the other one in that time.
    check = HealthCheck({"object_store": hanging, "database": other}, within_s=0.4, kept_s=0)
    for _ in range(2):
        found = check.look()
        assert found.checks["object_store"] == Finding(Condition.DOWN, "no answer within 0.4 s")
        assert found.checks["database"].condition == Condition.OK
        assert not found.is_ok
    assert (hanging.count, other.count) == (1, 2)
    go_on.set()
    thread = check._probes["object_store"]._thread
    assert thread is not None
    thread.join(30)
    assert check.look().is_ok


def test_answer_is_kept_for_all_who_ask() -> None:
    asked = Asked()
    check = HealthCheck({"database": asked}, kept_s=3600)
    with ThreadPoolExecutor(8) as executor:
        assert all(future.result().is_ok for future in [executor.submit(check.look) for _ in range(50)])
    assert asked.count == 1


def test_whoever_asks_while_it_is_asked_gets_what_is_known() -> None:
    answering, go_on = threading.Event(), threading.Event()
    go_on.set()

    def slow() -> Finding:
        answering.set()
        return Finding(Condition.OK) if go_on.wait(30) else Finding(Condition.DOWN)

    check = HealthCheck({"database": slow}, within_s=30, kept_s=0)
    first = check.look()
    answering.clear()
    go_on.clear()
    with ThreadPoolExecutor(1) as executor:
        under_way = executor.submit(check.look)
        assert answering.wait(30)
        assert check.look() is first
        go_on.set()
        assert under_way.result() is not first


@pytest.mark.parametrize(
    ("error", "detail"),
    [(StoreUnavailable("it is away"), "it is away"), (RuntimeError("the password is hunter2"), "RuntimeError")],
)
def test_question_that_fails_is_down_with_no_more_than_may_be_said(error: Exception, detail: str) -> None:
    def fail() -> Finding:
        raise error

    found = HealthCheck({"database": fail}).look().checks["database"]
    assert (found.condition, found.detail) == (Condition.DOWN, detail)


class Opened:
    """The questions about a world."""

    def __init__(self, world: World, tmp_path: Any) -> None:
        settings = Settings(home=tmp_path, artifacts_url="memory://health")
        self.freshline = Freshline(settings, world.database, world.objects)
        self.questions: dict[str, Question] = questions_of(self.freshline, world.gateway)

    def conditions(self) -> dict[str, Condition]:
        found = HealthCheck(self.questions, within_s=30, kept_s=0).look()
        return {name: one.condition for name, one in found.checks.items()}


@pytest.fixture
def opened(world: World, tmp_path: Any) -> Iterator[Opened]:
    return Opened(world, tmp_path)


def test_store_without_a_reconciler_is_failing_until_one_comes_through(world: World, opened: Opened) -> None:
    assert opened.conditions() == {"database": "ok", "object_store": "ok", "prefect": "ok", "reconciler": "late"}
    world.reconcile()
    assert opened.conditions()["reconciler"] == Condition.OK
    world.pass_time(timedelta(seconds=60))
    assert opened.conditions()["reconciler"] == Condition.OK
    world.pass_time(timedelta(seconds=1))
    assert opened.conditions()["reconciler"] == Condition.LATE
    world.reconcile()
    assert opened.conditions()["reconciler"] == Condition.OK


def test_pass_that_did_not_reach_prefect_does_not_count(world: World, opened: Opened) -> None:
    world.gateway.is_down = True
    with pytest.raises(PrefectError):
        world.reconcile()
    assert opened.conditions() == {"database": "ok", "object_store": "ok", "prefect": "down", "reconciler": "late"}


def test_prefect_that_nobody_named_is_unknown_and_does_not_fail(world: World, opened: Opened) -> None:
    class Nameless:
        @property
        def api_url(self) -> str:
            raise PrefectError("no Prefect server is named")

    questions = questions_of(opened.freshline, Nameless())  # type: ignore[arg-type]  # no more of it is used
    found = HealthCheck({"prefect": questions["prefect"]}).look()
    assert found.checks["prefect"].condition == Condition.UNKNOWN
    assert found.is_ok


def test_database_that_is_away_is_down(world: World, opened: Opened, tmp_path: Any) -> None:
    from freshline.storage.database import Database

    elsewhere = Database("postgresql+psycopg://nobody@127.0.0.1:1/nothing")
    questions = questions_of(Freshline(opened.freshline.settings, elsewhere, world.objects), world.gateway)
    found = HealthCheck(questions, within_s=30).look()
    elsewhere.dispose()
    failing = {name for name, one in found.checks.items() if one.condition.is_failing}
    assert failing == {"database", "reconciler"}
    assert "cannot open the database" in found.checks["database"].detail


def test_readings_count_what_is_there(world: World) -> None:
    gauges = Gauges(world.database, kept_s=0)
    before = gauges.read()
    assert before.reconciler_s is None
    assert before.freshness == {"not_initialized": 4, "ready": 0, "source_delayed": 0, "stale": 0}
    assert (before.open_entries, before.oldest_entry_s) == (0, 0)
    world.run_through("refresh/prices")
    running = world.service.submit("refresh/calendar")
    world.start(running)
    world.service.submit("refresh/prices")
    world.pass_time(timedelta(seconds=30))
    found = gauges.read()
    assert {status: num for status, num in found.active.items() if num} == {"pending": 1, "running": 1}
    assert found.oldest_s == {"pending": 30.0, "running": 30.0}
    assert {status: num for status, num in found.ended.items() if num} == {"completed": 1}
    assert (found.open_entries, found.oldest_entry_s) == (1, 30.0)
    assert found.freshness["ready"] == 1
    assert found.activity == {"idle": 3, "running": 1, "error": 0}
    world.pass_time(timedelta(hours=1))
    assert not any(gauges.read().ended.values())
    world.reconcile()
    world.pass_time(timedelta(seconds=5))
    assert gauges.read().reconciler_s == 5.0


def test_readings_are_kept_for_all_who_ask(world: World) -> None:
    gauges = Gauges(world.database, kept_s=3600)
    first = gauges.read()
    world.service.submit("refresh/prices")
    assert gauges.read() is first


def test_database_that_hangs_is_not_waited_for_and_not_asked_again_meanwhile(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_begun, go_on, asked = threading.Event(), threading.Event(), []
    read = world.database.read

    @contextmanager
    def hanging() -> Iterator[Any]:
        asked.append(threading.current_thread())
        has_begun.set()
        assert go_on.wait(30)
        with read() as connection:
            yield connection

    monkeypatch.setattr(world.database, "read", hanging)
    gauges = Gauges(world.database, kept_s=3600, within_s=0.05)
    with ThreadPoolExecutor(4) as executor:
        for failed in [executor.submit(gauges.read) for _ in range(8)]:
            with pytest.raises(StoreUnavailable, match=r"has not answered within 0\.05 s"):
                failed.result(timeout=60)
    assert has_begun.wait(60)
    assert len(asked) == 1
    go_on.set()
    asked[0].join(30)
    assert gauges.read().open_entries == 0
    assert len(asked) == 1


def test_database_that_was_away_is_asked_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise StoreUnavailable("it is away")

    gauges = Gauges(world.database, kept_s=3600, within_s=30)
    with monkeypatch.context() as patched:
        patched.setattr(world.database, "read", away)
        with pytest.raises(StoreUnavailable, match="it is away"):
            gauges.read()
    assert gauges.read().open_entries == 0
