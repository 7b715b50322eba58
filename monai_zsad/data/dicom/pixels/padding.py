"""Padding of a DICOM image: pixels outside of the field of view, marked by a stored value (PixelPaddingValue)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from monai_zsad.data.codes import Repair

__all__ = ["PaddedFrame", "Range", "fill_padding", "find_padding", "stated_padding", "states_padding"]

Range = tuple[float, float]

_KEYWORDS = {
    "PixelData": ("PixelPaddingValue", "PixelPaddingRangeLimit"),
    "FloatPixelData": ("FloatPixelPaddingValue", "FloatPixelPaddingRangeLimit"),
    "DoubleFloatPixelData": ("DoubleFloatPixelPaddingValue", "DoubleFloatPixelPaddingRangeLimit"),
}
_NEAR = 0.05
_SMALLEST_AREA = 0.005
_AIR = (-1024.0, -1000.0)


@dataclass(frozen=True)
class PaddedFrame:
    """A frame with padding, if any; values after the rescale.

    Attributes:
        mask: (rows, columns) bool, the padding; None if the frame has none.
        padding: lowest and highest value of the padding; None if there is none.
        real: lowest and highest value of the other pixels; None if there are none.
    """

    mask: np.ndarray | None
    padding: Range | None
    real: Range | None


def states_padding(dataset: Any, keyword: str) -> bool:
    """Whether a header states a padding value for the pixels of this keyword, for example ``PixelData``."""
    return _KEYWORDS[keyword][0] in dataset


def stated_padding(dataset: Any, keyword: str, dtype: np.dtype) -> list[Range]:
    """The ranges of stored values that a header calls padding, both ends included.

    The value is often written with the other VR of US and SS, so an integer is read as its bits are: 63536 is -2000
    where the pixels are signed.

    Args:
        dataset: of the file.
        keyword: of its pixel data, for example ``PixelData``.
        dtype: of its stored pixels.

    Returns:
        None, one or two ranges: the second one for a value that does not fit into BitsStored.

    Example:
        >>> from pydicom import Dataset
        >>> dataset = Dataset()
        >>> dataset.PixelPaddingValue = 63536
        >>> stated_padding(dataset, "PixelData", np.dtype("int16"))
        [(-2000.0, -2000.0)]
    """
    value, limit = (_number(dataset, name) for name in _KEYWORDS[keyword])
    if value is None:
        return []
    ends = [value] if limit is None else [value, limit]
    if dtype.kind not in "iu":
        return [(min(ends), max(ends))]
    bits = 8 * dtype.itemsize
    whole = [_as_stored(end, bits, dtype) for end in ends]
    ranges = [(min(whole), max(whole))]
    stored = int(dataset.get("BitsStored") or bits)
    if stored < bits and len(ends) == 1 and _as_stored(ends[0], stored, dtype) != whole[0]:
        ranges.append((_as_stored(ends[0], stored, dtype),) * 2)
    return ranges


def find_padding(pixels: np.ndarray, ranges: Sequence[Range]) -> np.ndarray | None:
    """Mask of the stored pixels in the ranges, or None if there are none."""
    found = None
    for low, high in ranges:
        mask = pixels == low if low == high else (pixels >= low) & (pixels <= high)
        found = mask if found is None else found | mask
    return found if found is not None and found.any() else None


def fill_padding(out: np.ndarray, frames: Sequence[PaddedFrame], modality: str) -> list[Repair]:
    """Give padding the value of the background, where it has another one.

    Padding below the real values, or above twice their range, is replaced everywhere. Padding next to the lowest real
    value is background already, and stays. Any other padding value may be that of tissue as well, or of a saturated
    vessel: it is replaced only in areas that reach the border of their frame.

    Args:
        out: (frames, rows, columns) rescaled values, changed in place.
        frames: the padding of every frame.
        modality: ``"CT"``: values are HU, and the background is air.

    Returns:
        A warning if values were changed.
    """
    padded = [frame.padding for frame in frames if frame.padding is not None]
    real = [frame.real for frame in frames if frame.real is not None]
    if not padded or not real:
        return []
    lowest, highest = min(low for low, _ in real), max(high for _, high in real)
    fill = float(np.clip(lowest, *_AIR)) if modality == "CT" else lowest
    near = _NEAR * (highest - lowest)
    low, high = min(one for one, _ in padded), max(one for _, one in padded)
    if abs(low - lowest) <= near and abs(high - lowest) <= near:
        return []
    far = high < lowest or low > highest + (highest - lowest)
    count = 0
    for index, frame in enumerate(frames):
        if frame.mask is None:
            continue
        mask = frame.mask if far else _reaching_border(frame.mask)
        out[index][mask] = fill
        count += int(mask.sum())
    if not count:
        return []
    sentence = (
        f"{count / out.size:.1%} of the voxels are padding outside of the field of view (PixelPaddingValue); they were "
        f"given the value of the background, {fill:g}"
    )
    return [Repair("padding-replaced", sentence)]


def _reaching_border(mask: np.ndarray) -> np.ndarray:
    """The large areas of a mask (rows, columns) that touch its border."""
    from scipy.ndimage import label

    labels, _ = label(mask, np.ones((3, 3)))
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    sizes = np.bincount(labels.ravel())
    chosen = [number for number in np.unique(border[border > 0]) if sizes[number] >= _SMALLEST_AREA * mask.size]
    return np.isin(labels, chosen)


def _number(dataset: Any, keyword: str) -> float | None:
    """The value of an element of VR US, SS, FL or FD; where the VR is not stated, pydicom returns bytes."""
    value = dataset.get(keyword)
    if isinstance(value, bytes):
        return float(int.from_bytes(value[:2], "little")) if len(value) >= 2 else None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _as_stored(value: float, bits: int, dtype: np.dtype) -> float:
    """An integer whose lowest bits are read with the sign of the pixels."""
    low = int(value) % (1 << bits)
    return float(low - (1 << bits) if dtype.kind == "i" and low >> (bits - 1) else low)
