"""Pages opened in a real headless Chromium."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--hide-scrollbars",
    "--window-size=1200,1600",
)


def opened(page: Path, folder: Path) -> tuple[str, list[str]]:
    """The page's document after its scripts have run, and every address on the network that it asked for."""
    log = folder / "network.json"
    document = _run(page, folder, f"--log-net-log={log}", "--dump-dom").decode("utf-8")
    asked = [event.get("params", {}) for event in json.loads(log.read_text(encoding="utf-8"))["events"]]
    # The browser's own questions (time, updates) come from no page.
    asked = [event for event in asked if event.get("initiator", "not an origin") != "not an origin"]
    return document, [event["url"] for event in asked if event.get("url", "").startswith(("http", "ws"))]


def pictured(page: Path, folder: Path) -> Path:
    """A screenshot of the page."""
    picture = folder / "page.png"
    _run(page, folder, f"--screenshot={picture}")
    return picture


def _run(page: Path, folder: Path, *options: str) -> bytes:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("chromium is not installed")
    own = (f"--user-data-dir={folder / 'profile'}", *options, page.resolve().as_uri())
    return subprocess.run((browser, *_OPTIONS, *own), capture_output=True, check=True, timeout=300).stdout
