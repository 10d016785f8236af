"""What happens is told as it happens: gapless, once, in bounded memory, and by as many queries for many as for one."""

import asyncio
import json
import random
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from freshline.runs import store
from freshline.runs.author_events import AuthorEvent
from freshline.runs.care.deletion import Deletions
from freshline.runs.live import changes as live_changes
from freshline.runs.live import rows as live_rows
from freshline.runs.live.changes import Changes
from freshline.runs.live.feeds import RUN_BUFFER, LogFeed
from freshline.runs.live.poller import Live
from freshline.runs.live.sse import log_stream, project_stream
from freshline.runs.run_events import ProgressReported
from freshline.storage.database import Database
from freshline.storage.errors import StoreUnavailable
from freshline.storage.ids import new_id, show_run_id
from tests.unit.runs.conftest import World

TICK_S = 0.005
PROGRESS = ProgressReported(progress=0.5)


@pytest.fixture
def live(world: World) -> Iterator[Live]:
    made = Live(world.database, poll_s=TICK_S, project_s=TICK_S)
    yield made
    made.close()


class Quiet:
    """A `Live` whose thread never starts: the test polls."""

    def __init__(self, database: Database) -> None:
        self.live = Live(database, poll_s=3600, project_s=0, most_share=1e9)
        self.live._thread = threading.current_thread()


@pytest.fixture
def quiet(world: World) -> Live:
    return Quiet(world.database).live


def log(world: World, run_id: UUID, count: int = 1, event: Any = PROGRESS) -> None:
    """Append entries to a run's log."""
    with world.database.transaction() as connection:
        now = world.database.now(connection)
        events = [event] * count
        assert store.change(connection, run_id, events, actor="test", now=now) is not None


def parsed(message: bytes) -> dict[str, Any]:
    """A message's fields; its data as JSON."""
    fields = dict(line.split(": ", 1) for line in message.decode().splitlines() if ": " in line)
    return {**fields, "data": json.loads(fields["data"])} if "data" in fields else fields


async def messages(stream: AsyncIterator[bytes], *, until: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """The messages with data, up to the one that is waited for, or the end."""
    found = []
    async with asyncio.timeout(30):
        async for raw in stream:
            message = parsed(raw)
            if "data" in message:
                found.append(message)
                if until(message):
                    break
    await stream.aclose()
    return found


def never(_: dict[str, Any]) -> bool:
    return False


def ids(found: list[dict[str, Any]]) -> list[int]:
    return [int(message["id"]) for message in found]


# A run's log.


def test_stream_of_a_run_that_has_ended_gives_its_whole_log_and_ends(world: World, live: Live) -> None:
    run = world.run_through("refresh/prices")
    found = asyncio.run(messages(log_stream(live, run.id), until=never))
    assert [message["event"] for message in found] == world.kinds(run.id)
    assert ids(found) == list(range(1, run.last_seq + 1))
    assert found[-1]["event"] == "run_completed"
    assert found[-1]["data"]["seq"] == run.last_seq
    assert not live.is_polling


def test_stream_of_a_run_that_goes_on_brings_what_comes_and_ends_with_it(world: World, live: Live) -> None:
    run = world.service.submit("refresh/prices")

    async def follow() -> list[dict[str, Any]]:
        stream = log_stream(live, run.id)
        before = await messages_at_least(stream, 1)
        await asyncio.to_thread(lambda: world.complete(world.start(run)))
        return before + await messages(stream, until=never)

    found = asyncio.run(follow())
    assert [message["event"] for message in found] == world.kinds(run.id)
    assert ids(found) == list(range(1, len(found) + 1))


async def messages_at_least(stream: AsyncIterator[bytes], count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(30):
        while len(found) < count:
            message = parsed(await anext(stream))
            if "data" in message:
                found.append(message)
    return found


def test_thousand_reconnects_at_random_points_lose_and_repeat_nothing(world: World, live: Live) -> None:
    chance = random.Random(1)
    run = world.service.submit("refresh/prices")
    claim = world.start(run)
    is_cut_often = threading.Event()

    def work() -> None:
        while not is_cut_often.is_set():
            log(world, run.id, chance.randint(1, 3))
        world.complete(claim)

    async def reconnect() -> list[int]:
        writer = threading.Thread(target=work)
        writer.start()
        given: list[int] = []
        for _ in range(1000):
            wanted = len(given) + chance.randint(0, 2)
            stream = log_stream(live, run.id, after=given[-1] if given else 0)
            async with asyncio.timeout(30):
                while len(given) < wanted:
                    message = parsed(await anext(stream))
                    if "id" in message:
                        given.append(int(message["id"]))
            await stream.aclose()
        is_cut_often.set()
        given += ids(await messages(log_stream(live, run.id, after=given[-1]), until=never))
        writer.join()
        return given

    assert asyncio.run(reconnect()) == list(range(1, world.service.get(run.id).last_seq + 1))


def test_subscriber_that_joins_while_others_are_further_misses_nothing(world: World, quiet: Live) -> None:
    run = world.service.submit("refresh/prices")
    first = quiet.follow(run.id, notify=lambda: None)
    assert not quiet.read_on(first).is_behind
    late = quiet.follow(run.id, notify=lambda: None)
    behind = [late.take().is_behind]
    log(world, run.id, 2)
    quiet.poll_once()
    assert len(first.take().events) == 2
    given = [*quiet.read_on(late).events]
    log(world, run.id, 2)
    quiet.poll_once()
    given += late.take().events
    assert behind == [True]
    assert [event.seq for event in given] == list(range(1, run.last_seq + 5))


def test_subscriber_whose_page_ended_before_the_others_reads_on(world: World, quiet: Live) -> None:
    run = world.service.submit("refresh/prices")
    first, late = (quiet.follow(run.id, notify=lambda: None) for _ in range(2))
    quiet.read_on(first)
    # Between its reading and its joining others are given more.
    joined = quiet._join

    def overtaken(feed: LogFeed) -> bool:
        log(world, run.id)
        quiet.poll_once()
        return joined(feed)

    quiet._join = overtaken  # type: ignore[method-assign]
    part = quiet.read_on(late)
    quiet._join = joined  # type: ignore[method-assign]
    assert part.is_behind
    assert [event.seq for event in [*part.events, *quiet.read_on(late).events]] == list(range(1, run.last_seq + 2))


def test_subscriber_that_joins_ahead_of_the_others_is_given_nothing_twice(world: World, quiet: Live) -> None:
    run = world.service.submit("refresh/prices")
    first, ahead = (quiet.follow(run.id, notify=lambda: None) for _ in range(2))
    quiet.read_on(first)
    log(world, run.id)
    assert len(quiet.read_on(ahead).events) == run.last_seq + 1
    log(world, run.id)
    quiet.poll_once()
    assert [event.seq for event in ahead.take().events] == [run.last_seq + 2]
    assert [event.seq for event in first.take().events] == [run.last_seq + 1, run.last_seq + 2]


def test_subscriber_that_takes_the_place_of_one_that_was_further_misses_nothing(world: World, quiet: Live) -> None:
    run = world.service.submit("refresh/prices")
    further, late = (quiet.follow(run.id, notify=lambda: None) for _ in range(2))
    join, read = quiet._join, quiet._new_entries
    quiet._join = lambda feed: False  # type: ignore[method-assign]  # it has read, and not joined yet
    quiet.read_on(late)
    quiet._join = join  # type: ignore[method-assign]
    log(world, run.id, 2)
    quiet.read_on(further)
    log(world, run.id)

    def replaced(*asked: Any) -> Any:
        found = read(*asked)
        quiet.leave(further)
        assert join(late)
        return found

    quiet._new_entries = replaced  # type: ignore[method-assign]
    quiet.poll_once()
    quiet._new_entries = read  # type: ignore[method-assign]
    given = [*late.take().events]
    quiet.poll_once()
    given += late.take().events
    assert [event.seq for event in given] == [run.last_seq + 1, run.last_seq + 2, run.last_seq + 3]


def test_slow_subscriber_of_a_run_is_told_and_then_given_everything(world: World, live: Live) -> None:
    run = world.service.submit("refresh/prices")
    count = 3 * RUN_BUFFER

    async def follow() -> tuple[list[dict[str, Any]], int]:
        stream = log_stream(live, run.id)
        found = await messages_at_least(stream, run.last_seq)
        # The generator is not asked: it stands where it is, as when the client does not read.
        log(world, run.id)
        found += await messages_at_least(stream, 1)
        for _ in range(3):
            log(world, run.id, count // 3)
        await condition(lambda: not live._followed)
        held = len(feeds[0]._buffer)
        found += await messages_at_least(stream, count + 1)  # and the one that tells
        await stream.aclose()
        return found, held

    feeds: list[LogFeed] = []
    follow_run = live.follow
    live.follow = lambda *a, **k: (feeds.append(follow_run(*a, **k)), feeds[-1])[1]  # type: ignore[method-assign]
    found, held = asyncio.run(follow())
    (told,) = [message for message in found if message["event"] == "resync"]
    assert told["data"] == {"why": "slow", "after": told["data"]["after"], "num_dropped": told["data"]["num_dropped"]}
    assert told["data"]["num_dropped"] > 0
    assert "id" not in told
    assert held == 0
    assert ids([message for message in found if message["event"] != "resync"]) == list(
        range(1, run.last_seq + count + 2)
    )


def test_few_large_entries_fill_a_buffer_too(world: World, quiet: Live) -> None:
    run = world.service.submit("refresh/prices")
    feed = quiet.follow(run.id, notify=lambda: None)
    quiet.read_on(feed)
    for _ in range(5):
        log(world, run.id, event=AuthorEvent(name="large", data={"text": "x" * 250_000, "number": 2**70}))
    quiet.poll_once()
    part = feed.take()
    assert (part.events, part.num_dropped, part.is_behind) == ([], 5, True)
    read = quiet.read_on(feed).events
    assert [event.seq for event in read] == list(range(run.last_seq + 1, run.last_seq + 6))
    assert json.loads(read[0].text)["payload"]["data"]["number"] == 2**70


async def condition(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(TICK_S)


def test_idle_stream_sends_heartbeats(world: World, live: Live) -> None:
    run = world.service.submit("refresh/prices")

    async def follow() -> list[bytes]:
        stream = log_stream(live, run.id, after=run.last_seq, heartbeat_s=0.01)
        raw = [await anext(stream) for _ in range(3)]
        await stream.aclose()
        return raw

    opening, *rest = asyncio.run(follow())
    assert opening == b"retry: 1000\n\n"
    assert rest == [b": heartbeat\n\n"] * 2


def test_stream_outlives_an_outage_of_the_database(world: World, live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    from freshline.storage.errors import StoreUnavailable

    run = world.service.submit("refresh/prices")
    read, failures = world.database.read, []

    @contextmanager
    def away() -> Iterator[Any]:
        failures.append(1)
        raise StoreUnavailable("it is away")
        yield

    async def follow() -> list[int]:
        stream = log_stream(live, run.id)
        found = await messages_at_least(stream, run.last_seq)
        monkeypatch.setattr(world.database, "read", away)
        await condition(lambda: len(failures) >= 2)
        monkeypatch.setattr(world.database, "read", read)
        log(world, run.id)
        found += await messages_at_least(stream, 1)
        await stream.aclose()
        return ids(found)

    assert asyncio.run(follow()) == list(range(1, run.last_seq + 2))


# The poller.


class Counted(Database):
    """Counts what is read: transactions, and on SQLite statements."""

    num_reads = 0

    @contextmanager
    def read(self) -> Iterator[Any]:
        self.num_reads += 1
        with super().read() as connection:
            if self.dialect == "sqlite":
                raw: Any = connection.connection.driver_connection
                raw.set_trace_callback(self._count)
            yield connection

    def _count(self, _statement: str) -> None:
        self.num_reads += 1


def test_two_hundred_clients_ask_as_often_as_one(world: World, database_url: str) -> None:
    run = world.service.submit("refresh/prices")
    database = Counted(database_url, sqlite_synchronous="OFF", clock=lambda: world.moment)
    counts = []
    for count in (1, 200):
        live = Quiet(database).live
        feeds = [live.follow(run.id, notify=lambda: None) for _ in range(count)]
        watching = [live.watch(notify=lambda: None) for _ in range(count)]
        for feed in feeds:
            live.read_on(feed)
        before = database.num_reads
        for _ in range(5):
            log(world, run.id)
            live.poll_once()
        counts.append(database.num_reads - before)
        assert all(len(feed.take().events) == 5 for feed in feeds)
        assert all(feed.take().resync is not None for feed in watching)
        live.close()
    database.dispose()
    assert counts[0] == counts[1]
    assert counts[0] >= 5


def test_nothing_is_asked_while_nobody_listens(world: World, database_url: str) -> None:
    run = world.service.submit("refresh/prices")
    database = Counted(database_url, sqlite_synchronous="OFF", clock=lambda: world.moment)
    live = Live(database, poll_s=TICK_S, project_s=TICK_S)

    async def come_and_go() -> None:
        for stream in (log_stream(live, run.id), project_stream(live)):
            await messages_at_least(stream, 1)
            assert live.is_polling
            await stream.aclose()
            await condition(lambda: not live.is_polling)

    assert not live.is_polling
    asyncio.run(come_and_go())
    before = database.num_reads
    log(world, run.id)
    live.close()
    database.dispose()
    assert database.num_reads == before


def test_close_ends_every_stream_at_once_and_those_that_come_later(world: World, live: Live) -> None:
    run = world.service.submit("refresh/prices")

    async def follow() -> list[list[dict[str, Any]]]:
        streams = [log_stream(live, run.id), project_stream(live)]
        for stream in streams:
            await messages_at_least(stream, run.last_seq if stream is streams[0] else 1)
        waiting = [asyncio.create_task(messages(stream, until=never)) for stream in streams]
        await asyncio.sleep(0)
        await asyncio.to_thread(live.close)
        late = [messages(stream, until=never) for stream in (log_stream(live, run.id), project_stream(live))]
        async with asyncio.timeout(30):
            return await asyncio.gather(*waiting, *late)

    assert asyncio.run(follow()) == [[], [], [], []]
    assert not live.is_polling


# The project.


def shown(found: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(message["event"], message["data"].get("key") or message["data"]["id"]) for message in found]


def test_project_stream_begins_with_resync_and_brings_runs_and_deployments(world: World, live: Live) -> None:
    async def watch() -> list[dict[str, Any]]:
        stream = project_stream(live)
        found = await messages_at_least(stream, 1)
        await asyncio.to_thread(world.run_through, "refresh/prices")
        return found + await messages(
            stream, until=lambda m: m["event"] == "deployment" and m["data"]["freshness"] == "ready"
        )

    found = asyncio.run(watch())
    assert found[0]["event"] == "resync"
    assert found[0]["data"] == {"why": "started"}
    (run,) = {message["data"]["id"] for message in found if message["event"] == "run"}
    last = [message["data"] for message in found if message["event"] == "run"][-1]
    assert run.startswith("run-")
    assert last["deployment"] == "refresh/prices"
    assert (last["status"], last["stop_reason"]) == ("completed", "completed")
    assert last["ended_at"].endswith("Z")
    deployment = found[-1]["data"]
    assert (deployment["key"], deployment["version"]) == ("refresh/prices", 1)
    assert deployment["last_run_id"] == run
    assert deployment["why"]


def test_project_stream_of_one_deployment_brings_no_other(world: World, live: Live) -> None:
    async def watch() -> list[dict[str, Any]]:
        stream = project_stream(live, deployment="refresh/calendar")
        found = await messages_at_least(stream, 1)
        await asyncio.to_thread(world.run_through, "refresh/prices")
        await asyncio.to_thread(world.run_through, "refresh/calendar")
        return found + await messages(
            stream, until=lambda m: m["event"] == "deployment" and m["data"]["freshness"] == "ready"
        )

    found = asyncio.run(watch())[1:]
    assert {message["data"].get("deployment") or message["data"]["key"] for message in found} == {"refresh/calendar"}


def test_project_stream_goes_on_after_its_cursor_also_when_nobody_listened_meanwhile(world: World, live: Live) -> None:
    async def watch() -> list[dict[str, Any]]:
        stream = project_stream(live)
        (first,) = await messages_at_least(stream, 1)
        await stream.aclose()
        await condition(lambda: not live.is_polling)
        await asyncio.to_thread(world.run_through, "refresh/prices")
        stream = project_stream(live, cursor=first["id"])
        return await messages(stream, until=lambda m: m["event"] == "deployment")

    found = asyncio.run(watch())
    assert [event for event, _ in shown(found)] == ["run", "deployment"]
    assert found[0]["data"]["status"] == "completed"


def test_cursor_that_is_not_known_gives_resync(world: World, live: Live) -> None:
    for cursor in ("", "elsewhere.3", "3", "x.-1", "²", "elsewhere.99999999999999999999"):
        found = asyncio.run(messages(project_stream(live, cursor=cursor), until=lambda _: True))
        assert [(message["event"], message["data"]["why"]) for message in found] == [("resync", "unknown_cursor")]


def test_cursor_that_is_too_old_gives_resync(world: World) -> None:
    changes = Changes(tenant_id="default", kept=2)
    now = world.moment
    cursors = []
    with world.database.read() as connection:
        changes.take_in(changes.look(connection, now=now, deployments=True))
    for _ in range(3):
        cursors.append(changes.cursor)
        world.service.submit("refresh/prices")
        with world.database.read() as connection:
            changes.take_in(changes.look(connection, now=now, deployments=False))
    assert changes.after(cursors[0]) is None
    assert [len(changes.after(cursor) or ()) for cursor in (*cursors[1:], changes.cursor)] == [2, 1, 0]


def test_slow_watcher_is_told_to_look_again_and_its_buffer_is_dropped(world: World, quiet: Live) -> None:
    feed = quiet.watch(notify=lambda: None)
    feed._limit = 2
    quiet.poll_once()
    assert feed.take().resync is not None
    for _ in range(3):
        world.service.submit("refresh/prices")
    quiet.poll_once()
    assert len(feed._buffer) == 0
    part = feed.take()
    assert (part.resync and part.resync.why, part.changes) == ("slow", [])
    assert part.resync.cursor == quiet._changes.cursor
    world.service.submit("refresh/prices")
    quiet.poll_once()
    assert [change.event for change in feed.take().changes] == ["run"]


def test_run_that_became_visible_late_is_told(world: World, quiet: Live) -> None:
    """Its transaction began before others that were seen: what is read goes back further than that."""
    feed = quiet.watch(notify=lambda: None)
    quiet.poll_once()
    feed.take()
    seen_until = world.moment
    world.moment = seen_until - timedelta(seconds=50)
    world.service.cancel(world.service.submit("refresh/prices").id)
    world.moment = seen_until
    quiet.poll_once()
    assert [one.data["status"] for one in feed.take().changes if one.event == "run"] == ["cancelled"]


def test_run_under_way_whose_end_was_not_seen_in_time_is_told(world: World, quiet: Live) -> None:
    feed = quiet.watch(notify=lambda: None)
    run = world.service.submit("refresh/prices")
    quiet.poll_once()
    feed.take()
    claim = world.start(run)
    world.complete(claim)
    world.pass_time(timedelta(minutes=5))
    quiet._changes._seen_at = world.moment
    quiet.poll_once()
    (change,) = [one for one in feed.take().changes if one.event == "run"]
    assert change.data["status"] == "completed"


def test_deleted_run_is_told_and_then_left_out(world: World, quiet: Live) -> None:
    run = world.service.submit("refresh/prices")
    world.service.cancel(run.id)
    feed = quiet.watch(notify=lambda: None)
    quiet.poll_once()
    feed.take()
    Deletions(world.database).delete(run.id, reason="a trial")
    quiet.poll_once()
    assert [(one.event, one.data) for one in feed.take().changes if one.event.startswith("run")] == [
        ("run_deleted", {"id": show_run_id(run.id)})
    ]


def test_after_a_long_pause_everybody_looks_again(world: World, quiet: Live) -> None:
    feed = quiet.watch(notify=lambda: None)
    quiet.poll_once()
    cursor = quiet._changes.cursor
    quiet.leave(feed)
    world.pass_time(live_changes._LONGEST_PAUSE + timedelta(seconds=1))
    again = quiet.watch(cursor=cursor, notify=lambda: None)
    quiet.poll_once()
    part = again.take()
    assert part.resync is not None
    assert part.resync.why == "unknown_cursor"


def test_watcher_through_a_long_outage_is_told_to_look_again(world: World, quiet: Live) -> None:
    """Its stream stays open while the database is away, or the machine asleep: what ended meanwhile is not compared."""
    feed = quiet.watch(notify=lambda: None)
    run = world.service.submit("refresh/prices")
    quiet.poll_once()
    feed.take()
    world.service.cancel(run.id)
    world.pass_time(live_changes._LONGEST_PAUSE + timedelta(seconds=1))
    quiet.poll_once()
    part = feed.take()
    assert part.resync is not None
    assert (part.resync.why, part.resync.cursor) == ("unknown_cursor", quiet._changes.cursor)
    world.service.submit("refresh/prices")
    quiet.poll_once()
    assert [one.event for one in feed.take().changes if one.event == "run"] == ["run"]


@pytest.mark.parametrize("question", ["summaries_of", "states", "deployments_of"])
def test_change_that_could_not_be_read_is_told_by_the_next_look(
    world: World, quiet: Live, monkeypatch: pytest.MonkeyPatch, question: str
) -> None:
    feed = quiet.watch(notify=lambda: None)
    quiet.poll_once()
    feed.take()
    world.run_through("refresh/prices")

    def away(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(live_rows, question, away)
        with pytest.raises(StoreUnavailable):
            quiet.poll_once()
    quiet.poll_once()
    assert {one.event for one in feed.take().changes} == {"run", "deployment"}


def test_change_is_told_when_the_question_cannot_be_ended(
    world: World, quiet: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = quiet.watch(notify=lambda: None)
    quiet.poll_once()
    feed.take()
    world.service.submit("refresh/prices")
    read = world.database.read

    @contextmanager
    def lost_at_the_end() -> Iterator[Any]:
        with read() as connection:
            yield connection
        raise StoreUnavailable("lost")

    with monkeypatch.context() as patched:
        patched.setattr(world.database, "read", lost_at_the_end)
        with pytest.raises(StoreUnavailable):
            quiet.poll_once()
    quiet.poll_once()
    assert "run" in {one.event for one in feed.take().changes}


def test_retired_deployment_is_told(world: World, quiet: Live) -> None:
    feed = quiet.watch(notify=lambda: None)
    quiet.poll_once()
    feed.take()
    kept = [one for key, one in world.graph.declared.items() if key != "backtest/book"]
    world.graph.register(*kept)
    quiet.poll_once()
    assert ("deployment_retired", {"key": "backtest/book"}) in [(one.event, one.data) for one in feed.take().changes]


def test_runs_of_other_tenants_are_not_told(world: World) -> None:
    changes = Changes(tenant_id="somebody-else")
    with world.database.read() as connection:
        changes.take_in(changes.look(connection, now=world.moment, deployments=True))
    world.run_through("refresh/prices")
    with world.database.read() as connection:
        assert changes.look(connection, now=datetime.now(UTC), deployments=True).told == []


def test_stream_of_a_run_that_does_not_exist_ends(world: World, live: Live) -> None:
    assert asyncio.run(messages(log_stream(live, new_id()), until=never)) == []
