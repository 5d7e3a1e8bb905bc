"""A headless, offline Chromium for the tests of pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser; the test is skipped if there is none."""
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="needs Playwright: pip install 'diffsde[browser]'"
    )
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no Chromium: none of {', '.join(NAMES)} is on the PATH")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=OPTIONS)
        yield browser
        browser.close()


@contextmanager
def without_complaints(tab: Any) -> Iterator[None]:
    """In the end, no error is in the console, no file is missing, no network was asked.

    A file that was still being loaded when the page was left is not missing.
    """
    wrong: list[str] = []
    hear: dict[str, Any] = {
        "console": lambda m: wrong.append(m.text) if m.type in ("error", "warning") else None,
        "pageerror": lambda error: wrong.append(str(error)),
        "request": lambda r: None if r.url.startswith("file:") else wrong.append(r.url),
        "requestfailed": lambda r: None if "ABORTED" in r.failure else wrong.append(r.url),
    }
    for event, listener in hear.items():
        tab.on(event, listener)
    yield
    for event, listener in hear.items():
        tab.remove_listener(event, listener)
    assert wrong == []


def settle(page: Any) -> None:
    """Wait until the page has been redrawn."""
    page.evaluate("new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))")
