"""DICOM series that are repaired when the user asks for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom

from tests.data.odd_inputs.catalogue import AXIAL, LPS_TO_RAS, Odd, kind, series_truth, volume_truth
from tests.data.odd_inputs.series import along_z
from tests.data.samples import write_series


def slice_with(values: np.ndarray) -> bytes:
    return np.ascontiguousarray(values, dtype="<i2").tobytes()


RAMP = np.arange(35).reshape(7, 5)


@kind("repaired slices-interpolated")
def gap_filled(folder: Path) -> Odd:
    files = write_series(folder / "s", slices=7, PixelData=lambda i: slice_with(RAMP + 100 * i))
    truth = series_truth(files)
    for index in (2, 4, 5):
        files[index].unlink()
    return Odd(folder / "s", [truth], {"repair": "missing-slices"})


@kind("refused missing-slices")
def more_gap_than_slices(folder: Path) -> Odd:
    files = write_series(folder / "s", slices=12)
    for file in files[3:-1]:
        file.unlink()
    return Odd(folder / "s", (), {"repair": "missing-slices"})


@kind("refused uneven-slices")
def gap_of_no_whole_slices(folder: Path) -> Odd:
    write_series(folder / "s", orientation=AXIAL, ImagePositionPatient=along_z(z=lambda i: 4.0 * (i > 3)))
    return Odd(folder / "s", (), {"repair": "missing-slices"})


@kind("repaired slices-resampled")
def uneven_made_even(folder: Path) -> Odd:
    places = (0, 2, 5, 8, 9, 12)
    files = write_series(
        folder / "s",
        orientation=AXIAL,
        ImagePositionPatient=lambda i: [0, 0, places[i]],
        PixelData=lambda i: slice_with(RAMP + 100 * places[i]),
    )
    values = np.stack([(RAMP + 300 * k).T for k in range(5)], axis=2)
    affine = LPS_TO_RAS @ np.diag([0.5, 0.75, 3, 1])
    assert len(files) == 6
    return Odd(folder / "s", [volume_truth(values, affine)], {"repair": ["uneven-slices"]})


@kind("repaired duplicates-first")
def first_of_two_kept(folder: Path) -> Odd:
    files = write_series(folder / "s", ImagePositionPatient=lambda i: [0, 0, 3.0 * max(i, 1)], orientation=AXIAL)
    # Instances are numbered downwards, so the second file is the first of the two.
    return Odd(folder / "s", [series_truth(files[1:])], {"repair": "duplicate-slices"})


@kind("refused duplicate-slices")
def slices_side_by_side(folder: Path) -> Odd:
    write_series(folder / "s", ImagePositionPatient=lambda i: [i % 2, 0, 3.0 * (i // 2)], orientation=AXIAL)
    return Odd(folder / "s", (), {"repair": "duplicate-slices"})


@kind("refused duplicate-slices")
def all_at_one_place_is_no_scan(folder: Path) -> Odd:
    write_series(folder / "s", orientation=AXIAL, ImagePositionPatient=[0, 0, 0])
    return Odd(folder / "s", (), {"repair": "duplicate-slices"})


@kind("repaired tilt-resheared")
def tilt_by_whole_pixels(folder: Path) -> Odd:
    files = write_series(folder / "s", slices=4, orientation=AXIAL, ImagePositionPatient=along_z(y=lambda i: -0.75 * i))
    slices = [pydicom.dcmread(file).pixel_array for file in files]
    values = np.full((5, 10, 4), np.min(slices))
    for k, pixels in enumerate(slices):
        values[:, 3 - k : 10 - k, k] = pixels.T
    affine = LPS_TO_RAS @ np.array([[0.5, 0, 0, 0], [0, 0.75, 0, -2.25], [0, 0, 3, 0], [0, 0, 0, 1]])
    return Odd(folder / "s", [volume_truth(values, affine)], {"repair": "tilted-gantry"})


@kind("refused tilted-gantry")
def one_slice_sideways_is_no_tilt(folder: Path) -> Odd:
    write_series(folder / "s", orientation=AXIAL, ImagePositionPatient=along_z(x=lambda i: 2.0 * (i == 2)))
    return Odd(folder / "s", (), {"repair": "tilted-gantry"})


@kind("refused tilted-gantry")
def sheared_beyond_any_gantry(folder: Path) -> Odd:
    write_series(folder / "s", orientation=AXIAL, ImagePositionPatient=along_z(y=lambda i: 4.0 * i))
    return Odd(folder / "s", (), {"repair": "tilted-gantry"})
