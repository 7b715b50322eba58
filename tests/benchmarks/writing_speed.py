"""Findings and files of a series of 512 x 512 x 120: CPU seconds and bytes, against plain steps in one process.

``python -m tests.benchmarks.writing_speed [--size 512] [--slices 120] [--rounds 3]``. The plain map is
``nibabel.save``, the plain ranges of the preview are percentiles of all voxels, the plain body mask and guided filter
have one thread. CPU seconds are compared for the first two, as other programs disturb them less than the time on the
clock; the clock for the threads, so that two cores should be free. The exit status is 1 if a ratio is below its limit,
or a voxel differs.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.data import MetaTensor

from monai_zsad.transforms import BodyMask, GuidedRefinement
from monai_zsad.writers import SaveCase
from monai_zsad.writers.figures.drawing import grey_range, map_range
from monai_zsad.writers.results import slice_by_slice

LEAST_RATIOS = {"map": 1.8, "ranges of a figure": 4.0, "body mask": 1.0, "guided filter": 1.1}


def series(size: int, slices: int) -> tuple[MetaTensor, MetaTensor]:
    """A textured ellipsoid with three lesions and noise, and a coarse map that follows its noise, as after refining."""
    generator = torch.Generator().manual_seed(0)
    axes = [torch.linspace(-1.2, 1.2, n) for n in (size, size, slices)]
    x, y, z = torch.meshgrid(*axes, indexing="ij")
    noise = torch.randn(x.shape, generator=generator)
    scan = torch.where(x**2 + y**2 + z**2 < 1, 600 + 60 * torch.sin(20 * x) * torch.cos(17 * y), 20.0) + 25 * noise
    heat = torch.zeros_like(scan)
    for place in ((-0.3, -0.3, 0.0), (0.4, 0.1, 0.2), (0.0, 0.3, -0.4)):
        distance = (x - place[0]) ** 2 + (y - place[1]) ** 2 + (z - place[2]) ** 2
        heat += torch.exp(-20 * distance)
        scan[distance < 0.01] += 500
    heat = (heat + 0.02 * noise.abs()).clamp(0, 1) * (x.abs() < 1)
    affine = torch.diag(torch.tensor([-0.5, -0.5, 1.5, 1.0], dtype=torch.float64))
    # In the order of memory that Invertd leaves.
    turned = heat.permute(1, 0, 2).contiguous().permute(1, 0, 2)[None]
    return MetaTensor(scan[None], affine=affine), MetaTensor(turned, affine=affine)


def seconds(function: Callable[[], Any], rounds: int, clock: Callable[[], float]) -> tuple[float, Any]:
    """The least of the seconds, and what comes out."""
    least, result = float("inf"), None
    for _ in range(rounds):
        start = clock()
        result = function()
        least = min(least, clock() - start)
    return least, result


def threads(count: int, function: Callable[[], Any]) -> Callable[[], Any]:
    def run() -> Any:
        torch.set_num_threads(count)
        return function()

    return run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.writing_speed", description=__doc__)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--slices", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    scan, heat = series(options.size, options.slices)
    values, picture = heat[0].numpy(), scan[0].numpy()
    unit = (scan - scan.min()) / (scan.max() - scan.min())
    with tempfile.TemporaryDirectory() as folder:
        plain, ours = Path(folder) / "plain.nii.gz", Path(folder) / "a" / "anomaly.nii.gz"
        small = Path(folder) / "b" / "anomaly.nii.gz"

        def plain_ranges() -> Any:
            low, high = np.percentile(picture, [0.5, 99.5])
            body = picture > low + 0.1 * (high - low)
            return np.percentile(picture[body], [1.0, 99.5]), np.median(values[body])

        steps: dict[str, tuple[Callable[[], Any], Callable[[], Any], Callable[[], float]]] = {
            "map": (
                lambda: nibabel.save(nibabel.Nifti1Image(values, np.asarray(heat.affine)), plain),
                lambda: SaveCase(folder)(slice_by_slice(heat), "a"),
                time.process_time,
            ),
            "ranges of a figure": (
                plain_ranges,
                lambda: map_range(values, grey_range(picture)[1]),
                time.process_time,
            ),
            "body mask": (
                threads(1, lambda: BodyMask()(scan)),
                threads(2, lambda: BodyMask()(scan)),
                time.perf_counter,
            ),
            "guided filter": (
                threads(1, lambda: GuidedRefinement()(heat, unit)),
                threads(2, lambda: GuidedRefinement()(heat, unit)),
                time.perf_counter,
            ),
        }
        print(f"{'part':>20} {'plain, s':>9} {'here, s':>9} {'ratio':>6} {'at least':>8}")
        failed = False
        for name, (reference, function, clock) in steps.items():
            base, before = seconds(reference, options.rounds, clock)
            here, after = seconds(function, options.rounds, clock)
            failed |= base / here < LEAST_RATIOS[name]
            if isinstance(before, torch.Tensor):
                failed |= not torch.equal(before, after)
            print(f"{name:>20} {base:9.2f} {here:9.2f} {base / here:6.1f} {LEAST_RATIOS[name]:8g}", flush=True)
        failed |= not np.array_equal(nibabel.load(ours).get_fdata(dtype=np.float32), values)
        SaveCase(folder, output_dtype="uint16")(heat, "b")
        sizes = {"nibabel": plain, "float32": ours, "uint16": small}
        print("MB of the map:", ", ".join(f"{name} {path.stat().st_size / 1e6:.1f}" for name, path in sizes.items()))
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
