"""What a program without this package's inferer, transforms and writers does, to compare with.

``python -m tests.benchmarks.plain_loop SCAN.nii.gz OUT.nii.gz --bundle tiny_screening [--device cuda]``: nibabel
loads, the volume is scaled between two percentiles, every slice goes through the network one by one in float32, nothing
is skipped, nibabel saves the map. The network and its weights are the bundle's. Nothing else is written: no candidates,
no report.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nibabel
import numpy as np
import torch

from monai_zsad.workflow.bundles import build_network, find_bundle, load_weights, read_bundle


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.plain_loop", description=__doc__)
    parser.add_argument("scan", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--bundle", default="tiny_screening")
    parser.add_argument("--seeded", action="store_true", help="random weights")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    folder = find_bundle(options.bundle)
    bundle = read_bundle(folder, {"bundle_root": str(folder)})
    network = build_network(bundle, folder)
    released = bundle.get_parsed_content("released_weights")
    weights = {part: "seed:0" if options.seeded else None for part in released}
    load_weights(network, weights, released, bundle.get_parsed_content("checkpoint"))
    network.to(options.device)
    image = nibabel.load(options.scan)
    volume = image.get_fdata(dtype=np.float32)
    low, high = np.percentile(volume, (0.5, 99.5))
    volume = np.clip((volume - low) / (high - low), 0, 1)
    maps = np.empty_like(volume)
    with torch.no_grad():
        for index in range(volume.shape[2]):
            # Networks that see neighbours get the slice three times: as much work.
            picture = torch.from_numpy(np.ascontiguousarray(volume[:, :, index]))[None, None].expand(-1, 3, -1, -1)
            maps[:, :, index] = network(picture.to(options.device))[0, 0].cpu().numpy()
    nibabel.save(nibabel.Nifti1Image(maps, image.affine), options.output)


if __name__ == "__main__":
    main()
