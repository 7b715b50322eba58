"""How much detail a token grid can hold: average precision of an oracle that knows the true mask on the grid only.

``python -m tests.benchmarks.token_detail SCAN.nii.gz MASK.nii.gz [--image-sizes 518 336 224]``. The scan is prepared by
the bundle's transforms; the true lesion mask goes the same way, is averaged over each token's patch, brought back as
Crane brings its patch scores back (bilinear, Gaussian sigma 4), resampled to the scan's grid and compared with the mask
inside the body. No network runs: this is the best that a perfect score per token could reach, so it shows what a
smaller input loses before any network has its say.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImaged, SpatialResample

from monai_zsad.data import ScanReader
from monai_zsad.networks.maps import gaussian_weights, grid_to_map, smooth, smoothing_matrix

PATCH = 14


def preprocessing(bundle: Path) -> list:
    """The bundle's spatial transforms, for a scan and its mask alike."""
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "inference.yaml"))
    return list(parser.get_parsed_content("preprocessing").transforms[1:])


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """Area under the precision-recall curve, step-wise."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(truth[order])
    precision = hits / np.arange(1, len(hits) + 1)
    return float((precision * truth[order]).sum() / hits[-1])


def oracle(mask: torch.Tensor, image_size: int) -> torch.Tensor:
    """Map (H, W, D) of a mask (H, W, D) that is known per token only."""
    slices = mask.permute(2, 0, 1).unsqueeze(1).float()
    pictures = F.interpolate(slices, (image_size, image_size), mode="bilinear", antialias=True, align_corners=False)
    grid = F.avg_pool2d(pictures, PATCH)
    maps = grid_to_map(grid.flatten(1), image_size)
    maps = smooth(maps, smoothing_matrix(image_size, gaussian_weights(4.0), "symmetric")).unsqueeze(1)
    back = F.interpolate(maps, slices.shape[-2:], mode="bilinear", align_corners=False)
    return back.squeeze(1).permute(1, 2, 0)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.token_detail", description=__doc__)
    parser.add_argument("scan", type=Path)
    parser.add_argument("mask", type=Path)
    parser.add_argument("--bundle", type=Path, default=Path("bundles/crane"))
    parser.add_argument("--image-sizes", type=int, nargs="+", default=[518, 336, 224])
    options = parser.parse_args()
    load = LoadImaged("image", reader=ScanReader(), ensure_channel_first=True)
    scan, truth = (load({"image": str(path)})["image"] for path in (options.scan, options.mask))
    body = scan.as_tensor()[0] > 0.05 * scan.max()
    image = Compose(preprocessing(options.bundle))({"image": scan})["image"]
    carried = on_grid_of(image, truth)
    side = image.shape[1] * float(image.pixdim[0])
    inside = body.numpy().astype(bool)
    print(f"{options.scan.name}: slices of {side:.0f} mm")
    print(f"{'input':>6} {'tokens':>7} {'mm/token':>9} {'oracle AP':>10}")
    for size in options.image_sizes:
        found = MetaTensor(oracle(carried, size).unsqueeze(0), affine=image.affine)
        scores = on_grid_of(scan, found).numpy()[inside]
        precision = average_precision(scores, truth.as_tensor()[0].numpy()[inside] > 0)
        print(f"{size:6} {size // PATCH:7} {side / (size / PATCH):9.1f} {precision:10.2f}")


def on_grid_of(target: MetaTensor, volume: MetaTensor) -> torch.Tensor:
    """``volume`` resampled to the grid of ``target``, (X, Y, Z); both with their affines."""
    resample = SpatialResample(mode="bilinear", padding_mode="zeros")
    return resample(volume.float(), dst_affine=target.affine, spatial_size=target.shape[1:]).as_tensor()[0]


if __name__ == "__main__":
    main()
