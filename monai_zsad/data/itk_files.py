"""NRRD and MetaImage files as scans, through MONAI's ``ITKReader`` and checks of their text header."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from monai.utils import MetaKeys

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

__all__ = ["itk_geometry", "read_itk"]

_HEADER_BYTES = 1 << 16
_DATA_KEYS = ("data file", "datafile", "elementdatafile")
_META_GEOMETRY = (
    ("ElementSpacing", {"elementspacing", "elementsize"}),
    ("Offset", {"offset", "position", "origin"}),
    ("TransformMatrix", {"transformmatrix", "rotation", "orientation"}),
)
"""What places a MetaImage's voxels, and the keys under which ITK looks for it."""
_PATIENT_SPACES = {
    "right-anterior-superior",
    "left-anterior-superior",
    "left-posterior-superior",
    "ras",
    "las",
    "lps",
}


@dataclass(frozen=True)
class _Header:
    """Fields of a text header (keys in lower case), and where its data lie."""

    fields: dict[str, str]
    data: Path
    offset: int


def read_itk(path: Path, options: ReadOptions) -> Scan:
    """Read a ``.nrrd``, ``.nhdr``, ``.mha`` or ``.mhd`` file.

    Args:
        path: of the file.
        options: see :class:`~monai_zsad.data.ScanReader`.

    Returns:
        The scan, with ITK's geometry turned to RAS.

    Raises:
        InputError: damaged, too large, not one real volume, without geometry, or with data in another folder.
    """
    if path.stat().st_size == 0:
        raise InputError(f"{path}: is empty; copy or export it again", code="empty-file")
    try:
        return _read(path, options)
    except READ_ERRORS as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path}: cannot be read ({first_line(error, last=True)}); copy or export it again", code="damaged"
        ) from error


def _read(path: Path, options: ReadOptions) -> Scan:
    from monai.data import ITKReader

    header = _parse(path)
    shape, components, item_bytes = _declared(path)
    if components != 1:
        raise InputError(
            f"{path}: has {components} values per voxel; give a scan with one real number per voxel", code="not-real"
        )
    kept = require_volume(path, shape, options.volume)
    options.require_size(path, kept[:3])
    _check_scale(header, path)
    repairs = _check_space(header, path, options)
    repairs += _check_data(header, path, math.prod(shape) * item_bytes, options)
    reader = ITKReader()
    values, meta = reader.get_data(reader.read(path))
    values = values.reshape(kept)
    if len(kept) == 4:
        values = values[..., options.volume]
    affine = np.asarray(meta[MetaKeys.ORIGINAL_AFFINE], dtype=np.float64)
    return Scan(values.astype(np.float32), affine, "", repairs)


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


def _parse(path: Path) -> _Header:
    """A header may name any file of the machine as its data; only a plain name beside the header is followed."""
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
        return _Header(fields, path, offset)
    if Path(target).name != target or target.upper().startswith("LIST"):
        raise InputError(
            f"{path}: its data lie in another file ({target}); write the scan as one file", code="detached-data"
        )
    data = path.parent / target
    if not data.is_file() or data.resolve().parent != path.resolve().parent:
        raise InputError(
            f"{path}: its data file {target} is missing or a link to elsewhere; put it beside the header",
            code="detached-data",
        )
    return _Header(fields, data, 0)


def _check_space(header: _Header, path: Path, options: ReadOptions) -> list[Repair]:
    """ITK takes 1 mm, identity and origin 0 where nothing is stated, and knows no unit but mm."""
    fields = header.fields
    units = (fields.get("space units") or fields.get("distanceunits", "")).replace('"', " ").split()
    if any(unit not in ("mm", "none", "???", "?") for unit in units):
        raise InputError(
            f"{path}: its spacing is in {units[0]}, not mm; write it with a spacing in mm", code="wrong-unit"
        )
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
    finding = f"its header does not state {missing}"
    return [options.refuse(path, "no-geometry", finding, "export it again with its geometry")]


def _check_scale(header: _Header, path: Path) -> None:
    """ITK reads a MetaImage's stored values and passes over the scale that its header gives for them."""
    slope, offset = (
        header.fields.get(f"elementtointensityfunction{name}", neutral)
        for name, neutral in (("slope", "1"), ("offset", "0"))
    )
    if (float(slope), float(offset)) != (1.0, 0.0):
        raise InputError(
            f"{path}: its ElementToIntensityFunction (slope {slope}, offset {offset}) is not applied by any reader; "
            "write it with the values that are meant",
            code="bad-rescale",
        )


def _check_data(header: _Header, path: Path, declared: int, options: ReadOptions) -> list[Repair]:
    """Packed data are unpacked to their end, where the checksum stands: ITK reads a damaged stream without a word."""
    fields = header.fields
    stored = header.data.stat().st_size - header.offset
    packed = fields.get("encoding", "").lower() in ("gzip", "gz") or fields.get("compresseddata", "").lower() == "true"
    plain = fields.get("encoding", "raw").lower() == "raw" and not packed
    skips = any(key.replace(" ", "") in ("byteskip", "lineskip", "headersize") for key in fields)
    repairs = options.require_plausible(path, declared, stored) if packed else []
    if skips and plain and stored < declared:
        # Counted from the end of the file, ITK would take the header for voxels.
        raise ValueError(f"truncated: {stored} of {declared} bytes")
    if skips or not (packed or plain):
        return repairs
    if not packed:
        return repairs + check_size(path, declared, stored)
    present, taken = _unpacked_size(header, declared)
    if "ndims" in fields and header.offset and not taken <= int(fields.get("compresseddatasize", 0)) <= stored:
        # ITK would unpack another part of the file, fail, and return what its memory holds.
        raise ValueError(f"its CompressedDataSize is {fields.get('compresseddatasize')}, but {taken} bytes are packed")
    return repairs + check_size(path, declared, present)


def _unpacked_size(header: _Header, declared: int) -> tuple[int, int]:
    """Bytes of the unpacked data, and how many bytes of the file they take."""
    unpacker = zlib.decompressobj(wbits=47)
    count = taken = 0
    with header.data.open("rb") as stream:
        stream.seek(header.offset)
        while (chunk := stream.read(1 << 16)) and count <= declared + MOST_TRAILING_BYTES:
            count += len(unpacker.decompress(chunk))
            taken += len(chunk) - len(unpacker.unused_data)
            if unpacker.eof:
                return count, taken
    if count <= declared:
        raise ValueError("truncated: its packed data end early")
    return count, taken
