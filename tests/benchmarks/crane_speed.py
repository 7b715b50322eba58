"""Crane on this machine's CPU against a plain reference: seconds per slice, ratio, peak memory, difference of maps.

``python -m tests.benchmarks.crane_speed [--image-size 518] [--batches 1 4] [--rounds 2]``. Every variant runs in
processes of its own: one for its time, the best of its rounds, and one for its peak memory, the resident set over what
it held before its first batch, weights included in the latter. Weights are seeded: neither time nor arithmetic depends
on their values. ``fast`` is the overlay of the bundle with OpenVINO; its smaller input gives other maps.
"""

from __future__ import annotations

import argparse
import ctypes.util
import gc
import json
import platform
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import yaml

from monai_zsad.networks import Crane, with_runtime
from tests.benchmarks.reference import PlainCrane
from tests.conftest import ROOT

VARIANTS = ("reference", "torch-float32", "torch-bfloat16", "openvino-float32", "openvino-bfloat16", "fast")
FAST = ROOT / "bundles" / "crane" / "configs" / "fast.yaml"


class PeakMemory:
    """Largest resident set of this process while the context is open, over what it was at its start, in MiB."""

    def __enter__(self) -> PeakMemory:
        self._process = psutil.Process()
        self._start = self._peak = self._process.memory_info().rss
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.005):
            self._peak = max(self._peak, self._process.memory_info().rss)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def mebibytes(self) -> float:
        return (self._peak - self._start) / 2**20


def release_freed_memory() -> None:
    """Hand freed memory back to the system, or what building the network left over would hide what slices take."""
    gc.collect()
    libc = ctypes.util.find_library("c")
    trim = getattr(ctypes.CDLL(libc), "malloc_trim", None) if libc else None
    if trim is not None:
        trim(0)


def measure(variant: str, batch: int, what: str, options: argparse.Namespace) -> dict[str, float | str]:
    """Time or memory of one variant in this process."""
    fast = yaml.safe_load(FAST.read_text(encoding="utf-8"))
    network = Crane(options.architecture, fast["image_size"] if variant == "fast" else options.image_size)
    network.load_weights(clip="seed:0", prompts="seed:0")
    size = network.image_size
    pictures = torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(0))
    if variant == "reference":
        plain = PlainCrane(network)

        def run() -> tuple[np.ndarray, np.ndarray]:
            return plain(network.normalize(pictures))
    else:
        runtime, precision = ("auto", fast["precision"]) if variant == "fast" else variant.split("-")
        module = with_runtime(network, runtime, precision)  # type: ignore[arg-type]  # one of VARIANTS

        @torch.inference_mode()
        def run() -> tuple[np.ndarray, np.ndarray]:
            pred = module(pictures)
            return pred[:, 0].numpy(), pred[:, 1, 0, 0].numpy()

    if what == "memory":
        # What building the network has freed lies at hand in a real run, and would hide here what a batch takes.
        release_freed_memory()
        with PeakMemory() as memory:
            run()
        return {"mebibytes": memory.mebibytes}
    maps, scores = run()
    seconds = []
    for _ in range(options.rounds):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    file = Path(options.folder) / f"{variant}_{batch}.npz"
    np.savez(file, maps=maps, scores=scores)
    return {"seconds": min(seconds) / batch, "file": str(file)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.crane_speed", description=__doc__)
    parser.add_argument("--architecture", default="ViT-L-14-336")
    parser.add_argument("--image-size", type=int, default=518)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS[1:]), choices=VARIANTS)
    parser.add_argument("--one", nargs=3, metavar=("VARIANT", "BATCH", "WHAT"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one[0], int(options.one[1]), options.one[2], options)))
        return
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{options.architecture} at {options.image_size}, seeded weights")
    print(
        f"{'batch':>5} {'variant':>17} {'s/slice':>8} {'ratio':>6} {'peak MiB':>9} {'map diff':>9} {'score diff':>10}"
    )
    with tempfile.TemporaryDirectory() as folder:
        for batch in options.batches:
            results: dict[str, dict[str, Any]] = {}
            for variant in ("reference", *(v for v in options.variants if v != "reference")):
                result = results[variant] = {}
                for what in ("time", "memory"):
                    command = [sys.executable, "-m", "tests.benchmarks.crane_speed", "--folder", folder]
                    command += ["--architecture", options.architecture, "--image-size", str(options.image_size)]
                    command += ["--rounds", str(options.rounds), "--one", variant, str(batch), what]
                    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                    result |= json.loads(answer.splitlines()[-1])
                base = results["reference"]
                maps = scores = np.nan
                if variant != "fast":
                    with np.load(result["file"]) as found, np.load(base["file"]) as golden:
                        maps = np.abs(found["maps"] - golden["maps"]).max()
                        scores = np.abs(found["scores"] - golden["scores"]).max()
                print(
                    f"{batch:5} {variant:>17} {result['seconds']:8.2f} {base['seconds'] / result['seconds']:5.2f}x "
                    f"{result['mebibytes']:9.0f} {maps:9.1e} {scores:10.1e}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
