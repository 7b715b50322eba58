"""Pages in a real headless Chromium, driven by playwright: the fixture ``open_page``.

A test that uses it takes seconds and is marked ``slow``. Without playwright or Chromium it is skipped.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Request

# Without a graphics card, WebGL2 is drawn by the processor.
_OPTIONS = ("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@dataclass
class Opened:
    """An opened page and what happened in it.

    Attributes:
        page: playwright's page.
        errors: uncaught errors, and what the page's console shows as an error; a content that the page's policy
            refuses is among them.
        requests: addresses on the network that the page asked for, other than those of its own server.
    """

    page: Page
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


Opener = Callable[..., Opened]


@pytest.fixture
def open_page() -> Iterator[Opener]:
    """A function that opens a file or an address: ``open_page(page, width=1280, height=900, scheme="light")``.

    ``scheme`` is ``"light"`` or ``"dark"``. Further keywords are those of playwright's ``new_context``. ``flags`` are
    further options of Chromium. All pages are closed after the test.
    """
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next((found for name in _BROWSERS if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("chromium is not installed")
    with sync_api.sync_playwright() as playwright:
        browsers: dict[tuple[str, ...], Browser] = {}

        def opener(
            address: str | Path,
            width: int = 1280,
            height: int = 900,
            scheme: Literal["light", "dark"] = "light",
            flags: tuple[str, ...] = (),
            **options: Any,
        ) -> Opened:
            if flags not in browsers:
                browsers[flags] = playwright.chromium.launch(executable_path=program, args=[*_OPTIONS, *flags])
            context = browsers[flags].new_context(
                viewport={"width": width, "height": height}, color_scheme=scheme, **options
            )
            opened = Opened(context.new_page())
            url = address if isinstance(address, str) else address.resolve().as_uri()
            _record(opened, urlsplit(url).netloc)
            opened.page.goto(url)
            return opened

        yield opener
        for browser in browsers.values():
            browser.close()


def _record(opened: Opened, server: str) -> None:
    def request(url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.netloc != server:
            opened.requests.append(url)

    def failed(asked: Request) -> None:
        # The page's policy stopped it before the network.
        if asked.failure == "csp" and asked.url in opened.requests:
            opened.requests.remove(asked.url)

    page = opened.page
    page.on("request", lambda asked: request(asked.url))
    page.on("requestfailed", failed)
    page.on("websocket", lambda socket: request(socket.url))
    page.on("pageerror", lambda error: opened.errors.append(str(error)))
    page.on("console", lambda line: opened.errors.append(line.text) if line.type == "error" else None)
