"""NRRD and MetaImage files as scans; the voxels of MetaImage are read with MONAI's ``ITKReader``."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from monai_zsad.data.checks import check_size, require_volume
from monai_zsad.data.codes import Repair, refusal
from monai_zsad.data.formats.nrrd import check_nrrd, nrrd_geometry, read_nrrd
from monai_zsad.data.formats.text_headers import TextFile, check_data, check_unit, parse_header, unpack_data
from monai_zsad.data.scan import READ_ERRORS, ReadOptions, Scan, first_line
from monai_zsad.data.value_range import to_float32
from monai_zsad.errors import InputError

__all__ = ["ITK_SUFFIXES", "check_itk", "itk_geometry", "read_itk"]

ITK_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
"""Endings (lower case) of NRRD and MetaImage files."""

_GEOMETRY = (
    ("ElementSpacing", {"elementspacing", "elementsize"}),
    ("Offset", {"offset", "position", "origin"}),
    ("TransformMatrix", {"transformmatrix", "rotation", "orientation"}),
)
"""The fields that place a MetaImage's voxels, each with the keys under which ITK looks for it."""
_BYTES = {
    "char": 1, "uchar": 1, "short": 2, "ushort": 2, "int": 4, "uint": 4, "long": 4, "ulong": 4,
    "long_long": 8, "ulong_long": 8, "float": 4, "double": 8,
}  # fmt: skip


def read_itk(path: Path, options: ReadOptions) -> Scan:
    """Read a ``.nrrd``, ``.nhdr``, ``.mha`` or ``.mhd`` file.

    Args:
        path: of the file.
        options: see :class:`~monai_zsad.data.ScanReader`.

    Returns:
        The scan, with the geometry converted to RAS.

    Raises:
        InputError: if the file is damaged, too large, not one volume of real numbers, without geometry, or has its data
            in another folder.
    """
    with _refusing(path):
        return read_nrrd(path, options) if _is_nrrd(path) else _read_meta(path, options)


def check_itk(path: Path, options: ReadOptions) -> list[Repair]:
    """All checks of :func:`read_itk` that need no voxels.

    Args:
        path: of the file.
        options: see :class:`~monai_zsad.data.ScanReader`.

    Returns:
        The warnings.

    Raises:
        InputError: the one that reading raises.
    """
    with _refusing(path):
        return check_nrrd(path, options) if _is_nrrd(path) else _checked(path, options)[2]


def itk_geometry(path: Path) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Shape in voxels and spacing in mm, from the header alone.

    Raises:
        ValueError: if the file does not have a valid header.
    """
    if _is_nrrd(path):
        return nrrd_geometry(path)
    file = parse_header(path)
    shape = _shape(file)
    stated = next((file.fields[key] for key in ("elementspacing", "elementsize") if key in file.fields), "")
    spacing = tuple(abs(float(word)) for word in stated.split())
    return shape, spacing if len(spacing) == len(shape) else (1.0,) * len(shape)


@contextlib.contextmanager
def _refusing(path: Path) -> Iterator[None]:
    try:
        if path.stat().st_size == 0:
            raise refusal(path, "empty-file", "is empty")
        yield
    except READ_ERRORS as error:
        if isinstance(error, InputError):
            raise
        missing = isinstance(error, KeyError)
        reason = f"its header does not state {error.args[0]}" if missing else first_line(error, last=True)
        raise refusal(path, "damaged", f"cannot be read ({reason})") from error


def _is_nrrd(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(4) == b"NRRD"


def _shape(file: TextFile) -> tuple[int, ...]:
    shape = tuple(int(word) for word in file.fields["dimsize"].split())
    if len(shape) != int(file.fields["ndims"]):
        raise ValueError(f"its DimSize is {shape}")
    return shape


def _checked(path: Path, options: ReadOptions) -> tuple[TextFile, tuple[int, ...], list[Repair]]:
    file = parse_header(path)
    if "ndims" not in file.fields:
        raise ValueError("no NRRD or MetaImage header")
    kind = file.fields["elementtype"].lower().removeprefix("met_")
    components = int(file.fields.get("elementnumberofchannels", 1))
    if components != 1 or kind.endswith("_array"):
        raise refusal(path, "not-real", f"has {components} values per voxel")
    if kind not in _BYTES:
        raise ValueError(f"an unknown type of voxels ({kind})")
    shape = _shape(file)
    kept = require_volume(path, shape, options.volume)
    options.require_size(path, kept[:3])
    file = replace(file, declared_bytes=math.prod(shape) * _BYTES[kind])
    return file, kept, [repair for check in CHECKS for repair in check(file, options)]


def _read_meta(path: Path, options: ReadOptions) -> Scan:
    import itk
    from monai.data import ITKReader
    from monai.utils import MetaKeys

    file, kept, repairs = _checked(path, options)
    repairs += _check_packed(file)
    # The content decides, not the ending, by which ITK would choose how to read the file.
    reader = ITKReader(imageio=itk.MetaImageIO.New())
    values, meta = reader.get_data(reader.read(path))
    values = values.reshape(kept)
    if len(kept) == 4:
        values = values[..., options.volume]
    real, scaled = to_float32(values)
    return Scan(real, np.asarray(meta[MetaKeys.ORIGINAL_AFFINE], dtype=np.float64), "", repairs + scaled)


def _check_scale(file: TextFile, options: ReadOptions) -> list[Repair]:  # noqa: ARG001
    """ITK reads the stored values of a MetaImage and ignores the scale that its header gives for them."""
    slope, offset = (
        file.fields.get(f"elementtointensityfunction{name}", neutral)
        for name, neutral in (("slope", "1"), ("offset", "0"))
    )
    if (float(slope), float(offset)) != (1.0, 0.0):
        finding = f"its ElementToIntensityFunction (slope {slope}, offset {offset}) is not applied by ITK"
        raise refusal(file.path, "bad-rescale", finding, "write the file with the scaled values")
    return []


def _check_geometry(file: TextFile, options: ReadOptions) -> list[Repair]:
    """ITK takes 1 mm, identity and origin 0 where the header states nothing."""
    missing = ", ".join(name for name, keys in _GEOMETRY if not keys & file.fields.keys())
    return [options.refuse(file.path, "no-geometry", f"its header does not state {missing}")] if missing else []


CHECKS: tuple[Callable[[TextFile, ReadOptions], list[Repair]], ...] = (
    _check_scale,
    check_unit,
    _check_geometry,
    check_data,
)
"""The checks of a MetaImage before ITK reads its voxels, in their order."""


def _check_packed(file: TextFile) -> list[Repair]:
    """Packed voxels are unpacked to their end, where the checksum is: ITK does not report a damaged stream."""
    if not file.packing or file.skips:
        return []
    content, taken = unpack_data(file)
    stored = file.data.stat().st_size - file.offset
    if file.offset and not taken <= int(file.fields.get("compresseddatasize", 0)) <= stored:
        # ITK would unpack another part of the file, fail, and return uninitialised memory.
        stated = file.fields.get("compresseddatasize")
        raise ValueError(f"its CompressedDataSize is {stated}, but {taken} bytes are packed")
    return check_size(file.path, file.declared_bytes, len(content))
