"""A real browser, where one is installed: `chromium`, and the fixture `browser_page`."""

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


def press(page: Any, act: Callable[[], object]) -> None:
    """Act until the page asks Prefect for a flow run, and see that it gets one, and one alone.

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


@pytest.fixture
def browser_page() -> Iterator[Any]:
    """A page of a browser of its own."""
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(30_000)
        yield page
