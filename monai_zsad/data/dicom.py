"""A DICOM series as one volume, through highdicom; its errors as one sentence each."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.data.utils import orientation_ras_lps

from monai_zsad.errors import InputError

__all__ = ["read_dicom"]

_logger = logging.getLogger(__name__)
_SILENT_JITTER_MM = 0.01
_LARGEST_JITTER = 0.05
_SHIFT_MM = 0.1


def read_dicom(files: Sequence[Path]) -> tuple[np.ndarray, np.ndarray, str, list[str]]:
    """Read the files of one series, or one multi-frame file.

    The slices are ordered along the normal of the slice plane, so index order is that of ITK and dcm2niix before its
    flip: X = columns, Y = rows, Z = slices. Values are the modality values of each slice (rescale slope and
    intercept; HU for CT). MONOCHROME1 says how to display values, not what they are: they are never inverted, and a
    warning is returned.

    Args:
        files: all files of the series, in any order.

    Returns:
        values (X, Y, Z) float32, affine (4, 4) float64 (index to mm, RAS), modality code, warnings.

    Raises:
        InputError: names the series and what is wrong: a file without pixels, missing, duplicate or unevenly spaced
            slices, mixed orientation, patients or sizes, tilted gantry, colour, missing geometry, CT without rescale.
    """
    import highdicom

    where = files[0].parent if len(files) > 1 else files[0]
    datasets = [_open(file) for file in files]
    _check_headers(datasets, files, where)
    first = datasets[0]
    options = {"dtype": np.float32, "apply_presentation_lut": False, "apply_real_world_transform": False}
    warnings: list[str] = []
    try:
        if _is_multi_frame(first):
            volume = highdicom.image.Image.from_dataset(first).get_volume(rtol=_LARGEST_JITTER, **options)
        else:
            warnings += _check_positions(datasets, where)
            volume = highdicom.image.get_volume_from_series(
                datasets, rtol=_LARGEST_JITTER, orientation_tol=1e-4, **options
            )
    except InputError:
        raise
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, RuntimeError, NotImplementedError) as error:
        _refuse_undecodable(datasets, files)
        raise InputError(
            f"{where}: is no regular volume ({_line(error)}); export the series again, complete and unchanged"
        ) from error
    if any(str(ds.get("PhotometricInterpretation")) == "MONOCHROME1" for ds in datasets):
        warnings.append(f"{where}: MONOCHROME1 (low values are shown bright): the values were kept, not inverted")
    # highdicom gives (slice, row, column) with the slices against the normal.
    values = np.ascontiguousarray(volume.array[::-1].transpose(2, 1, 0))
    affine = np.asarray(volume.affine, dtype=np.float64).copy()
    affine[:3, 3] += affine[:3, 0] * (volume.array.shape[0] - 1)
    affine[:3, 0] *= -1
    affine = affine[:, [2, 1, 0, 3]]
    return values, orientation_ras_lps(affine), str(first.get("Modality") or ""), warnings


def _open(file: Path) -> Any:
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        return pydicom.dcmread(file)
    except (InvalidDicomError, EOFError, OSError, ValueError, KeyError, AttributeError, NotImplementedError) as error:
        what = "is empty" if file.stat().st_size == 0 else f"is damaged or no scan ({_line(error)})"
        raise InputError(f"{file}: {what}; copy or export it again") from error


def _check_headers(datasets: list[Any], files: Sequence[Path], where: Path) -> None:
    for dataset, file in zip(datasets, files, strict=True):
        if not any(key in dataset for key in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
            raise InputError(f"{file}: has no pixel data; copy or export it again")
        if int(dataset.get("SamplesPerPixel") or 1) != 1:
            raise InputError(f"{file}: is a colour image; give the original series with one value per pixel")
        if not _is_multi_frame(dataset):
            _check_single_frame(dataset, file)
        elif len(files) > 1:
            raise InputError(f"{where}: holds several multi-frame files of one series; give each in its own folder")
    for key, what in (
        ("SeriesInstanceUID", "several series"),
        ("PatientID", "several patients"),
        ("FrameOfReferenceUID", "several frames of reference"),
        ("Rows", "slices of different size"),
        ("Columns", "slices of different size"),
        ("ImageOrientationPatient", "slices of different orientation"),
        ("PixelSpacing", "slices of different pixel spacing"),
    ):
        found = {_comparable(dataset.get(key)) for dataset in datasets}
        if len(found) > 1:
            some = ", ".join(sorted(found)[:3])
            raise InputError(f"{where}: holds {what} ({key} {some}); put each into its own folder")


def _is_multi_frame(dataset: Any) -> bool:
    """Whether the file is of an enhanced kind, whose geometry stands in functional groups."""
    return "SharedFunctionalGroupsSequence" in dataset


def _comparable(value: Any) -> str:
    """Text of a header value in which decimals count to the fifth digit, so that 1 equals 1.000000."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "/".join(f"{float(number) + 0.0:.5f}".replace("-0.00000", "0.00000") for number in value)
    return str(value)


def _check_single_frame(dataset: Any, file: Path) -> None:
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise InputError(f"{file}: has several frames without positions; export it as single slices or enhanced DICOM")
    for key in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "FrameOfReferenceUID"):
        if not dataset.get(key):
            raise InputError(f"{file}: has no {key}; export the original series, with its geometry")
    if any(float(length) <= 0 for length in dataset.PixelSpacing):
        raise InputError(f"{file}: its PixelSpacing is {list(dataset.PixelSpacing)}; export the original series")
    if dataset.get("Modality") == "CT" and "RescaleSlope" not in dataset and "ModalityLUTSequence" not in dataset:
        raise InputError(f"{file}: is CT without RescaleSlope, so its HU are unknown; export the original series")


def _check_positions(datasets: list[Any], where: Path) -> list[str]:
    """Refuse gaps, duplicates, uneven steps and a tilted gantry; returns a warning where the steps jitter."""
    if len(datasets) == 1:
        _give_thickness(datasets[0], where)
        return []
    positions = np.asarray([[float(value) for value in ds.ImagePositionPatient] for ds in datasets])
    orientation = np.asarray([float(value) for value in datasets[0].ImageOrientationPatient])
    normal = np.cross(orientation[:3], orientation[3:])
    along = positions @ normal
    order = np.argsort(along)
    steps = np.diff(along[order])
    step = float(np.median(steps))
    if (steps < _SILENT_JITTER_MM).any():
        at = along[order][int(np.argmin(steps))]
        raise InputError(f"{where}: has more than one slice at {at:.2f} mm; remove the duplicates")
    gaps = np.flatnonzero(steps > 1.5 * step)
    if gaps.size:
        some = ", ".join(f"{steps[i]:.2f} mm after {along[order][i]:.2f} mm" for i in gaps[:3])
        raise InputError(
            f"{where}: slices are missing: the step is {step:.2f} mm, but {some}; export the complete series"
        )
    jitter = float(np.abs(steps - steps.mean()).max())
    if jitter > _LARGEST_JITTER * step:
        raise InputError(
            f"{where}: its slices are unevenly spaced ({steps.min():.2f} to {steps.max():.2f} mm); "
            "give a series with one slice distance"
        )
    sideways = positions[order][-1] - positions[order][0]
    shift = float(np.linalg.norm(sideways - (sideways @ normal) * normal))
    if shift > max(_LARGEST_JITTER * step, _SHIFT_MM):
        raise InputError(
            f"{where}: its slices are shifted sideways by {shift:.1f} mm from the first to the last (tilted gantry); "
            "give a series that was corrected for the tilt"
        )
    if jitter > _SILENT_JITTER_MM:
        return [f"{where}: the distance between slices varies by {jitter:.3f} mm; their mean was used"]
    return []


def _give_thickness(dataset: Any, where: Path) -> None:
    """The third spacing of a lone slice is its thickness; highdicom would take 1 mm without a word."""
    thickness = dataset.get("SpacingBetweenSlices") or dataset.get("SliceThickness")
    if not thickness:
        raise InputError(f"{where}: is a single slice without SliceThickness; give the complete series")
    dataset.SpacingBetweenSlices = abs(float(thickness))


def _refuse_undecodable(datasets: list[Any], files: Sequence[Path]) -> None:
    """Name the file whose pixels cannot be decoded, if that was the reason."""
    for dataset, file in zip(datasets, files, strict=True):
        reason = _decoding_error(dataset)
        if reason:
            raise InputError(
                f"{file}: its pixels cannot be decoded ({reason}); copy it again or export it uncompressed"
            )


def _decoding_error(dataset: Any) -> str:
    try:
        _ = dataset.pixel_array
    except (ValueError, TypeError, AttributeError, KeyError, RuntimeError, NotImplementedError) as error:
        return _line(error)
    return ""


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
