"""What DICOM results need of their source: identifiers that name each image, and only one image."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from monai_zsad.errors import OutputError

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["UnfitSourceError", "check_references"]

_IDENTIFIERS = ("SOPInstanceUID", "SOPClassUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
_SHARED = {
    "StudyInstanceUID": "studies",
    "SeriesInstanceUID": "series",
    "FrameOfReferenceUID": "frames of reference",
}
# Components with leading zeros break the standard, but many archives have them, and a reference still finds its image.
_UID = re.compile(r"\d+(\.\d+)+")
_LONGEST = 64
_REMEDY = "export the original series, or leave DICOM results out"


class UnfitSourceError(OutputError):
    """A source that DICOM results cannot be made of. All other results of the case can still be written.

    Args:
        where: the file or folder, or the case.
        finding: what is wrong, without file names and without texts of the header: it goes into the report.
        remedy: what the user can do.
        detail: more about the finding, for the message only.

    Example:
        >>> print(UnfitSourceError("scan", "two of its slices have one SOPInstanceUID"))
        scan: two of its slices have one SOPInstanceUID; export the original series, or leave DICOM results out
    """

    def __init__(self, where: object, finding: str, remedy: str = _REMEDY, detail: str = "") -> None:
        super().__init__(f"{where}: {finding}{f' ({detail})' if detail else ''}; {remedy}")
        self.finding = finding
        self.remedy = remedy


def check_references(images: Sequence[Dataset], where: Path) -> None:
    """Refuse a source whose images the results could not name, or not one by one.

    A segmentation names its source images by these identifiers. If two slices have the same one, a viewer shows both
    frames on one slice.

    Args:
        images: the headers of all slices, or one multi-frame header.
        where: the file or folder, for the message.

    Raises:
        UnfitSourceError: an identifier is missing or not valid, two images share one, or the images belong to several
            series.
    """
    count = len(images)
    for keyword in _IDENTIFIERS:
        values = [str(image.get(keyword) or "").strip(" \0") for image in images]
        if missing := values.count(""):
            raise UnfitSourceError(where, f"{missing} of its {count} files have no {keyword}")
        if wrong := sum(not (_UID.fullmatch(value) and len(value) <= _LONGEST) for value in values):
            raise UnfitSourceError(where, f"{wrong} of its {count} files have a {keyword} that is not a valid UID")
        different = len(set(values))
        if keyword in _SHARED and different > 1:
            raise UnfitSourceError(where, f"its slices belong to {different} {_SHARED[keyword]}")
        if keyword == "SOPInstanceUID" and different < count:
            finding = f"its {count} slices have only {different} different SOPInstanceUIDs, which must identify a slice"
            raise UnfitSourceError(where, finding)
