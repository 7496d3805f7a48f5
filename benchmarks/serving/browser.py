"""The page of a server, as a browser first paints it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_PAINTED = "performance.getEntriesByName('first-contentful-paint').map(entry => entry.startTime)[0]"
_ROUNDS = 11


def paints(url: str) -> dict[str, Any]:
    """Of the page: ms to the first paint, bytes over the wire and requests, in a new browser and again.

    The first of all rounds isn't counted, in which the browser starts what it needs itself.
    """
    with _browser() as browser:
        rounds = [_visits(browser, url) for _ in range(_ROUNDS)][1:]
    return {
        name: {
            "paint_ms": median(visits[at][0] for visits in rounds),
            "slowest_ms": max(visits[at][0] for visits in rounds),
            "bytes": median(visits[at][1] for visits in rounds),
            "requests": median(visits[at][2] for visits in rounds),
        }
        for at, name in enumerate(("cold", "warm"))
    }


@contextmanager
def _browser() -> Iterator[Browser]:
    found = os.environ.get("FIDKIT_CHROMIUM") or next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        raise SystemExit("needs Chromium: install it, or name it in FIDKIT_CHROMIUM")
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


def _visits(browser: Browser, url: str) -> list[tuple[float, int, int]]:
    """With nothing in the browser's cache, then with what the first visit left there."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    try:
        page = context.new_page()
        return [_visit(page, url), _visit(page, url)]
    finally:
        context.close()


def _visit(page: Page, url: str) -> tuple[float, int, int]:
    """Milliseconds to the first paint, bytes over the wire, requests."""
    wire = page.context.new_cdp_session(page)
    wire.send("Network.enable")
    loaded: list[int] = []
    wire.on("Network.loadingFinished", lambda event: loaded.append(int(event["encodedDataLength"])))
    page.goto(url)
    page.wait_for_selector("#question")
    page.wait_for_timeout(300)  # what the page asks the server for once it is there
    painted = page.evaluate(_PAINTED)
    wire.detach()
    return painted, sum(loaded), len(loaded)
