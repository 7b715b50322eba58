"""What three planes and a smoothing across slices change in the included model's maps, and what they take.

``python -m tests.benchmarks.lesion_planes --data DIR``. The volumes are head phantoms and, if DIR holds ``mslong``, the
scans of patient 20, who serves only for validation. Four to six synthetic lesions are painted into each of them. Other
lesions of the patient count as healthy tissue, with all settings alike.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np
import torch
from monai.data import MetaTensor

from monai_zsad.data import find_scans
from monai_zsad.inferers import VolumeSliceInferer
from monai_zsad.metrics import average_precision
from monai_zsad.synthesis import RandLesion, phantom_head, write_phantom
from monai_zsad.transforms import BodyMask
from tests.benchmarks.lesion_pipeline import Pipeline
from tests.conftest import ROOT

PLANES = ["axial", "coronal", "sagittal"]
SETTINGS: dict[str, dict[str, Any]] = {
    "axial": {},
    "axial, smoothed by 2 mm": {"smooth_slices_mm": 2.0},
    "axial, smoothed by 4 mm": {"smooth_slices_mm": 4.0},
    "three planes, mean": {"planes": PLANES},
    "three planes, maximum": {"planes": PLANES, "fusion": "max"},
}
# As the bundle sets them.
USUAL: dict[str, Any] = {"batch_size": 1, "min_foreground": 0.01, "slice_spacing_mm": 2.0, "context_mm": 3.0}
SCANS = ("patient20_study2_FLAIR", "patient20_study2_T1W")


class Painted(NamedTuple):
    """A scan with lesions.

    Attributes:
        file: of the scan.
        lesions: (X, Y, Z), bool.
        body: (X, Y, Z), bool: the voxels that count.
    """

    file: Path
    lesions: np.ndarray
    body: np.ndarray


def phantoms(folder: Path) -> Iterator[Painted]:
    """Six heads of nearly isotropic voxels; no training has their seeds."""
    for seed in (9001, 9002, 9003):
        for contrast in ("flair", "t1"):
            head = phantom_head((160, 190, 130), (1.2, 1.2, 1.3), seed=seed, contrast=contrast)
            file = write_phantom(head, folder / f"{contrast}{seed}.nii.gz")
            yield paint(file, folder, seed, np.asarray(head.lesion) > 0)


def patient(data: Path, folder: Path) -> Iterator[Painted]:
    """Both scans of patient 20 with other lesions each time; their slices are 3 to 4 mm thick."""
    for name in SCANS:
        for seed in (1, 2, 3):
            yield paint(data / "mslong" / f"{name}.nii.gz", folder, seed)


def paint(source: Path, folder: Path, seed: int, lesions: np.ndarray | None = None) -> Painted:
    """Write a scan with painted lesions; ``lesions`` are those that it has."""
    image = nibabel.load(source)
    scan = MetaTensor(
        torch.from_numpy(np.asarray(image.dataobj, np.float32))[None], affine=torch.as_tensor(image.affine)
    )
    body = BodyMask()(scan).numpy()
    painted = RandLesion(prob=1.0, count=(4, 6)).set_random_state(seed=seed)(scan, mask=torch.from_numpy(body))
    file = folder / f"painted_{seed}_{source.name}"
    nibabel.save(nibabel.Nifti1Image(np.asarray(painted.image)[0], image.affine, image.header), file)
    found = np.asarray(painted.label)[0] > 0
    return Painted(file, found if lesions is None else found | lesions, body[0])


def compare(pipeline: Pipeline, painted: Painted) -> dict[str, tuple[float, float]]:
    """Average precision inside the body and processor seconds, by setting."""
    (record,) = find_scans(str(painted.file))
    found = {}
    for name, changes in SETTINGS.items():
        pipeline.inferer = VolumeSliceInferer(**USUAL | changes)
        start = time.process_time()
        anomaly = pipeline.screen(record).anomaly[painted.body]
        seconds = time.process_time() - start
        found[name] = average_precision([anomaly], [painted.lesions[painted.body]]), seconds
    return found


def main() -> None:
    """Print one table for each kind of volume."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the real scans; without it, phantoms only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    pipeline = Pipeline(ROOT / "bundles" / "tiny_screening")
    with tempfile.TemporaryDirectory() as name:
        kinds = {"head phantoms": phantoms(Path(name))}
        if options.data is not None:
            kinds["patient 20"] = patient(options.data, Path(name))
        for kind, volumes in kinds.items():
            rows = [compare(pipeline, painted) for painted in volumes]
            print(f"{kind}: mean of {len(rows)} volumes\n")
            print("| setting | average precision | processor time, s |\n|---|---|---|")
            for setting in SETTINGS:
                precision, seconds = np.mean([row[setting] for row in rows], axis=0)
                print(f"| {setting} | {precision:.3f} | {seconds:.1f} |")
            print(flush=True)


if __name__ == "__main__":
    main()
