"""DICOM files grouped into series by their headers; pixels are not read."""

from __future__ import annotations

import logging
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from monai_zsad.data.codes import Repair, refusal
from monai_zsad.data.dicom.files import BARE_SUFFIXES, limit_deflated, may_be_bare
from monai_zsad.data.dicom.numbers import mend_numbers
from monai_zsad.data.dicom.volume import is_flat
from monai_zsad.data.scan import READ_ERRORS

__all__ = ["Header", "Series", "closest", "group_series", "matches", "why_not_a_scan"]

_logger = logging.getLogger(__name__)
_VOLUME_KEYS = (
    "EchoTime",
    "EchoNumbers",
    "DiffusionBValue",
    "TemporalPositionIdentifier",
    "TriggerTime",
    "ImageType",
    "AcquisitionNumber",
)
_DIRECTORY = "1.2.840.10008.1.3.10"
_TAGS = [
    *_VOLUME_KEYS,
    "SOPClassUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "Modality",
    "BodyPartExamined",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "PixelSpacing",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "SharedFunctionalGroupsSequence",
]


@dataclass(frozen=True)
class Header:
    """Fields of the header of one DICOM file; lengths in mm, directions in LPS."""

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
    keys: tuple[str, ...] = ()


@dataclass
class Series:
    """Files of one DICOM series, or of one of the volumes in it.

    Attributes:
        header: of the first file.
        members: every file with its header; None for a file that cannot be read.
        part: number of the volume, from 1, if the series holds several volumes; otherwise 0.
        repairs: warnings about files that were left out beside it.
    """

    header: Header
    members: list[tuple[Path, Header | None]] = field(default_factory=list)
    part: int = 0
    repairs: list[Repair] = field(default_factory=list)

    @property
    def files(self) -> list[Path]:
        """Paths in order."""
        return sorted(file for file, _ in self.members)

    @property
    def folder(self) -> Path:
        """The deepest folder that holds all files."""
        return Path(os.path.commonpath([file.parent for file, _ in self.members]))


def group_series(files: Sequence[Path], unread: list[Path] | None = None) -> tuple[list[Series], list[Series]]:
    """Group the DICOM files among ``files``; other files are ignored.

    Several volumes under one series (echoes, time points) become one entry each, and so do 2D images such as X-rays.
    An unreadable file stays with the series in its folder. Otherwise the series would lose a slice without a warning.

    Args:
        files: in any order.
        unread: receives the unreadable DICOM files that belong to no series.

    Returns:
        The series that are scans, in the order of their first files, and those that are not (localizers, captures,
        SEG, SR and other objects).
    """
    groups: dict[tuple[str, str], Series] = {}
    broken: list[Path] = []
    for file in files:
        header = _read_header(file)
        if header is None:
            if _is_broken(file):
                broken.append(file)
            continue
        reason = why_not_a_scan(header)
        groups.setdefault((header.uid, reason), Series(header)).members.append((file, header))
    found = sorted(groups.values(), key=lambda one: str(one.files[0]))
    skipped = [one for one in found if why_not_a_scan(one.header)]
    kept = [part for one in found if not why_not_a_scan(one.header) for part in _split(one)]
    counts = Counter({reason: 0 for reason in map(why_not_a_scan, (one.header for one in skipped))})
    for one in skipped:
        counts[why_not_a_scan(one.header)] += len(one.members)
    for reason, count in sorted(counts.items()):
        _logger.info("left out %d DICOM file%s: %s", count, "s" if count > 1 else "", reason)
    _note_neighbours(kept, skipped)
    alone = _assign_broken(broken, kept)
    if unread is not None:
        unread += alone
    return kept, skipped


def why_not_a_scan(header: Header) -> str:
    """Reason to leave a DICOM file out, or an empty string."""
    if "Image Storage" not in header.kind:
        return f"not an image ({header.kind})"
    if "Secondary Capture" in header.kind:
        return "secondary capture"
    if "LOCALIZER" in header.image_type:
        return "localizer"
    return ""


def matches(header: Header, choice: str) -> int:
    """How exactly a choice names a series: 4 by UID, 3 by number, 2 by modality, 1 by description, 0 not at all.

    Example:
        >>> header = Header("MR Image Storage", (), "1.2.3", 4, "MR", description="Ax T2 FLAIR")
        >>> [matches(header, choice) for choice in ("1.2.3", "4", "mr", "flair", "T1")]
        [4, 3, 2, 1, 0]
    """
    wanted = choice.strip().casefold()
    if wanted == header.uid:
        return 4
    if header.number is not None and wanted == str(header.number):
        return 3
    if wanted == header.modality.casefold():
        return 2
    return int(bool(wanted) and wanted in header.description.casefold())


def closest(headers: Sequence[Header], choice: str | int, where: Path | str) -> list[bool]:
    """Which series a choice means: those that it names most exactly.

    Args:
        headers: of the series.
        choice: UID, number, modality or part of the description.
        where: the folder or server, named in the message.

    Returns:
        One truth value per header.

    Raises:
        InputError: if it names no series; the message lists the numbers and modalities of the series.
    """
    ranks = [matches(header, str(choice)) for header in headers]
    best = max(ranks, default=0)
    if best == 0:
        there = sorted({f"{header.number or '?'} ({header.modality or '?'})" for header in headers})
        finding = f"holds no series {str(choice)!r} (by UID, number, modality or description)"
        remedy = f"choose one of the series that it holds: {', '.join(there[:10]) or 'none'}"
        raise refusal(where, "no-such-series", finding, remedy)
    return [rank == best for rank in ranks]


def _read_header(file: Path) -> Header | None:
    """The DICOM header without pixels, or None if the file is not DICOM or cannot be read."""
    import pydicom
    from pydicom.misc import is_dicom
    from pydicom.uid import UID

    try:
        force = not is_dicom(file)
        if force and not may_be_bare(file):
            return None
        limit_deflated(file)
        ds = pydicom.dcmread(file, stop_before_pixels=True, force=force, specific_tags=list(_TAGS))
        mend_numbers(ds)
        kind = ds.get("SOPClassUID") or ds.file_meta.get("MediaStorageSOPClassUID")
        # Every object except a DICOMDIR has a series; otherwise the file was truncated within its header.
        if not ds.get("SeriesInstanceUID") and kind != _DIRECTORY:
            return None
        number = ds.get("SeriesNumber")
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
            spacing=_numbers(ds.get("PixelSpacing")),
            position=_numbers(ds.get("ImagePositionPatient")),
            orientation=_numbers(ds.get("ImageOrientationPatient")),
            enhanced="SharedFunctionalGroupsSequence" in ds,
            keys=tuple(str(ds.get(key)) for key in _VOLUME_KEYS),
        )
    except READ_ERRORS as error:
        _logger.debug("%s: not readable as DICOM (%s)", file, type(error).__name__)
        return None


def _numbers(value: Any) -> tuple[float, ...]:
    return tuple(float(number) for number in value or ())


def _is_broken(file: Path) -> bool:
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


def _split(series: Series) -> list[Series]:
    """Volumes under one series, or 2D images, as entries of their own; other series unchanged."""
    headers = [(file, header) for file, header in series.members if header is not None]
    if len(headers) > 1 and all(is_flat(h.modality, bool(h.position)) and not h.enhanced for _, h in headers):
        members = sorted(headers, key=lambda member: str(member[0]))
        return [Series(header, [(file, header)], part) for part, (file, header) in enumerate(members, start=1)]
    places = Counter(header.position for _, header in headers)
    if () in places or max(places.values()) < 2:
        return [series]
    for index, key in enumerate(_VOLUME_KEYS):
        groups: defaultdict[str, list[tuple[Path, Header | None]]] = defaultdict(list)
        for file, header in headers:
            groups[header.keys[index]].append((file, header))
        parts = list(groups.values())
        complete = all(
            len(part) == len(places) == len({h.position for _, h in part if h is not None}) for part in parts
        )
        if len(parts) > 1 and complete:
            _logger.info(
                "%s: its series holds %d volumes, which differ in %s: one case each", series.folder, len(parts), key
            )
            parts.sort(key=lambda part: str(min(file for file, _ in part)))
            return [replace(series, members=part, part=number) for number, part in enumerate(parts, start=1)]
    return [series]


def _note_neighbours(kept: Sequence[Series], skipped: Sequence[Series]) -> None:
    for one in kept:
        reasons = Counter[str]()
        for other in skipped:
            if other.folder == one.folder:
                reasons[why_not_a_scan(other.header)] += len(other.members)
        if reasons:
            what = ", ".join(f"{count} x {reason}" for reason, count in sorted(reasons.items()))
            sentence = f"left out beside the scan: {what}"
            one.repairs = [*one.repairs, Repair("set-aside", sentence)]


def _assign_broken(broken: Sequence[Path], series: Sequence[Series]) -> list[Path]:
    """Give unreadable files to the series in their folder, and return those that belong to none, or perhaps to one."""
    alone = []
    for file in broken:
        beside = [one for one in series if one.folder == file.parent]
        for one in beside if len(beside) > 1 else ():
            sentence = "an unreadable file lies in the folder of this series and may belong to it"
            one.repairs = [*one.repairs, Repair("unreadable-beside", sentence)]
        if len(beside) == 1:
            beside[0].members.append((file, None))
        else:
            alone.append(file)
    return alone
