"""Resampling of an irregular stack of slices onto a right-angled grid, where the user asks for it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from monai_zsad.data.codes import Repair, refusal
from monai_zsad.data.scan import ReadOptions

__all__ = ["LARGEST_JITTER", "Stack", "require_slices", "resample_stack"]

LARGEST_JITTER = 0.05
"""Largest variation of the slice distance, as a fraction of it."""

_SAME_PLACE_MM = 0.01
_MOST_NAMED = 8


@dataclass(frozen=True)
class Stack:
    """Parallel slices and the grid onto which they are resampled; lengths in mm, directions in LPS.

    Attributes:
        positions: (N, 3), centre of the first pixel of every slice, in the order of the frames.
        orientation: (6,), directions along a row and along a column, as in ImageOrientationPatient.
        spacing: distance of rows and of columns, as in PixelSpacing.
        places: (N,), positions of the slices along their normal, in steps of the grid from its first slice.
        step: distance of the grid's slices.
        count: number of the grid's slices.
        tilted: whether the slices have to be moved sideways; if not, their shift is within the tolerance.
        uneven: whether the distances between the slices vary, apart from missing slices.
    """

    positions: np.ndarray
    orientation: np.ndarray
    spacing: tuple[float, float]
    places: np.ndarray
    step: float
    count: int
    tilted: bool
    uneven: bool


def require_slices(stack: Stack, where: Path) -> None:
    """Refuse a stack of which more slices are missing than present.

    Raises:
        InputError: with both numbers.
    """
    present = len(stack.positions)
    if stack.count - present > present:
        finding = f"{stack.count - present} slices are missing and only {present} are present: too few to interpolate"
        raise refusal(where, "missing-slices", finding)


def resample_stack(
    frames: np.ndarray, stack: Stack, where: Path, options: ReadOptions
) -> tuple[np.ndarray, np.ndarray, list[Repair]]:
    """Move slices sideways to their positions, and interpolate linearly along the normal between them.

    MONAI's ``SpatialResample`` was not enough: it starts from a volume with one affine, which these slices do not have.

    Args:
        frames: (N, rows, columns) float32.
        stack: their positions, and the grid.
        where: of the series, named in messages.
        options: the size limit holds for the grid, too.

    Returns:
        Values (X, Y, Z) float32; the affine (4, 4), index to mm in LPS; and one warning per repair. A frame that lies
        in the grid and is not tilted is copied unchanged. Voxels that no slice covers have the lowest value of the
        frames.

    Raises:
        InputError: if more slices are missing than present, or the grid is above the size limit.

    Example:
        >>> frames = np.arange(3, dtype="float32")[:, None, None] * np.ones((1, 2, 2), "float32")
        >>> positions = np.array([[0.0, 0, 0], [0, 0, 3], [0, 0, 9]])
        >>> orientation, places = np.array([1.0, 0, 0, 0, 1, 0]), np.array([0.0, 1, 3])
        >>> stack = Stack(positions, orientation, (1.0, 1.0), places, 3.0, 4, tilted=False, uneven=False)
        >>> values, affine, repairs = resample_stack(frames, stack, Path("series"), ReadOptions())
        >>> values[0, 0].tolist(), repairs[0].sentence
        ([0.0, 1.0, 1.5, 2.0], '1 missing slice was interpolated, as asked for: number 3 of 4 along the normal')
    """
    lower, upper, weight = _neighbours(stack)
    made = np.flatnonzero(weight > 0)
    require_slices(stack, where)
    row, column = stack.orientation[:3], stack.orientation[3:]
    first = stack.positions[int(np.argmin(stack.places))]
    sideways = np.zeros((len(frames), 2))
    if stack.tilted:
        # Rounded, so that no border pixel is lost by a rounding error.
        lateral = (stack.positions - first) @ np.column_stack([column, row])
        sideways = np.round(lateral / stack.spacing, 6)
    start = sideways.min(axis=0)
    down, across = (math.ceil(round(extra, 6)) for extra in sideways.max(axis=0) - start)
    rows, columns = frames.shape[1] + down, frames.shape[2] + across
    options.require_size(where, (columns, rows, stack.count))
    fill = np.float32(np.nanmin(frames))
    shifts = sideways - start
    placed = _move(frames, shifts, (rows, columns), fill) if stack.tilted else frames
    values = np.empty((columns, rows, stack.count), np.float32)
    for index in range(stack.count):
        slab = placed[lower[index]]
        if weight[index] > 0:
            slab = slab + np.float32(weight[index]) * (placed[upper[index]] - slab)
            if stack.tilted:
                both = shifts[[lower[index], upper[index]]]
                slab = np.where(_covered(both, frames.shape[1:], slab.shape), slab, fill)
        values[:, :, index] = slab.T
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = row * stack.spacing[1], column * stack.spacing[0]
    affine[:3, 2] = np.cross(row, column) * stack.step
    affine[:3, 3] = first + affine[:3, 1] * start[0] + affine[:3, 0] * start[1]
    return values, affine, _repairs(stack, made, sideways, float(fill))


def _neighbours(stack: Stack) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The frames below and above every slice of the grid, and the weight of the upper one."""
    order = np.argsort(stack.places, kind="stable")
    places, wanted = stack.places[order], np.arange(stack.count)
    above = np.clip(np.searchsorted(places, wanted, side="left"), 1, len(places) - 1)
    low, high = places[above - 1], places[above]
    weight = np.clip((wanted - low) / (high - low), 0, 1)
    same = _SAME_PLACE_MM / stack.step
    below = np.where(np.abs(wanted - high) <= same, above, above - 1)
    exact = (np.abs(wanted - high) <= same) | (np.abs(wanted - low) <= same)
    return order[below], order[above], np.where(exact, 0.0, weight)


def _move(frames: np.ndarray, by: np.ndarray, shape: tuple[int, int], fill: np.float32) -> np.ndarray:
    """Every frame shifted by its own (rows, columns) within a larger frame."""
    from scipy.ndimage import affine_transform

    moved = [
        affine_transform(frame, np.ones(2), -shift, output_shape=shape, order=1, mode="constant", cval=float(fill))
        for frame, shift in zip(frames, by, strict=True)
    ]
    return np.stack(moved)


def _covered(shifts: np.ndarray, size: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    """Mask of the pixels that all shifted frames of (rows, columns) cover within a larger frame."""
    low, high = shifts.max(axis=0), shifts.min(axis=0) + np.asarray(size) - 1
    down, across = (np.arange(length) for length in shape)
    rows, columns = (down >= low[0]) & (down <= high[0]), (across >= low[1]) & (across <= high[1])
    return np.logical_and.outer(rows, columns)


def _repairs(stack: Stack, made: np.ndarray, sideways: np.ndarray, fill: float) -> list[Repair]:
    found = []
    some = _ranges((made + 1).tolist()) or "none"
    where = f"number {some} of {stack.count} along the normal"
    if stack.uneven:
        steps = np.diff(np.sort(stack.places)) * stack.step
        sentence = (
            f"slices {steps.min():.2f} to {steps.max():.2f} mm apart were resampled to {stack.step:.2f} mm, as asked "
            f"for; interpolated: {where}"
        )
        found.append(Repair("slices-resampled", sentence))
    elif made.size:
        what = "1 missing slice was" if made.size == 1 else f"{made.size} missing slices were"
        found.append(Repair("slices-interpolated", f"{what} interpolated, as asked for: {where}"))
    if stack.tilted:
        moved = float(np.linalg.norm(np.ptp(sideways, axis=0) * stack.spacing))
        angle = math.degrees(math.atan2(moved, float(np.ptp(stack.places)) * stack.step))
        sentence = (
            f"slices of a gantry tilted by {angle:.1f} degrees were moved sideways by up to {moved:.1f} mm, as asked "
            f"for; voxels that no slice covers have the lowest value, {fill:g}"
        )
        found.append(Repair("tilt-resheared", sentence))
    return found


def _ranges(numbers: Sequence[int]) -> str:
    """Numbers as text, with runs of neighbours as ranges.

    Example:
        >>> _ranges([2, 3, 4, 9])
        '2 to 4, 9'
    """
    groups = []
    for _, members in itertools.groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        run = [number for _, number in members]
        groups.append(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}")
    return ", ".join(groups[:_MOST_NAMED]) + (" ..." if len(groups) > _MOST_NAMED else "")
