"""Small JPEG images of a candidate: the slices through its peak, with the map over them and its white outline."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from monai_zsad.writers.figures.views import PLANES, View, upright

__all__: list[str] = []

_QUALITY = 82
_OPACITY = 0.6
_NEARLY = 1e-3


def thumbnails(
    view: View,
    found: Mapping[str, Any],
    field_mm: float,
    grey: tuple[float, float],
    limits: tuple[float, float],
    pixels: int = 176,
    planes: Sequence[str] = tuple(reversed(PLANES)),
) -> list[tuple[str, str]]:
    """Square images of a candidate; matplotlib would take twenty times as long.

    Each shows the neighbourhood of the peak as a radiologist sees it.

    Args:
        view: scan, map and labels, from :func:`~monai_zsad.writers.figures.views.make_view`.
        found: the candidate, as in the findings.
        field_mm: width of an image; at most the extent of the scan.
        grey: values of the scan that become black and white.
        limits: map values where the colours begin and end.
        pixels: width and height of an image.
        planes: what to show. A plane in which the scan is one voxel wide is left out.

    Returns:
        Plane and data URI of each image.

    Example:
        >>> from monai_zsad.writers.figures.views import make_view
        >>> scan = np.random.default_rng(0).random((20, 20, 20))
        >>> view = make_view(scan, scan, np.eye(4), None, (scan > 0.9).astype(int))
        >>> found = {"id": 1, "peak_ras_mm": [9, 9, 9]}
        >>> [plane for plane, _ in thumbnails(view, found, 15.0, (0, 1), (0, 1))]
        ['axial', 'coronal', 'sagittal']
    """
    from PIL import Image

    peak = np.linalg.inv(view.affine) @ [*found["peak_ras_mm"], 1.0]
    images = []
    for plane in planes:
        axis = PLANES[plane]
        sides = [side for side in range(3) if side != axis]
        if min(view.scan.shape[side] for side in sides) < 2:
            continue
        shown = _Square(view, axis, peak, min(field_mm, _extent(view, sides)), pixels)
        stream = io.BytesIO()
        picture = Image.fromarray(_drawn(shown, view, int(found["id"]), grey, limits))
        picture.save(stream, "JPEG", quality=_QUALITY, subsampling=0)
        images.append((plane, f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"))
    return images


def _extent(view: View, sides: Sequence[int]) -> float:
    return max(view.spacing[side] * view.scan.shape[side] for side in sides)


class _Square:
    """A square around the peak in one plane: takes slices to its pixels."""

    def __init__(self, view: View, axis: int, peak: np.ndarray, field: float, pixels: int) -> None:
        self.axis = axis
        self.index = int(np.clip(np.rint(peak[axis]), 0, view.scan.shape[axis] - 1))
        self.pixels = pixels
        # First and last position in the upright slice, along its rows and its columns, in voxels.
        self.ends: list[tuple[float, float]] = []
        for side in sorted((side for side in range(3) if side != axis), reverse=True):
            count, half = view.scan.shape[side], field / view.spacing[side] / 2
            # An upright slice runs against both axes of the volume.
            middle = count - 0.5 - float(peak[side])
            middle = count / 2 if 2 * half >= count else float(np.clip(middle, half, count - half))
            self.ends.append((middle - half, middle + half))

    def cut(self, volume: np.ndarray) -> np.ndarray:
        """The upright slice through the peak."""
        return upright(volume, self.axis, self.index)

    def fit(self, plane: np.ndarray, outside: float = 0.0) -> np.ndarray:
        """The pixels (rows, columns) of an upright slice, interpolated."""
        from PIL import Image

        first, last, margins = [], [], []
        for (low, high), count in zip(self.ends, plane.shape, strict=True):
            # Margins only where the square leaves the scan: else its edge would be dark.
            start, stop = int(np.floor(low)) - 1, int(np.ceil(high)) + 1
            first.append(max(start, 0) if low > -_NEARLY else start)
            last.append(min(stop, count) if high < count + _NEARLY else stop)
            margins.append((max(0, -first[-1]), max(0, last[-1] - count)))
        part = plane[max(first[0], 0) : last[0], max(first[1], 0) : last[1]]
        part = np.pad(np.asarray(part, dtype=np.float32), margins, constant_values=outside)
        (top, bottom), (left, right) = (
            (max(low - start, 0), min(high - start, count))
            for (low, high), start, count in zip(self.ends, first, part.shape, strict=True)
        )
        size = (self.pixels, self.pixels)
        found = Image.fromarray(part).resize(size, Image.Resampling.BILINEAR, box=(left, top, right, bottom))
        return np.asarray(found)


def _drawn(
    shown: _Square,
    view: View,
    label: int,
    grey: tuple[float, float],
    limits: tuple[float, float],
) -> np.ndarray:
    """Red, green and blue (rows, columns, 3) in 8 bit."""
    from scipy import ndimage

    if view.colour is None:
        scan = np.clip((shown.fit(shown.cut(view.scan), grey[0]) - grey[0]) / (grey[1] - grey[0]), 0, 1)
        picture = np.repeat(scan[..., None], 3, axis=-1)
    else:
        picture = np.stack([shown.fit(shown.cut(channel)) for channel in view.colour], axis=-1)
    share = np.clip((shown.fit(shown.cut(view.heat), limits[0]) - limits[0]) / (limits[1] - limits[0]), 0, 1)
    weight = (_OPACITY * np.clip(2.5 * share, 0, 1))[..., None]
    picture = (1 - weight) * picture + weight * _inferno()[(255 * share).astype(np.uint8)]
    if view.labels is not None:
        own = shown.fit(shown.cut(view.labels) == label) >= 0.5
        picture[ndimage.binary_dilation(own) & ~own] = 1.0
    return (255 * np.clip(picture, 0, 1) + 0.5).astype(np.uint8)


@cache
def _inferno() -> np.ndarray:
    from matplotlib import colormaps

    return colormaps["inferno"](np.arange(256))[:, :3]
