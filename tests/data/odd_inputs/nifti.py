"""NIfTI files."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from tests.data.odd_inputs.catalogue import AFFINE, Odd, Truth, kind, volume_truth
from tests.data.samples import write_nifti


def nifti(folder: Path, name: str = "a.nii.gz", **options: Any) -> tuple[Path, Truth]:
    values = write_nifti(folder / name, affine=AFFINE, **options)
    return folder / name, volume_truth(values, AFFINE)


def change_header(file: Path, **fields: Any) -> None:
    """Overwrite fields of a NIfTI file's header without nibabel's corrections."""
    packed = file.name.endswith(".gz")
    raw = bytearray(gzip.decompress(file.read_bytes()) if packed else file.read_bytes())
    header = np.frombuffer(bytes(raw[:348]), dtype=nibabel.Nifti1Header.template_dtype).copy()
    for key, value in fields.items():
        header[key] = value
    raw[:348] = header.tobytes()
    file.write_bytes(gzip.compress(bytes(raw)) if packed else bytes(raw))


@kind("ok")
def nifti_gz(folder: Path) -> Odd:
    _, truth = nifti(folder)
    return Odd(folder, [truth])


@kind("ok")
def nifti_of_one_slice(folder: Path) -> Odd:
    file, truth = nifti(folder, shape=(8, 9, 1))
    return Odd(file, [truth])


@kind("ok")
def nifti_with_trailing_axis(folder: Path) -> Odd:
    file, _ = nifti(folder, shape=(8, 9, 5, 1))
    values = np.asarray(nibabel.load(file).dataobj)[..., 0]
    return Odd(file, [volume_truth(values, AFFINE)])


@kind("ok")
def nifti_scaled(folder: Path) -> Odd:
    values = np.arange(60, dtype="int16").reshape(3, 4, 5)
    image = nibabel.Nifti1Image(values, AFFINE)
    nibabel.save(image, folder / "a.nii")
    change_header(folder / "a.nii", scl_slope=0.5, scl_inter=-3.0)
    return Odd(folder / "a.nii", [volume_truth(values * 0.5 - 3, AFFINE)])


@kind("ok")
def nifti_of_version_2(folder: Path) -> Odd:
    values = np.arange(60, dtype="int16").reshape(3, 4, 5)
    nibabel.save(nibabel.Nifti2Image(values, AFFINE), folder / "a.nii.gz")
    return Odd(folder, [volume_truth(values, AFFINE)])


@kind("ok")
def nifti_of_two_gzip_members(folder: Path) -> Odd:
    file, truth = nifti(folder)
    raw = gzip.decompress(file.read_bytes())
    file.write_bytes(gzip.compress(raw[:400]) + gzip.compress(raw[400:]))
    return Odd(file, [truth])


@kind("ok")
def nifti_with_negative_pixdim(folder: Path) -> Odd:
    file, truth = nifti(folder)
    spacing = np.asarray(nibabel.load(file).header["pixdim"])
    change_header(file, pixdim=spacing * [1, -1, 1, 1, 1, 1, 1, 1])
    return Odd(file, [truth])


@kind("ok")
def nifti_with_qform_only(folder: Path) -> Odd:
    values = np.arange(60, dtype="int16").reshape(3, 4, 5)
    affine = np.diag([-1.0, 1.5, 3, 1])
    image = nibabel.Nifti1Image(values, affine)
    image.set_qform(affine, 1)
    image.set_sform(None, 0)
    nibabel.save(image, folder / "a.nii.gz")
    return Odd(folder, [volume_truth(values, affine)])


def two_forms(folder: Path, qform: np.ndarray, codes: tuple[int, int] = (1, 1)) -> Odd:
    values = np.arange(60, dtype="int16").reshape(3, 4, 5)
    affine = np.diag([1.0, 1.5, 3, 1])
    image = nibabel.Nifti1Image(values, affine)
    image.set_sform(affine, codes[0])
    image.set_qform(qform, codes[1])
    nibabel.save(image, folder / "a.nii.gz")
    return Odd(folder, [volume_truth(values, affine)])


@kind("ok")
def forms_that_agree(folder: Path) -> Odd:
    return two_forms(folder, np.diag([1.0, 1.5, 3, 1]))


@kind("refused forms-disagree")
def forms_of_two_hands(folder: Path) -> Odd:
    return two_forms(folder, np.diag([-1.0, 1.5, 3, 1]))


@kind("refused forms-disagree")
def forms_apart(folder: Path) -> Odd:
    return two_forms(folder, np.array([[1.0, 0, 0, 4], [0, 1.5, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]]))


@kind("repaired two-spaces")
def forms_of_two_spaces(folder: Path) -> Odd:
    qform = np.array([[1.0, 0, 0, 4], [0, 1.5, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]])
    return two_forms(folder, qform, codes=(4, 1))


@kind("repaired forms-disagree")
def forms_apart_accepted(folder: Path) -> Odd:
    odd = two_forms(folder, np.diag([-1.0, 1.5, 3, 1]))
    return Odd(odd.source, odd.truths, {"accept": "forms-disagree"})


@kind("repaired pixdim-ignored")
def pixdim_unlike_sform(folder: Path) -> Odd:
    file, truth = nifti(folder)
    change_header(file, pixdim=[1, 1, 1, 1, 1, 1, 1, 1])
    return Odd(file, [truth])


@kind("refused damaged")
def voxels_from_byte_0(folder: Path) -> Odd:
    file, _ = nifti(folder)
    change_header(file, vox_offset=0)
    return Odd(file)


@kind("refused bad-affine")
def qform_without_spacing(folder: Path) -> Odd:
    file, _ = nifti(folder)
    change_header(file, sform_code=0, qform_code=1, pixdim=[1, 0, 1.5, 3, 1, 1, 1, 1])
    return Odd(file)


@kind("refused no-geometry")
def no_form(folder: Path) -> Odd:
    file, _ = nifti(folder)
    change_header(file, sform_code=0, qform_code=0)
    return Odd(file)


@kind("refused bad-affine")
def zero_sform(folder: Path) -> Odd:
    file, _ = nifti(folder)
    change_header(file, srow_x=0, srow_y=0, srow_z=0)
    return Odd(file)


@kind("refused bad-affine")
def nan_sform(folder: Path) -> Odd:
    file, _ = nifti(folder)
    change_header(file, srow_x=np.nan)
    return Odd(file)


@kind("refused bad-affine")
def singular_sform(folder: Path) -> Odd:
    file, _ = nifti(folder)
    change_header(file, srow_x=1, srow_y=1)
    return Odd(file)


@kind("refused wrong-unit")
def microns(folder: Path) -> Odd:
    file, _ = nifti(folder)
    change_header(file, xyzt_units=3)
    return Odd(file)


@kind("refused not-real")
def complex_voxels(folder: Path) -> Odd:
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 4, 4), "c8"), AFFINE), folder / "a.nii")
    return Odd(folder)


@kind("refused not-3d")
def time_series(folder: Path) -> Odd:
    write_nifti(folder / "a.nii.gz", shape=(4, 5, 6, 3))
    return Odd(folder)


@kind("ok")
def volume_of_a_time_series(folder: Path) -> Odd:
    values = write_nifti(folder / "a.nii.gz", shape=(4, 5, 6, 3), affine=AFFINE)
    return Odd(folder, [volume_truth(values[..., 2], AFFINE)], {"volume": 2})


@kind("refused no-such-volume")
def volume_beyond_a_time_series(folder: Path) -> Odd:
    write_nifti(folder / "a.nii.gz", shape=(4, 5, 6, 3))
    return Odd(folder, (), {"volume": 3})


def with_values(folder: Path, values: np.ndarray) -> Path:
    nibabel.save(nibabel.Nifti1Image(values, AFFINE), folder / "a.nii.gz")
    return folder / "a.nii.gz"


@kind("repaired non-finite-replaced")
def few_bad_voxels(folder: Path) -> Odd:
    values = np.arange(1.0, 1001.0, dtype="f4").reshape(10, 10, 10)
    clean = values.copy()
    values[3, 3, 3], values[4, 4, 4] = np.nan, np.inf
    clean[3, 3, 3] = clean[4, 4, 4] = 1.0
    return Odd(with_values(folder, values), [volume_truth(clean, AFFINE)])


@kind("refused non-finite")
def many_bad_voxels(folder: Path) -> Odd:
    return Odd(with_values(folder, np.where(np.arange(64) < 9, np.inf, 0).reshape(4, 4, 4).astype("f4")))


@kind("refused non-finite")
def nan_slice(folder: Path) -> Odd:
    """One slice of 200: no more than a hundredth of the voxels, yet the slice is gone."""
    values = np.arange(1.0, 3201.0, dtype="f4").reshape(4, 4, 200)
    values[:, :, 70] = np.nan
    return Odd(with_values(folder, values))


@kind("repaired non-finite-replaced")
def nan_outer_slices(folder: Path) -> Odd:
    """As a resampled scan has outside of its field of view."""
    values = np.arange(1.0, 8001.0, dtype="f4").reshape(4, 4, 500)
    values[:, :, :2], values[:, :, -1] = np.nan, np.nan
    return Odd(with_values(folder, values), [volume_truth(np.where(np.isnan(values), 3.0, values), AFFINE)])


@kind("repaired looks-like-mask")
def mask_given_as_a_scan(folder: Path) -> Odd:
    values = np.zeros((10, 10, 12), "u1")
    values[3:6, 4:7, 5:8] = 1
    nibabel.save(nibabel.Nifti1Image(values, AFFINE), folder / "a.nii.gz")
    return Odd(folder / "a.nii.gz", [volume_truth(values.astype("f4"), AFFINE)])


@kind("refused non-finite")
def only_nan(folder: Path) -> Odd:
    return Odd(with_values(folder, np.full((4, 4, 4), np.nan, "f4")))


@kind("refused constant")
def only_zeros(folder: Path) -> Odd:
    return Odd(with_values(folder, np.zeros((4, 4, 4), "i2")))


@kind("repaired constant")
def empty_mask_accepted(folder: Path) -> Odd:
    values = np.zeros((4, 4, 4), "i2")
    return Odd(with_values(folder, values), [volume_truth(values, AFFINE)], {"accept": ["constant"]})


@kind("refused damaged")
def truncated_gz(folder: Path) -> Odd:
    file, _ = nifti(folder)
    file.write_bytes(file.read_bytes()[:-9])
    return Odd(file)


@kind("refused damaged")
def rubbish_after_gz(folder: Path) -> Odd:
    file, _ = nifti(folder)
    file.write_bytes(file.read_bytes() + b"rubbish")
    return Odd(file)


@kind("refused damaged")
def truncated_nii(folder: Path) -> Odd:
    file, _ = nifti(folder, "a.nii")
    file.write_bytes(file.read_bytes()[:-9])
    return Odd(file)


@kind("refused size-mismatch")
def fewer_slices_than_data(folder: Path) -> Odd:
    file, _ = nifti(folder, shape=(20, 20, 20))
    change_header(file, dim=[3, 20, 20, 12, 1, 1, 1, 1])
    return Odd(file)


@kind("repaired trailing-bytes")
def few_bytes_after_the_voxels(folder: Path) -> Odd:
    file, truth = nifti(folder)
    file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()) + bytes(100)))
    return Odd(file, [truth])


@kind("refused empty-file")
def empty_nii(folder: Path) -> Odd:
    (folder / "a.nii").touch()
    return Odd(folder)


@kind("refused damaged")
def text_as_nii(folder: Path) -> Odd:
    (folder / "a.nii.gz").write_text("no scan")
    return Odd(folder)


@kind("refused too-large")
def huge_dimensions(folder: Path) -> Odd:
    file, _ = nifti(folder)
    change_header(file, dim=[3, 30000, 30000, 30000, 1, 1, 1, 1])
    return Odd(file)


@kind("refused implausible-compression")
def gzip_bomb(folder: Path) -> Odd:
    return Odd(bomb(folder, (800, 800, 800)))


@kind("refused size-mismatch")
def gzip_bomb_behind_a_small_header(folder: Path) -> Odd:
    file = bomb(folder, (800, 800, 800))
    small = bomb(folder, (4, 4, 4), "small.nii.gz")
    file.write_bytes(gzip.compress(gzip.decompress(small.read_bytes())) + file.read_bytes())
    return Odd(file)


def bomb(folder: Path, shape: tuple[int, int, int], name: str = "a.nii.gz") -> Path:
    """Zeros of this shape: one packed piece, again and again."""
    header = nibabel.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(np.uint8)
    header.set_sform(AFFINE, 1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    whole, rest = divmod(math.prod(shape), 1 << 24)
    piece = gzip.compress(bytes(1 << 24)) * whole + gzip.compress(bytes(rest))
    (folder / name).write_bytes(gzip.compress(header.binaryblock + bytes(4)) + piece)
    return folder / name
