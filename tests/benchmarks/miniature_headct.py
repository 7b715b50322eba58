"""A miniature of the benchmark set HeadCT from phantoms: ``python -m tests.benchmarks.miniature_headct SET``.

Heads whose seeds no training used, as CT in the brain's window; half of them with one lesion, a hemorrhage or a
hypodense one, which the slice goes through. It shows that an evaluation runs and what it writes. It has no bearing on
scans of patients.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from skimage.io import imsave

from monai_zsad.synthesis import phantom_head

FIRST_SEED = 50_000
LOW, HIGH = 0.0, 80.0  # HU
SHAPE, SPACING = (192, 224, 24), (1.0, 1.0, 7.0)


def write_set(folder: Path, count: int) -> None:
    """``count`` slices with a lesion and as many of other heads without, in the layout of the set."""
    pictures = folder / "head_ct" / "head_ct"
    pictures.mkdir(parents=True)
    for index in range(2 * count):
        marked = phantom_head(SHAPE, SPACING, seed=FIRST_SEED + index, contrast="ct")
        place = int(marked.lesion.sum((0, 1)).argmax())
        with_lesion = index < count
        head = marked if with_lesion else phantom_head(SHAPE, SPACING, FIRST_SEED + index, False, "ct")
        shown = ((head.image[..., place] - LOW) / (HIGH - LOW)).clip(0, 1)
        imsave(pictures / f"{index:03}.png", np.round(255 * shown.T[::-1]).astype(np.uint8), check_contrast=False)
    rows = [f"{index}, {int(index < count)}" for index in range(2 * count)]
    (folder / "labels.csv").write_text("\n".join(["id, hemorrhage", *rows]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="to make")
    parser.add_argument("--count", type=int, default=20, help="slices of each kind")
    options = parser.parse_args()
    write_set(options.folder, options.count)
