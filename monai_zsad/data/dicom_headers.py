"""What the headers of a DICOM series must have in common, and each of them must state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai_zsad.data.scan import ReadOptions
from monai_zsad.data.verdicts import Repair
from monai_zsad.errors import InputError

__all__ = ["check_headers", "frame_groups", "is_multi_frame"]

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_GEOMETRY = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}
_COMMON = (
    ("SeriesInstanceUID", "several-series", "several series"),
    ("PatientID", "several-patients", "several patients"),
    ("FrameOfReferenceUID", "several-frames-of-reference", "several frames of reference"),
    ("Rows", "mixed-sizes", "slices of different size"),
    ("Columns", "mixed-sizes", "slices of different size"),
    ("ImageOrientationPatient", "mixed-orientations", "slices of different orientation"),
    ("PixelSpacing", "mixed-spacings", "slices of different pixel spacing"),
    ("EchoTime", "several-volumes", "several echoes"),
)
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
    if not dataset.get("FrameOfReferenceUID"):
        raise InputError(
            f"{file}: has no FrameOfReferenceUID; export the original series, with its geometry",
            code="no-frame-of-reference",
        )
    if any(float(length) <= 0 for length in dataset.PixelSpacing):
        raise InputError(
            f"{file}: its PixelSpacing is {list(dataset.PixelSpacing)}; export the original series", code="no-geometry"
        )
    axes = [float(value) for value in dataset.ImageOrientationPatient]
    row, column = axes[:3], axes[3:]
    skew = abs(sum(a * b for a, b in zip(row, column, strict=True)))
    if max(abs(math.hypot(*row) - 1), abs(math.hypot(*column) - 1), skew) > 1e-3:
        raise InputError(
            f"{file}: its ImageOrientationPatient is no pair of perpendicular directions; export the original series",
            code="bad-affine",
        )


def _check_rescale(dataset: Any, file: Path, options: ReadOptions) -> Repair | None:
    if is_multi_frame(dataset):
        groups = frame_groups(dataset, "PixelValueTransformationSequence")
        complete = bool(groups) and None not in groups
        slopes = [group.get("RescaleSlope") for group in groups if group is not None]
    else:
        complete = "ModalityLUTSequence" in dataset or all(
            key in dataset for key in ("RescaleSlope", "RescaleIntercept")
        )
        slopes = [dataset.get("RescaleSlope")]
    if any(slope is not None and (float(slope) == 0 or not math.isfinite(float(slope))) for slope in slopes):
        raise InputError(f"{file}: its RescaleSlope is {slopes[0]}; export the original series", code="bad-rescale")
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
        found = {_comparable(key, dataset.get(key)) for dataset in datasets}
        if len(found) > 1:
            # Messages are logged and reported: identifiers of a patient have no place in them.
            some = "" if key == "PatientID" else " " + ", ".join(sorted(found)[:3])
            raise InputError(f"{where}: holds {what} ({key}{some}); put each into its own folder", code=code)


def _comparable(key: str, value: Any) -> str:
    """Text of a header value in which decimals count to the fifth digit, so that 1 equals 1.000000."""
    if key == "EchoTime" and value is not None:
        return f"{float(value):.3g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "/".join(f"{float(number) + 0.0:.5f}".replace("-0.00000", "0.00000") for number in value)
    return str(value)
