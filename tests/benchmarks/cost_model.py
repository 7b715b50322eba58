"""What many studies cost: seconds, bytes and files, and whether they grow as a line with slices and with studies.

``python -m tests.benchmarks.cost_model studies [--counts 10 100 1000] [--set NAME=VALUE ...]``: ``screen`` over so many
small synthetic studies in one process. ``slices [--counts 20 60 180]``: over one head of so many slices.
``tables [--rows 100000]``: status rows without studies, and what becomes of them: ``.status``, ``status.csv``,
``summary.json``, ``index.html``; and, with playwright and Chromium, how long the page takes to open.

Each line of the fit is by least squares; seconds are those of the processor (user and system, all threads), which
hardly depend on what else the machine does, with wall time beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import nibabel
import numpy as np

from monai_zsad.synthesis import phantom_head, write_phantom
from monai_zsad.writers import write_index
from monai_zsad.writers.run_tables import publish
from monai_zsad.writers.status import STATUS_FOLDER, StatusRow, read_rows, write_row
from tests.benchmarks.children import Cost, run_program

Found = TypeVar("Found")

FOUND: Mapping[str, Any] = {
    "candidates": [{"peak_score": 0.75, "volume_mm3": 1234.5}] * 3,
    "volume_p_value": None,
    "scan": {"modality": "MR"},
    "warnings": [],
    "files": {},
}
"""What the index page reads of a case's findings."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.cost_model", description=__doc__)
    parser.add_argument("part", choices=("studies", "slices", "tables"))
    parser.add_argument("--counts", type=int, nargs="+")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="of screen")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if options.part == "tables":
            tables(Path(name), options.rows)
        elif options.part == "studies":
            series(Path(name), options, options.counts or [10, 100, 1000], write_studies)
        else:
            series(Path(name), options, options.counts or [20, 60, 180], write_slices)


def write_studies(folder: Path, count: int) -> None:
    """Studies of 32 x 32 x 4 voxels, each another head."""
    heads = [phantom_head((32, 32, 4), (7.0, 7.0, 20.0), seed=seed, lesion=False) for seed in range(10)]
    rng = np.random.default_rng(0)
    for number in range(count):
        head = heads[number % len(heads)]
        noisy = np.round(head.image + rng.normal(0, 5, head.image.shape)).astype(np.int16)
        image = nibabel.Nifti1Image(noisy, head.affine)
        image.header.set_xyzt_units("mm")
        nibabel.save(image, folder / f"study{number:04}.nii.gz")


def write_slices(folder: Path, count: int) -> None:
    """One head of 256 x 256 pixels and so many slices, all with body."""
    write_phantom(phantom_head((256, 256, count), (0.9, 0.9, 160 / count), seed=3), folder / "head.nii.gz")


def series(
    folder: Path, options: argparse.Namespace, counts: Sequence[int], write: Callable[[Path, int], None]
) -> None:
    """Run all sizes, print each and the fits."""
    print(f"screen {' '.join(options.set)}, {options.threads} thread(s), load {os.getloadavg()[0]:.1f}")
    print(f"{options.part:>8} {'wall s':>9} {'cpu s':>9} {'peak MiB':>9} {'bytes':>12} {'files':>7}")
    costs: list[Cost] = []
    written: list[tuple[int, int]] = []
    for count in counts:
        scans, output = folder / f"in{count}", folder / f"out{count}"
        scans.mkdir()
        write(scans, count)
        words = [word for setting in options.set for word in ("--set", setting)]
        words = ["screen", str(scans), "-o", str(output), "--no-progress", *words]
        costs.append(run_program("monai_zsad", *words, threads=options.threads))
        written.append(size_of(output))
        print(f"{count:8} {costs[-1]} {written[-1][0]:12} {written[-1][1]:7}", flush=True)
    for name, values in (
        ("cpu s", [cost.processor for cost in costs]),
        ("wall s", [cost.wall for cost in costs]),
        ("peak MiB", [cost.memory / 2**20 for cost in costs]),
        ("bytes", [float(size) for size, _ in written]),
        ("files", [float(files) for _, files in written]),
    ):
        slope, intercept, share = fit(counts, values)
        print(f"{name:>8} = {intercept:.4g} + {slope:.4g} x {options.part}, R^2 {share:.5f}")


def fit(counts: Sequence[int], values: Sequence[float]) -> tuple[float, float, float]:
    """Slope, intercept and R^2 of the line of least squares; R^2 is NaN for values that are all equal."""
    x, y = np.asarray(counts, dtype=float), np.asarray(values, dtype=float)
    slope, intercept = np.polyfit(x, y, 1)
    spread = float(((y - y.mean()) ** 2).sum())
    left = float(((y - slope * x - intercept) ** 2).sum())
    return float(slope), float(intercept), 1 - left / spread if spread else float("nan")


def size_of(folder: Path) -> tuple[int, int]:
    """Bytes and number of the files below a folder."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return sum(sizes), len(sizes)


def tables(folder: Path, count: int) -> None:
    """Status rows and findings of studies that were never run, and what a run makes of them at its end."""
    (folder / STATUS_FOLDER).mkdir()
    parts = {"read": 0.1, "prepare": 0.2, "network": 3.0, "invert": 0.1, "findings": 0.2, "write": 0.3}

    def write() -> None:
        for number in range(count):
            score = number % 997 / 997
            case = f"case{number:07}"
            write_row(folder, StatusRow(case, "done", volume_score=score, seconds=4.0, parts=parts))
            (folder / case).mkdir()
            found = json.dumps({"case": case, "volume_score": score, **FOUND})
            (folder / case / "findings.json").write_text(found, encoding="utf-8")

    _timed(f"write {count} rows and findings", write)
    rows = _timed("read them", lambda: read_rows(folder))
    _timed("publish the tables", lambda: publish(folder, rows))
    page = _timed("of that, the index page", lambda: write_index(folder))
    open_page(page)
    size, files = size_of(folder / STATUS_FOLDER)
    print(f"{STATUS_FOLDER}: {files} files, {size / 1e6:.1f} MB, {size / max(1, files):.0f} bytes each")
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB, {path.stat().st_size / count:.0f} bytes a row")


def open_page(file: Path) -> None:
    """Seconds until the first row of a page is seen, and until all of it is loaded, in a new Chromium."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None or not find_spec("playwright"):
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=program) as browser:
        page = browser.new_page()
        page.set_default_timeout(120_000)
        begin = time.perf_counter()
        page.goto(file.resolve().as_uri(), wait_until="commit")
        page.locator("td.case").first.wait_for()
        first = time.perf_counter() - begin
        page.wait_for_load_state("load")
        print(f"open the page: first row after {first:.2f} s, loaded after {time.perf_counter() - begin:.2f} s")


def _timed(name: str, work: Callable[[], Found]) -> Found:
    begin, used = time.perf_counter(), time.process_time()
    found = work()
    wall, processor = time.perf_counter() - begin, time.process_time() - used
    print(f"{name}: {wall:.1f} s wall, {processor:.1f} s cpu", flush=True)
    return found


if __name__ == "__main__":
    main()
