"""The DICOM files of a scan, matched by position with the slices of its volume."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from monai.data.utils import orientation_ras_lps

from monai_zsad.dicom_log import drop_character_set_lines
from monai_zsad.dicom_numbers import repair_numbers
from monai_zsad.errors import OutputError
from monai_zsad.writers.dicom.references import UnfitSourceError, check_references
from monai_zsad.writers.dicom.texts import settle_texts
from monai_zsad.writers.facts import ResultWarning

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["SourceSeries", "read_source", "header_errors"]

# Tolerances, as fractions of a pixel and of the slice distance. The reader accepts slice positions that vary by 5 % of
# the slice distance.
_IN_PLANE, _ALONG = 0.1, 0.25
_SET_ASIDE = ("PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime")
_NEEDED = ("PatientID", "AccessionNumber", "StudyID", "ReferringPhysicianName")
# Free text about hospital and machine, which highdicom would copy as contributing equipment, specimen and reference.
_LEFT_OUT = (
    *("InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "StationName", "DeviceSerialNumber"),
    *("ContainerIdentifier", "IssuerOfTheContainerIdentifierSequence", "AlternateContainerIdentifierSequence"),
    *("ContainerTypeCodeSequence", "ContainerDescription", "ContainerComponentSequence", "SpecimenDescriptionSequence"),
    "PositionReferenceIndicator",
)
_REPLACED = ResultWarning(
    "text-replaced",
    "texts of the DICOM header do not fit its character set: DICOM results hold what could be decoded, with ? for the "
    "rest; compare the patient's name with the source",
)
# Groups 0002 and 0008, little and big endian.
_FIRST_GROUPS = (b"\x02\x00", b"\x00\x02", b"\x08\x00", b"\x00\x08")


@dataclass(frozen=True)
class SourceSeries:
    """Headers of a source series, and the slice of the volume for each frame.

    Attributes:
        images: headers without pixels: one for each slice, in the order of the volume's third axis, or one for a
            multi-frame file.
        order: for each frame of ``images``, its index along the volume's third axis.
        identity: values of patient and study. They are not in ``images``, because highdicom and pydicom quote unusual
            values in logs and errors. :meth:`identify` copies them into a result.
        warnings: what results of this source must say.
        remarks: further sentences that every object must contain, with 64 characters at most.
    """

    images: list[Dataset]
    order: np.ndarray
    identity: dict[str, Any]
    warnings: tuple[ResultWarning, ...] = ()
    remarks: tuple[str, ...] = ()

    def identify(self, result: Dataset) -> None:
        """Copy the values of patient and study into a result."""
        for keyword, value in self.identity.items():
            # Results share elements with the header, so setting a value in place would change the header, too.
            if keyword in result:
                delattr(result, keyword)
            setattr(result, keyword, value)

    def frames(self, values: np.ndarray) -> np.ndarray:
        """Values (X, Y, Z) as (frames, rows, columns), one for each frame of the source, in its order."""
        frames = values.transpose(2, 1, 0)
        in_order = np.array_equal(self.order, np.arange(len(self.order)))
        return np.ascontiguousarray(frames if in_order else frames[self.order])


@contextlib.contextmanager
def header_errors(what: str) -> Iterator[None]:
    """Replace errors of highdicom and pydicom about an unusable header by an error with a remedy.

    Values are not validated: a warning of pydicom would quote the value, so that for example a birth date would reach
    the log. The values stay as they are in the source.

    Raises:
        UnfitSourceError: instead of the errors of these libraries.
    """
    from pydicom.config import disable_value_validation
    from pydicom.datadict import tag_for_keyword

    try:
        with disable_value_validation():
            yield
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, NotImplementedError) as error:
        reason = str(error).split("\n")[0] or type(error).__name__
        finding = "cannot be made of this source"
        # Only the name of an attribute, because messages of these libraries quote values.
        if (lacking := getattr(error, "name", None)) and tag_for_keyword(str(lacking)) is not None:
            finding += f", whose header lacks {lacking}"
        remedy = "repair the source's header, or write no DICOM results"
        raise UnfitSourceError(what, finding, remedy, reason) from error


def read_source(
    files: Sequence[str | os.PathLike[str]], affine: np.ndarray, shape: Sequence[int]
) -> SourceSeries | None:
    """Read the headers of a series and find the file, or frame, of every slice of a volume.

    The match is by position, so the order of the files and their numbers do not matter. Files that belong to no slice
    (duplicates that the reader left out) are ignored.

    Args:
        files: all files of the series.
        affine: (4, 4), index of the volume to mm, RAS; X runs along the columns, Y along the rows.
        shape: (X, Y, Z) of the volume.

    Returns:
        The series; ``None`` if the files are not DICOM.

    Raises:
        UnfitSourceError: the headers lack what results refer to.
        OutputError: a file cannot be read again, or the volume is not on the grid of the files.
    """
    drop_character_set_lines()
    paths = [Path(file) for file in files]
    try:
        if not paths or any(path.is_dir() or not _begins_as_dicom(path) for path in paths):
            return None
    except OSError as error:
        raise OutputError(f"{paths[0].parent}: the scan's files cannot be read again ({error.strerror})") from error
    where = paths[0] if len(paths) == 1 else paths[0].parent
    with header_errors(str(where)):
        # If several slices have the same position, the reader keeps the first by number. So does the match.
        headers = sorted((_header(path) for path in paths), key=_number)
        multi_frame = "PerFrameFunctionalGroupsSequence" in headers[0]
        if multi_frame and len(headers) > 1:
            finding = "holds several multi-frame files"
            raise UnfitSourceError(where, finding, "DICOM results need one of them alone")
        planes = _frame_planes(headers[0]) if multi_frame else [_plane(header) for header in headers]
        nearest = _match(planes, headers[0], orientation_ras_lps(np.array(affine, dtype=np.float64)), shape, where)
        if multi_frame and len(planes) != len(nearest):
            finding = f"has {len(planes)} frames, the map {len(nearest)} slices"
            raise UnfitSourceError(where, finding, "give one volume")
        images = headers if multi_frame else [headers[index] for index in nearest]
        check_references(images, where)
        # Results take their texts from the first image only.
        replaced = settle_texts(images[0])
        identity = {keyword: images[0].get(keyword) for keyword in _SET_ASIDE}
        for image in images:
            image.SpecificCharacterSet = images[0].get("SpecificCharacterSet")
            for keyword in _SET_ASIDE:
                setattr(image, keyword, None)
        if not multi_frame:
            _unify(images, float(np.linalg.norm(np.asarray(affine)[:3, 2])))
    order = np.argsort(nearest) if multi_frame else np.arange(len(images))
    return SourceSeries(images, order, identity, (_REPLACED,) if replaced else ())


def _begins_as_dicom(path: Path) -> bool:
    """Whether a file has the DICOM prefix or, because some scanners omit it, begins with DICOM elements."""
    with path.open("rb") as stream:
        head = stream.read(132)
    return head[128:] == b"DICM" or head[:2] in _FIRST_GROUPS


def _header(path: Path) -> Dataset:
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
    except (InvalidDicomError, OSError, EOFError, ValueError, KeyError, NotImplementedError) as error:
        raise OutputError(f"{path}: the scan's file cannot be read again; keep it until the run ends") from error
    # As in reading: highdicom copies labels, and fails on a SeriesNumber such as 3A.
    repair_numbers(header)
    for keyword in _NEEDED:
        if keyword not in header:
            setattr(header, keyword, None)
    for keyword in _LEFT_OUT:
        if keyword in header:
            delattr(header, keyword)
    return header


def _number(header: Dataset) -> float:
    try:
        return float(header.get("InstanceNumber"))
    except (TypeError, ValueError):
        return math.inf


def _plane(groups: Dataset) -> np.ndarray:
    """Position, direction along the columns, direction along the rows of a slice, (3, 3), in mm, LPS."""
    down, across = (float(length) for length in groups.PixelSpacing)
    cosines = np.array([float(value) for value in groups.ImageOrientationPatient])
    position = np.array([float(value) for value in groups.ImagePositionPatient])
    return np.stack([position, cosines[:3] * across, cosines[3:] * down])


def _frame_planes(header: Dataset) -> list[np.ndarray]:
    from pydicom import Dataset

    shared = header.SharedFunctionalGroupsSequence[0]
    planes = []
    for frame in header.PerFrameFunctionalGroupsSequence:
        merged = Dataset()
        for group in ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"):
            merged.update((frame if group in frame else shared)[group][0])
        planes.append(_plane(merged))
    return planes


def _match(
    planes: Sequence[np.ndarray], header: Dataset, affine: np.ndarray, shape: Sequence[int], where: Path
) -> np.ndarray:
    """The index of the frame of each slice of the volume."""
    size = (int(header.Columns), int(header.Rows))
    if tuple(shape[:2]) != size:
        raise OutputError(
            f"{where}: has slices of {size[0]} x {size[1]} pixels, the map of {shape[0]} x {shape[1]}; "
            "bring the map back to the scan's grid first (Invertd)"
        )
    across, down = planes[0][1:]
    off = [np.linalg.norm(affine[:3, i] - step) * (size[i] - 1) for i, step in enumerate((across, down))]
    slices = affine[:3, 3] + np.arange(shape[2])[:, None] * affine[:3, 2]
    distances = np.linalg.norm(slices[:, None] - np.stack([plane[0] for plane in planes])[None], axis=-1)
    nearest = distances.argmin(axis=1)
    step = float(np.linalg.norm(affine[:3, 2]))
    farthest = float(distances.min(axis=1).max())
    if max(off) > _IN_PLANE * min(np.linalg.norm(across), np.linalg.norm(down)) or farthest > _ALONG * step:
        raise OutputError(
            f"{where}: the map is not on the grid of these files (a slice is {farthest:.2f} mm, a corner "
            f"{max(off):.2f} mm off); bring it back to the scan's grid first (Invertd), and leave DICOM results out "
            "for a resampled scan"
        )
    return nearest


def _unify(images: Sequence[Dataset], step: float) -> None:
    """One orientation and distance for all slices: highdicom needs exactly equal values."""
    for image in images:
        image.ImageOrientationPatient = images[0].ImageOrientationPatient
        image.PixelSpacing = images[0].PixelSpacing
        if len(images) > 1:
            # The distance in headers can be negative or wrong; the positions are right.
            image.SpacingBetweenSlices = f"{step:.8g}"
        if not image.get("SliceThickness"):
            image.SliceThickness = f"{step:.8g}"
