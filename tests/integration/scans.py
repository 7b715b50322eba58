"""One body on disk in several formats and orientations, with its place in space known without any reader."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from scipy.spatial.transform import Rotation

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
# 10 mm of margin are no whole number of voxels, so that rounding cannot decide about a crop.
SPACING_MM = (1.5, 2.2, 3.0)


def body() -> nibabel.Nifti1Image:
    """An ellipsoid with a bright spot in air; oblique, its array axes closest to R, A, S."""
    shape = (36, 30, 14)
    grid = np.stack(np.meshgrid(*(np.linspace(-1.3, 1.3, n) for n in shape), indexing="ij"))
    inside = (grid**2).sum(0) < 1
    values = np.where(inside, np.random.default_rng(3).integers(200, 600, shape), 0)
    values[20:25, 12:16, 6:9] = 1400
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", [8, -5, 12], degrees=True).as_matrix() @ np.diag(SPACING_MM)
    affine[:3, 3] = [-31.0, 12.5, 40.0]
    return nibabel.Nifti1Image(values.astype(np.int16), affine)


def turned(image: nibabel.Nifti1Image, axcodes: str) -> nibabel.Nifti1Image:
    """The same voxels with the array's axes in another order and direction."""
    return image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt(axcodes)))


def write_nrrd(path: Path, image: nibabel.Nifti1Image) -> None:
    import itk

    affine = LPS @ image.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    written = itk.image_from_array(np.ascontiguousarray(np.asarray(image.dataobj).transpose(2, 1, 0)))
    written.SetSpacing(spacing.tolist())
    written.SetOrigin(affine[:3, 3].tolist())
    written.SetDirection(itk.matrix_from_array(np.ascontiguousarray(affine[:3, :3] / spacing)))
    path.parent.mkdir(parents=True, exist_ok=True)
    itk.imwrite(written, str(path))
