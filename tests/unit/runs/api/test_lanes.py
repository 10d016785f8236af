"""The lane of quick reads: in turn, few at once; neither slow reads of other routes nor one of its own stops it.

Works are held until they are let go: nothing here waits for time to pass.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import httpx
import pytest
from anyio import to_thread

from freshline.runs.api.access import Access
from freshline.runs.api.app import create_app
from freshline.runs.api.lanes import Lane
from freshline.runs.composition import Freshline
from freshline.storage.database import Database
from freshline.storage.settings import Settings
from tests.asking import ADDRESS, TOKEN

FOREVER_S = 3600.0


class Held:
    """A work that ends when it is let go."""

    def __init__(self) -> None:
        self.has_begun, self._may_end = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.has_begun.set()
        assert self._may_end.wait(60)
        return "held"

    def let_go(self) -> None:
        self._may_end.set()


def run(asked: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test's own coroutine, which must end by itself."""

    async def bounded() -> None:
        async with asyncio.timeout(60):
            await asked()

    asyncio.run(bounded())


async def begun(*works: Held) -> None:
    for work in works:
        await asyncio.to_thread(work.has_begun.wait, 60)
        assert work.has_begun.is_set()


def test_answers_are_made_in_the_order_in_which_they_were_asked_for():
    async def asked() -> None:
        lane, first, order = Lane(width=1, patience_s=FOREVER_S), Held(), []
        tasks = [asyncio.create_task(lane.run(object(), first))]
        await begun(first)
        tasks += [
            asyncio.create_task(lane.run(object(), lambda number=number: order.append(number))) for number in range(10)
        ]
        await asyncio.sleep(0)
        assert order == []
        first.let_go()
        await asyncio.gather(*tasks)
        assert order == list(range(10))

    run(asked)


def test_only_so_many_answers_are_made_at_once():
    async def asked() -> None:
        lane, works = Lane(width=2, patience_s=FOREVER_S), [Held() for _ in range(3)]
        tasks = [asyncio.create_task(lane.run(object(), work)) for work in works]
        await begun(*works[:2])
        assert not works[2].has_begun.is_set()
        works[0].let_go()
        await begun(works[2])
        for work in works:
            work.let_go()
        assert await asyncio.gather(*tasks) == ["held"] * 3

    run(asked)


def test_answer_that_takes_long_lets_the_next_pass():
    async def asked() -> None:
        lane, slow = Lane(width=1, patience_s=0.001), [Held() for _ in range(3)]
        tasks = [asyncio.create_task(lane.run(object(), work)) for work in slow]
        assert await lane.run(object(), lambda: "quick") == "quick"
        await begun(*slow)
        assert not any(task.done() for task in tasks)
        for work in slow:
            work.let_go()
        await asyncio.gather(*tasks)
        # Each place was given back once: as many are there as before.
        assert [await lane.run(object(), lambda: "quick") for _ in range(3)] == ["quick"] * 3

    run(asked)


def test_failure_is_raised_and_gives_its_place_to_the_next():
    async def asked() -> None:
        lane = Lane(width=1, patience_s=FOREVER_S)
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                await lane.run(object(), lambda: 1 / 0)
        assert await lane.run(object(), lambda: "next") == "next"

    run(asked)


class Counted(Held):
    """A work whose results differ."""

    times = 0

    def __call__(self) -> str:
        super().__call__()
        self.times += 1
        return f"answer {self.times}"


def test_question_asked_again_before_its_turn_is_answered_once_and_later_ones_anew():
    async def asked() -> None:
        lane, first, same = Lane(width=1, patience_s=FOREVER_S), Held(), Counted()
        tasks = [asyncio.create_task(lane.run("another", first))]
        await begun(first)
        together = [asyncio.create_task(lane.run("same", same)) for _ in range(3)]
        await asyncio.sleep(0)
        first.let_go()
        await begun(same)
        # It has begun to look: what changes now it may not see.
        later = asyncio.create_task(lane.run("same", same))
        await asyncio.sleep(0)
        same.let_go()
        assert await asyncio.gather(*together) == ["answer 1"] * 3
        assert await later == "answer 2"
        await asyncio.gather(*tasks)

    run(asked)


def test_one_who_asked_the_same_and_goes_away_takes_nothing_from_the_others():
    async def asked() -> None:
        lane, first, same = Lane(width=1, patience_s=FOREVER_S), Held(), Counted()
        holding = asyncio.create_task(lane.run("another", first))
        await begun(first)
        gone, other = (asyncio.create_task(lane.run("same", same)) for _ in range(2))
        await asyncio.sleep(0)
        gone.cancel()
        first.let_go()
        same.let_go()
        assert await other == "answer 1"
        assert gone.cancelled()
        await holding

    run(asked)


def test_failure_of_a_question_is_raised_to_all_who_asked_it():
    async def asked() -> None:
        lane, first = Lane(width=1, patience_s=FOREVER_S), Held()
        holding = asyncio.create_task(lane.run("another", first))
        await begun(first)
        together = [asyncio.create_task(lane.run("same", lambda: 1 / 0)) for _ in range(2)]
        await asyncio.sleep(0)
        first.let_go()
        failures = await asyncio.gather(*together, return_exceptions=True)
        assert [type(failure) for failure in failures] == [ZeroDivisionError] * 2
        await holding

    run(asked)


@pytest.mark.parametrize("path", ["/runs", "/runs/active"])
def test_list_is_answered_while_slow_reads_have_every_thread_of_the_other_routes(tmp_path, sqlite_template, path):
    database = Database(f"sqlite:///{sqlite_template}")
    app = create_app(Freshline(Settings(home=tmp_path), database, None), access=Access(token=TOKEN))
    slow = Held()

    async def asked() -> None:
        threads = to_thread.current_default_thread_limiter()
        threads.total_tokens = 1
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=f"{ADDRESS}/api/v1") as client:
            try:
                holding = asyncio.create_task(to_thread.run_sync(slow))
                await begun(slow)
                statistics = asyncio.create_task(client.get("/statistics"))
                await _until(lambda: threads.statistics().tasks_waiting == 1)
                assert (await client.get(path)).json() == {"items": [], "next_cursor": None}
                assert not statistics.done()
            finally:
                slow.let_go()
            await holding
            assert (await statistics).status_code == 200

    run(asked)
    database.dispose()


async def _until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0)
