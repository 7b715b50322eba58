"""Checks of the headers of a DICOM series: what each file must state, and what all files must have in common."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_zsad.data.codes import CODES, Repair, refusal
from monai_zsad.data.dicom.files import is_encapsulated, pixel_element, undecodable
from monai_zsad.data.dicom.split_series import identity_of, is_split_series
from monai_zsad.data.scan import ReadOptions
from monai_zsad.dicom_numbers import numbers_of

__all__ = ["DicomFile", "check_headers", "check_length", "frame_groups", "is_multi_frame", "is_perpendicular"]

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
)
_TOLERANCES = {"ImageOrientationPatient": (1e-4, 0.0), "PixelSpacing": (1e-4, 0.0)}
"""How much numbers of one series may differ: absolutely, and relatively."""
_LONGEST_DECIMAL = 16
_ORIGINAL = CODES["no-frame-of-reference"].remedy


def is_multi_frame(dataset: Any) -> bool:
    """Whether a file is an enhanced multi-frame file, which states its geometry in functional groups."""
    return "SharedFunctionalGroupsSequence" in dataset


def frame_groups(dataset: Any, name: str) -> list[Any]:
    """The item of a functional group for every frame of an enhanced file; None where a frame does not have one."""
    shared = dataset.SharedFunctionalGroupsSequence
    common = (shared[0].get(name) if shared else None) or [None]
    frames = dataset.get("PerFrameFunctionalGroupsSequence") or []
    return [(frame.get(name) or common)[0] for frame in frames]


def is_perpendicular(orientation: Sequence[float]) -> bool:
    """Whether the six numbers of an ImageOrientationPatient are two directions of length 1 at a right angle.

    Example:
        >>> is_perpendicular([1, 0, 0, 0, 1, 0]), is_perpendicular([1, 0, 0, 0.7, 0.7, 0])
        (True, False)
    """
    row, column = orientation[:3], orientation[3:]
    skew = abs(sum(a * b for a, b in zip(row, column, strict=True)))
    return max(abs(math.hypot(*row) - 1), abs(math.hypot(*column) - 1), skew) <= 1e-3


@dataclass(frozen=True)
class DicomFile:
    """A file of a series.

    Attributes:
        path: of the file.
        dataset: its content.
        flat: whether it is a 2D image on its own, which needs no geometry.
    """

    path: Path
    dataset: Any
    flat: bool = False


def check_headers(files: Sequence[DicomFile], where: Path, options: ReadOptions) -> list[Repair]:
    """Refuse files that are not grey images with a stated geometry, or that do not belong together.

    Args:
        files: of the series.
        where: of the series, named in messages.
        options: see :class:`~monai_zsad.data.ScanReader`.

    Returns:
        Warnings, one per code.

    Raises:
        InputError: naming the file or the series, and the header field.
    """
    repairs: dict[str, Repair] = {}
    for file in files:
        for check in FILE_CHECKS:
            for repair in check(file, options):
                repairs.setdefault(repair.code, repair)
    if len(files) > 1 and any(is_multi_frame(file.dataset) for file in files):
        raise refusal(
            where, "several-multi-frame", "holds several multi-frame files of one series", "give each in its own folder"
        )
    datasets = [file.dataset for file in files]
    for repair in _check_common(datasets, where):
        repairs.setdefault(repair.code, repair)
    first = datasets[0]
    count = sum(int(dataset.get("NumberOfFrames") or 1) for dataset in datasets)
    options.require_size(where, (int(first.Columns), int(first.Rows), count))
    return list(repairs.values())


def check_length(file: DicomFile) -> None:
    """Refuse a file whose uncompressed pixels are incomplete, or more than its header states.

    Raises:
        InputError: naming the file.
    """
    dataset, element = file.dataset, pixel_element(file.dataset)
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if element is None or is_encapsulated(dataset):
        return
    bits = int(dataset.Rows) * int(dataset.Columns) * int(dataset.BitsAllocated)
    stated, present = -(-bits * int(dataset.get("NumberOfFrames") or 1) // 8), element.present()
    if present < stated:
        raise undecodable(file.path, syntax, f"it holds {present} of {stated} bytes")
    if present >= 2 * stated:
        raise undecodable(file.path, syntax, f"it holds {present} bytes, and its header states {stated}")


def _check_kind(file: DicomFile, options: ReadOptions) -> list[Repair]:  # noqa: ARG001
    kind = file.dataset.SOPClassUID if "SOPClassUID" in file.dataset else None
    if kind is not None and kind.name != str(kind) and "Image Storage" not in kind.name:
        raise refusal(file.path, "not-an-image", f"is not an image ({kind.name})")
    return []


def _check_pixels(file: DicomFile, options: ReadOptions) -> list[Repair]:  # noqa: ARG001
    dataset = file.dataset
    if pixel_element(dataset) is None:
        raise refusal(file.path, "no-pixels", "has no pixel data")
    if "MOSAIC" in (dataset.get("ImageType") or ()):
        finding = "is a mosaic of slices, without the positions of the slices"
        raise refusal(file.path, "frames-without-positions", finding)
    photometric = str(dataset.get("PhotometricInterpretation") or "")
    if int(dataset.get("SamplesPerPixel") or 1) != 1 or photometric.startswith("PALETTE"):
        remedy = "give the original series with one value per pixel"
        raise refusal(file.path, "colour", "is a colour image", remedy)
    return []


def _check_bits(file: DicomFile, options: ReadOptions) -> list[Repair]:  # noqa: ARG001
    dataset = file.dataset
    grey = "PixelData" in dataset
    for key in ("Rows", "Columns", "BitsAllocated", *(("BitsStored", "PixelRepresentation") if grey else ())):
        if not isinstance(dataset.get(key), int):
            raise refusal(file.path, "undecodable", f"has no usable {key}")
    if not grey:
        return []
    allocated, stored = int(dataset.BitsAllocated), int(dataset.BitsStored)
    if not 0 < stored <= allocated:
        raise refusal(file.path, "undecodable", f"its BitsStored is {stored} and its BitsAllocated is {allocated}")
    high = dataset.get("HighBit")
    shifted = isinstance(high, int) and high != stored - 1
    if shifted and (not stored <= high < allocated or is_encapsulated(dataset)):
        finding = f"its HighBit is {high}, not {stored - 1} (BitsStored - 1), which decoders do not support"
        raise refusal(file.path, "undecodable", finding)
    return []


def _check_geometry(file: DicomFile, options: ReadOptions) -> list[Repair]:  # noqa: ARG001
    dataset, path = file.dataset, file.path
    if is_multi_frame(dataset):
        _require_frame_of_reference(file)
        return []
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise refusal(path, "frames-without-positions", "has several frames without positions")
    if file.flat:
        return []
    for key, count in _GEOMETRY.items():
        values = numbers_of(dataset, key)
        if len(values) != count or not all(map(math.isfinite, values)):
            found = "no usable" if dataset.get(key) else "no"
            raise refusal(path, "no-geometry", f"has {found} {key}", f"{_ORIGINAL}, with its geometry")
    _require_frame_of_reference(file)
    if any(float(length) <= 0 for length in dataset.PixelSpacing):
        raise refusal(path, "no-geometry", f"its PixelSpacing is {list(dataset.PixelSpacing)}", _ORIGINAL)
    if not is_perpendicular([float(value) for value in dataset.ImageOrientationPatient]):
        raise refusal(
            path, "bad-affine", "the directions in its ImageOrientationPatient are not perpendicular", _ORIGINAL
        )
    return []


def _require_frame_of_reference(file: DicomFile) -> None:
    if not file.dataset.get("FrameOfReferenceUID"):
        raise refusal(file.path, "no-frame-of-reference", "has no FrameOfReferenceUID")


def _check_rescale(file: DicomFile, options: ReadOptions) -> list[Repair]:
    dataset = file.dataset
    if is_multi_frame(dataset):
        groups = frame_groups(dataset, "PixelValueTransformationSequence")
        complete = bool(groups) and None not in groups
        stated = [group for group in groups if group is not None]
    else:
        # An element may be present and empty.
        pair = (dataset.get("RescaleSlope"), dataset.get("RescaleIntercept"))
        complete = "ModalityLUTSequence" in dataset or None not in pair
        stated = [dataset]
    for one in stated:
        slope, intercept = one.get("RescaleSlope"), one.get("RescaleIntercept")
        finite = all(value is None or math.isfinite(float(value)) for value in (slope, intercept))
        if not finite or (slope is not None and float(slope) == 0):
            finding = f"its RescaleSlope is {slope} and its RescaleIntercept is {intercept}"
            raise refusal(file.path, "bad-rescale", finding)
    if dataset.get("Modality") == "CT" and not complete:
        finding = "is CT without RescaleSlope and RescaleIntercept, so its HU are unknown"
        return [options.refuse(file.path, "no-rescale", finding)]
    return []


def _check_decimals(file: DicomFile, options: ReadOptions) -> list[Repair]:  # noqa: ARG001
    for key in _GEOMETRY:
        for value in file.dataset.get(key) or ():
            if len(str(getattr(value, "original_string", ""))) > _LONGEST_DECIMAL:
                sentence = (
                    f"{key} has decimal numbers of more than {_LONGEST_DECIMAL} characters; they were read in full"
                )
                return [Repair("overlong-decimals", sentence)]
    return []


FILE_CHECKS: tuple[Callable[[DicomFile, ReadOptions], list[Repair]], ...] = (
    _check_kind,
    _check_pixels,
    _check_bits,
    _check_geometry,
    _check_rescale,
    _check_decimals,
)
"""The checks of each file of a series, in their order."""


def _check_common(datasets: list[Any], where: Path) -> list[Repair]:
    series = {str(dataset.get("SeriesInstanceUID")) for dataset in datasets}
    joined = len(series) > 1 and is_split_series([identity_of(dataset) for dataset in datasets])
    for key, code, what in _COMMON[1:] if joined else _COMMON:
        found = _distinct(key, [dataset.get(key) for dataset in datasets])
        if len(found) > 1:
            # Messages are logged and reported, so they must not identify a patient.
            some = "" if key == "PatientID" else " " + ", ".join(sorted(map(_text, found))[:3])
            raise refusal(where, code, f"holds {what} ({key}{some})")
    if not joined:
        return []
    sentence = f"{len(series)} series of one slice each were put together: they are equal in all but their UID"
    return [Repair("series-joined", sentence)]


def _distinct(key: str, values: Sequence[Any]) -> list[Any]:
    """The values that differ; numbers differ if they are further apart than their tolerance."""
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
