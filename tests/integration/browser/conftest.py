"""A real browser for the tests of this folder."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium as Debian has it; nothing is downloaded.

    While it runs, this thread has a running event loop, in which Prefect's blocks answer with coroutines: what needs
    those is set up before.
    """
    if not CHROMIUM:
        pytest.skip("chromium is not installed")
    expect.set_options(timeout=30_000)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()
