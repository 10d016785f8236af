"""A real browser, where one is installed: `chromium`, and the fixtures `browser` and `browser_page`.

One browser serves all tests of a process; a test has a context of its own, which knows nothing of another one.
"""

import asyncio
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

_ASKED_WITHIN_S = 15.0


def submit_form(page: Any) -> None:
    """Press Submit, and wait until Prefect has made the flow run."""
    press(page, lambda: page.get_by_role("button", name="Submit").click())


def leave(page: Any) -> None:
    """Leave Prefect's page: that of a flow run keeps most of a processor busy for as long as it is open."""
    page.goto("about:blank")


def press(page: Any, act: Callable[[], object]) -> None:
    """Act until the page asks Prefect for a flow run, see that it gets one, and one alone, and leave the page.

    Before a page is ready a press does nothing. A press that takes long is not repeated: what the page asks counts from
    the first press on, whenever it asks.
    """
    asked: list[Any] = []

    def notice(request: Any) -> None:
        if request.method == "POST" and request.url.endswith("/create_flow_run"):
            asked.append(request)

    page.on("request", notice)
    try:
        for _ in range(3):
            act()
            deadline = time.monotonic() + _ASKED_WITHIN_S
            while not asked and time.monotonic() < deadline:
                page.wait_for_timeout(50)  # which lets the page's events through, as a sleep of ours would not
            if asked:
                break
        assert len(asked) == 1, f"the page asked for {len(asked)} flow runs"
        answer = asked[0].response()
        assert answer is not None, "Prefect did not answer"
        assert answer.ok, f"Prefect answered {answer.status} {answer.status_text}"
        leave(page)
    finally:
        page.remove_listener("request", notice)


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless Chromium. Without one the test is skipped; in CI that is a failure."""
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if executable is None:
        message = "no Chromium is installed: `make system` installs one"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


@pytest.fixture(scope="session")
def started_browser() -> Iterator[tuple[Any, asyncio.AbstractEventLoop]]:
    """The process's browser, and the event loop in which Playwright talks to it."""
    with chromium() as started:
        loop = asyncio.get_running_loop()
        with _running(None):
            yield started, loop


@pytest.fixture(scope="module")
def browser(started_browser: tuple[Any, asyncio.AbstractEventLoop]) -> Iterator[Any]:
    """The process's browser, for a module whose tests make contexts of their own."""
    started, loop = started_browser
    with _running(loop):
        yield started


@pytest.fixture
def browser_page(started_browser: tuple[Any, asyncio.AbstractEventLoop]) -> Iterator[Any]:
    """A page of a context of its own."""
    started, loop = started_browser
    with _running(loop):
        context = started.new_context(viewport={"width": 1400, "height": 900})
        page = context.new_page()
        page.set_default_timeout(60_000)
        yield page
        context.close()


@contextmanager
def _running(loop: asyncio.AbstractEventLoop | None) -> Iterator[None]:
    """Let this loop be the thread's running one.

    Playwright's is so between its calls too, and no other loop can run then: it is taken away from the tests that do
    not use it, and given back to those that do.
    """
    before = asyncio._get_running_loop()
    asyncio._set_running_loop(loop)
    try:
        yield
    finally:
        asyncio._set_running_loop(before)
