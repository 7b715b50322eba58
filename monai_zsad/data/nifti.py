"""A NIfTI file as a scan: everything that its header decides is checked before its voxels are read."""

from __future__ import annotations

import gzip
import itertools
import math
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np

from monai_zsad.data.codes import Repair
from monai_zsad.data.scan import (
    MOST_TRAILING_BYTES,
    READ_ERRORS,
    ReadOptions,
    Scan,
    check_size,
    first_line,
    require_volume,
)
from monai_zsad.errors import InputError

__all__ = ["nifti_geometry", "read_nifti"]

_MOST_EXTENSION_BYTES = 1 << 26
_LARGEST_DIFFERENCE = 0.05
_TEMPLATE_CODES = (3, 4, 5)
_GZIP_EXTRA_FLAGS = (0, 2, 4)
_GZIP_SYSTEMS = (*range(14), 255)


def read_nifti(path: Path, options: ReadOptions) -> Scan:
    """Read a ``.nii`` or ``.nii.gz`` file with nibabel.

    Args:
        path: of the file.
        options: see :class:`~monai_zsad.data.ScanReader`.

    Returns:
        The scan; integers are scaled as the header says, the affine is nibabel's.

    Raises:
        InputError: damaged, too large, not one real volume, not in mm, or no unambiguous geometry.
    """
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    try:
        if path.stat().st_size == 0:
            raise InputError(f"{path}: is empty; copy or export it again", code="empty-file")
        return _read(path, options)
    except (ImageFileError, HeaderDataError, *READ_ERRORS) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path}: damaged or no NIfTI ({first_line(error, last=True)}); copy or export it again", code="damaged"
        ) from error


def nifti_geometry(path: Path) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Shape in voxels and spacing in the file's unit, from the header alone.

    Args:
        path: of the file.

    Returns:
        Both.

    Raises:
        ValueError: if the header is none.
    """
    from nibabel.spatialimages import HeaderDataError

    try:
        header = _header(_header_block(path, path.name.lower().endswith(".gz")))
    except HeaderDataError as error:
        raise ValueError(str(error)) from error
    shape = tuple(int(length) for length in header.get_data_shape())
    return shape, tuple(round(float(length), 4) for length in header.get_zooms()[:3])


def _read(path: Path, options: ReadOptions) -> Scan:
    import nibabel

    compressed = path.name.lower().endswith(".gz")
    block = _header_block(path, compressed)
    header = _header(block)
    shape = require_volume(path, header.get_data_shape(), options.volume)
    kind = header.get_data_dtype()
    if kind.kind not in "iuf":
        raise InputError(f"{path}: holds {kind} voxels; give a scan with one real number per voxel", code="not-real")
    unit = header.get_xyzt_units()[0]
    if unit not in ("mm", "unknown"):
        raise InputError(f"{path}: its spacing is in {unit}, not mm; write it with a spacing in mm", code="wrong-unit")
    options.require_size(path, shape[:3])
    declared = int(header["vox_offset"]) + math.prod(shape) * kind.itemsize
    repairs = options.require_plausible(path, declared, path.stat().st_size) if compressed else []
    _require_lengths(block, path)
    repairs += _check_forms(header, path, options)
    present = _unpacked_size(path, declared) if compressed else path.stat().st_size
    repairs += check_size(path, declared, present)
    image = nibabel.load(path)
    voxels = image.dataobj
    values = np.asanyarray(voxels if len(shape) == 3 else voxels[..., options.volume])
    return Scan(values.astype(np.float32).reshape(shape[:3]), np.asarray(image.affine, dtype=np.float64), "", repairs)


def _header_block(path: Path, compressed: bool) -> bytes:
    """The bytes of the header alone: nibabel would also read its extensions, whose size the header declares."""
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
    """540 of NIfTI-2, 348 of NIfTI-1."""
    second = 540 in (int.from_bytes(block[:4], "little"), int.from_bytes(block[:4], "big"))
    return 540 if second else 348


def _header(block: bytes, *, corrected: bool = True) -> Any:
    """The fields; corrected as nibabel does, which takes 1 for a length of 0, or as they stand."""
    import nibabel

    size = _header_bytes(block)
    kind = nibabel.Nifti2Header if size == 540 else nibabel.Nifti1Header
    header = kind(block[:size], check=corrected)
    # nibabel refuses a start within the header, but takes 0 as it stands and reads the header as voxels.
    if not size < float(header["vox_offset"]) <= _MOST_EXTENSION_BYTES:
        raise ValueError(f"its voxels start at byte {float(header['vox_offset']):g}")
    return header


def _check_gzip_header(stream: BufferedReader) -> None:
    """The checksum does not cover the ten bytes before the data; Python does not look at all of them."""
    head = stream.peek(10)[:10]
    if len(head) < 10 or head[3] & 0b11100001 or head[8] not in _GZIP_EXTRA_FLAGS or head[9] not in _GZIP_SYSTEMS:
        raise ValueError("not a gzip header")


def _unpacked_size(path: Path, declared: int) -> int:
    """Bytes of the stream, read to its end, where length and checksum stand; nibabel stops after the last voxel."""
    count = 0
    with gzip.open(path) as stream:
        while chunk := stream.read(1 << 22):
            count += len(chunk)
            if count > declared + MOST_TRAILING_BYTES:
                break
    return count


def _check_forms(header: Any, path: Path, options: ReadOptions) -> list[Repair]:
    """The header may place its voxels twice; readers differ in which of the two they believe."""
    from nibabel.spatialimages import HeaderDataError

    aligned, code = header.get_sform(coded=True)
    try:
        rotated, other_code = header.get_qform(coded=True)
    except (HeaderDataError, ValueError):
        rotated, other_code = np.full((4, 4), np.nan), int(header["qform_code"])
    if code == 0 and other_code == 0:
        finding = "states no geometry (sform and qform code are 0), so left and right are unknown"
        return [options.refuse(path, "no-geometry", finding, "export it again with its geometry")]
    if code == 0:
        return []
    if not np.isfinite(aligned).all() or abs(np.linalg.det(aligned[:3, :3])) < 1e-9:
        raise InputError(
            f"{path}: its sform is not finite or singular; export it again with its geometry", code="bad-affine"
        )
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
    return [options.refuse(path, "forms-disagree", f"its sform and qform {what}", "correct or clear one of them")]


def _require_lengths(block: bytes, path: Path) -> None:
    """Where there is no sform, the qform takes its spacing from pixdim."""
    header = _header(block, corrected=False)
    if header["sform_code"] > 0 or header["qform_code"] <= 0:
        return
    lengths = [float(length) for length in header["pixdim"][1:4]]
    if not all(math.isfinite(length) and length for length in lengths):
        raise InputError(
            f"{path}: its voxel sizes in pixdim are {lengths}; export it again with its geometry", code="bad-affine"
        )


def _lengths(header: Any) -> tuple[int, int, int]:
    x, y, z = header.get_data_shape()[:3]
    return int(x), int(y), int(z)


def _compare_spacing(spacing: np.ndarray, stated: np.ndarray) -> list[Repair]:
    if np.allclose(spacing, stated, rtol=0.01):
        return []
    sizes = [" x ".join(f"{length:g}" for length in lengths) for lengths in (spacing, stated)]
    return [Repair("pixdim-ignored", f"its sform ({sizes[0]} mm) was used, not its pixdim ({sizes[1]} mm)")]
