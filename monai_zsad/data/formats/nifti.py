"""NIfTI files, NIfTI pairs and Analyze pairs: their header is checked completely before their voxels are read."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np

from monai_zsad.data.codes import Repair, refusal
from monai_zsad.data.formats.packed import (
    UNPACK_ERRORS,
    file_beside,
    open_unpacked,
    unpacked_head,
    without_packing,
)
from monai_zsad.data.formats.volumes import Kind, VolumeFile, array_proxy
from monai_zsad.data.scan import ReadOptions, Scan

__all__ = ["NIFTI", "NIFTI_PAIR", "check_nifti", "nifti_geometry", "read_nifti", "stores_nifti"]

_MOST_EXTENSION_BYTES = 1 << 26
_LARGEST_DIFFERENCE = 0.05
_LONGEST_QUATERNION = 1 + 1e-4
_TEMPLATE_CODES = (3, 4, 5)
_HEADER_BYTES = 540
_MAGICS = {b"n+1\0": "single", b"ni1\0": "pair"}
_SECOND_MAGICS = {b"n+2\0": "single", b"ni2\0": "pair"}


def stores_nifti(head: bytes) -> str:
    """What the first bytes of a file say about it.

    Args:
        head: 540 bytes, or fewer of a short file.

    Returns:
        ``"single"`` for a complete NIfTI file, ``"pair"`` for the header of a NIfTI pair, ``"analyze"`` for that of an
        Analyze pair, or an empty string.
    """
    size = _header_size(head)
    if size == 540:
        return _SECOND_MAGICS.get(head[4:8], "")
    return _MAGICS.get(head[344:348], "analyze") if size == 348 else ""


def _header_size(head: bytes) -> int:
    """540 bytes for NIfTI-2, 348 for NIfTI-1 and Analyze, otherwise 0."""
    stated = (int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big"))
    return next((size for size in (348, 540) if size in stated and len(head) >= size), 0)


def _header(kind: str, block: bytes, *, corrected: bool = True) -> Any:
    """The fields as they are stored, or corrected by nibabel, which replaces a length of 0 by 1."""
    import nibabel
    from nibabel.nifti1 import Nifti1PairHeader
    from nibabel.nifti2 import Nifti2PairHeader
    from nibabel.spm2analyze import Spm2AnalyzeHeader

    second = _header_size(block) == 540
    if kind == "analyze":
        header = Spm2AnalyzeHeader
    elif kind == "pair":
        header = Nifti2PairHeader if second else Nifti1PairHeader
    else:
        header = nibabel.Nifti2Header if second else nibabel.Nifti1Header
    fields = header(block, check=corrected)
    if kind != "analyze":
        _shorten_quaternion(fields)
    return fields


def _shorten_quaternion(header: Any) -> None:
    """Rounding may make the quaternion of a qform a little longer than 1, for which nibabel has no rotation."""
    names = ("quatern_b", "quatern_c", "quatern_d")
    length = math.hypot(*(float(header[name]) for name in names))
    if 1 < length <= _LONGEST_QUATERNION:
        for name in names:
            header[name] = float(header[name]) / length


def _block(path: Path) -> bytes:
    """The bytes of the header alone: nibabel would also read its extensions, of any size that the header declares."""
    head = unpacked_head(path, _HEADER_BYTES)
    size = _header_size(head)
    if not size:
        stated = 348 if len(head) >= 4 else len(head)
        raise ValueError(f"its header ends after {len(head)} bytes" if len(head) < stated else "no NIfTI header")
    return head[:size]


def _parse_single(path: Path, options: ReadOptions) -> VolumeFile:  # noqa: ARG001
    block = _block(path)
    if stores_nifti(block) != "single":
        raise ValueError("no mark of a NIfTI file in its header")
    header = _header("single", block)
    # nibabel refuses an offset within the header, but it accepts 0 and then reads the header as voxels.
    start = float(header["vox_offset"])
    if not len(block) < start <= _MOST_EXTENSION_BYTES:
        raise ValueError(f"its voxels start at byte {start:g}")
    return _file(path, path, header, block, int(start))


def _parse_pair(path: Path, options: ReadOptions) -> VolumeFile:  # noqa: ARG001
    named = without_packing(path.name).lower()
    header_path = file_beside(path, ".hdr") if named.endswith(".img") else path
    if header_path is None:
        raise refusal(path, "detached-data", "its header (.hdr) is missing", "put the header into the folder")
    block = _block(header_path)
    kind = stores_nifti(block)
    if kind == "single":
        raise ValueError("a NIfTI file that is complete in itself")
    data = path if header_path != path else file_beside(path, ".img")
    if data is None:
        raise refusal(path, "detached-data", "its voxels (.img) are missing", "put them into the folder of the header")
    header = _header(kind, block)
    start = float(header["vox_offset"])
    if not 0 <= start <= _MOST_EXTENSION_BYTES:
        raise ValueError(f"its voxels start at byte {start:g}")
    return _file(path, data, header, block, int(start))


def _file(path: Path, data: Path, header: Any, block: bytes, start: int) -> VolumeFile:
    shape = tuple(int(length) for length in header.get_data_shape())
    stated = _matrix_of_spm(path) if stores_nifti(block) == "analyze" else None
    return VolumeFile(
        path=path,
        header=header,
        shape=shape,
        spacing=tuple(header.get_zooms()[:3]),
        dtype=header.get_data_dtype(),
        affine=header.get_best_affine if stated is None else lambda: stated,
        voxels=array_proxy(header, shape, start),
        data=data,
        offset=start,
        block=block,
    )


def _matrix_of_spm(path: Path) -> np.ndarray | None:
    """The affine in the third file that SPM writes for an Analyze pair; None if there is none."""
    mat = file_beside(path, ".mat")
    if mat is None:
        return None
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        with open_unpacked(mat) as stream:
            fields = loadmat(stream, variable_names=["mat", "M"])
    except (MatReadError, *UNPACK_ERRORS):
        # Other programs write other files of this name.
        return None
    found = fields["mat"] if "mat" in fields else np.diag([-1.0, 1, 1, 1]) @ fields["M"] if "M" in fields else None
    if found is None or np.shape(found) != (4, 4):
        return None
    # Matlab counts voxels from 1.
    first = np.eye(4)
    first[:3, 3] = 1
    return np.asarray(found, dtype=np.float64) @ first


def _check_unit(file: VolumeFile, options: ReadOptions) -> list[Repair]:  # noqa: ARG001
    if stores_nifti(file.block) == "analyze":
        return []
    unit = file.header.get_xyzt_units()[0]
    if unit not in ("mm", "unknown"):
        raise refusal(file.path, "wrong-unit", f"its spacing is in {unit}, not mm")
    return []


def _check_pixdim(file: VolumeFile, options: ReadOptions) -> list[Repair]:  # noqa: ARG001
    """Where there is no sform, the qform takes its spacing from pixdim."""
    kind = stores_nifti(file.block)
    if kind == "analyze":
        return []
    header = _header(kind, file.block, corrected=False)
    if header["sform_code"] > 0 or header["qform_code"] <= 0:
        return []
    lengths = [float(length) for length in header["pixdim"][1:4]]
    if not all(math.isfinite(length) and length for length in lengths):
        raise refusal(file.path, "bad-affine", f"its voxel sizes in pixdim are {lengths}")
    return []


def _check_forms(file: VolumeFile, options: ReadOptions) -> list[Repair]:
    """The header may place its voxels twice, and readers do not agree on which of the two they use."""
    from nibabel.spatialimages import HeaderDataError

    path, header = file.path, file.header
    if stores_nifti(file.block) == "analyze":
        if _matrix_of_spm(path) is not None:
            return []
        return [options.refuse(path, "no-geometry", "is an Analyze pair, which does not tell left from right")]
    aligned, code = header.get_sform(coded=True)
    try:
        rotated, other_code = header.get_qform(coded=True)
    except (HeaderDataError, ValueError):
        rotated, other_code = np.full((4, 4), np.nan), int(header["qform_code"])
    if code == 0 and other_code == 0:
        finding = "states no geometry (the codes of sform and qform are 0), so left and right are unknown"
        return [options.refuse(path, "no-geometry", finding)]
    if code == 0:
        return []
    if not np.isfinite(aligned).all() or abs(np.linalg.det(aligned[:3, :3])) < 1e-9:
        raise refusal(path, "bad-affine", "its sform is not finite or is singular")
    spacing = np.linalg.norm(aligned[:3, :3], axis=0)
    if other_code == 0:
        return _compare_spacing(spacing, np.abs(np.asarray(header["pixdim"][1:4], dtype=float)))
    corners = np.array([(*corner, 1.0) for corner in itertools.product(*((0, n - 1) for n in file.shape[:3]))])
    apart = float(np.linalg.norm((corners @ (aligned - rotated).T)[:, :3], axis=1).max())
    if apart <= _LARGEST_DIFFERENCE * spacing.min():
        return []
    same_hand = np.linalg.det(aligned[:3, :3]) * np.linalg.det(rotated[:3, :3]) > 0
    if same_hand and code in _TEMPLATE_CODES and other_code not in _TEMPLATE_CODES:
        return [Repair("two-spaces", "sform (template) and qform (scanner) differ; the sform was used")]
    what = f"place its voxels up to {apart:.2f} mm apart" if same_hand else "disagree about left and right"
    if not np.isfinite(rotated).all():
        what = "differ: its qform is not a rotation"
    return [options.refuse(path, "forms-disagree", f"its sform and qform {what}")]


def _compare_spacing(spacing: np.ndarray, stated: np.ndarray) -> list[Repair]:
    if np.allclose(spacing, stated, rtol=0.01):
        return []
    sizes = [" x ".join(f"{length:g}" for length in lengths) for lengths in (spacing, stated)]
    return [Repair("pixdim-ignored", f"its sform ({sizes[0]} mm) was used, not its pixdim ({sizes[1]} mm)")]


CHECKS = (_check_unit, _check_pixdim, _check_forms)
"""The checks of a NIfTI or Analyze header, beside those of every volume, in their order."""

NIFTI = Kind("NIfTI", _parse_single, CHECKS)
"""A NIfTI file that is complete in itself."""

NIFTI_PAIR = Kind("NIfTI or Analyze", _parse_pair, CHECKS)
"""A header and a file with the voxels; either names the scan."""


def read_nifti(path: Path, options: ReadOptions) -> Scan:
    """Read a NIfTI file, also a packed one, with nibabel; see :meth:`Kind.read`."""
    return NIFTI.read(path, options)


def check_nifti(path: Path, options: ReadOptions) -> list[Repair]:
    """All checks of the header that :func:`read_nifti` makes; see :meth:`Kind.check`."""
    return NIFTI.check(path, options)


def nifti_geometry(path: Path) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Shape in voxels and spacing in the file's unit, from the header alone; see :meth:`Kind.geometry`."""
    return NIFTI.geometry(path)
