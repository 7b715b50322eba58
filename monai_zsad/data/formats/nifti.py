"""A NIfTI file as a scan: its header is checked completely before its voxels are read."""

from __future__ import annotations

import gzip
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np

from monai_zsad.data.checks import MOST_TRAILING_BYTES, check_size, require_volume
from monai_zsad.data.codes import Repair, refusal
from monai_zsad.data.scan import READ_ERRORS, ReadOptions, Scan, first_line
from monai_zsad.errors import InputError

__all__ = ["NIFTI_SUFFIXES", "nifti_geometry", "read_nifti"]

NIFTI_SUFFIXES = (".nii", ".nii.gz")
"""Endings (lower case) of NIfTI files."""

_MOST_EXTENSION_BYTES = 1 << 26
_LARGEST_DIFFERENCE = 0.05
_TEMPLATE_CODES = (3, 4, 5)
_GZIP_EXTRA_FLAGS = (0, 2, 4)
_GZIP_SYSTEMS = (*range(14), 255)


@dataclass(frozen=True)
class _File:
    """A file whose header was read.

    Attributes:
        path: of the file.
        block: the bytes of the header.
        header: its fields, corrected by nibabel.
        shape: of the volume, or of the 4D file from which a volume was chosen.
    """

    path: Path
    block: bytes
    header: Any
    shape: tuple[int, ...]

    @property
    def compressed(self) -> bool:
        return _is_compressed(self.path)

    @property
    def declared_bytes(self) -> int:
        return int(self.header["vox_offset"]) + math.prod(self.shape) * int(self.header.get_data_dtype().itemsize)


def read_nifti(path: Path, options: ReadOptions) -> Scan:
    """Read a ``.nii`` or ``.nii.gz`` file with nibabel.

    Args:
        path: of the file.
        options: see :class:`~monai_zsad.data.ScanReader`.

    Returns:
        The scan; integers are scaled as the header says, the affine is nibabel's.

    Raises:
        InputError: if the file is damaged, too large, not one volume of real numbers, not in mm, or has an ambiguous
            geometry.
    """
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    try:
        if path.stat().st_size == 0:
            raise refusal(path, "empty-file", "is empty")
        return _read(path, options)
    except (ImageFileError, HeaderDataError, *READ_ERRORS) as error:
        if isinstance(error, InputError):
            raise
        finding = f"is damaged or is not a NIfTI file ({first_line(error, last=True)})"
        raise refusal(path, "damaged", finding) from error


def nifti_geometry(path: Path) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Shape in voxels and spacing in the file's unit, from the header alone.

    Args:
        path: of the file.

    Returns:
        Both.

    Raises:
        ValueError: if the file does not have a valid header.
    """
    from nibabel.spatialimages import HeaderDataError

    try:
        header = _header(_header_block(path, _is_compressed(path)))
    except HeaderDataError as error:
        raise ValueError(str(error)) from error
    shape = tuple(int(length) for length in header.get_data_shape())
    return shape, tuple(round(float(length), 4) for length in header.get_zooms()[:3])


def _read(path: Path, options: ReadOptions) -> Scan:
    import nibabel

    block = _header_block(path, _is_compressed(path))
    header = _header(block)
    file = _File(path, block, header, require_volume(path, header.get_data_shape(), options.volume))
    repairs = [repair for check in CHECKS for repair in check(file, options)]
    image = nibabel.load(path)
    voxels = image.dataobj
    values = np.asanyarray(voxels if len(file.shape) == 3 else voxels[..., options.volume])
    affine = np.asarray(image.affine, dtype=np.float64)
    return Scan(values.astype(np.float32).reshape(file.shape[:3]), affine, "", repairs)


def _is_compressed(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _header_block(path: Path, compressed: bool) -> bytes:
    """The bytes of the header alone: nibabel would also read its extensions, of any size that the header declares."""
    with path.open("rb") as stream:
        if compressed:
            _check_gzip_header(stream)
            with gzip.open(stream) as unpacked:
                block = unpacked.read(540)
        else:
            block = stream.read(540)
    if len(block) < _header_bytes(block):
        raise ValueError(f"its header ends after {len(block)} bytes")
    return block


def _header_bytes(block: bytes) -> int:
    """540 bytes for NIfTI-2, 348 for NIfTI-1."""
    second = 540 in (int.from_bytes(block[:4], "little"), int.from_bytes(block[:4], "big"))
    return 540 if second else 348


def _header(block: bytes, *, corrected: bool = True) -> Any:
    """The fields as they are stored, or corrected by nibabel, which replaces a length of 0 by 1."""
    import nibabel

    size = _header_bytes(block)
    kind = nibabel.Nifti2Header if size == 540 else nibabel.Nifti1Header
    header = kind(block[:size], check=corrected)
    # nibabel refuses an offset within the header, but it accepts 0 and then reads the header as voxels.
    if not size < float(header["vox_offset"]) <= _MOST_EXTENSION_BYTES:
        raise ValueError(f"its voxels start at byte {float(header['vox_offset']):g}")
    return header


def _check_gzip_header(stream: BufferedReader) -> None:
    """The checksum does not cover the ten bytes before the data, and Python does not check all of them."""
    head = stream.peek(10)[:10]
    if len(head) < 10 or head[3] & 0b11100001 or head[8] not in _GZIP_EXTRA_FLAGS or head[9] not in _GZIP_SYSTEMS:
        raise ValueError("not a gzip header")


def _unpacked_size(path: Path, declared: int) -> int:
    """Bytes of the stream, read to the checksum at its end; nibabel stops after the last voxel."""
    count = 0
    with gzip.open(path) as stream:
        while chunk := stream.read(1 << 22):
            count += len(chunk)
            if count > declared + MOST_TRAILING_BYTES:
                break
    return count


def _check_voxel_type(file: _File, options: ReadOptions) -> list[Repair]:  # noqa: ARG001
    kind = file.header.get_data_dtype()
    if kind.kind not in "iuf":
        raise refusal(file.path, "not-real", f"holds {kind} voxels")
    return []


def _check_unit(file: _File, options: ReadOptions) -> list[Repair]:  # noqa: ARG001
    unit = file.header.get_xyzt_units()[0]
    if unit not in ("mm", "unknown"):
        raise refusal(file.path, "wrong-unit", f"its spacing is in {unit}, not mm")
    return []


def _check_declared_size(file: _File, options: ReadOptions) -> list[Repair]:
    options.require_size(file.path, file.shape[:3])
    if not file.compressed:
        return []
    return options.require_plausible(file.path, file.declared_bytes, file.path.stat().st_size)


def _check_pixdim(file: _File, options: ReadOptions) -> list[Repair]:  # noqa: ARG001
    """Where there is no sform, the qform takes its spacing from pixdim."""
    header = _header(file.block, corrected=False)
    if header["sform_code"] > 0 or header["qform_code"] <= 0:
        return []
    lengths = [float(length) for length in header["pixdim"][1:4]]
    if not all(math.isfinite(length) and length for length in lengths):
        raise refusal(file.path, "bad-affine", f"its voxel sizes in pixdim are {lengths}")
    return []


def _check_forms(file: _File, options: ReadOptions) -> list[Repair]:
    """The header may place its voxels twice, and readers do not agree on which of the two they use."""
    from nibabel.spatialimages import HeaderDataError

    path, header = file.path, file.header
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
    corners = np.array([(*corner, 1.0) for corner in itertools.product(*((0, n - 1) for n in _lengths(header)))])
    apart = float(np.linalg.norm((corners @ (aligned - rotated).T)[:, :3], axis=1).max())
    if apart <= _LARGEST_DIFFERENCE * spacing.min():
        return []
    same_hand = np.linalg.det(aligned[:3, :3]) * np.linalg.det(rotated[:3, :3]) > 0
    if same_hand and code in _TEMPLATE_CODES and other_code not in _TEMPLATE_CODES:
        return [Repair("two-spaces", "sform (template) and qform (scanner) differ; the sform was used")]
    what = f"place its voxels up to {apart:.2f} mm apart" if same_hand else "disagree about left and right"
    return [options.refuse(path, "forms-disagree", f"its sform and qform {what}")]


def _check_stored_size(file: _File, options: ReadOptions) -> list[Repair]:  # noqa: ARG001
    declared = file.declared_bytes
    present = _unpacked_size(file.path, declared) if file.compressed else file.path.stat().st_size
    return check_size(file.path, declared, present)


CHECKS: tuple[Callable[[_File, ReadOptions], list[Repair]], ...] = (
    _check_voxel_type,
    _check_unit,
    _check_declared_size,
    _check_pixdim,
    _check_forms,
    _check_stored_size,
)
"""The checks of a file before its voxels are read, in their order."""


def _lengths(header: Any) -> tuple[int, int, int]:
    x, y, z = header.get_data_shape()[:3]
    return int(x), int(y), int(z)


def _compare_spacing(spacing: np.ndarray, stated: np.ndarray) -> list[Repair]:
    if np.allclose(spacing, stated, rtol=0.01):
        return []
    sizes = [" x ".join(f"{length:g}" for length in lengths) for lengths in (spacing, stated)]
    return [Repair("pixdim-ignored", f"its sform ({sizes[0]} mm) was used, not its pixdim ({sizes[1]} mm)")]
