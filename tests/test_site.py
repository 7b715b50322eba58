"""The documents as a site: links, what makes a build fail, and the built pages in a browser."""

from __future__ import annotations

import functools
import http.server
import importlib.util
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.browser import Opener
from tests.documented import ROOT

pytest.importorskip("mkdocs", reason="mkdocs is not installed")
griffe = pytest.importorskip("griffe", reason="mkdocstrings is not installed")


def build(config: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "mkdocs", "build", "-f", str(config), "-d", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def helper() -> ModuleType:
    """The module of docs/ that MkDocs loads."""
    spec = importlib.util.spec_from_file_location("build_site", ROOT / "docs" / "build_site.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("target", "home", "place", "expected"),
    [
        ("docs/cost.md#on-a-gpu", "README.md", "index.md", "cost.md#on-a-gpu"),
        ("docs/images/demo.png", "README.md", "index.md", "images/demo.png"),
        ("bundles/crane/docs/README.md", "README.md", "index.md", "bundles/crane.md"),
        (
            "../../crane/docs/README.md#engines",
            "bundles/aaclip/docs/README.md",
            "bundles/aaclip.md",
            "crane.md#engines",
        ),
        ("../../CONTRIBUTING.md", "docs/guides/own_bundle.md", "guides/own_bundle.md", "../contributing.md"),
        ("inputs.md", "docs/guides/dicom.md", "guides/dicom.md", "inputs.md"),
        ("#data", "README.md", "index.md", "#data"),
        ("https://monai.io", "README.md", "index.md", "https://monai.io"),
        ("nowhere.md", "README.md", "index.md", "nowhere.md"),
    ],
)
def test_links_work_in_the_site(helper: ModuleType, target: str, home: str, place: str, expected: str) -> None:
    assert helper.link(target, home, place) == expected


def test_files_that_are_no_pages_are_shown_by_github(helper: ModuleType) -> None:
    shown = helper.link("01_quick_start.ipynb", "notebooks/README.md", "guides/notebooks.md")
    assert shown == f"{helper.REPOSITORY}/blob/main/notebooks/01_quick_start.ipynb"
    assert helper.link("bundles", "README.md", "index.md") == f"{helper.REPOSITORY}/tree/main/bundles"


DOCSTRING = '''
def first():
    """Use :func:`second`, :class:`~planted.Missing` and :class:`~monai.data.Dataset`.

    >>> first()
    [1]
    """

def second():
    """Nothing."""
'''


def test_a_docstring_that_names_nothing_is_reported(
    helper: ModuleType, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "planted.py").write_text(DOCSTRING, encoding="utf-8")
    extensions = griffe.load_extensions(helper.Roles)
    with caplog.at_level(logging.WARNING, logger="mkdocs.hooks"):
        module = griffe.load("planted", search_paths=[tmp_path], extensions=extensions)
    assert [record.getMessage() for record in caplog.records] == ["planted.first: no object is named planted.Missing"]
    text = module["first"].docstring.value
    assert 'identifier="planted.second"' in text
    assert "Examples:\n    >>> first()" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("[other](other.md#there)", True),
        ("[other](nowhere.md)", False),
        ("[other](other.md#nowhere)", False),
        ("[other](/other.md)", False),
    ],
)
def test_a_broken_link_ends_the_build(tmp_path: Path, text: str, passes: bool) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(f"# One\n\n{text}\n", encoding="utf-8")
    (tmp_path / "docs" / "other.md").write_text("# Two\n\n## There\n", encoding="utf-8")
    own = f"INHERIT: {ROOT / 'mkdocs.yml'}\ndocs_dir: docs\nhooks: []\nplugins: [search]\nnav: [index.md, other.md]\n"
    (tmp_path / "mkdocs.yml").write_text(own, encoding="utf-8")
    done = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert (done.returncode == 0) == passes, done.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the built site on a server of this machine."""
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT / "mkdocs.yml", folder)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_site_in_a_browser(site: str, open_page: Opener, width: int, scheme: str) -> None:
    for path in ("/", "/guides/dicom/", "/bundles/tiny_screening/", "/reference/networks/", "/architecture/"):
        opened = open_page(site + path, width=width, scheme=scheme)
        page = opened.page
        page.wait_for_load_state("networkidle")
        assert opened.requests == []
        assert opened.errors == []
        assert page.locator("h1").count() == 1
        # The page itself does not scroll sideways; its wide tables do.
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("img").evaluate_all("images => images.every(image => image.naturalWidth > 0)")


@pytest.mark.slow
def test_the_search_finds_pages_and_names(site: str, open_page: Opener) -> None:
    page = open_page(site + "/").page
    for words, expected in (("gantry", "guides/dicom/"), ("VolumeSliceInferer", "reference/inferers/")):
        page.locator(".md-search__input").first.fill(words)
        page.keyboard.press("End")  # the page searches when a key is released
        page.locator(f".md-search-result__link[href*='{expected}']").first.wait_for(timeout=20_000)
