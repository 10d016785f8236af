"""The fixture `browser_page`: a real browser, where one is installed."""

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest


def submit_form(page: Any) -> None:
    """Press Submit, and wait until Prefect has made the flow run."""
    press(page, lambda: page.get_by_role("button", name="Submit").click())


def press(page: Any, act: Callable[[], object]) -> None:
    """Act until the page asks Prefect for a flow run, and see that it gets one: before a page is ready a press does
    nothing.
    """
    from playwright.sync_api import TimeoutError as NotAsked

    for _ in range(3):
        try:
            with page.expect_request(lambda request: request.url.endswith("/create_flow_run"), timeout=15_000) as asked:
                act()
        except NotAsked:
            continue
        answer = asked.value.response()
        assert answer is not None, "Prefect did not answer"
        assert answer.ok, f"Prefect answered {answer.status} {answer.status_text}"
        return
    raise AssertionError("three presses, and no flow run was asked for")


@pytest.fixture
def browser_page() -> Iterator[Any]:
    """A page of a headless Chromium. Without a browser the test is skipped; in CI that is a failure."""
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
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            page.set_default_timeout(30_000)
            yield page
        finally:
            browser.close()
