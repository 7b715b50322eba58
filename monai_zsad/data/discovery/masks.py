"""Masks among the scans: files with a name such as ``anna_mask.nii.gz`` that hold few different integers."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from monai_zsad.data.checks import count_labels, count_mask_labels
from monai_zsad.data.formats import (
    NIFTI_SUFFIXES,
    SLICE_SUFFIXES,
    itk_geometry,
    nifti_geometry,
    read_image,
    read_itk,
)
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

    Only some slices of a NIfTI file are read, so the file may have more values.

    Args:
        path: of a volume file or 2D image.
        named: whether its name is that of a mask, so that more values are allowed.
    """
    from nibabel.filebasedimages import ImageFileError

    try:
        values = _some_voxels(path)
    except (ImageFileError, *READ_ERRORS):
        # The reader reports later what is wrong.
        return 0
    if values is None:
        return 0
    return count_labels(values) if named else count_mask_labels(values)


def _some_voxels(path: Path) -> np.ndarray | None:
    name = path.name.lower()
    options = ReadOptions(max_voxels=_MOST_VOXELS, accept=frozenset({"implausible-compression"}))
    if name.endswith(SLICE_SUFFIXES):
        return read_image(path, options).values
    if not name.endswith(NIFTI_SUFFIXES):
        return read_itk(path, options).values if math.prod(itk_geometry(path)[0]) <= options.max_voxels else None
    return _some_slices(path, nifti_geometry(path)[0])


def _some_slices(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    import nibabel

    image = nibabel.load(path, keep_file_open=True)
    if len(shape) != 3 or min(shape) < 1 or math.prod(shape[:2]) * _MOST_SLICES > 8 * _MOST_VOXELS:
        return None
    # All bytes before a slice have to be unpacked. The first part is enough to recognise a mask.
    last = _MOST_UNPACKED // (math.prod(shape[:2]) * image.get_data_dtype().itemsize)
    chosen = np.unique(np.linspace(0, min(shape[2] - 1, last), _MOST_SLICES).round().astype(int))
    return np.stack([np.asarray(image.dataobj[..., int(index)], dtype=np.float32) for index in chosen])
