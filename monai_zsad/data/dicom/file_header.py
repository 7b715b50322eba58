"""What grouping needs to know of one DICOM file; its pixels are not read."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_zsad.data.dicom.files import BARE_SUFFIXES, keeps_headers, limit_deflated, may_be_bare, open_dicom
from monai_zsad.data.dicom.split_series import SliceIdentity, identity_of
from monai_zsad.data.dicom.volume_keys import Value, file_values, volume_tags
from monai_zsad.data.scan import READ_ERRORS
from monai_zsad.dicom_log import drop_character_set_lines
from monai_zsad.dicom_numbers import numbers_of, repair_numbers
from monai_zsad.errors import InputError

__all__ = ["Header", "is_broken", "read_header", "why_not_a_scan"]

_logger = logging.getLogger(__name__)
_DIRECTORY = "1.2.840.10008.1.3.10"
_TAGS = (
    "SOPClassUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "SeriesNumber",
    "SeriesDescription",
    "Modality",
    "BodyPartExamined",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "ConcatenationUID",
    "ImagesInAcquisition",
    "PixelSpacing",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "SharedFunctionalGroupsSequence",
)


@dataclass(frozen=True)
class Header:
    """Fields of the header of one DICOM file; lengths in mm, directions in LPS.

    ``values`` are those of :data:`~monai_zsad.data.dicom.volume_keys.KEYS`; ``part`` is the number of the volume, from
    1, if the series holds several volumes, otherwise 0; ``concatenated`` files are parts of one multi-frame image;
    ``stated`` is the number of images of the acquisition, or 0 if the file does not state it.
    """

    kind: str
    image_type: tuple[str, ...]
    uid: str
    number: int | None
    modality: str
    description: str = ""
    body_part: str = ""
    study: str = ""
    rows: int = 0
    columns: int = 0
    frames: int = 1
    spacing: tuple[float, ...] = ()
    position: tuple[float, ...] = ()
    orientation: tuple[float, ...] = ()
    enhanced: bool = False
    values: tuple[Value, ...] = ()
    identity: SliceIdentity | None = None
    concatenated: bool = False
    stated: int = 0
    part: int = 0


def read_header(file: Path) -> Header | None:
    """The DICOM header without pixels, or None if the file is not DICOM or cannot be read."""
    import pydicom
    from pydicom.misc import is_dicom
    from pydicom.uid import UID

    drop_character_set_lines()
    try:
        force = not is_dicom(file)
        if force and not may_be_bare(file):
            return None
        ds = _kept_header(file) if keeps_headers() else None
        if ds is None:
            limit_deflated(file)
            ds = pydicom.dcmread(file, stop_before_pixels=True, force=force, specific_tags=_tags())
            repair_numbers(ds)
        kind = ds.get("SOPClassUID") or ds.file_meta.get("MediaStorageSOPClassUID")
        # Every object except a DICOMDIR has a series; otherwise the file was truncated within its header.
        if not ds.get("SeriesInstanceUID") and kind != _DIRECTORY:
            return None
        number = ds.get("SeriesNumber")
        enhanced = "SharedFunctionalGroupsSequence" in ds
        return Header(
            kind=UID(kind).name if kind else "no SOPClassUID",
            image_type=tuple(str(value).upper() for value in ds.get("ImageType") or ()),
            uid=str(ds.get("SeriesInstanceUID") or ""),
            number=None if number is None else int(number),
            modality=str(ds.get("Modality") or ""),
            description=str(ds.get("SeriesDescription") or ""),
            body_part=str(ds.get("BodyPartExamined") or ""),
            study=str(ds.get("StudyInstanceUID") or ""),
            rows=int(ds.get("Rows") or 0),
            columns=int(ds.get("Columns") or 0),
            frames=int(ds.get("NumberOfFrames") or 1),
            spacing=numbers_of(ds, "PixelSpacing"),
            position=numbers_of(ds, "ImagePositionPatient"),
            orientation=numbers_of(ds, "ImageOrientationPatient"),
            enhanced=enhanced,
            values=() if enhanced else file_values(ds),
            identity=None if enhanced else identity_of(ds),
            concatenated=bool(ds.get("ConcatenationUID")),
            stated=_stated(ds),
        )
    except READ_ERRORS as error:
        _logger.debug("%s: not readable as DICOM (%s)", file, type(error).__name__)
        return None


def _stated(ds: Any) -> int:
    """Number of images of the acquisition; 0 if it is not stated, or not a number: a scan is read all the same."""
    try:
        return int(ds.get("ImagesInAcquisition") or 0)
    except READ_ERRORS:
        return 0


def _kept_header(file: Path) -> Any:
    """The whole header; None where the checks refuse it, but the search can still tell the series."""
    try:
        return open_dicom(file)[0]
    except InputError:
        return None


def why_not_a_scan(header: Header) -> str:
    """Reason to leave a DICOM file out, or an empty string."""
    if "Image Storage" not in header.kind:
        return f"not an image ({header.kind})"
    if "Secondary Capture" in header.kind:
        return "secondary capture"
    if "LOCALIZER" in header.image_type:
        return "localizer"
    return ""


def is_broken(file: Path) -> bool:
    """Whether an unreadable file was a DICOM file: by its name, by the mark ``DICM``, or because it is empty."""
    from pydicom.misc import is_dicom

    suffix = file.suffix.lower()
    if suffix in BARE_SUFFIXES:
        return True
    try:
        # Slices are often named without an ending, or end in a number (a UID).
        empty = file.stat().st_size == 0 and (suffix == "" or suffix[1:].isdigit())
        return empty or is_dicom(file)
    except OSError:
        return False


@functools.cache
def _tags() -> list[int]:
    from pydicom.datadict import tag_for_keyword

    return [*volume_tags(), *(tag for keyword in _TAGS if (tag := tag_for_keyword(keyword)) is not None)]
