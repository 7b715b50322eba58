"""Scan, map and outlines of the candidates as small NIfTI files for the viewer."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import numpy as np

from monai_zsad.writers.figures.drawing import grey_range, map_range, thinned
from monai_zsad.writers.figures.views import View

__all__ = ["CT_PRESETS", "Volumes", "pack"]

CT_PRESETS: dict[str, tuple[float, float]] = {
    "brain": (40.0, 80.0),
    "subdural": (75.0, 215.0),
    "soft tissue": (40.0, 400.0),
    "bone": (400.0, 1800.0),
    "lung": (-600.0, 1500.0),
}
"""Windows of the viewer for CT, (level, width) in HU. A test compares them with those of the package's transforms."""

# HU where the steps between two grey values change, and the steps: fine where soft tissue lies. Together 256 values.
_HU_STEPS = (
    (-1024, -200, 32),
    (-200, -20, 6),
    (-20, 0, 2),
    (0, 80, 1),
    (80, 140, 2),
    (140, 340, 5),
    (340, 1300, 30),
    (1300, 3072, 253),
)
_AIR_HU, _LEAST_HU = -900, 50
_MARGIN_MM = 10.0
# Bytes of the three compressed volumes. In base64 they take a third more, and the page holds NiiVue and images, too.
_LARGEST = 8_000_000
# Scans are noisy: higher levels take longer and gain almost nothing.
_LEVEL = 1
# Slices that are thinned at a time.
_SLAB = 16


_Convert = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Volumes:
    """What the viewer shows, on one grid with axes nearest to R, A, S.

    Attributes:
        scan: NIfTI file, 8 bit, compressed by gzip. Its values times slope plus intercept are those of the scan, unless
            there are ``levels``.
        anomaly: the same for the map.
        outlines: the same for the outlines of the candidates: 0, or the place of the candidate in the list, from 2.
        levels: HU of each of the 256 values of a CT; empty for other scans.
        grey: values that are black and white at first, in the scan's own unit.
        limits: map values where the colours begin and end.
        thinned: voxels of the scan per shown voxel along each axis.
    """

    scan: bytes
    anomaly: bytes
    outlines: bytes
    levels: list[int]
    grey: tuple[float, float]
    limits: tuple[float, float]
    thinned: tuple[int, int, int]


def pack(
    view: View,
    ids: Sequence[int] = (),
    is_ct: bool | None = None,
    limits: tuple[float, float] | None = None,
    largest: int = _LARGEST,
) -> Volumes:
    """Crop to the body, thin to the size of a page, and store with 8 bit.

    Args:
        view: scan, map and labels on one grid.
        ids: labels of the candidates, in the order of the list.
        is_ct: whether the scan's unit is HU; None: if it has values of air, -900 and below.
        limits: map values where the colours begin and end; None: as in the preview.
        largest: bytes that the three compressed volumes may take, about.

    Returns:
        The volumes.

    Example:
        >>> from monai_zsad.writers.figures.views import make_view
        >>> scan = np.random.default_rng(0).random((20, 20, 20))
        >>> found = pack(make_view(scan, scan, np.eye(4), None))
        >>> found.thinned, found.levels
        ((1, 1, 1), [])
    """
    grey, body = grey_range(view.scan)
    heat_range = limits or map_range(view.heat, body)
    box = _body_box(view, grey)
    scan, heat = view.scan[box], view.heat[box]
    affine = _shifted(view.affine, np.array([part.start for part in box], dtype=float))
    grey_code, slope, intercept, levels = _eight_bit(scan, is_ct)
    low, high = float(heat.min()), float(heat.max())
    scale = max(high - low, 1e-6) / 255

    def heat_code(values: np.ndarray) -> np.ndarray:
        return np.rint((values - low) / scale)

    steps = _steps(((scan, grey_code), (heat, heat_code)), view.spacing, largest)
    affine = _shifted(affine, (np.array(steps) - 1) / 2) @ np.diag([*map(float, steps), 1.0])
    # One after the other: of a large scan, only one volume is there in 8 bit.
    return Volumes(
        _nifti(_blocks(_by_slices(scan, grey_code), steps, "mean"), affine, slope, intercept),
        _nifti(_blocks(_by_slices(heat, heat_code), steps, "max"), affine, scale, low),
        _nifti(_blocks(_marks(view, box, ids), steps, "max"), affine, 1.0, 0.0),
        levels,
        grey,
        heat_range,
        steps,
    )


def _marks(view: View, box: tuple[slice, slice, slice], ids: Sequence[int]) -> np.ndarray:
    if view.labels is None:
        return np.zeros([part.stop - part.start for part in box], dtype=np.uint8, order="F")
    return _outlines(view.labels[box], ids, view.axis)


def _body_box(view: View, grey: tuple[float, float]) -> tuple[slice, slice, slice]:
    """The box around the body with a margin; all candidates are inside."""
    sample = thinned(view.scan)
    step = -(-view.scan.shape[0] // sample.shape[0])
    body = sample > grey[0] + 0.1 * (grey[1] - grey[0])
    parts = []
    for axis, size in enumerate(view.scan.shape):
        share = body.mean(axis=tuple(other for other in range(3) if other != axis))
        # Single bright voxels of the background are no body.
        inside = np.flatnonzero(share > max(0.02 * share.max(), 0.001)) * step
        low, high = (int(inside[0]), int(inside[-1]) + step) if inside.size else (0, size)
        if view.labels is not None:
            marked = np.flatnonzero(view.labels.any(axis=tuple(other for other in range(3) if other != axis)))
            if marked.size:
                low, high = min(low, int(marked[0])), max(high, int(marked[-1]) + 1)
        margin = int(np.ceil(_MARGIN_MM / view.spacing[axis]))
        parts.append(slice(max(0, low - margin), min(size, high + margin)))
    return parts[0], parts[1], parts[2]


def _shifted(affine: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """The affine of a grid whose first voxel lies at ``offset`` (voxels) of the other."""
    moved = np.array(affine, dtype=np.float64)
    moved[:3, 3] += moved[:3, :3] @ offset
    return moved


def _outlines(labels: np.ndarray, ids: Sequence[int], axis: int) -> np.ndarray:
    """The voxels at the edge of each candidate in the shown plane, as its place in the list, from 2."""
    from scipy import ndimage

    plane = np.expand_dims(ndimage.generate_binary_structure(2, 1), axis)
    marks = np.zeros(labels.shape, dtype=np.uint8, order="F")
    boxes = ndimage.find_objects(labels if labels.dtype.kind in "iu" else labels.astype(np.int32))
    for place, label in enumerate(ids[:254], 2):
        box = boxes[label - 1] if label <= len(boxes) else None
        if box is not None:
            own = labels[box] == label
            marks[box][own & ~ndimage.binary_erosion(own, plane)] = place
    return marks


def _eight_bit(scan: np.ndarray, is_ct: bool | None) -> tuple[_Convert, float, float, list[int]]:
    """What changes values to 8 bit; slope and intercept, or for a CT the HU of each value."""
    darkest, brightest = float(scan.min()), float(scan.max())
    # Some scans are called CT, but hold grey values from 0 to 1.
    if (is_ct and brightest - darkest >= _LEAST_HU) or (is_ct is None and darkest <= _AIR_HU):
        levels = np.concatenate([np.arange(*part) for part in _HU_STEPS])
        first, last = int(levels[0]), int(levels[-1])
        between = (levels[1:] + levels[:-1]) / 2
        table = np.searchsorted(between, np.arange(first, last + 1)).astype(np.uint8)
        return lambda values: table[np.clip(values, first, last).astype(np.int16) - first], 1.0, 0.0, levels.tolist()
    low, high = (float(value) for value in np.percentile(thinned(scan), [0.02, 99.98]))
    slope = (high - low) / 255 or 1.0
    return lambda values: np.rint((np.clip(values, low, high) - low) / slope), slope, low, []


def _by_slices(volume: np.ndarray, convert: _Convert) -> np.ndarray:
    """The volume as 8 bit, with the memory of a NIfTI file. A large volume is not there a second time in 32 bit."""
    codes = np.empty(volume.shape, dtype=np.uint8, order="F")
    for index in range(volume.shape[2]):
        codes[..., index] = convert(volume[..., index])
    return codes


def _steps(
    volumes: Sequence[tuple[np.ndarray, _Convert]], spacing: Sequence[float], largest: int
) -> tuple[int, int, int]:
    """By how much each axis is thinned, the finest axis first, so that the volumes have the wanted size."""
    expected = 0.0
    for volume, convert in volumes:
        some = _by_slices(volume[:, :, :: max(1, volume.shape[2] // 8)], convert)
        expected += len(gzip.compress(some.tobytes(order="F"), _LEVEL)) / some.size * volume.size
    steps = [1, 1, 1]
    while expected / np.prod(steps) > largest:
        finest = int(np.argmin([length * step for length, step in zip(spacing, steps, strict=True)]))
        steps[finest] += 1
    return steps[0], steps[1], steps[2]


def _blocks(volume: np.ndarray, steps: tuple[int, int, int], how: Literal["mean", "max"]) -> np.ndarray:
    """Mean or largest value of blocks of voxels; voxels at the end that fill no block are left out."""
    if steps == (1, 1, 1):
        return volume
    whole = volume[tuple(slice(size // step * step) for size, step in zip(volume.shape, steps, strict=True))]
    # One voxel of each block, at every place in a block: several times faster than a reduction over split axes.
    parts = [whole[i :: steps[0], j :: steps[1], k :: steps[2]] for i, j, k in np.ndindex(*steps)]
    found = np.empty_like(parts[0])
    # Slab by slab, because sums take more memory than voxels.
    for start in range(0, found.shape[2], _SLAB):
        slabs = [part[:, :, start : start + _SLAB] for part in parts]
        if how == "max":
            found[:, :, start : start + _SLAB] = reduce(np.maximum, slabs)
        else:
            total = reduce(np.add, slabs[1:], slabs[0].astype(np.uint32))
            found[:, :, start : start + _SLAB] = (total / len(slabs)).astype(volume.dtype)
    return found


def _nifti(codes: np.ndarray, affine: np.ndarray, slope: float, intercept: float) -> bytes:
    """A NIfTI-1 file, compressed. Nibabel's image would apply slope and intercept to the values again."""
    from nibabel.nifti1 import Nifti1Header

    header = Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape(codes.shape)
    header.set_sform(affine, 1)
    header.set_qform(affine, 1, strip_shears=True)
    header.set_xyzt_units("mm")
    header.set_slope_inter(slope, intercept)
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    stream = io.BytesIO()
    with gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=_LEVEL, mtime=0) as file:
        file.write(header.binaryblock + bytes(4))
        file.write(np.ascontiguousarray(codes.T).data)
    return stream.getvalue()
