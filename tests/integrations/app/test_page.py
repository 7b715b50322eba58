"""The page in a real browser, from the dropped scan to the downloaded results."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from monai_zsad.synthesis import write_sample_scan
from tests.browser import Opened, Opener, open_page

pytestmark = pytest.mark.slow
pytest.importorskip("gradio")

__all__ = ["open_page"]

# Milliseconds. A run on one core takes about a minute.
_LONG = 300_000


@pytest.fixture(scope="module")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def address(temporary: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "monai_zsad", "app", "--port", "0", "--max-upload", "20"]
    environment = os.environ | {"TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment) as one:
        assert one.stdout is not None
        line = one.stdout.readline()
        yield line.split()[1]
        one.send_signal(signal.SIGTERM)
        printed = one.communicate(timeout=60)[0]
    # Neither names of files nor anything else.
    assert printed == ""
    assert not list(temporary.glob("monai-zsad-*"))


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample scan as NIfTI and as DICOM series."""
    folder = tmp_path_factory.mktemp("scans")
    scan = write_sample_scan(folder)
    write_sample_scan(folder, dicom=True)
    return scan.parent


def opened(open_page: Opener, address: str, **options: Any) -> Opened:
    found = open_page(address, **options)
    found.page.wait_for_selector("#zsad-run", timeout=_LONG)
    return found


def drop(page: Any, *files: Path) -> None:
    """Give files to the page, and wait until it has them."""
    page.set_input_files("#zsad-upload input[type=file]", [str(file) for file in files])
    page.wait_for_function("document.querySelector('#zsad-uploaded').innerText.match(/MB|upload/)", timeout=_LONG)


def screen(page: Any) -> None:
    """Start a run, and wait for its outcome; the outcome of the run before stays on the page for a moment."""
    outcome = "#zsad-status :is(.zsad-score, .zsad-problem):not(.seen)"
    page.evaluate("for (const one of document.querySelectorAll('#zsad-status *')) one.classList.add('seen')")
    page.click("#zsad-run")
    page.wait_for_selector(outcome, timeout=_LONG)


def left(temporary: Path) -> list[Path]:
    return [path for path in temporary.glob("monai-zsad-app-*/**/*") if path.is_file() and path.parent.name != "sample"]


def wait_until_empty(temporary: Path) -> None:
    deadline = time.monotonic() + 60
    while left(temporary) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert left(temporary) == []


def test_from_scan_to_results(open_page: Opener, address: str, scans: Path, temporary: Path):
    found = opened(open_page, address)
    page = found.page
    drop(page, scans / "sample_flair.nii.gz")
    screen(page)
    assert page.locator("#zsad-status .zsad-problem").all_inner_texts() == []
    assert 0.5 < float(page.inner_text(".zsad-score")) <= 1
    rows = page.locator("#zsad-candidates tbody tr")
    assert rows.count() >= 1
    report = page.frame_locator("iframe.zsad-report")
    report.locator("canvas, img").first.wait_for(timeout=_LONG)
    assert report.locator("text=sample_flair").count() >= 1

    with page.expect_download() as download:
        page.click(".zsad-downloads >> text=zip")
    with zipfile.ZipFile(download.value.path()) as archive:
        names = {Path(name).name for name in archive.namelist()}
        content = gzip.decompress(archive.read("sample_flair/anomaly.nii.gz"))
    assert {"report.html", "findings.json", "candidates.nii.gz"} <= names
    assert download.value.suggested_filename == "sample_flair.zip"
    scan = nibabel.load(scans / "sample_flair.nii.gz")
    anomaly_map = nibabel.Nifti1Image.from_bytes(content)
    assert anomaly_map.shape == scan.shape
    np.testing.assert_allclose(anomaly_map.affine, scan.affine, atol=1e-4)
    with page.expect_download() as download:
        page.click(".zsad-downloads >> text=Anomaly map")
    assert download.value.suggested_filename == "sample_flair_anomaly.nii.gz"

    # The same page again with other choices: the model is loaded, and the first results are deleted.
    first = page.get_attribute("iframe.zsad-report", "src")
    screen(page)
    second = page.get_attribute("iframe.zsad-report", "src")
    assert first != second
    assert page.request.get(f"{address}/{first}").status == 404
    assert page.request.get(f"{address}/{second}").status == 200
    assert found.requests == []
    assert found.errors == []
    page.close()
    wait_until_empty(temporary)


def test_files_of_a_dicom_series_have_no_names_in_the_results(open_page: Opener, address: str, scans: Path):
    found = opened(open_page, address)
    page = found.page
    drop(page, *(path for path in (scans / "sample_flair").rglob("*") if path.is_file()))
    page.click("#zsad-run")
    page.wait_for_selector("#zsad-cancel", timeout=_LONG)
    page.wait_for_selector("text=/slice .* of/", timeout=_LONG)
    page.click("#zsad-cancel")
    page.wait_for_selector("text=was cancelled", timeout=_LONG)
    page.wait_for_selector("#zsad-run:not([disabled])", timeout=_LONG)
    screen(page)
    assert page.inner_text("#zsad-status").startswith("case-")
    assert found.errors == []


def test_a_bad_file_gives_one_sentence(open_page: Opener, address: str, tmp_path: Path, temporary: Path):
    found = opened(open_page, address)
    page = found.page
    bad = tmp_path / "anna.nii.gz"
    bad.write_bytes(b"no scan")
    drop(page, bad)
    screen(page)
    sentence = page.inner_text("#zsad-status")
    assert "anna.nii.gz" in sentence
    assert "; " in sentence
    assert str(temporary) not in sentence
    assert page.locator("iframe").count() == 0
    page.close()
    wait_until_empty(temporary)


def test_a_large_file_is_refused(open_page: Opener, address: str, tmp_path: Path, temporary: Path):
    page = opened(open_page, address).page
    large = tmp_path / "large.nii"
    large.write_bytes(bytes(30_000_000))
    page.set_input_files("#zsad-upload input[type=file]", str(large))
    page.wait_for_selector("text=--max-upload 31", timeout=_LONG)
    assert left(temporary) == []


def test_weights_that_are_missing_are_shown_with_their_command(open_page: Opener, address: str):
    page = opened(open_page, address).page
    page.click("#zsad-bundle input")
    page.click("[role=option]:has-text('crane (')")
    page.wait_for_selector("#zsad-remedy code:has-text('weights fetch')", timeout=_LONG)
    assert not page.is_visible("#zsad-anatomy")
    page.click("#zsad-bundle input")
    page.click("[role=option]:has-text('tiny_screening')")
    page.wait_for_selector("#zsad-anatomy", timeout=_LONG)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_its_window(open_page: Opener, address: str, width: int, scheme: str):
    found = opened(open_page, address, width=width, scheme=scheme)
    assert found.page.evaluate("document.documentElement.scrollWidth") <= width
    light = found.page.evaluate("getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g)[0] > 128")
    assert light == (scheme == "light")
    assert found.requests == []
