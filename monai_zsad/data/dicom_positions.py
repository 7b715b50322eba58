"""Where the slices of a DICOM series lie: gaps, duplicates, uneven steps, a tilted gantry."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_zsad.data.dicom_headers import frame_groups
from monai_zsad.data.verdicts import Repair
from monai_zsad.errors import InputError

__all__ = ["LARGEST_JITTER", "arrange_frames", "arrange_slices"]

LARGEST_JITTER = 0.05
"""Share of the slice distance by which it may vary."""

_SILENT_JITTER_MM = 0.01
_SHIFT_MM = 0.1
_VOLUME_KEYS = (
    "EchoNumbers",
    "TemporalPositionIdentifier",
    "DiffusionBValue",
    "TriggerTime",
    "AcquisitionNumber",
    "ImageType",
)
_PIXEL_KEYS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData", "RescaleSlope", "RescaleIntercept")


def arrange_slices(datasets: list[Any], files: Sequence[Path], where: Path) -> tuple[list[Any], list[Repair]]:
    """Drop identical copies of slices, and refuse what leaves no regular stack.

    Args:
        datasets: single-frame files, whose headers were checked.
        files: their paths.
        where: of the series, named in messages.

    Returns:
        The files to use, and warnings.

    Raises:
        InputError: naming the positions.
    """
    positions = np.asarray([[float(value) for value in ds.ImagePositionPatient] for ds in datasets])
    normal = _normal(datasets[0].ImageOrientationPatient)
    kept = _without_copies(datasets, positions @ normal, where)
    repairs = []
    if len(kept) < len(datasets):
        dropped = [str(files[index].name) for index in range(len(datasets)) if index not in kept]
        some = ", ".join(dropped[:3]) + (" ..." if len(dropped) > 3 else "")
        repairs.append(Repair("duplicates-dropped", f"{where}: {len(dropped)} identical copies were dropped ({some})"))
    if len(kept) == 1:
        _give_thickness(datasets[kept[0]], where)
    else:
        repairs += _check_stack(positions[kept], normal, where)
    return [datasets[index] for index in kept], repairs


def arrange_frames(dataset: Any, where: Path) -> list[Repair]:
    """Refuse the frames of an enhanced file where they are no regular stack.

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
    orientations = np.asarray([[float(value) for value in plane.ImageOrientationPatient] for plane in planes])
    if np.abs(orientations - orientations[0]).max() > 1e-4:
        raise InputError(
            f"{where}: holds slices of different orientation; give one stack of frames", code="mixed-orientations"
        )
    spacings = np.asarray([[float(value) for value in measure.PixelSpacing] for measure in measures])
    if (spacings <= 0).any():
        raise InputError(f"{where}: its PixelSpacing is {spacings.min():g}; export it again", code="no-geometry")
    if np.abs(spacings - spacings[0]).max() > 1e-4:
        raise InputError(f"{where}: holds slices of different pixel spacing; export it again", code="mixed-spacings")
    if count == 1:
        _give_thickness(measures[0], where)
        return []
    positions = np.asarray([[float(value) for value in place.ImagePositionPatient] for place in places])
    normal = _normal(orientations[0])
    if (np.diff(np.sort(positions @ normal)) < _SILENT_JITTER_MM).any():
        raise InputError(
            f"{where}: has more than one frame at a position (echoes, time points or copies); give one volume",
            code="several-volumes",
        )
    return _check_stack(positions, normal, where)


def _normal(orientation: Any) -> np.ndarray:
    axes = np.asarray([float(value) for value in orientation])
    return np.asarray(np.cross(axes[:3], axes[3:]))


def _without_copies(datasets: list[Any], along: np.ndarray, where: Path) -> list[int]:
    """Indices of one slice per position, in the order of the files."""
    order = np.argsort(along, kind="stable")
    kept: list[int] = []
    for index in order.tolist():
        if not kept or along[index] - along[kept[-1]] >= _SILENT_JITTER_MM:
            kept.append(index)
            continue
        one, other = datasets[kept[-1]], datasets[index]
        differing = [key for key in _VOLUME_KEYS if one.get(key) != other.get(key)]
        if differing:
            raise InputError(
                f"{where}: holds several volumes, which differ in {', '.join(differing)}; put each into its own folder",
                code="several-volumes",
            )
        places = [[float(value) for value in dataset.ImagePositionPatient] for dataset in (one, other)]
        if np.abs(np.diff(places, axis=0)).max() > _SILENT_JITTER_MM or any(
            one.get(key) != other.get(key) for key in _PIXEL_KEYS
        ):
            raise InputError(
                f"{where}: has more than one slice at {along[index]:.2f} mm; remove the duplicates",
                code="duplicate-slices",
            )
    return sorted(kept)


def _check_stack(positions: np.ndarray, normal: np.ndarray, where: Path) -> list[Repair]:
    """Refuse gaps, uneven steps and a tilted gantry; returns a warning where the steps jitter."""
    along = positions @ normal
    order = np.argsort(along)
    steps = np.diff(along[order])
    step = float(np.median(steps))
    gaps = np.flatnonzero(steps > 1.5 * step)
    if gaps.size:
        some = ", ".join(f"{steps[i]:.2f} mm after {along[order][i]:.2f} mm" for i in gaps[:3])
        raise InputError(
            f"{where}: slices are missing: the step is {step:.2f} mm, but {some}; export the complete series",
            code="missing-slices",
        )
    jitter = float(np.abs(steps - steps.mean()).max())
    # Small steps that all deviate a little would move the slices between them by more than one step shows.
    even = np.linspace(along[order][0], along[order][-1], len(order))
    jitter = max(jitter, float(np.abs(along[order] - even).max()))
    if jitter > LARGEST_JITTER * step:
        raise InputError(
            f"{where}: its slices are unevenly spaced ({steps.min():.2f} to {steps.max():.2f} mm); "
            "give a series with one slice distance",
            code="uneven-slices",
        )
    sideways = positions[order][-1] - positions[order][0]
    across = positions[order] - positions[order][0]
    across = across - np.linspace(0, 1, len(order))[:, None] * sideways
    shift = float(np.linalg.norm(sideways - (sideways @ normal) * normal))
    shift = max(shift, float(np.linalg.norm(across - np.outer(across @ normal, normal), axis=1).max()))
    if shift > max(LARGEST_JITTER * step, _SHIFT_MM):
        raise InputError(
            f"{where}: its slices are shifted sideways by {shift:.1f} mm from the first to the last (tilted gantry); "
            "give a series that was corrected for the tilt",
            code="tilted-gantry",
        )
    if jitter > _SILENT_JITTER_MM:
        sentence = f"{where}: the distance between slices varies by {jitter:.3f} mm; their mean was used"
        return [Repair("jitter", sentence)]
    return []


def _give_thickness(dataset: Any, where: Path) -> None:
    """The third spacing of a lone slice is its thickness; highdicom would take 1 mm without a word."""
    thickness = dataset.get("SpacingBetweenSlices") or dataset.get("SliceThickness")
    if not thickness:
        raise InputError(
            f"{where}: is a single slice without SliceThickness; give the complete series", code="no-thickness"
        )
    dataset.SpacingBetweenSlices = abs(float(thickness))
