"""The fixture `browser_page`: a real browser, where one is installed."""

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest


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
