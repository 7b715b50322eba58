"""What the headers of a DICOM series must have in common, and each of them must state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai_zsad.data.codes import Repair
from monai_zsad.data.scan import ReadOptions
from monai_zsad.errors import InputError

__all__ = ["check_headers", "frame_groups", "is_multi_frame", "is_perpendicular"]

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_GEOMETRY = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}
_COMMON = (
    ("SeriesInstanceUID", "several-series", "several series"),
    ("StudyInstanceUID", "several-series", "several studies"),
    ("Modality", "several-series", "several modalities"),
    ("PatientID", "several-patients", "several patients"),
    ("FrameOfReferenceUID", "several-frames-of-reference", "several frames of reference"),
    ("Rows", "mixed-sizes", "slices of different size"),
    ("Columns", "mixed-sizes", "slices of different size"),
    ("ImageOrientationPatient", "mixed-orientations", "slices of different orientation"),
    ("PixelSpacing", "mixed-spacings", "slices of different pixel spacing"),
    ("EchoTime", "several-volumes", "several echoes"),
)
_TOLERANCES = {"ImageOrientationPatient": (1e-4, 0.0), "PixelSpacing": (1e-4, 0.0), "EchoTime": (0.0, 0.01)}
"""By how much numbers of one series may differ: absolutely, and relatively."""
_LONGEST_DECIMAL = 16


def is_multi_frame(dataset: Any) -> bool:
    """Whether a file is of an enhanced kind, whose geometry stands in functional groups."""
    return "SharedFunctionalGroupsSequence" in dataset


def frame_groups(dataset: Any, name: str) -> list[Any]:
    """The item of a functional group for every frame of an enhanced file, None where a frame has none."""
    shared = dataset.SharedFunctionalGroupsSequence
    common = (shared[0].get(name) if shared else None) or [None]
    frames = dataset.get("PerFrameFunctionalGroupsSequence") or []
    return [(frame.get(name) or common)[0] for frame in frames]


def check_headers(
    datasets: list[Any], files: Sequence[Path], where: Path, *, flat: bool, options: ReadOptions
) -> list[Repair]:
    """Refuse what is no grey image with a stated geometry, or does not belong together.

    Args:
        datasets: of all files.
        files: their paths.
        where: of the series, named in messages.
        flat: whether this is a 2D picture, which needs no geometry.
        options: see :class:`~monai_zsad.data.ScanReader`.

    Returns:
        Warnings.

    Raises:
        InputError: naming the file or the series, and the header field.
    """
    repairs: dict[str, Repair] = {}
    for dataset, file in zip(datasets, files, strict=True):
        _check_image(dataset, file)
        if is_multi_frame(dataset):
            _check_frame_of_reference(dataset, file)
            if len(files) > 1:
                raise InputError(
                    f"{where}: holds several multi-frame files of one series; give each in its own folder",
                    code="several-multi-frame",
                )
        elif int(dataset.get("NumberOfFrames") or 1) > 1:
            raise InputError(
                f"{file}: has several frames without positions; export it as single slices or enhanced DICOM",
                code="frames-without-positions",
            )
        elif not flat:
            _check_geometry(dataset, file)
        for repair in (_check_rescale(dataset, file, options), _check_decimals(dataset)):
            if repair is not None:
                repairs.setdefault(repair.code, repair)
    _check_common(datasets, where)
    first = datasets[0]
    count = sum(int(dataset.get("NumberOfFrames") or 1) for dataset in datasets)
    options.require_size(where, (int(first.Columns), int(first.Rows), count))
    return list(repairs.values())


def _check_image(dataset: Any, file: Path) -> None:
    kind = dataset.SOPClassUID if "SOPClassUID" in dataset else None
    if kind is not None and kind.name != str(kind) and "Image Storage" not in kind.name:
        raise InputError(f"{file}: is no image ({kind.name}); give the images it was made from", code="not-an-image")
    if not any(key in dataset for key in _PIXELS):
        raise InputError(f"{file}: has no pixel data; copy or export it again", code="no-pixels")
    if "MOSAIC" in (dataset.get("ImageType") or ()):
        raise InputError(
            f"{file}: is a mosaic of slices, which it does not place; export it as single slices or enhanced DICOM",
            code="frames-without-positions",
        )
    stored, high = dataset.get("BitsStored"), dataset.get("HighBit")
    if stored is not None and high is not None and int(high) != int(stored) - 1:
        raise InputError(
            f"{file}: its HighBit is {high}, not {int(stored) - 1} (BitsStored - 1), which no decoder honours; export "
            "it again",
            code="undecodable",
        )
    photometric = str(dataset.get("PhotometricInterpretation") or "")
    if int(dataset.get("SamplesPerPixel") or 1) != 1 or photometric.startswith("PALETTE"):
        raise InputError(f"{file}: is a colour image; give the original series with one value per pixel", code="colour")


def _check_geometry(dataset: Any, file: Path) -> None:
    for key, count in _GEOMETRY.items():
        values = dataset.get(key)
        if not values or len(values) != count or not all(math.isfinite(float(value)) for value in values):
            found = "no" if not values else "no usable"
            raise InputError(
                f"{file}: has {found} {key}; export the original series, with its geometry", code="no-geometry"
            )
    _check_frame_of_reference(dataset, file)
    if any(float(length) <= 0 for length in dataset.PixelSpacing):
        raise InputError(
            f"{file}: its PixelSpacing is {list(dataset.PixelSpacing)}; export the original series", code="no-geometry"
        )
    if not is_perpendicular([float(value) for value in dataset.ImageOrientationPatient]):
        raise InputError(
            f"{file}: its ImageOrientationPatient is no pair of perpendicular directions; export the original series",
            code="bad-affine",
        )


def _check_frame_of_reference(dataset: Any, file: Path) -> None:
    if not dataset.get("FrameOfReferenceUID"):
        raise InputError(
            f"{file}: has no FrameOfReferenceUID; export the original series, with its geometry",
            code="no-frame-of-reference",
        )


def is_perpendicular(orientation: Sequence[float]) -> bool:
    """Whether the six numbers of an ImageOrientationPatient are two directions of length 1 at a right angle.

    Example:
        >>> is_perpendicular([1, 0, 0, 0, 1, 0]), is_perpendicular([1, 0, 0, 0.7, 0.7, 0])
        (True, False)
    """
    row, column = orientation[:3], orientation[3:]
    skew = abs(sum(a * b for a, b in zip(row, column, strict=True)))
    return max(abs(math.hypot(*row) - 1), abs(math.hypot(*column) - 1), skew) <= 1e-3


def _check_rescale(dataset: Any, file: Path, options: ReadOptions) -> Repair | None:
    if is_multi_frame(dataset):
        groups = frame_groups(dataset, "PixelValueTransformationSequence")
        complete = bool(groups) and None not in groups
        stated = [group for group in groups if group is not None]
    else:
        # An element may be there and empty.
        pair = (dataset.get("RescaleSlope"), dataset.get("RescaleIntercept"))
        complete = "ModalityLUTSequence" in dataset or None not in pair
        stated = [dataset]
    for one in stated:
        slope, intercept = one.get("RescaleSlope"), one.get("RescaleIntercept")
        finite = all(value is None or math.isfinite(float(value)) for value in (slope, intercept))
        if not finite or (slope is not None and float(slope) == 0):
            raise InputError(
                f"{file}: its RescaleSlope is {slope} and its RescaleIntercept {intercept}; export the original series",
                code="bad-rescale",
            )
    if dataset.get("Modality") == "CT" and not complete:
        finding = "is CT without RescaleSlope and RescaleIntercept, so its HU are unknown"
        return options.refuse(file, "no-rescale", finding, "export the original series")
    return None


def _check_decimals(dataset: Any) -> Repair | None:
    for key in _GEOMETRY:
        for value in dataset.get(key) or ():
            if len(str(getattr(value, "original_string", ""))) > _LONGEST_DECIMAL:
                sentence = f"{key} has decimals of more than {_LONGEST_DECIMAL} characters; read in full"
                return Repair("overlong-decimals", sentence)
    return None


def _check_common(datasets: list[Any], where: Path) -> None:
    for key, code, what in _COMMON:
        found = _distinct(key, [dataset.get(key) for dataset in datasets])
        if len(found) > 1:
            # Messages are logged and reported: identifiers of a patient have no place in them.
            some = "" if key == "PatientID" else " " + ", ".join(sorted(map(_text, found))[:3])
            raise InputError(f"{where}: holds {what} ({key}{some}); put each into its own folder", code=code)


def _distinct(key: str, values: Sequence[Any]) -> list[Any]:
    """The values that differ; numbers by more than their tolerance, so that those of 1.0 and 1.000001 are one."""
    if key not in _TOLERANCES:
        return list({str(value): value for value in values}.values())
    absolute, relative = _TOLERANCES[key]
    distinct: list[Any] = []
    for value in values:
        if not any(_close(value, other, absolute, relative) for other in distinct):
            distinct.append(value)
    return distinct


def _close(one: Any, other: Any, absolute: float, relative: float) -> bool:
    if one is None or other is None:
        return one is other
    pairs = zip(_numbers(one), _numbers(other), strict=True)
    return all(math.isclose(a, b, rel_tol=relative, abs_tol=absolute) for a, b in pairs)


def _numbers(value: Any) -> list[float]:
    return [float(number) for number in (value if _is_list(value) else [value])]


def _text(value: Any) -> str:
    return "/".join(f"{number:g}" for number in _numbers(value)) if _is_list(value) else str(value)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
