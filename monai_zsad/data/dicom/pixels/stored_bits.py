"""Bits of a stored pixel that are not part of its value: overlays above BitsStored, signs that were not extended."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["correct_bits", "overlay_bits"]

_MUCH = 4


def overlay_bits(dataset: Any) -> int:
    """Mask of the bits in which the header places overlays (OverlayBitPosition of overlays without OverlayData).

    Example:
        >>> from pydicom import Dataset
        >>> dataset = Dataset()
        >>> dataset.add_new((0x6000, 0x0102), "US", 15)
        >>> hex(overlay_bits(dataset))
        '0x8000'
    """
    mask = 0
    for group in range(0x6000, 0x6020, 2):
        position = dataset.get((group, 0x0102))
        if position is not None and isinstance(position.value, int) and (group, 0x3000) not in dataset:
            mask |= 1 << position.value
    return mask


def correct_bits(pixels: np.ndarray, stored: int, overlays: int = 0, ignored: np.ndarray | None = None) -> Any:
    """Remove what is stored above BitsStored, unless it is a part of the values.

    The bits above BitsStored are not part of a pixel (DICOM PS3.5, 8.1.1). Old files keep overlays there. But often
    BitsStored itself is wrong, and values continue above it. An image tells the two apart: without the bits of an
    overlay it is smooth, and without bits of its values it has steps of half the range of values.

    Args:
        pixels: (rows, columns) integers as decoded, with all their bits.
        stored: BitsStored.
        overlays: mask of the bits that the header gives to overlays.
        ignored: (rows, columns) bool, pixels whose bits do not matter, because they are padding.

    Returns:
        The pixels with their sign, unchanged if they fit into BitsStored; and whether bits were removed that the header
        does not explain.

    Raises:
        ValueError: if the values seem to continue above BitsStored.

    Example:
        >>> pixels = np.array([[5, 6], [7, 0x8008]], dtype="uint16")
        >>> correct_bits(pixels, 12)
        (array([[5, 6],
               [7, 8]], dtype=uint16), True)
    """
    if ignored is not None and not ignored.all():
        pixels = np.where(ignored, pixels[~ignored].min(), pixels)
    signed = pixels.dtype.kind == "i"
    lowest, highest = (-(1 << stored - 1), (1 << stored - 1) - 1) if signed else (0, (1 << stored) - 1)
    if lowest <= int(pixels.min()) and int(pixels.max()) <= highest:
        return pixels, False
    kept = _low_bits(pixels, stored)
    above = _above(pixels, stored)
    signs = _above(kept, stored)
    if overlays:
        rest = ~np.asarray(overlays >> stored).astype(above.dtype)
        if ((above & rest == 0) | (above & rest == signs & rest)).all():
            return kept, False
    before, after = _steps(pixels, stored), _steps(kept, stored)
    if not above.any():
        # The sign of negative values was not extended, which the standard allows; only an image that is much rougher
        # with the sign shows that there is none.
        if after <= _MUCH * before:
            return kept, False
    elif after < before or above.min() == above.max():
        return kept, True
    raise ValueError(f"its values do not fit into BitsStored = {stored}")


def _low_bits(pixels: np.ndarray, stored: int) -> np.ndarray:
    shift = 8 * pixels.dtype.itemsize - stored
    return np.right_shift(np.left_shift(pixels, shift), shift)


def _above(pixels: np.ndarray, stored: int) -> np.ndarray:
    """The bits above BitsStored, moved to the lowest bit."""
    native = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("="))
    return native.view(f"u{pixels.dtype.itemsize}") >> stored


def _steps(pixels: np.ndarray, stored: int) -> int:
    """Number of neighbours that differ by more than half of the range of BitsStored."""
    wide, most = pixels.astype(np.int64), 1 << stored - 1
    return int(sum((np.abs(np.diff(wide, axis=axis)) > most).sum() for axis in (0, 1)))
