"""NRRD and MetaImage files as scans: checks of their text header, then MONAI's ``ITKReader``."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from monai_zsad.data.checks import MOST_TRAILING_BYTES, check_size, require_volume
from monai_zsad.data.codes import Repair, refusal
from monai_zsad.data.scan import READ_ERRORS, ReadOptions, Scan, first_line
from monai_zsad.errors import InputError

__all__ = ["ITK_SUFFIXES", "check_itk", "itk_geometry", "read_itk"]

ITK_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
"""Endings (lower case) of NRRD and MetaImage files."""

_HEADER_BYTES = 1 << 16
_DATA_KEYS = ("data file", "datafile", "elementdatafile")
_META_GEOMETRY = (
    ("ElementSpacing", {"elementspacing", "elementsize"}),
    ("Offset", {"offset", "position", "origin"}),
    ("TransformMatrix", {"transformmatrix", "rotation", "orientation"}),
)
"""The fields that place a MetaImage's voxels, each with the keys under which ITK looks for it."""
_PATIENT_SPACES = {
    "right-anterior-superior",
    "left-anterior-superior",
    "left-posterior-superior",
    "ras",
    "las",
    "lps",
}


@dataclass(frozen=True)
class _File:
    """A file whose text header was read.

    Attributes:
        path: of the file.
        fields: of the header, with keys in lower case.
        data: the file that holds the voxels: the same file or one beside it.
        offset: bytes before the voxels.
        declared_bytes: size of the voxels, as the header declares it.
    """

    path: Path
    fields: dict[str, str]
    data: Path
    offset: int
    declared_bytes: int = 0


def read_itk(path: Path, options: ReadOptions) -> Scan:
    """Read a ``.nrrd``, ``.nhdr``, ``.mha`` or ``.mhd`` file.

    Args:
        path: of the file.
        options: see :class:`~monai_zsad.data.ScanReader`.

    Returns:
        The scan, with ITK's geometry converted to RAS.

    Raises:
        InputError: if the file is damaged, too large, not one volume of real numbers, without geometry, or has its data
            in another folder.
    """
    if path.stat().st_size == 0:
        raise refusal(path, "empty-file", "is empty")
    try:
        return _read(path, options)
    except READ_ERRORS as error:
        if isinstance(error, InputError):
            raise
        raise refusal(path, "damaged", f"cannot be read ({first_line(error, last=True)})") from error


def _read(path: Path, options: ReadOptions) -> Scan:
    from monai.data import ITKReader
    from monai.utils import MetaKeys

    file = _parse(path)
    shape, components, item_bytes = _declared(path)
    if components != 1:
        raise refusal(path, "not-real", f"has {components} values per voxel")
    kept = require_volume(path, shape, options.volume)
    options.require_size(path, kept[:3])
    file = replace(file, declared_bytes=math.prod(shape) * item_bytes)
    repairs = [repair for check in CHECKS for repair in check(file, options)]
    reader = ITKReader()
    values, meta = reader.get_data(reader.read(path))
    values = values.reshape(kept)
    if len(kept) == 4:
        values = values[..., options.volume]
    affine = np.asarray(meta[MetaKeys.ORIGINAL_AFFINE], dtype=np.float64)
    return Scan(values.astype(np.float32), affine, "", repairs)


def check_itk(path: Path, options: ReadOptions) -> list[Repair]:
    """All checks of :func:`read_itk` that need no voxels; it raises the same errors."""
    return read_itk(path, options).repairs


def itk_geometry(path: Path) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Shape in voxels and spacing in mm, from the header alone."""
    io = _information(path)
    axes = range(io.GetNumberOfDimensions())
    return tuple(int(io.GetDimensions(axis)) for axis in axes), tuple(float(io.GetSpacing(axis)) for axis in axes)


def _information(path: Path) -> Any:
    import itk

    io: Any = itk.ImageIOFactory.CreateImageIO(str(path), itk.CommonEnums.IOFileMode_ReadMode)
    if io is None:
        raise ValueError("no NRRD or MetaImage header")
    io.SetFileName(str(path))
    io.ReadImageInformation()
    return io


def _declared(path: Path) -> tuple[tuple[int, ...], int, int]:
    """Shape, values per voxel and bytes of a voxel as the header declares them."""
    io = _information(path)
    shape = tuple(int(io.GetDimensions(axis)) for axis in range(io.GetNumberOfDimensions()))
    components = int(io.GetNumberOfComponents())
    return shape, components, int(io.GetComponentSize()) * components


def _parse(path: Path) -> _File:
    """A header may name any file of the machine as its data; only a file in the same folder is read."""
    with path.open("rb") as stream:
        head = stream.read(_HEADER_BYTES)
    fields: dict[str, str] = {}
    offset = 0
    for line in head.splitlines(keepends=True):
        offset += len(line)
        key, separator, value = line.decode("latin-1").replace(":=", "=").replace("=", ":", 1).partition(":")
        if separator and not line.startswith(b"#"):
            fields.setdefault(key.strip().lower(), value.strip())
        if not line.strip() or key.strip().lower() == "elementdatafile":
            break
    target = next((fields[key] for key in _DATA_KEYS if key in fields), "LOCAL")
    if target.upper() == "LOCAL":
        return _File(path, fields, path, offset)
    if Path(target).name != target or target.upper().startswith("LIST"):
        raise refusal(path, "detached-data", f"its data are in a file of another folder ({target})")
    data = path.parent / target
    if not data.is_file() or data.resolve().parent != path.resolve().parent:
        finding = f"its data file {target} is missing, or is a link to another folder"
        raise refusal(path, "detached-data", finding, "put the data file into the folder of the header")
    return _File(path, fields, data, 0)


def _check_scale(file: _File, options: ReadOptions) -> list[Repair]:  # noqa: ARG001
    """ITK reads the stored values of a MetaImage and ignores the scale that its header gives for them."""
    slope, offset = (
        file.fields.get(f"elementtointensityfunction{name}", neutral)
        for name, neutral in (("slope", "1"), ("offset", "0"))
    )
    if (float(slope), float(offset)) != (1.0, 0.0):
        finding = f"its ElementToIntensityFunction (slope {slope}, offset {offset}) is not applied by ITK"
        raise refusal(file.path, "bad-rescale", finding, "write the file with the scaled values")
    return []


def _check_unit(file: _File, options: ReadOptions) -> list[Repair]:  # noqa: ARG001
    """ITK knows no unit but mm."""
    fields = file.fields
    units = (fields.get("space units") or fields.get("distanceunits", "")).replace('"', " ").split()
    if any(unit not in ("mm", "none", "???", "?") for unit in units):
        raise refusal(file.path, "wrong-unit", f"its spacing is in {units[0]}, not mm")
    return []


def _check_space(file: _File, options: ReadOptions) -> list[Repair]:
    """ITK takes 1 mm, identity and origin 0 where the header states nothing."""
    fields = file.fields
    if "ndims" in fields:
        missing = ", ".join(name for name, keys in _META_GEOMETRY if not keys & fields.keys())
    else:
        space = fields.get("space", "").lower().removesuffix("-time").removesuffix("t")
        stated = space in _PATIENT_SPACES and fields.get("space directions", "").count("(") == 3
        missing = "" if stated else "space (e.g. left-posterior-superior) with three space directions"
        if stated and "space origin" not in fields:
            missing = "space origin"
    if not missing:
        return []
    return [options.refuse(file.path, "no-geometry", f"its header does not state {missing}")]


def _check_data(file: _File, options: ReadOptions) -> list[Repair]:
    """Compressed data are unpacked to their end, where the checksum is: ITK does not report a damaged stream."""
    fields, declared, path = file.fields, file.declared_bytes, file.path
    stored = file.data.stat().st_size - file.offset
    packed = fields.get("encoding", "").lower() in ("gzip", "gz") or fields.get("compresseddata", "").lower() == "true"
    plain = fields.get("encoding", "raw").lower() == "raw" and not packed
    skips = any(key.replace(" ", "") in ("byteskip", "lineskip", "headersize") for key in fields)
    repairs = options.require_plausible(path, declared, stored) if packed else []
    if skips and plain and stored < declared:
        # Counted from the end of the file, ITK would read the header as voxels.
        raise ValueError(f"truncated: {stored} of {declared} bytes")
    if skips or not (packed or plain):
        return repairs
    if not packed:
        return repairs + check_size(path, declared, stored)
    present, taken = _unpacked_size(file)
    if "ndims" in fields and file.offset and not taken <= int(fields.get("compresseddatasize", 0)) <= stored:
        # ITK would unpack another part of the file, fail, and return uninitialised memory.
        raise ValueError(f"its CompressedDataSize is {fields.get('compresseddatasize')}, but {taken} bytes are packed")
    return repairs + check_size(path, declared, present)


CHECKS: tuple[Callable[[_File, ReadOptions], list[Repair]], ...] = (
    _check_scale,
    _check_unit,
    _check_space,
    _check_data,
)
"""The checks of a file before ITK reads its voxels, in their order."""


def _unpacked_size(file: _File) -> tuple[int, int]:
    """Bytes of the unpacked data, and how many bytes of the file they take."""
    unpacker = zlib.decompressobj(wbits=47)
    declared = file.declared_bytes
    count = taken = 0
    with file.data.open("rb") as stream:
        stream.seek(file.offset)
        while (chunk := stream.read(1 << 16)) and count <= declared + MOST_TRAILING_BYTES:
            count += len(unpacker.decompress(chunk))
            taken += len(chunk) - len(unpacker.unused_data)
            if unpacker.eof:
                return count, taken
    if count <= declared:
        raise ValueError("truncated: its compressed data end too early")
    return count, taken
