"""MuSc against a plain form of the paper's: seconds, ratio, difference, and peak memory for several sizes of the set.

``python -m tests.benchmarks.mutual_speed [--images 50] [--side 37] [--width 1024] [--rounds 1]``. The plain form
unfolds and pools neighbourhoods, then computes `cdist` and the minimum for one pair of images at a time. Tokens are
random, of one layer. Both forms run in one process, one after the other. The exit status is 1 if the ratio is below 5,
or the difference above 2e-5 of the largest score.

Peak memory is what a process holds above its start, in sets of several sizes that are read from a file. It is to stay
below ``--memory`` MiB, or the exit status is 1.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from monai_zsad.mutual import mutual_scores
from tests.benchmarks.aupro_speed import timed
from tests.benchmarks.crane_speed import PeakMemory, release_freed_memory
from tests.mutual.reference import plain_musc

LEAST_RATIO, BOUND = 5.0, 2e-5
MIB = 2**20


class FileTokens:
    """Tokens in a file of float16 values. They are read, not mapped, since mapped pages count as resident memory."""

    def __init__(self, file: Path, shape: tuple[int, int, int, int]) -> None:
        self.file, self.shape = file, shape

    def __getitem__(self, place: tuple[int, list[int]]) -> np.ndarray:
        layer, images = place
        size = self.shape[2] * self.shape[3]
        starts = [2 * size * (layer * self.shape[1] + image) for image in images]
        found = [np.fromfile(self.file, np.float16, size, offset=start) for start in starts]
        return np.stack(found).reshape(len(images), *self.shape[2:])

    def fill(self) -> None:
        rng = np.random.default_rng(0)
        with self.file.open("wb") as file:
            for _ in range(self.shape[0] * self.shape[1]):
                rng.standard_normal(self.shape[2:], np.float32).astype(np.float16).tofile(file)


def compare_speed(images: int, side: int, width: int, rounds: int) -> bool:
    tokens = torch.randn(1, images, 1 + side**2, width, generator=torch.Generator().manual_seed(0))
    print(
        f"{images} images of {side} x {side} tokens, width {width}, degrees 1, 3, 5, {torch.get_num_threads()} threads"
    )
    base, expected = timed(lambda: plain_musc(tokens))
    print(f"{'plain, one pair at a time':>28} {base:9.2f} s", flush=True)
    seconds, found = timed(lambda: mutual_scores(tokens), rounds)
    difference = float((found - expected).abs().max() / expected.abs().max())
    print(f"{'mutual_scores':>28} {seconds:9.2f} s, ratio {base / seconds:.2f}, largest difference {difference:.1e}")
    return base / seconds >= LEAST_RATIO and difference <= BOUND


def peak_memory(images: int, side: int, width: int, limit: int) -> float:
    """MiB above the start of this process."""
    with tempfile.TemporaryDirectory() as folder:
        tokens = FileTokens(Path(folder) / "tokens", (1, images, side**2, width))
        tokens.fill()
        mutual_scores(FileTokens(tokens.file, (1, 2, side**2, width)), memory_mib=limit)
        release_freed_memory()
        with PeakMemory() as memory:
            mutual_scores(tokens, memory_mib=limit)
    return memory.mebibytes


def compare_memory(counts: list[int], side: int, width: int, limit: int) -> bool:
    print(f"{side} x {side} tokens, width {width}, memory_mib={limit}")
    print(f"{'images':>7} {'tokens in float16, MiB':>23} {'peak memory, MiB':>17}")
    peaks = []
    for images in counts:
        command = [sys.executable, "-m", "tests.benchmarks.mutual_speed", "--one", str(images)]
        command += ["--memory-side", str(side), "--memory-width", str(width), "--memory", str(limit)]
        answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        peaks.append(float(answer))
        print(f"{images:7} {images * side**2 * width * 2 / MIB:23.0f} {peaks[-1]:17.0f}", flush=True)
    return max(peaks) <= limit


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.mutual_speed", description=__doc__)
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--side", type=int, default=37)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--memory-images", type=int, nargs="*", default=[50, 100, 200])
    parser.add_argument("--memory-side", type=int, default=16)
    parser.add_argument("--memory-width", type=int, default=256)
    parser.add_argument("--memory", type=int, default=64)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    place = (options.memory_side, options.memory_width, options.memory)
    if options.one:
        print(peak_memory(options.one, *place))
        return 0
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}")
    fast = compare_speed(options.images, options.side, options.width, options.rounds)
    small = not options.memory_images or compare_memory(options.memory_images, *place)
    return int(not (fast and small))


if __name__ == "__main__":
    raise SystemExit(main())
