"""A large CT within a stated memory. Seconds depend on the machine; the most memory a program takes does not."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests.benchmarks.children import run_program

pytestmark = pytest.mark.slow

SHAPE, SPACING = (512, 512, 1000), (0.977, 0.977, 1.0)
MOST = 5.7 * 2**30
"""As docs/cost.md states; 5.54 GiB were measured, the aim is 6."""
ENDS = 40
"""Slices with a body at either end: what lies between is skipped by the network, and still part of every volume."""


def write_trunk(path: Path) -> None:
    """An elliptic body of 352 x 256 mm in a field of view of 500 mm, with a bright spot, int16."""
    rng = np.random.default_rng(0)
    x, y = np.mgrid[: SHAPE[0], : SHAPE[1]]
    body = ((x - 256) / 180.0) ** 2 + ((y - 256) / 131.0) ** 2 < 1
    noise = rng.integers(-15, 15, (*SHAPE[:2], 8), dtype=np.int16)
    values = np.empty(SHAPE, np.int16, order="F")
    for index in range(SHAPE[2]):
        own = noise[:, :, index % 8]
        values[:, :, index] = own // 3 - 1000
        if index < ENDS or index >= SHAPE[2] - ENDS:
            values[:, :, index] = np.where(body, own + 40, values[:, :, index])
    values[240:262, 200:220, 15:25] = 150
    image = nibabel.Nifti1Image(values, np.diag([*SPACING, 1.0]))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def test_a_large_ct_takes_what_the_document_says(tmp_path: Path) -> None:
    write_trunk(tmp_path / "trunk.nii")
    output = tmp_path / "out"
    words = ["screen", str(tmp_path / "trunk.nii"), "-o", str(output), "--no-progress", "--window", "soft_tissue"]
    cost = run_program("monai_zsad", *words, "--weights", "model=seed:0", "--set", "image_size=64", threads=2)
    assert cost.memory <= MOST, f"{cost.memory / 2**30:.2f} GiB"
    image = nibabel.load(output / "trunk" / "anomaly.nii.gz")
    assert image.shape == SHAPE
    # The middle was skipped; the whole volume was written all the same.
    assert not np.asarray(image.dataobj[:, :, SHAPE[2] // 2]).any()
    assert np.asarray(image.dataobj[:, :, 20]).any()
