"""Masks among the scans: files with a name such as ``anna_mask.nii.gz`` that hold few different integers."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from monai_zsad.data.checks import count_labels, count_mask_labels
from monai_zsad.data.formats import format_of
from monai_zsad.data.formats.volumes import Kind
from monai_zsad.data.scan import READ_ERRORS, ReadOptions

__all__ = ["label_count", "named_as_mask"]

_NAMES = re.compile(r"mask|seg|label|lesion|annot|truth|(?<![a-z])(?:gt|roi)(?![a-z])")
_MOST_VOXELS = 1 << 26
_MOST_UNPACKED = 1 << 27
_MOST_SLICES = 32


def named_as_mask(parts: tuple[str, ...]) -> bool:
    """Whether the name of a file, or of a folder above it, is a usual name of masks.

    Args:
        parts: of the path below the searched folder.

    Example:
        >>> [named_as_mask(parts) for parts in [("anna_seg.nii",), ("labelsTr", "anna.nii"), ("anna.nii",)]]
        [True, True, False]
    """
    return any(_NAMES.search(part.lower()) for part in parts)


def label_count(path: Path, *, named: bool = True) -> int:
    """How many different values a file has that looks like a mask; 0 for a scan, and for an unreadable file.

    Only some slices of a large file are read, so the file may have more values.

    Args:
        path: of a volume file or 2D image.
        named: whether its name is that of a mask, so that more values are allowed.
    """
    try:
        values = _some_voxels(path)
    except READ_ERRORS:
        # The reader reports later what is wrong.
        return 0
    if values is None:
        return 0
    return count_labels(values) if named else count_mask_labels(values)


def _some_voxels(path: Path) -> np.ndarray | None:
    form = format_of(path)
    if form is None:
        return None
    if form.kind is not None:
        return _some_slices(form.kind, path)
    options = ReadOptions(max_voxels=_MOST_VOXELS, accept=frozenset({"implausible-compression"}))
    if form.geometry is not None and math.prod(form.geometry(path)[0]) > options.max_voxels:
        return None
    return form.read(path, options).values


def _some_slices(kind: Kind, path: Path) -> np.ndarray | None:
    """Slices from everywhere; None as soon as one of them is not of a mask."""
    with kind.open(path) as (shape, dtype, voxels):
        if len(shape) != 3 or min(shape) < 1 or math.prod(shape[:2]) * _MOST_SLICES > 8 * _MOST_VOXELS:
            return None
        if dtype.kind not in "iuf":
            return None
        # All bytes before a slice have to be unpacked. The first part is enough to recognise a mask.
        last = _MOST_UNPACKED // (math.prod(shape[:2]) * dtype.itemsize)
        chosen = np.unique(np.linspace(0, min(shape[2] - 1, last), _MOST_SLICES).round().astype(int))
        slices = []
        for index in chosen:
            with np.errstate(over="ignore"):
                slices.append(np.asarray(voxels[..., int(index)]).astype(np.float32))
            if not count_labels(slices[-1]):
                return None
        return np.stack(slices)
