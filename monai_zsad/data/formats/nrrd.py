"""NRRD files as scans, read from their text header and their data."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from monai_zsad.data.checks import check_size, require_affine, require_volume
from monai_zsad.data.codes import Repair, refusal
from monai_zsad.data.formats.text_headers import TextFile, check_data, check_unit, parse_header, unpack_data
from monai_zsad.data.scan import ReadOptions, Scan
from monai_zsad.data.value_range import to_float32

__all__ = ["check_nrrd", "nrrd_geometry", "read_nrrd"]

_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_CODE_OF = {name: code for code, names in _TYPES.items() for name in names}
_TEXT = ("txt", "text", "ascii")
_FLIPS = {"right-anterior-superior": (1, 1), "left-anterior-superior": (-1, 1), "left-posterior-superior": (-1, -1)}
"""By the name of the space, the signs that turn its first two axes into right and anterior."""
_SHORT = {"ras": "right-anterior-superior", "las": "left-anterior-superior", "lps": "left-posterior-superior"}
_LPS = "left-posterior-superior"
# Axes along which other volumes lie; along an axis of another kind, for example vector, lie parts of one voxel.
_VOLUME_KINDS = ("list", "time", "domain", "space", "none", "???", "")


def read_nrrd(path: Path, options: ReadOptions) -> Scan:
    """Read a NRRD file; errors of damaged files pass, see :func:`~monai_zsad.data.formats.read_itk`."""
    file, sizes, shape, repairs = _checked(path, options)
    axes = _axes(file, sizes)
    values, found = _array(file, sizes)
    values = np.moveaxis(values, axes, range(len(axes))).reshape(shape)
    if len(shape) == 4:
        values = values[..., options.volume]
    real, scaled = to_float32(values)
    return Scan(real, _affine(file, sizes), "", repairs + found + scaled)


def check_nrrd(path: Path, options: ReadOptions) -> list[Repair]:
    """All checks of :func:`read_nrrd` that need no voxels."""
    return _checked(path, options)[3]


def nrrd_geometry(path: Path) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Shape in voxels and spacing in mm, from the header alone; axes of length one outside of space are left out."""
    file = parse_header(path)
    sizes = _sizes(file)
    lengths = np.linalg.norm(_affine(file, sizes)[:3, :3], axis=0)
    return _shape(file, sizes), tuple(round(float(length), 4) for length in lengths)


def _checked(path: Path, options: ReadOptions) -> tuple[TextFile, tuple[int, ...], tuple[int, ...], list[Repair]]:
    file = parse_header(path)
    sizes = _sizes(file)
    kinds = _per_axis(file, "kinds", len(sizes))
    spatial = _spatial(file, len(sizes))
    for axis, kind in enumerate(kinds):
        if axis not in spatial and sizes[axis] > 1 and kind.lower() not in _VOLUME_KINDS:
            raise refusal(path, "not-real", f"has {sizes[axis]} values per voxel ({kind})")
    shape = require_volume(path, _shape(file, sizes), options.volume)
    options.require_size(path, shape[:3])
    file = replace(file, declared_bytes=math.prod(sizes) * _dtype(file).itemsize)
    repairs = [repair for check in CHECKS for repair in check(file, options)]
    require_affine(_affine(file, sizes), path)
    return file, sizes, shape, repairs


def _sizes(file: TextFile) -> tuple[int, ...]:
    sizes = tuple(int(word) for word in file.fields["sizes"].split())
    if len(sizes) != int(file.fields["dimension"]) or min(sizes) < 1:
        raise ValueError(f"its sizes are {sizes}")
    return sizes


def _dtype(file: TextFile) -> np.dtype:
    name = " ".join(file.fields["type"].lower().split())
    if name not in _CODE_OF:
        raise ValueError(f"an unknown type of voxels ({name})")
    kind = np.dtype(_CODE_OF[name])
    if kind.itemsize == 1 or file.fields.get("encoding", "").lower() in _TEXT:
        return kind
    return kind.newbyteorder(">" if file.fields["endian"].lower() == "big" else "<")


def _per_axis(file: TextFile, key: str, count: int) -> list[str]:
    words = file.fields.get(key, "").split()
    return words if len(words) == count else [""] * count


def _directions(file: TextFile) -> list[np.ndarray | None]:
    """One vector per axis; None for an axis that does not lie in space."""
    found: list[np.ndarray | None] = []
    for word in re.findall(r"none|\([^)]*\)", file.fields.get("space directions", "")):
        vector = None if word == "none" else _vector(word)
        found.append(None if vector is None or np.isnan(vector).all() else vector)
    return found


def _vector(text: str) -> np.ndarray:
    return np.array([float(number) for number in text.strip("() ").split(",")])


def _spatial(file: TextFile, count: int) -> list[int]:
    """The axes that lie in space; where the header does not tell, all of them but those of another kind."""
    directions = _directions(file)
    if len(directions) == count and any(vector is not None for vector in directions):
        return [axis for axis, vector in enumerate(directions) if vector is not None]
    kinds = _per_axis(file, "kinds", count)
    return [axis for axis, kind in enumerate(kinds) if kind.lower() in ("domain", "space", "none", "???", "")]


def _axes(file: TextFile, sizes: tuple[int, ...]) -> list[int]:
    """The axes in their order: those of space, then the others."""
    spatial = _spatial(file, len(sizes))
    return [*spatial, *(axis for axis in range(len(sizes)) if axis not in spatial)]


def _shape(file: TextFile, sizes: tuple[int, ...]) -> tuple[int, ...]:
    spatial = _spatial(file, len(sizes))
    others = [sizes[axis] for axis in range(len(sizes)) if axis not in spatial and sizes[axis] > 1]
    return (*(sizes[axis] for axis in spatial), *others)


def _affine(file: TextFile, sizes: tuple[int, ...]) -> np.ndarray:
    """Voxel index to mm in RAS. Where the header states nothing: 1 mm, from 0, along left, posterior, superior."""
    affine = np.eye(4)
    spatial = _spatial(file, len(sizes))[:3]
    directions = _directions(file)
    spacings = _per_axis(file, "spacings", len(sizes))
    for column, axis in enumerate(spatial):
        vector = directions[axis] if len(directions) == len(sizes) else None
        if vector is not None and len(vector) == 3:
            affine[:3, column] = vector
        elif spacings[axis] and math.isfinite(float(spacings[axis])):
            affine[column, column] = float(spacings[axis])
    if "space origin" in file.fields:
        affine[:3, 3] = _vector(file.fields["space origin"])
    first, second = _FLIPS.get(_space(file), _FLIPS[_LPS])
    return np.diag([first, second, 1.0, 1.0]) @ affine


def _space(file: TextFile) -> str:
    space = file.fields.get("space", "").lower().removesuffix("-time")
    return _SHORT.get(space.removesuffix("t"), space)


def _check_space(file: TextFile, options: ReadOptions) -> list[Repair]:
    stated = _space(file) in _FLIPS and sum(vector is not None for vector in _directions(file)) == 3
    missing = "" if stated else "space (e.g. left-posterior-superior) with three space directions"
    if stated and "space origin" not in file.fields:
        missing = "space origin"
    return [options.refuse(file.path, "no-geometry", f"its header does not state {missing}")] if missing else []


CHECKS = (check_unit, _check_space, check_data)
"""The checks of a file before its voxels are read, in their order."""


def _array(file: TextFile, sizes: tuple[int, ...]) -> tuple[np.ndarray, list[Repair]]:
    """The voxels as they are stored; not copied from the file if they are neither packed nor text."""
    dtype, encoding = _dtype(file), file.fields["encoding"].lower()
    skip = int(file.fields.get("byte skip", file.fields.get("byteskip", 0)))
    lines = int(file.fields.get("line skip", file.fields.get("lineskip", 0)))
    if lines:
        file = replace(file, offset=_after_lines(file, lines))
    if encoding == "raw":
        start = file.data.stat().st_size - file.declared_bytes if skip < 0 else file.offset + skip
        if not file.offset <= start <= file.data.stat().st_size - file.declared_bytes:
            raise ValueError("truncated: voxels are missing")
        return np.memmap(file.data, dtype, "r", start, sizes, order="F"), []
    if file.packing:
        whole = replace(file, declared_bytes=file.declared_bytes + max(skip, 0))
        content = unpack_data(whole)[0][max(skip, 0) :]
    else:
        with file.data.open("rb") as stream:
            stream.seek(file.offset)
            content = stream.read()
        if encoding in _TEXT:
            content = np.array(content.replace(b",", b" ").split(), dtype=dtype).tobytes()
        elif encoding == "hex":
            content = bytes.fromhex(content.decode("ascii"))
        else:
            raise ValueError(f"an unknown encoding ({encoding})")
    repairs = check_size(file.path, file.declared_bytes, len(content))
    return np.frombuffer(content, dtype, math.prod(sizes)).reshape(sizes, order="F"), repairs


def _after_lines(file: TextFile, lines: int) -> int:
    with file.data.open("rb") as stream:
        stream.seek(file.offset)
        for _ in range(lines):
            stream.readline()
        return stream.tell()
