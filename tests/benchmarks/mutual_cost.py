"""Seconds of both passes of the bundle `musc` for each scan, in folders with more and more scans.

``python -m tests.benchmarks.mutual_cost [--scans 10 100 1000] [--neighbours 10]``. The scans are synthetic heads of
28 x 32 x 5 voxels. Each folder is screened in this process. Processor time hardly depends on other programs; wall time
does. The start of the program is left out. The exit status is 1 if a scan of the largest folder takes 1.5 times as much
processor time as one of the smallest folder, or more.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from monai_zsad import screen
from monai_zsad.synthesis import phantom_head, write_phantom

MOST_GROWTH = 1.5
SHAPE, SPACING = (28, 32, 5), (7.0, 7.0, 30.0)


def write_scans(folder: Path, count: int) -> Path:
    for number in range(count):
        phantom = phantom_head(SHAPE, SPACING, seed=number, lesion=number % 5 == 0)
        write_phantom(phantom, folder / f"head{number:04d}_FLAIR.nii.gz")
    return folder


def seconds(folder: Path, output: Path, neighbours: int) -> dict[str, tuple[float, float]]:
    """Processor and wall time of each pass for one scan, without its first scan, which waits for the start."""
    stamps: dict[str, list[tuple[float, float]]] = {"features": [], "comparison": []}

    def note(fraction: float, text: str) -> None:
        name = "features" if text.startswith("features") else "comparison" if text.endswith(": done") else ""
        if name:
            stamps[name].append((time.process_time(), time.perf_counter()))

    found = screen(folder, output, bundle="musc", neighbours=neighbours, report="none", device="cpu", on_progress=note)
    assert not found.failed
    return {
        name: ((own[-1][0] - own[0][0]) / (len(own) - 1), (own[-1][1] - own[0][1]) / (len(own) - 1))
        for name, own in stamps.items()
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
        prog="python -m tests.benchmarks.mutual_cost",
    )
    parser.add_argument("--scans", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--neighbours", type=int, default=10)
    options = parser.parse_args()
    print("| scans | features, processor s | comparison, processor s | both, wall s |\n|---|---|---|---|")
    sums = []
    for count in options.scans:
        with tempfile.TemporaryDirectory() as folder:
            scans = write_scans(Path(folder) / "scans", count)
            found = seconds(scans, Path(folder) / "results", options.neighbours)
        sums.append(sum(one[0] for one in found.values()))
        wall = sum(one[1] for one in found.values())
        print(f"| {count:,} | {found['features'][0]:.2f} | {found['comparison'][0]:.2f} | {wall:.2f} |", flush=True)
    sys.exit(int(sums[-1] >= MOST_GROWTH * sums[0]))


if __name__ == "__main__":
    main()
