"""Files whose names do not fit their content, and NRRD files with axes that lie in no space."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from tests.data.odd_inputs.catalogue import AFFINE, LPS_TO_RAS, Odd, kind, series_truth, volume_truth
from tests.data.odd_inputs.itk import metaimage, nrrd
from tests.data.odd_inputs.nifti import nifti
from tests.data.samples import write_nifti, write_series

VALUES = np.arange(60, dtype="<i2").reshape(3, 4, 5, order="F")
PLACES = LPS_TO_RAS @ np.array([[1, 0, 0, 5], [0, 2, 0, 6], [0, 0, 3, 7], [0, 0, 0, 1]])
Change = Callable[[bytes], bytes]


def _add_renamed(name: str, verdict: str, written: str, named: str, change: Change) -> None:
    """A NIfTI file under another name, with changed content."""

    def build(folder: Path) -> Odd:
        file, truth = nifti(folder, written)
        content = change(file.read_bytes())
        file.unlink()
        (folder / named).write_bytes(content)
        return Odd(folder / named, [truth])

    build.__name__ = name
    kind(verdict)(build)


def _same(content: bytes) -> bytes:
    return content


for _name, _verdict, _written, _named, _change in (
    ("gzip_named_nii", "repaired misnamed", "a.nii.gz", "b.nii", _same),
    ("nii_named_gz", "repaired misnamed", "a.nii", "b.nii.gz", _same),
    ("nii_named_bz2", "repaired misnamed", "a.nii", "b.nii.bz2", _same),
    ("bzip2_named_gz", "repaired misnamed", "a.nii", "b.nii.gz", bz2.compress),
    ("xz_named_nii", "repaired misnamed", "a.nii", "b.nii", lzma.compress),
    ("nii_named_mgz", "repaired misnamed", "a.nii.gz", "b.mgz", _same),
    ("nii_named_img", "repaired misnamed", "a.nii", "b.img", _same),
    ("nii_named_nrrd", "repaired misnamed", "a.nii", "b.nrrd", _same),
    ("packed_twice", "refused damaged", "a.nii.gz", "b.nii.gz", gzip.compress),
    ("gzip_named_nii_cut", "refused damaged", "a.nii.gz", "b.nii", lambda content: content[:-9]),
    ("gzip_named_nii_with_a_wrong_checksum", "refused damaged", "a.nii.gz", "b.nii",
     lambda content: content[:-6] + bytes([content[-6] ^ 1]) + content[-5:]),
):  # fmt: skip
    _add_renamed(_name, _verdict, _written, _named, _change)


@kind("repaired misnamed")
def nii_named_dcm(folder: Path) -> Odd:
    file, truth = nifti(folder, "a.nii")
    file.rename(folder / "b.dcm")
    return Odd([folder / "b.dcm"], [truth])


@kind("repaired misnamed")
def mgz_that_is_not_packed(folder: Path) -> Odd:
    values = write_nifti(folder / "a.nii")
    nibabel.save(nibabel.MGHImage(values.astype("f4"), AFFINE), folder / "a.mgh")
    (folder / "a.nii").unlink()
    (folder / "a.mgh").rename(folder / "a.mgz")
    return Odd(folder, [volume_truth(values, AFFINE)])


@kind("refused damaged")
def dicom_named_nii(folder: Path) -> Odd:
    (file,) = write_series(folder / "s", slices=1)
    shutil.move(file, folder / "a.nii")
    return Odd(folder / "a.nii")


@kind("ok")
def dicom_named_img(folder: Path) -> Odd:
    files = write_series(folder / "s", suffix=".img")
    return Odd(folder / "s", [series_truth(files)])


@kind("ok")
def dicom_named_ima(folder: Path) -> Odd:
    files = write_series(folder / "s", suffix=".IMA")
    return Odd(folder / "s", [series_truth(files)])


@kind("repaired misnamed")
def nrrd_named_mha(folder: Path) -> Odd:
    file, truth = nrrd(folder, "a.mha")
    return Odd(file, [truth])


@kind("repaired misnamed")
def metaimage_named_nrrd(folder: Path) -> Odd:
    odd = metaimage(folder)
    (folder / "a.mha").rename(folder / "a.nrrd")
    return Odd(folder / "a.nrrd", odd.truths)


def _add_axes(name: str, verdict: str, values: np.ndarray, volume: int | None = None, **changes: Any) -> None:
    """NRRD with four axes; the truth is the volume that is chosen, or the only one."""

    def build(folder: Path) -> Odd:
        sizes = " ".join(map(str, values.shape))
        file, _ = nrrd(folder, data=values.tobytes(order="F"), dimension="4", sizes=sizes, **changes)
        options = {} if volume is None else {"volume": volume}
        return Odd(file, [volume_truth(VALUES + (volume or 0), PLACES)], options)

    build.__name__ = name
    kind(verdict)(build)


_FIRST: dict[str, Any] = {"space_directions": "none (1,0,0) (0,2,0) (0,0,3)"}
_LAST: dict[str, Any] = {"space_directions": "(1,0,0) (0,2,0) (0,0,3) none"}
_THREE_FIRST = np.stack([VALUES, VALUES + 1, VALUES + 2]).astype("<i2")
_THREE_LAST = np.stack([VALUES, VALUES + 1, VALUES + 2], axis=-1).astype("<i2")
_add_axes("nrrd_list_of_one", "ok", VALUES[None], kinds="list domain domain domain", **_FIRST)
_add_axes("nrrd_vector_of_one", "ok", VALUES[None], kinds="vector domain domain domain", **_FIRST)
_add_axes("nrrd_first_axis_of_one", "ok", VALUES[None], **_FIRST)
_add_axes("nrrd_last_axis_of_one", "ok", VALUES[..., None], kinds="domain domain domain list", **_LAST)
_add_axes(
    "nrrd_axis_of_one_with_nan", "ok", VALUES[None], kinds="list space space space",
    space_directions="(nan,nan,nan) (1,0,0) (0,2,0) (0,0,3)",
)  # fmt: skip
_add_axes("nrrd_list_of_three", "refused not-3d", _THREE_FIRST, kinds="list domain domain domain", **_FIRST)
_add_axes("nrrd_volume_of_a_list", "ok", _THREE_FIRST, 2, kinds="list domain domain domain", **_FIRST)
_add_axes("nrrd_volume_of_a_last_list", "ok", _THREE_LAST, 1, kinds="domain domain domain list", **_LAST)
_add_axes("nrrd_no_such_volume", "refused no-such-volume", _THREE_LAST, 3, **_LAST)
_add_axes("nrrd_vector_of_three", "refused not-real", _THREE_FIRST, 1, kinds="vector domain domain domain", **_FIRST)


@kind("refused damaged")
def dicom_packed(folder: Path) -> Odd:
    (file,) = write_series(folder / "s", slices=1)
    (folder / "a.dcm.gz").write_bytes(gzip.compress(file.read_bytes()))
    return Odd([folder / "a.dcm.gz"])
