"""Where the slices of a DICOM series lie: gaps, duplicates, uneven steps, a tilted gantry."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_zsad.data.codes import Repair
from monai_zsad.data.dicom.headers import frame_groups, is_perpendicular
from monai_zsad.data.dicom.resampling import LARGEST_JITTER, Stack
from monai_zsad.data.scan import ReadOptions
from monai_zsad.errors import InputError

__all__ = ["arrange_frames", "arrange_slices"]

_SILENT_JITTER_MM = 0.01
_GAP = 1.5
_SHIFT_MM = 0.1
_MOST_NAMED = 8
_VOLUME_KEYS = (
    "EchoNumbers",
    "TemporalPositionIdentifier",
    "DiffusionBValue",
    "TriggerTime",
    "AcquisitionNumber",
    "ImageType",
)
_FRAME_KEYS = (
    ("MREchoSequence", "EffectiveEchoTime"),
    ("MRImageFrameTypeSequence", "FrameType"),
    ("CTImageFrameTypeSequence", "FrameType"),
)
_PIXEL_KEYS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData", "RescaleSlope", "RescaleIntercept")


def arrange_slices(
    datasets: list[Any], where: Path, options: ReadOptions
) -> tuple[list[Any], Stack | None, list[Repair]]:
    """Drop identical copies of slices, and refuse what leaves no regular stack unless it is to be repaired.

    Args:
        datasets: single-frame files, whose headers were checked.
        where: of the series, named in messages.
        options: with the repairs that are asked for.

    Returns:
        The files to use; where they lie, if they have to be resampled onto a grid; and warnings.

    Raises:
        InputError: naming the positions.
    """
    positions = np.asarray([[float(value) for value in ds.ImagePositionPatient] for ds in datasets])
    normal = _normal(datasets[0].ImageOrientationPatient)
    kept, copies, others = _one_per_place(datasets, positions @ normal, where, options)
    if others and len(kept) == 1:
        raise InputError(
            f"{where}: all its slices are at one position; export the original series, with its geometry",
            code="duplicate-slices",
        )
    repairs = []
    if copies:
        sentence = f"{len(copies)} identical copies were dropped ({_numbers(datasets, copies)})"
        repairs.append(Repair("duplicates-dropped", sentence))
    if others:
        sentence = "of different slices at one position the first was kept, as asked for; dropped: "
        repairs.append(Repair("duplicates-first", sentence + _numbers(datasets, others)))
    stack = None
    if len(kept) == 1:
        _give_thickness(datasets[kept[0]], where)
    else:
        first = datasets[kept[0]]
        stack, more = _check_stack(positions[kept], first.ImageOrientationPatient, first.PixelSpacing, where, options)
        repairs += more
    return [datasets[index] for index in kept], stack, repairs


def arrange_frames(dataset: Any, where: Path, options: ReadOptions) -> tuple[Stack | None, list[Repair]]:
    """Refuse the frames of an enhanced file where they are no regular stack, unless it is to be repaired.

    Args:
        dataset: the file.
        where: its path, named in messages.
        options: with the repairs that are asked for.

    Returns:
        Where the frames lie, if they have to be resampled onto a grid; and warnings.

    Raises:
        InputError: naming what is missing, or the positions.
    """
    places = frame_groups(dataset, "PlanePositionSequence")
    planes = frame_groups(dataset, "PlaneOrientationSequence")
    measures = frame_groups(dataset, "PixelMeasuresSequence")
    count = int(dataset.get("NumberOfFrames") or 1)
    if not count == len(places) == len(planes) == len(measures) or None in [*places, *planes, *measures]:
        raise InputError(
            f"{where}: does not place all its {count} frames; export the original series, with its geometry",
            code="no-geometry",
        )
    orientations = _all_stated(planes, "ImageOrientationPatient", 6, where)
    if not all(is_perpendicular(orientation) for orientation in orientations.tolist()):
        raise InputError(
            f"{where}: its ImageOrientationPatient is no pair of perpendicular directions; export the original series",
            code="bad-affine",
        )
    if np.abs(orientations - orientations[0]).max() > 1e-4:
        raise InputError(
            f"{where}: holds slices of different orientation; give one stack of frames", code="mixed-orientations"
        )
    spacings = _all_stated(measures, "PixelSpacing", 2, where)
    if (spacings <= 0).any():
        raise InputError(f"{where}: its PixelSpacing is {spacings.min():g}; export it again", code="no-geometry")
    if np.abs(spacings - spacings[0]).max() > 1e-4:
        raise InputError(f"{where}: holds slices of different pixel spacing; export it again", code="mixed-spacings")
    positions = _all_stated(places, "ImagePositionPatient", 3, where)
    if count == 1:
        _give_thickness(measures[0], where)
        return None, []
    _check_kind_of_frames(dataset, where)
    normal = _normal(orientations[0])
    if (np.diff(np.sort(positions @ normal)) < _SILENT_JITTER_MM).any():
        raise InputError(
            f"{where}: has more than one frame at a position (echoes, time points or copies); give one volume",
            code="several-volumes",
        )
    return _check_stack(positions, orientations[0], spacings[0], where, options)


def _all_stated(groups: Sequence[Any], key: str, count: int, where: Path) -> np.ndarray:
    """The numbers of an element of every frame's group; refused where one does not state them all."""
    rows = [[float(value) for value in group.get(key) or ()] for group in groups]
    if not all(len(row) == count and all(map(math.isfinite, row)) for row in rows):
        raise InputError(
            f"{where}: does not state a usable {key} of all its frames; export the original series, with its geometry",
            code="no-geometry",
        )
    return np.asarray(rows)


def _check_kind_of_frames(dataset: Any, where: Path) -> None:
    """Frames of two echoes or of magnitude and phase are no volume, even where each has a place of its own."""
    for name, key in _FRAME_KEYS:
        found = {str(group.get(key)) for group in frame_groups(dataset, name) if group is not None}
        if len(found) > 1:
            raise InputError(f"{where}: holds frames that differ in {key}; give one volume", code="several-volumes")


def _normal(orientation: Any) -> np.ndarray:
    axes = np.asarray([float(value) for value in orientation])
    return np.asarray(np.cross(axes[:3], axes[3:]))


def _one_per_place(
    datasets: list[Any], along: np.ndarray, where: Path, options: ReadOptions
) -> tuple[list[int], list[int], list[int]]:
    """Indices of the slices to use, of identical copies of them, and of others at their positions."""
    places: list[list[int]] = []
    for index in np.argsort(along, kind="stable").tolist():
        if places and along[index] - along[places[-1][0]] < _SILENT_JITTER_MM:
            places[-1].append(index)
        else:
            places.append([index])
    kept: list[int] = []
    copies: list[int] = []
    others: list[int] = []
    for place in places:
        first, *rest = sorted(place, key=lambda index: (_instance(datasets[index]), index))
        kept.append(first)
        for index in rest:
            same = _is_copy(datasets[first], datasets[index], float(along[index]), where, options)
            (copies if same else others).append(index)
    return sorted(kept), sorted(copies), sorted(others)


def _is_copy(one: Any, other: Any, along: float, where: Path, options: ReadOptions) -> bool:
    """Whether a slice equals the one at its position; another one is refused unless that is to be repaired."""
    differing = [key for key in _VOLUME_KEYS if one.get(key) != other.get(key)]
    if differing:
        raise InputError(
            f"{where}: holds several volumes, which differ in {', '.join(differing)}; put each into its own folder",
            code="several-volumes",
        )
    finding = f"has more than one slice at {along:.2f} mm"
    places = [[float(value) for value in dataset.ImagePositionPatient] for dataset in (one, other)]
    if np.abs(np.diff(places, axis=0)).max() > _SILENT_JITTER_MM:
        raise InputError(f"{where}: {finding}, side by side; give one stack of slices", code="duplicate-slices")
    if all(one.get(key) == other.get(key) for key in _PIXEL_KEYS):
        return True
    options.require_repair(where, "duplicate-slices", finding, "remove the duplicates")
    return False


def _instance(dataset: Any) -> float:
    number = dataset.get("InstanceNumber")
    return math.inf if number is None else float(number)


def _numbers(datasets: list[Any], indices: Sequence[int]) -> str:
    """Slices by their numbers: names of files may be those of patients."""
    numbers = [datasets[index].get("InstanceNumber") for index in indices[:_MOST_NAMED]]
    some = ", ".join("?" if number is None else str(int(number)) for number in numbers)
    return f"InstanceNumber {some}" + (" ..." if len(indices) > _MOST_NAMED else "")


def _check_stack(
    positions: np.ndarray, orientation: Any, spacing: Any, where: Path, options: ReadOptions
) -> tuple[Stack | None, list[Repair]]:
    """Refuse gaps, uneven steps and a tilted gantry, or say how to repair them; warn where the steps jitter."""
    axes = np.asarray([float(value) for value in orientation])
    normal = _normal(axes)
    along = positions @ normal - (positions @ normal).min()
    order = np.argsort(along)
    steps = np.diff(along[order])
    usual, length = _usual_step(steps), float(along.max())
    counts = np.ones(len(steps))
    gaps = np.flatnonzero(steps > _GAP * usual)
    if gaps.size:
        lowest = float((positions @ normal).min())
        some = ", ".join(f"{steps[i]:.2f} mm after {lowest + along[order][i]:.2f} mm" for i in gaps[:3])
        finding = f"slices are missing: the step is {usual:.2f} mm, but {some}"
        options.require_repair(where, "missing-slices", finding, "export the complete series")
        counts = np.maximum(np.rint(steps / usual), 1)
    step = length / float(counts.sum())
    expected = np.concatenate([[0.0], np.cumsum(counts)])
    # Small steps that all deviate a little would move the slices between them by more than one step shows.
    jitter = float(max(np.abs(steps - counts * step).max(), np.abs(along[order] - expected * step).max()))
    uneven = jitter > LARGEST_JITTER * usual
    if uneven:
        finding = f"its slices are unevenly spaced ({steps.min():.2f} to {steps.max():.2f} mm)"
        options.require_repair(where, "uneven-slices", finding, "give a series with one slice distance")
        counts = np.array([max(round(length / usual), 1)])
        step = length / float(counts[0])
        expected = along[order] / step
    tilted = _is_tilted(positions[order], normal, along[order], usual, where, options)
    repairs = []
    if jitter > _SILENT_JITTER_MM and not uneven:
        sentence = f"the distance between slices varies by {jitter:.3f} mm; their mean was used"
        repairs.append(Repair("jitter", sentence))
    if not (gaps.size or uneven or tilted):
        return None, repairs
    places = np.empty(len(order))
    places[order] = expected
    distances = (float(spacing[0]), float(spacing[1]))
    return Stack(positions, axes, distances, places, step, int(counts.sum()) + 1, tilted, uneven), repairs


def _usual_step(steps: np.ndarray) -> float:
    """The step of which all are multiples, if half of the slices are there; else the median."""
    smallest = float(np.median(steps[steps < _GAP * steps.min()]))
    counts = np.rint(steps / smallest)
    whole = np.abs(steps - counts * smallest).max() <= LARGEST_JITTER * smallest
    return smallest if whole and counts.sum() < 2 * (len(steps) + 1) else float(np.median(steps))


def _is_tilted(
    positions: np.ndarray, normal: np.ndarray, along: np.ndarray, step: float, where: Path, options: ReadOptions
) -> bool:
    """Whether the slices, in order, lie sideways of each other by one shear, which is to be repaired."""
    across = positions - positions[0]
    across = across - np.outer(across @ normal, normal)
    straight = np.outer(along / along[-1], across[-1])
    shift = float(np.linalg.norm(across[-1]))
    bend = float(np.linalg.norm(across - straight, axis=1).max())
    tolerance = max(LARGEST_JITTER * step, _SHIFT_MM)
    if max(shift, bend) <= tolerance:
        return False
    if bend > tolerance or shift > along[-1]:
        # Nothing that a tilt explains: the positions are wrong, or those of several stacks.
        raise InputError(
            f"{where}: its slices are shifted sideways by {max(shift, bend):.1f} mm, not as in a tilted gantry; export "
            "the original series",
            code="tilted-gantry",
        )
    finding = f"its slices are shifted sideways by {shift:.1f} mm from the first to the last (tilted gantry)"
    options.require_repair(where, "tilted-gantry", finding, "give a series that was corrected for the tilt")
    return True


def _give_thickness(dataset: Any, where: Path) -> None:
    """The third spacing of a lone slice is its thickness; highdicom would take 1 mm without a word."""
    thickness = dataset.get("SpacingBetweenSlices") or dataset.get("SliceThickness")
    if not thickness:
        raise InputError(
            f"{where}: is a single slice without SliceThickness; give the complete series", code="no-thickness"
        )
    dataset.SpacingBetweenSlices = abs(float(thickness))
