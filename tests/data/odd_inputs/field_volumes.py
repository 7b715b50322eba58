"""NIfTI, NRRD and MetaImage files as people reported them to the makers of other tools; each kind names the report."""

from __future__ import annotations

import bz2
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from tests.data.odd_inputs.catalogue import AFFINE, LPS_TO_RAS, Odd, kind, volume_truth
from tests.data.odd_inputs.itk import metaimage, nrrd
from tests.data.odd_inputs.nifti import change_header, nifti
from tests.data.samples import write_nifti

VALUES = np.arange(60, dtype="<i2").reshape(3, 4, 5, order="F")
TURNED = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])


def placed(folder: Path, affine: np.ndarray, **options: Any) -> Odd:
    """A NIfTI file with this affine."""
    values = write_nifti(folder / "a.nii.gz", affine=affine, **options)
    return Odd(folder / "a.nii.gz", [volume_truth(values, affine)])


@kind("ok")
def left_handed_nifti(folder: Path) -> Odd:
    """ITK 1771, TorchIO 469: axes of the other hand."""
    return placed(folder, np.array([[-0.8, 0.9, 0, 5], [0.6, 1.2, 0, -6], [0, 0, 3, 7], [0, 0, 0, 1.0]]))


@kind("ok")
def nifti_of_permuted_axes(folder: Path) -> Odd:
    """Anima 108: the first axis runs from front to back, the second from foot to head."""
    return placed(folder, np.array([[0, 0, -0.5, 5], [2.5, 0, 0, -6], [0, 0.5, 0, 7], [0, 0, 0, 1.0]]))


@kind("ok")
def sheared_nifti(folder: Path) -> Odd:
    """nnU-Net 756, SimpleITK 1433: axes that are not at right angles, as after a converted gantry tilt."""
    values = write_nifti(folder / "a.nii.gz")
    affine = np.array([[1.0, 0, 0, 5], [0, 1.5, 0.6, -6], [0, 0, 3, 7], [0, 0, 0, 1]])
    image = nibabel.Nifti1Image(values, affine)
    image.set_qform(None, 0)
    nibabel.save(image, folder / "a.nii.gz")
    return Odd(folder, [volume_truth(values, affine)])


@kind("ok")
def nifti_centred_at_the_origin(folder: Path) -> Odd:
    """Nibabel 182: the centre of the volume is the origin."""
    return placed(folder, np.array([[-1, 0, 0, 3.5], [0, 1, 0, -4], [0, 0, 1, -2], [0, 0, 0, 1.0]]))


@kind("ok")
def quaternion_a_little_too_long(folder: Path) -> Odd:
    """fMRIPrep 845, Spinal Cord Toolbox 3703: rounding makes the quaternion of the qform longer than 1."""
    affine = np.diag([-1.0, -1.5, 3, 1])
    values = write_nifti(folder / "a.nii", affine=affine)
    change_header(folder / "a.nii", sform_code=0, qform_code=1, quatern_b=0, quatern_c=0, quatern_d=1.0000002)
    return Odd(folder / "a.nii", [volume_truth(values, affine)])


@kind("ok")
def quaternion_too_long_beside_an_sform(folder: Path) -> Odd:
    """fMRIPrep 845: the same beside an sform of the same place."""
    affine = np.diag([-1.0, -1.5, 3, 1])
    values = write_nifti(folder / "a.nii", affine=affine)
    change_header(folder / "a.nii", qform_code=1, quatern_b=0, quatern_c=0, quatern_d=1.0000002)
    return Odd(folder / "a.nii", [volume_truth(values, affine)])


@kind("ok")
def qfac_of_zero(folder: Path) -> Odd:
    """ITK 1484, nibabel 1394: pixdim[0] is 0, which stands for 1."""
    affine = np.diag([1.0, 1.5, 3, 1])
    values = write_nifti(folder / "a.nii", affine=affine)
    spacing = [0, 1, 1.5, 3, 1, 1, 1, 1]
    change_header(folder / "a.nii", sform_code=0, qform_code=1, pixdim=spacing)
    return Odd(folder / "a.nii", [volume_truth(values, affine)])


def _add_header(name: str, report: str, verdict: str, dtype: str, fields: dict[str, Any]) -> None:
    def build(folder: Path) -> Odd:
        file, truth = nifti(folder, dtype=dtype)
        change_header(file, **fields)
        return Odd(file, [truth])

    build.__name__, build.__doc__ = name, report
    kind(verdict)(build)


for _name, _report, _verdict, _dtype, _header in (
    ("slope_of_zero", "nibabel 45: a slope of 0 scales nothing", "ok", "int16", {"scl_slope": 0, "scl_inter": 9}),
    ("slope_of_nan", "fMRIPrep 2507: both are NaN", "ok", "int16", {"scl_slope": np.nan, "scl_inter": np.nan}),
    ("intent_of_a_vector", "NIfTI-1: an intent code on a scan of 3 axes", "ok", "int16", {"intent_code": 1007}),
    ("voxels_of_16_bits_without_sign", "dcm2niix 251: other types", "ok", "uint16", {}),
    ("negative_number_of_voxels", "nibabel 548", "refused not-3d", "int16", {"dim": [3, -1, 9, 5, 1, 1, 1, 1]}),
):
    _add_header(_name, _report, _verdict, _dtype, _header)


@kind("ok")
def big_endian_nifti(folder: Path) -> Odd:
    """MONAI 2316 and 1664: sizes and voxels in big endian."""
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(">f4")
    values = np.random.default_rng(3).normal(size=(4, 5, 6)).astype(">f4")
    nibabel.save(nibabel.Nifti1Image(values, AFFINE, header), folder / "a.nii.gz")
    return Odd(folder, [volume_truth(values, AFFINE)])


@kind("ok")
def voxels_of_64_bits(folder: Path) -> Odd:
    """MONAI 1664: integers of 64 bits."""
    nibabel.save(nibabel.Nifti1Image(VALUES.astype("int64"), AFFINE, dtype="int64"), folder / "a.nii.gz")
    return Odd(folder, [volume_truth(VALUES, AFFINE)])


@kind("ok")
def nifti_with_an_extension(folder: Path) -> Odd:
    """FreeSurfer 1337: voxels that begin after an extension, at byte 496."""
    image = nibabel.Nifti1Image(VALUES, AFFINE)
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"x" * 130))
    nibabel.save(image, folder / "a.nii")
    return Odd(folder / "a.nii", [volume_truth(VALUES, AFFINE)])


@kind("ok")
def nifti_with_a_false_extension_flag(folder: Path) -> Odd:
    """NIFTI-Reader-JS 36: the flag announces an extension, and the voxels follow at once."""
    file, truth = nifti(folder, "a.nii")
    whole = bytearray(file.read_bytes())
    whole[348] = 1
    file.write_bytes(bytes(whole))
    return Odd(file, [truth])


def turned_nrrd(folder: Path, space: str, flip: np.ndarray, **fields: Any) -> Odd:
    """An oblique NRRD; ``flip`` leads from its space to RAS."""
    columns = (TURNED * [1.0, 2.0, 3.0]).T
    directions = " ".join("(" + ",".join(f"{value:.6g}" for value in column) + ")" for column in columns)
    file, _ = nrrd(folder, space=space, space_directions=directions, **fields)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = TURNED * [1.0, 2.0, 3.0], [5, 6, 7]
    return Odd(file, [volume_truth(VALUES, flip @ affine)])


@kind("ok")
def oblique_nrrd(folder: Path) -> Odd:
    """MONAI 7371, pynrrd 148: the directions are the columns of the matrix, not its rows."""
    return turned_nrrd(folder, "left-posterior-superior", LPS_TO_RAS)


@kind("ok")
def oblique_nrrd_in_ras(folder: Path) -> Odd:
    """MONAI 6073: a space that is not LPS."""
    return turned_nrrd(folder, "right-anterior-superior", np.eye(4))


@kind("ok")
def oblique_nrrd_in_las(folder: Path) -> Odd:
    """MONAI 6073: the third space of the format."""
    return turned_nrrd(folder, "LAS", np.diag([-1.0, 1, 1, 1]))


@kind("ok")
def nrrd_as_3d_slicer_writes_it(folder: Path) -> Odd:
    """3D Slicer: kinds, measurement frame, centring and fields of its own."""
    return turned_nrrd(
        folder,
        "left-posterior-superior",
        LPS_TO_RAS,
        kinds="domain domain domain",
        centerings="cell cell cell",
        measurement_frame="(1,0,0) (0,1,0) (0,0,1)",
    )


def _add_nrrd(name: str, report: str, verdict: str, data: bytes, **fields: Any) -> None:
    def build(folder: Path) -> Odd:
        file, truth = nrrd(folder, data=data, **fields)
        return Odd(file, [truth])

    build.__name__, build.__doc__ = name, report
    kind(verdict)(build)


_RAW = VALUES.tobytes(order="F")
_SWAPPED = VALUES.astype(">i2").tobytes(order="F")
_TEXT = " ".join(map(str, range(60))).encode()
_VECTORS = {
    "sizes": "3 3 4 5",
    "dimension": "4",
    "kinds": "vector domain domain domain",
    "space_directions": "none (1,0,0) (0,2,0) (0,0,3)",
}
for _name, _report, _verdict, _data, _fields in (
    ("big_endian_nrrd", "SCIFIO 2: voxels in big endian", "ok", _SWAPPED, {"endian": "big"}),
    ("nrrd_of_text", "pynrrd 40: voxels as text", "ok", _TEXT, {"encoding": "ascii"}),
    ("nrrd_of_hexadecimal_digits", "NRRD: voxels as digits", "ok", _RAW.hex().encode(), {"encoding": "hex"}),
    ("nrrd_of_bzip2", "NRRD: packed by bzip2", "ok", bz2.compress(_RAW), {"encoding": "bzip2"}),
    ("nrrd_after_a_line", "nat 236: a line is skipped", "ok", b"one line\n" + _RAW, {"line_skip": "1"}),
    ("nrrd_of_vectors", "pynrrd 148: three values per voxel", "refused not-real", _RAW * 3, _VECTORS),
):
    _add_nrrd(_name, _report, _verdict, _data, **_fields)


@kind("ok")
def nrrd_whose_data_begin_later(folder: Path) -> Odd:
    """nat 237: the data file has a header of its own, which is skipped."""
    file, truth = nrrd(folder, "a.nhdr", data=b"", data_file="a.raw", byte_skip="13")
    (folder / "a.raw").write_bytes(b"x" * 13 + _RAW)
    return Odd(file, [truth])


@kind("refused detached-data")
def nrrd_of_a_file_per_slice(folder: Path) -> Odd:
    """rse-panimg 47: a list of data files."""
    names = [f"{index}.raw" for index in range(5)]
    file, _ = nrrd(folder, "a.nhdr", data="\n".join(names).encode(), data_file="LIST")
    for index, name in enumerate(names):
        (folder / name).write_bytes(_RAW[24 * index : 24 * index + 24])
    return Odd(file)


@kind("ok")
def metaimage_turned(folder: Path) -> Odd:
    """rse-panimg 44: the matrix is stored by columns, and was read transposed."""
    matrix = " ".join(f"{value:g}" for value in TURNED.T.reshape(-1))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = TURNED * [1.0, 2.0, 3.0], [5, 6, 7]
    return Odd(metaimage(folder, TransformMatrix=matrix).source, [volume_truth(VALUES, LPS_TO_RAS @ affine)])


@kind("ok")
def metaimage_with_an_anatomical_orientation(folder: Path) -> Odd:
    """ITK 1017: AnatomicalOrientation contradicts the matrix, which is the valid one."""
    return metaimage(folder, AnatomicalOrientation="RPI")


@kind("ok")
def metaimage_with_a_centre_of_rotation(folder: Path) -> Odd:
    """MetaImage: a field that moves nothing."""
    return metaimage(folder, CenterOfRotation="40 50 60")


@kind("ok")
def big_endian_metaimage(folder: Path) -> Odd:
    """SCIFIO 2: voxels in big endian."""
    return metaimage(folder, _SWAPPED, BinaryDataByteOrderMSB="True")


@kind("refused not-real")
def metaimage_of_three_channels(folder: Path) -> Odd:
    """MetaImage: three values per voxel."""
    return metaimage(folder, _RAW * 3, ElementNumberOfChannels="3")


def sheared(step: float) -> np.ndarray:
    """In RAS: the third axis leans backwards."""
    return LPS_TO_RAS @ np.array([[1, 0, 0, 5], [0, 2, step * 0.3, 6], [0, 0, step * 0.9539392, 7], [0, 0, 0, 1.0]])


@kind("ok")
def nrrd_of_sheared_axes(folder: Path) -> Odd:
    """SimpleITK 1433: directions that are not at right angles."""
    file, _ = nrrd(folder, space_directions="(1,0,0) (0,2,0) (0,0.9,2.8618176)")
    return Odd(file, [volume_truth(VALUES, sheared(3))])


@kind("ok")
def metaimage_of_sheared_axes(folder: Path) -> Odd:
    """SimpleITK 1433: a matrix whose directions are not at right angles."""
    odd = metaimage(folder, TransformMatrix="1 0 0 0 1 0 0 0.3 0.9539392")
    return Odd(odd.source, [volume_truth(VALUES, sheared(3))])
