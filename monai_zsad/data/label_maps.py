"""Masks among the scans: told by a name such as ``anna_mask.nii.gz`` together with few whole values."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from monai_zsad.data.codes import Repair
from monai_zsad.data.image_files import PICTURE_SCAN_SUFFIXES, read_picture
from monai_zsad.data.itk_files import itk_geometry, read_itk
from monai_zsad.data.nifti import nifti_geometry
from monai_zsad.data.scan import READ_ERRORS, ReadOptions

__all__ = ["MASK_WARNING", "count_labels", "label_count", "mask_warnings", "named_as_mask"]

MASK_WARNING = Repair("looks-like-mask", "it holds few different whole values, as a mask does: is it a scan?")
"""Of a scan that may be none."""

_NAMES = re.compile(r"mask|seg|label|lesion|annot|truth|(?<![a-z])(?:gt|roi)(?![a-z])")
_MOST_LABELS = 64
_MOST_UNNAMED = 16
_FEWEST_VOXELS = 1000
_MOST_VOXELS = 1 << 26
_MOST_UNPACKED = 1 << 27
_MOST_SLICES = 32
_PART = 1 << 20


def named_as_mask(parts: tuple[str, ...]) -> bool:
    """Whether a name, or that of a folder above it, is one that masks have.

    Args:
        parts: of the path below the searched folder.

    Example:
        >>> [named_as_mask(parts) for parts in [("anna_seg.nii",), ("labelsTr", "anna.nii"), ("anna.nii",)]]
        [True, True, False]
    """
    return any(_NAMES.search(part.lower()) for part in parts)


def count_labels(values: np.ndarray, most: int = _MOST_LABELS) -> int:
    """How many values a label map has; 0 of an array that is none.

    Args:
        values: of any shape.
        most: different values that a label map may have.

    Returns:
        The number of different values if all are whole, not negative and few; else 0.

    Example:
        >>> count_labels(np.array([0, 0, 1, 2])), count_labels(np.array([0.0, 0.5]))
        (3, 0)
    """
    flat = values.reshape(-1)
    found: set[float] = set()
    # What is no label map is seen in a few voxels from everywhere.
    sample = flat[:: max(1, flat.size // 4096)]
    for part in (sample, *(flat[start : start + _PART] for start in range(0, flat.size, _PART))):
        distinct = np.unique(part)
        if len(distinct) > most or not np.isfinite(distinct).all() or (distinct < 0).any() or (distinct % 1).any():
            return 0
        found.update(distinct.tolist())
        if len(found) > most:
            return 0
    return len(found)


def label_count(path: Path, *, named: bool = True) -> int:
    """How many values a file has that looks like a mask; 0 of a scan, and of what cannot be read.

    Of a NIfTI file some slices are read, one at a time, so that there may be more.

    Args:
        path: of a volume file or picture.
        named: whether its name is that of a mask, so that more values are allowed.
    """
    from nibabel.filebasedimages import ImageFileError

    try:
        values = _some_voxels(path)
    except (ImageFileError, *READ_ERRORS):
        # Reading says what is wrong.
        return 0
    if values is None:
        return 0
    return count_labels(values) if named else _count_unnamed(values)


def mask_warnings(values: np.ndarray) -> list[Repair]:
    """A warning about a scan that holds what masks hold, else nothing.

    Args:
        values: of the whole scan.
    """
    return [MASK_WARNING] if _count_unnamed(values) else []


def _count_unnamed(values: np.ndarray) -> int:
    # A constant volume is refused for another reason.
    count = count_labels(values, _MOST_UNNAMED) if values.size >= _FEWEST_VOXELS else 0
    return count if count > 1 else 0


def _some_voxels(path: Path) -> np.ndarray | None:
    name = path.name.lower()
    options = ReadOptions(max_voxels=_MOST_VOXELS, accept=frozenset({"implausible-compression"}))
    if name.endswith(PICTURE_SCAN_SUFFIXES):
        return read_picture(path, options).values
    if not name.endswith((".nii", ".nii.gz")):
        return read_itk(path, options).values if math.prod(itk_geometry(path)[0]) <= options.max_voxels else None
    return _some_slices(path, nifti_geometry(path)[0])


def _some_slices(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    import nibabel

    image = nibabel.load(path, keep_file_open=True)
    if len(shape) != 3 or min(shape) < 1 or math.prod(shape[:2]) * _MOST_SLICES > 8 * _MOST_VOXELS:
        return None
    # What lies before a slice has to be unpacked; of a mask, the first part tells, too.
    last = _MOST_UNPACKED // (math.prod(shape[:2]) * image.get_data_dtype().itemsize)
    chosen = np.unique(np.linspace(0, min(shape[2] - 1, last), _MOST_SLICES).round().astype(int))
    return np.stack([np.asarray(image.dataobj[..., int(index)], dtype=np.float32) for index in chosen])
