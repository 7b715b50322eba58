"""Positions of the slices of a DICOM series: gaps, duplicates, uneven steps, a tilted gantry."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_zsad.data.codes import Repair, refusal
from monai_zsad.data.dicom.headers import frame_groups, is_perpendicular
from monai_zsad.data.dicom.resampling import LARGEST_JITTER, Stack
from monai_zsad.data.dicom.volume_keys import KEYS, file_values, frame_values
from monai_zsad.data.dicom.volumes import SAME_PLACE_MM, choose_volume, find_volumes, normal_to
from monai_zsad.data.scan import ReadOptions

__all__ = ["arrange_frames", "arrange_slices"]

_GAP = 1.5
_SHIFT_MM = 0.1
_MOST_NAMED = 8
_ORIGINAL = "export the original series, with its geometry"
_PIXEL_KEYS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData", "RescaleSlope", "RescaleIntercept")


def arrange_slices(
    datasets: list[Any], where: Path, options: ReadOptions
) -> tuple[list[Any], Stack | None, list[Repair]]:
    """Choose a volume, drop identical copies of slices, and refuse an irregular stack unless its repair was asked for.

    Args:
        datasets: single-frame files, whose headers were checked.
        where: of the series, named in messages.
        options: with the repairs that were asked for.

    Returns:
        The files to use; their positions, if they have to be resampled onto a grid; and warnings.

    Raises:
        InputError: naming the positions, or the fields in which several volumes differ.
    """
    positions = np.asarray([[float(value) for value in ds.ImagePositionPatient] for ds in datasets])
    normal = normal_to(datasets[0].ImageOrientationPatient)
    found = find_volumes((positions @ normal).tolist(), [file_values(dataset) for dataset in datasets])
    chosen = choose_volume(found, where, options)
    if chosen is not None:
        datasets, positions = [datasets[index] for index in chosen], positions[chosen]
    kept, copies, others = _one_per_place(datasets, positions @ normal, where, options)
    if others and len(kept) == 1:
        raise refusal(where, "duplicate-slices", "all its slices are at one position", _ORIGINAL)
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


def arrange_frames(dataset: Any, where: Path, options: ReadOptions) -> tuple[list[int], Stack | None, list[Repair]]:
    """Choose a volume, and refuse an enhanced file of irregular frames, unless their repair was asked for.

    Args:
        dataset: the file.
        where: its path, named in messages.
        options: with the repairs that were asked for.

    Returns:
        The indices of the frames to use; their positions, if they have to be resampled onto a grid; and warnings.

    Raises:
        InputError: naming what is missing, the positions, or the fields in which several volumes differ.
    """
    places = frame_groups(dataset, "PlanePositionSequence")
    planes = frame_groups(dataset, "PlaneOrientationSequence")
    measures = frame_groups(dataset, "PixelMeasuresSequence")
    count = int(dataset.get("NumberOfFrames") or 1)
    if not count == len(places) == len(planes) == len(measures) or None in [*places, *planes, *measures]:
        raise refusal(where, "no-geometry", f"does not state the geometry of all its {count} frames", _ORIGINAL)
    orientations = _all_stated(planes, "ImageOrientationPatient", 6, where)
    if not all(is_perpendicular(orientation) for orientation in orientations.tolist()):
        finding = "the directions in its ImageOrientationPatient are not perpendicular"
        raise refusal(where, "bad-affine", finding, _ORIGINAL)
    if np.abs(orientations - orientations[0]).max() > 1e-4:
        raise refusal(where, "mixed-orientations", "holds slices of different orientation", "give one stack of frames")
    spacings = _all_stated(measures, "PixelSpacing", 2, where)
    if (spacings <= 0).any():
        raise refusal(where, "no-geometry", f"its PixelSpacing is {spacings.min():g}", _ORIGINAL)
    if np.abs(spacings - spacings[0]).max() > 1e-4:
        raise refusal(where, "mixed-spacings", "holds slices of different pixel spacing", "export it again")
    positions = _all_stated(places, "ImagePositionPatient", 3, where)
    normal = normal_to(orientations[0])
    chosen = choose_volume(find_volumes((positions @ normal).tolist(), frame_values(dataset)), where, options)
    chosen = list(range(count)) if chosen is None else chosen
    positions = positions[chosen]
    if len(chosen) == 1:
        _give_thickness(measures[chosen[0]], where)
        return chosen, None, []
    if (np.diff(np.sort(positions @ normal)) < SAME_PLACE_MM).any():
        finding = "has more than one frame at a position (echoes, time points or copies)"
        raise refusal(where, "several-volumes", finding, "give one volume")
    return chosen, *_check_stack(positions, orientations[0], spacings[0], where, options)


def _all_stated(groups: Sequence[Any], key: str, count: int, where: Path) -> np.ndarray:
    """The numbers of an element for every frame; refused if a frame does not state them all."""
    rows = [[float(value) for value in group.get(key) or ()] for group in groups]
    if not all(len(row) == count and all(map(math.isfinite, row)) for row in rows):
        raise refusal(where, "no-geometry", f"does not state a usable {key} for all its frames", _ORIGINAL)
    return np.asarray(rows)


def _one_per_place(
    datasets: list[Any], along: np.ndarray, where: Path, options: ReadOptions
) -> tuple[list[int], list[int], list[int]]:
    """Indices of the slices to use, of their identical copies, and of other slices at the same positions."""
    places: list[list[int]] = []
    for index in np.argsort(along, kind="stable").tolist():
        if places and along[index] - along[places[-1][0]] < SAME_PLACE_MM:
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
    """Whether two slices at one position are equal; different slices are refused unless a repair was asked for."""
    pairs = zip(KEYS, file_values(one), file_values(other), strict=True)
    differing = [key.name for key, value, same in pairs if value != same]
    if differing:
        raise refusal(where, "several-volumes", f"holds several volumes, which differ in {', '.join(differing)}")
    finding = f"has more than one slice at {along:.2f} mm"
    places = [[float(value) for value in dataset.ImagePositionPatient] for dataset in (one, other)]
    if np.abs(np.diff(places, axis=0)).max() > SAME_PLACE_MM:
        raise refusal(where, "duplicate-slices", f"{finding}, side by side", "give one stack of slices")
    if all(one.get(key) == other.get(key) for key in _PIXEL_KEYS):
        return True
    options.require_repair(where, "duplicate-slices", finding)
    return False


def _instance(dataset: Any) -> float:
    number = dataset.get("InstanceNumber")
    return math.inf if number is None else float(number)


def _numbers(datasets: list[Any], indices: Sequence[int]) -> str:
    """Slices by their numbers, because file names may contain names of patients."""
    numbers = [datasets[index].get("InstanceNumber") for index in indices[:_MOST_NAMED]]
    some = ", ".join("?" if number is None else str(int(number)) for number in numbers)
    return f"InstanceNumber {some}" + (" ..." if len(indices) > _MOST_NAMED else "")


def _check_stack(
    positions: np.ndarray, orientation: Any, spacing: Any, where: Path, options: ReadOptions
) -> tuple[Stack | None, list[Repair]]:
    """Refuse gaps, uneven steps and a tilted gantry, or prepare their repair; warn if the steps vary a little."""
    axes = np.asarray([float(value) for value in orientation])
    normal = normal_to(axes)
    along = positions @ normal - (positions @ normal).min()
    order = np.argsort(along)
    steps = np.diff(along[order])
    usual, length = _usual_step(steps), float(along.max())
    counts: np.ndarray = np.ones(len(steps))
    gaps = np.flatnonzero(steps > _GAP * usual)
    if gaps.size:
        lowest = float((positions @ normal).min())
        some = ", ".join(f"{steps[i]:.2f} mm after {lowest + along[order][i]:.2f} mm" for i in gaps[:3])
        finding = f"slices are missing: the step is {usual:.2f} mm, but {some}"
        options.require_repair(where, "missing-slices", finding)
        counts = np.maximum(np.rint(steps / usual), 1)
    step = length / float(counts.sum())
    expected = np.concatenate([[0.0], np.cumsum(counts)])
    # Many small deviations in one direction add up, so positions are compared as well as steps.
    jitter = float(max(np.abs(steps - counts * step).max(), np.abs(along[order] - expected * step).max()))
    uneven = jitter > LARGEST_JITTER * usual
    if uneven:
        finding = f"its slices are unevenly spaced ({steps.min():.2f} to {steps.max():.2f} mm)"
        options.require_repair(where, "uneven-slices", finding)
        counts = np.array([max(round(length / usual), 1)])
        step = length / float(counts[0])
        expected = along[order] / step
    tilted = _is_tilted(positions[order], normal, along[order], usual, where, options)
    repairs = []
    if jitter > SAME_PLACE_MM and not uneven:
        sentence = f"the distance between slices varies by {jitter:.3f} mm; their mean was used"
        repairs.append(Repair("jitter", sentence))
    if not (gaps.size or uneven or tilted):
        return None, repairs
    places = np.empty(len(order))
    places[order] = expected
    distances = (float(spacing[0]), float(spacing[1]))
    return Stack(positions, axes, distances, places, step, int(counts.sum()) + 1, tilted, uneven), repairs


def _usual_step(steps: np.ndarray) -> float:
    """The smallest step if all steps are multiples of it and half of the slices are present; otherwise the median."""
    smallest = float(np.median(steps[steps < _GAP * steps.min()]))
    counts = np.rint(steps / smallest)
    whole = np.abs(steps - counts * smallest).max() <= LARGEST_JITTER * smallest
    return smallest if whole and counts.sum() < 2 * (len(steps) + 1) else float(np.median(steps))


def _is_tilted(
    positions: np.ndarray, normal: np.ndarray, along: np.ndarray, step: float, where: Path, options: ReadOptions
) -> bool:
    """Whether the slices are shifted sideways by one shear (a tilted gantry) whose repair was asked for."""
    across = positions - positions[0]
    across = across - np.outer(across @ normal, normal)
    straight = np.outer(along / along[-1], across[-1])
    shift = float(np.linalg.norm(across[-1]))
    bend = float(np.linalg.norm(across - straight, axis=1).max())
    tolerance = max(LARGEST_JITTER * step, _SHIFT_MM)
    if max(shift, bend) <= tolerance:
        return False
    if bend > tolerance or shift > along[-1]:
        # A tilt does not explain this: positions are wrong, or slices are from several stacks.
        finding = f"its slices are shifted sideways by {max(shift, bend):.1f} mm, not as by a tilted gantry"
        raise refusal(where, "tilted-gantry", finding, "export the original series")
    finding = f"its slices are shifted sideways by {shift:.1f} mm from the first to the last (tilted gantry)"
    options.require_repair(where, "tilted-gantry", finding)
    return True


def _give_thickness(dataset: Any, where: Path) -> None:
    """The third spacing of a single slice is its thickness; highdicom would take 1 mm without a warning."""
    thickness = dataset.get("SpacingBetweenSlices") or dataset.get("SliceThickness")
    if not thickness:
        raise refusal(where, "no-thickness", "is a single slice without SliceThickness")
    dataset.SpacingBetweenSlices = abs(float(thickness))
