"""The same voxels at the same places as dcm2niix writes, of real and of synthetic series."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from nibabel.affines import apply_affine

from monai_zsad.data import ScanReader
from tests.data.samples import write_series

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("dcm2niix") is None, reason="dcm2niix is not installed (Debian: dcm2niix)"),
]
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
OBLIQUE = (0.8, 0.36, 0.48, -0.6, 0.48, 0.64)


def assert_as_dcm2niix(files: Sequence[Path], folder: Path) -> None:
    source = folder / "source"
    source.mkdir()
    for number, file in enumerate(files):
        shutil.copy(file, source / f"{number:04}.dcm")
    subprocess.run(
        ["dcm2niix", "-z", "n", "-b", "n", "-f", "scan", "-o", str(folder), str(source)],
        check=True,
        capture_output=True,
    )
    (converted,) = folder.glob("*.nii")
    image = nibabel.load(converted)
    expected = np.asanyarray(image.dataobj)
    reader = ScanReader()
    values, meta = reader.get_data(reader.read(files))
    assert sorted(values.shape) == sorted(expected.shape)

    corners = np.stack(np.meshgrid(*[(0, n // 2, n - 1) for n in values.shape], indexing="ij"), -1).reshape(-1, 3)
    world = apply_affine(meta["affine"], corners)
    index = apply_affine(np.linalg.inv(image.affine), world)
    nearest = np.rint(index).astype(int)
    np.testing.assert_allclose(apply_affine(image.affine, nearest), world, atol=1e-3)
    np.testing.assert_allclose(values[tuple(corners.T)], expected[tuple(nearest.T)], rtol=1e-6)


@pytest.mark.parametrize("orientation", [SAGITTAL, CORONAL, OBLIQUE], ids=["sagittal", "coronal", "oblique"])
@pytest.mark.parametrize("reverse", [False, True])
def test_synthetic_series(tmp_path: Path, orientation: tuple[float, ...], reverse: bool) -> None:
    files = write_series(tmp_path / "series", orientation=orientation)
    assert_as_dcm2niix(files[::-1] if reverse else files, tmp_path)


@pytest.mark.parametrize("how", ["as it is", "rows and columns exchanged", "upside down"])
def test_the_real_series(shared: Path, tmp_path: Path, how: str) -> None:
    files = sorted((shared / "data" / "dicom_vs_seg_001").glob("*.dcm"))
    if how != "as it is":
        changed = tmp_path / "changed"
        changed.mkdir()
        files = [_changed(file, changed, how) for file in files]
    assert_as_dcm2niix(files, tmp_path)


def _changed(file: Path, folder: Path, how: str) -> Path:
    """The same slice stored otherwise: no voxel moves."""
    ds = pydicom.dcmread(file)
    pixels = ds.pixel_array
    rows, columns = np.array(ds.ImageOrientationPatient[3:], float), np.array(ds.ImageOrientationPatient[:3], float)
    if how == "upside down":
        pixels = pixels[::-1]
        last = np.array(ds.ImagePositionPatient, float) + rows * float(ds.PixelSpacing[0]) * (ds.Rows - 1)
        ds.ImagePositionPatient = [f"{value:.9g}" for value in last]
        rows = -rows
    else:
        pixels, rows, columns = pixels.T, columns, rows
        ds.PixelSpacing = list(ds.PixelSpacing)[::-1]
        ds.Rows, ds.Columns = pixels.shape
    ds.ImageOrientationPatient = [f"{value:.9g}" for value in (*columns, *rows)]
    ds.PixelData = np.ascontiguousarray(pixels).tobytes()
    ds.save_as(folder / file.name)
    return folder / file.name
