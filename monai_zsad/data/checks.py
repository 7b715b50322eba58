"""Checks that hold for every format: size, number of dimensions, affine, values.

The reader runs :data:`CHECKS` over every scan, whatever its format was. A new check for all formats is a function here
and an entry of that list; its code stands in ``data/codes.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from monai_zsad.data.codes import Repair, refusal
from monai_zsad.data.scan import ReadOptions, Scan, times
from monai_zsad.data.value_range import check_range

__all__ = [
    "CHECKS",
    "MASK_WARNING",
    "MOST_TRAILING_BYTES",
    "check_size",
    "count_labels",
    "count_mask_labels",
    "require_affine",
    "require_volume",
]

MOST_TRAILING_BYTES = 1 << 12
"""Bytes after the last voxel that are ignored with a warning."""

MASK_WARNING = Repair("looks-like-mask", "it holds few different integers, as a mask does: check that it is a scan")
"""For a scan that may be a mask."""

_MOST_REPAIRED = 0.01
_MOST_LABELS = 64
_MOST_UNNAMED = 16
_FEWEST_VOXELS = 1000
_PART = 1 << 20


def check_affine(scan: Scan, path: Path, options: ReadOptions) -> list[Repair]:  # noqa: ARG001
    """Refuse an affine that is not finite or singular.

    Raises:
        InputError: naming the spacing.
    """
    require_affine(scan.affine, path)
    return []


def require_affine(affine: np.ndarray, path: Path) -> None:
    """Refuse an affine that is not finite or singular.

    Args:
        affine: (4, 4), voxel index to mm.
        path: of the scan.

    Raises:
        InputError: naming the spacing.
    """
    if not np.isfinite(affine).all():
        raise refusal(path, "bad-affine", "its affine is not finite")
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if (lengths < 1e-6).any() or abs(np.linalg.det(affine[:3, :3] / np.maximum(lengths, 1e-6))) < 1e-3:
        spacing = " x ".join(f"{length:g}" for length in lengths)
        raise refusal(path, "bad-affine", f"its affine is singular (spacing {spacing} mm)")


def check_finite(scan: Scan, path: Path, options: ReadOptions) -> list[Repair]:  # noqa: ARG001
    """Replace a few non-finite voxels of the scan by the lowest value; refuse many, and slices without finite voxels.

    Raises:
        InputError: naming the share of the non-finite voxels.
    """
    finite = np.isfinite(scan.values)
    bad = finite.size - int(np.count_nonzero(finite))
    if not bad:
        return []
    if bad == finite.size:
        raise refusal(path, "non-finite", "no voxel has a finite value")
    if bad > _MOST_REPAIRED * finite.size:
        finding = f"{100 * bad / finite.size:.1f} % of the voxels are NaN or infinite"
        raise refusal(path, "non-finite", finding, "replace them by the value of the background")
    if empty := _missing_planes(finite):
        raise refusal(path, "non-finite", f"no voxel of the slices {empty} has a finite value")
    lowest = float(scan.values[finite].min())
    scan.values = np.where(finite, scan.values, np.float32(lowest))
    return [
        Repair("non-finite-replaced", f"{bad} NaN or infinite voxels were replaced by the lowest value, {lowest:g}")
    ]


def check_contrast(scan: Scan, path: Path, options: ReadOptions) -> list[Repair]:
    """Refuse a volume in which every voxel has the same value.

    Raises:
        InputError: naming the value.
    """
    lowest = float(scan.values.min())
    if float(scan.values.max()) != lowest:
        return []
    return [options.refuse(path, "constant", f"every voxel has the value {lowest:g}")]


def check_mask(scan: Scan, path: Path, options: ReadOptions) -> list[Repair]:  # noqa: ARG001
    """Warn about a scan that holds what masks hold; not where masks are wanted (``accept="constant"``)."""
    return [MASK_WARNING] if "constant" not in options.accept and count_mask_labels(scan.values) else []


Check = Callable[[Scan, Path, ReadOptions], list[Repair]]
"""A check of a scan that was read from a path. It returns warnings, may repair the scan, or raises InputError."""

CHECKS: tuple[Check, ...] = (check_affine, check_range, check_finite, check_contrast, check_mask)
"""The checks in their order, which the reader runs over every scan."""


def check_size(path: Path, declared: int, present: int) -> list[Repair]:
    """Compare the bytes that a header declares with the bytes of the file.

    Returns:
        A warning where a few bytes follow the last voxel, otherwise an empty list.

    Raises:
        ValueError: if voxels are missing.
        InputError: if there is far more data than the header declares.
    """
    if present < declared:
        raise ValueError(f"truncated: {present} of {declared} bytes")
    extra = present - declared
    if extra > MOST_TRAILING_BYTES:
        raise refusal(path, "size-mismatch", f"holds more data than its header declares ({declared} bytes)")
    return [Repair("trailing-bytes", f"{extra} bytes after the last voxel were ignored")] if extra else []


def require_volume(path: Path, shape: Sequence[int], volume: int | None = None) -> tuple[int, ...]:
    """Shape without trailing axes of length one: 3D, or 4D if one of its volumes was chosen.

    Raises:
        InputError: if it is neither, or the chosen volume does not exist.
    """
    kept = [int(size) for size in shape]
    while len(kept) > 3 and kept[-1] == 1:
        kept.pop()
    several = len(kept) == 4 and min(kept) > 0
    if several and volume is not None:
        if not 0 <= volume < kept[3]:
            raise refusal(path, "no-such-volume", f"has the volumes 0 to {kept[3] - 1}, not volume={volume}")
        return tuple(kept)
    if len(kept) != 3 or min(kept) <= 0:
        remedy = "give one 3D volume, for example one time point of it"
        if several:
            remedy += ", or choose one with `--set volume=0` of screen, in Python with ScanReader(volume=0)"
        raise refusal(path, "not-3d", f"is {len(kept)}-dimensional ({times(kept)})", remedy)
    return tuple(kept)


def count_labels(values: np.ndarray, most: int = _MOST_LABELS) -> int:
    """How many values a label map has; 0 if the array is not a label map.

    Args:
        values: of any shape.
        most: different values that a label map may have.

    Returns:
        The number of different values if all are integers, not negative, and few; otherwise 0.

    Example:
        >>> count_labels(np.array([0, 0, 1, 2])), count_labels(np.array([0.0, 0.5]))
        (3, 0)
    """
    flat = values.reshape(-1)
    found: set[float] = set()
    # A few voxels from everywhere usually show that an array is not a label map.
    sample = flat[:: max(1, flat.size // 4096)]
    for part in (sample, *(flat[start : start + _PART] for start in range(0, flat.size, _PART))):
        distinct = np.unique(part)
        if len(distinct) > most or not np.isfinite(distinct).all() or (distinct < 0).any() or (distinct % 1).any():
            return 0
        found.update(distinct.tolist())
        if len(found) > most:
            return 0
    return len(found)


def count_mask_labels(values: np.ndarray) -> int:
    """As :func:`count_labels`, for a volume whose name does not say that it is a mask: fewer values are allowed."""
    # A constant volume is refused for another reason.
    count = count_labels(values, _MOST_UNNAMED) if values.size >= _FEWEST_VOXELS else 0
    return count if count > 1 else 0


def _missing_planes(finite: np.ndarray) -> str:
    """Planes without any finite value between others; at the border, resampled scans often have such planes."""
    for axis, letter in enumerate("XYZ"):
        there = np.flatnonzero(np.any(finite, axis=tuple({0, 1, 2} - {axis})))
        lost = sorted(set(range(int(there[0]), int(there[-1]))) - set(there.tolist()))
        if lost:
            return f"{letter} = {', '.join(map(str, lost[:5]))}{' ...' if len(lost) > 5 else ''}"
    return ""
