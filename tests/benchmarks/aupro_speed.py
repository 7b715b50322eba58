"""AUPRO by one sort against a mask at each of 200 thresholds, on 20 images of 518 x 518: seconds, ratio, difference.

``python -m tests.benchmarks.aupro_speed [--images 20] [--size 518] [--rounds 3]``. Both run in one process on one
thread, the sort ``rounds`` times, of which the median counts; its ratio to the reference is to be 20 or more, or the
exit status is 1. The reference finds the regions of every mask at every threshold, as released code does; a second
one, which finds them once, says how much of the time that is.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from monai_zsad.metrics import PixelRankingMetric, aupro, aupro_released
from tests.metrics.reference import random_set, slow_aupro, threshold_points

LEAST_RATIO = 20.0
LIMIT = 0.3


def timed(function: Callable[[], Any], rounds: int = 1) -> tuple[float, Any]:
    """Median of the seconds, and what comes out."""
    seconds = []
    result = None
    for _ in range(rounds):
        start = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), result


def streamed(maps: np.ndarray, masks: np.ndarray) -> float:
    metric = PixelRankingMetric("aupro", limit=LIMIT)
    for one, mask in zip(maps, masks, strict=True):
        metric(torch.from_numpy(one)[None, None], torch.from_numpy(mask)[None, None])
    return metric.aggregate()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.aupro_speed", description=__doc__)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--size", type=int, default=518)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    maps, masks = random_set(options.images, options.size, 0)
    print(f"{platform.processor() or platform.machine()}, NumPy {np.__version__}")
    print(f"{options.images} images of {options.size} x {options.size}, false positive rate up to {LIMIT}")
    base, points = timed(lambda: threshold_points(maps, masks, options.steps))
    value, step = slow_aupro(points, LIMIT)
    print(f"{'form':>36} {'seconds':>8} {'ratio':>7} {'AUPRO':>9} {'difference':>10}")
    print(f"{f'{options.steps} thresholds':>36} {base:8.3f} {1:7.1f} {value:9.6f} {'':>10}", flush=True)
    once, _ = timed(lambda: threshold_points(maps, masks, options.steps, label_once=True))
    print(f"{f'{options.steps} thresholds, regions once':>36} {once:8.3f} {base / once:7.1f} {value:9.6f} {0:10.1e}")
    ratios: dict[str, float] = {}
    for name, function in (
        ("one sort", lambda: aupro(maps, masks, LIMIT)),
        ("histograms", lambda: streamed(maps, masks)),
        (f"released form, {options.steps} thresholds", lambda: aupro_released(maps, masks, LIMIT, options.steps)),
    ):
        seconds, found = timed(function, options.rounds)
        ratios[name] = base / seconds
        print(f"{name:>36} {seconds:8.3f} {base / seconds:7.1f} {found:9.6f} {found - value:10.1e}", flush=True)
    print(f"step of the {options.steps} thresholds: {step:.1e}; least ratio of the sort: {LEAST_RATIO:g}")
    return int(ratios["one sort"] < LEAST_RATIO or abs(aupro(maps, masks, LIMIT) - value) > step)


if __name__ == "__main__":
    raise SystemExit(main())
