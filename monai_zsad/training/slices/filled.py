"""Tumour slices without their tumour: tissue of the other side of the head is put in its place.

Slices without a lesion are scarce among those of real tumours. Without them, a network learns that every slice of this
kind has one. A slice is used only where the head is symmetric, and the tumour lies on one side of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np
from scipy import ndimage

from monai_zsad.training.slices.tumours import TumourSlices
from monai_zsad.writers import atomic_path

__all__ = ["FilledSlices", "fill_tumour", "filled_slices"]

_CORRELATION = 0.8
_OVERLAP = 0.05
_STEP = 3


class FilledSlices(NamedTuple):
    """Slices from which the tumour was removed.

    Attributes:
        images: (N, S, S), uint8.
        zones: (N, S, S), bool, the tumour and its surroundings, where the tissue may be wrong.
        origin: (N,), number of the tumour slice.
    """

    images: np.ndarray
    zones: np.ndarray
    origin: np.ndarray


def filled_slices(tumours: TumourSlices, folder: Path | None = None) -> FilledSlices:
    """All slices that can be filled; see :func:`fill_tumour`. This takes minutes for thousands of slices.

    Args:
        tumours: slices with tumours.
        folder: folder for a file that keeps the result.
    """
    key = crc32(tumours.masks.tobytes(), crc32(tumours.images.tobytes()))
    file = None if folder is None else folder / f"filled_{key:08x}.npz"
    if file is not None and file.is_file():
        with np.load(file) as kept:
            return FilledSlices(kept["images"], kept["zones"], kept["origin"])
    found = [(n, fill_tumour(*pair)) for n, pair in enumerate(zip(tumours.images, tumours.masks, strict=True))]
    pairs = [(number, *pair) for number, pair in found if pair is not None]
    shape = (len(pairs), *tumours.images.shape[1:])
    filled = FilledSlices(
        np.array([image for _, image, _ in pairs], np.uint8).reshape(shape),
        np.array([zone for _, _, zone in pairs], bool).reshape(shape),
        np.array([number for number, _, _ in pairs], int),
    )
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(file) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, **filled._asdict())
    return filled


def fill_tumour(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Replace a tumour by the mirrored tissue of the other side, brought to the brightness around the tumour.

    The axis is searched near the middle of the body, up to 9 degrees from upright. It is the one with the highest
    correlation between the slice and its mirror image, without the tumour and its mirror image.

    Args:
        image: (S, S), uint8.
        mask: (S, S), uint8, above 127 in the tumour.

    Returns:
        The image without the tumour (S, S), uint8, and the zone that may be wrong (S, S). ``None`` if the correlation
        is below 0.8, the tumour reaches over the axis, or the surroundings are too small to compare brightness.
    """
    pixels, tumour = image.astype(np.float32) / 255, mask > 127
    axis = _symmetry(pixels, tumour)
    if axis is None:
        return None
    mirrored = ndimage.affine_transform(pixels, *axis, order=1)
    zone = ndimage.binary_dilation(tumour, iterations=9)
    share = ndimage.gaussian_filter(ndimage.binary_dilation(tumour, iterations=6).astype(np.float32), 2.5)
    around = ndimage.binary_dilation(zone, iterations=8) & ~zone & (pixels > 0.05) & (mirrored > 0.05)
    if around.sum() < 40:
        return None
    gain = np.clip(np.median(pixels[around]) / max(np.median(mirrored[around]), 0.05), 0.8, 1.25)
    filled = pixels * (1 - share) + np.clip(mirrored * gain, 0, 1) * share
    return (filled * 255).round().astype(np.uint8), zone


def _symmetry(pixels: np.ndarray, tumour: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Matrix and offset of the best reflection, for ``affine_transform``; ``None`` if there is no good one."""
    small = ndimage.gaussian_filter(pixels, 2.0)[::_STEP, ::_STEP]
    hidden = ndimage.binary_dilation(tumour[::_STEP, ::_STEP], iterations=2)
    rows, columns = np.where(small > 0.05)
    if len(rows) < 400:
        return None
    middle = np.array([(rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2])
    best, found = _CORRELATION, None
    for angle in np.deg2rad(2.0 * np.arange(-9, 10, 3)):
        matrix = np.array([[np.cos(angle), -np.sin(angle)], [-np.sin(angle), -np.cos(angle)]])
        for shift in range(-4, 5, 2):
            center = middle + np.array([0, shift])
            offset = center - matrix @ center
            mirrored = ndimage.affine_transform(small, matrix, offset, order=1)
            covered = ndimage.affine_transform(hidden.astype(np.float32), matrix, offset, order=1) > 0.3
            compared = ((small > 0.03) | (mirrored > 0.03)) & ~hidden & ~covered
            if compared.sum() < 300:
                continue
            correlation = np.corrcoef(small[compared], mirrored[compared])[0, 1]
            if correlation > best:
                overlap = (hidden & covered).sum() / max(hidden.sum(), 1)
                best, found = correlation, (matrix, center, overlap)
    if found is None or found[2] > _OVERLAP:
        return None
    matrix, center, _ = found
    center = center * _STEP + 1
    return matrix, center - matrix @ center
