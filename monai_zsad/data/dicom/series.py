"""DICOM files grouped into series by their headers; pixels are not read."""

from __future__ import annotations

import logging
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from monai_zsad.data.codes import Repair, refusal
from monai_zsad.data.dicom.file_header import Header, is_broken, read_header, why_not_a_scan
from monai_zsad.data.dicom.split_series import is_split_series
from monai_zsad.data.dicom.volume import is_flat
from monai_zsad.data.dicom.volumes import find_volumes, normal_to

__all__ = ["Header", "Series", "closest", "group_series", "matches", "names_part", "why_not_a_scan"]

_logger = logging.getLogger(__name__)
_SAME_ORIENTATION = 1e-3


@dataclass
class Series:
    """Files of one DICOM series, or of one of the volumes in it.

    Attributes:
        header: of the first file.
        members: every file with its header; None for a file that cannot be read.
        repairs: warnings about files that were left out beside it, and about other volumes of its series.
    """

    header: Header
    members: list[tuple[Path, Header | None]] = field(default_factory=list)
    repairs: list[Repair] = field(default_factory=list)

    @property
    def part(self) -> int:
        """Number of the volume, from 1, if the series holds several volumes; otherwise 0."""
        return self.header.part

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
    Slices with a SeriesInstanceUID each, but equal in all else, are put together. An unreadable file stays with the
    series in its folder. Otherwise the series would lose a slice without a warning.

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
        header = read_header(file)
        if header is None:
            if is_broken(file):
                broken.append(file)
            continue
        reason = why_not_a_scan(header)
        groups.setdefault((header.uid, reason), Series(header)).members.append((file, header))
    found = sorted(_joined(list(groups.values())), key=lambda one: str(one.files[0]))
    skipped = [one for one in found if why_not_a_scan(one.header)]
    scans = [one for one in found if not why_not_a_scan(one.header)]
    _note_fewer(scans, skipped)
    kept = [part for one in scans for part in _split(one)]
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


def matches(header: Header, choice: str, *, whole: bool = False) -> int:
    """How exactly a choice names a series: 4 by UID, 3 by number, 2 by modality, 1 by description, 0 not at all.

    Args:
        header: of the series.
        choice: what names it; with ``:2`` at its end, the second of the volumes that the series holds.
        whole: whether ``header`` is of a series whose volumes are not known yet, so that this end is ignored.

    Example:
        >>> header = Header("MR Image Storage", (), "1.2.3", 4, "MR", description="Ax T2 FLAIR", part=2)
        >>> [matches(header, choice) for choice in ("1.2.3", "4", "mr", "flair", "T1")]
        [4, 3, 2, 1, 0]
        >>> matches(header, "4:2"), matches(header, "4:1")
        (3, 0)
    """
    wanted = choice.strip().casefold()
    if wanted == header.uid:
        return 4
    if header.number is not None and wanted == str(header.number):
        return 3
    if wanted == header.modality.casefold():
        return 2
    if wanted and wanted in header.description.casefold():
        return 1
    series, _, part = wanted.rpartition(":")
    chosen = names_part(wanted) and (whole or int(part) == header.part)
    return matches(header, series) if chosen else 0


def names_part(choice: str | int | None) -> bool:
    """Whether a choice of series names one of its volumes, as ``4:2`` does."""
    series, _, part = str(choice or "").strip().rpartition(":")
    return bool(series) and part.isdecimal()


def closest(headers: Sequence[Header], choice: str | int, where: Path | str, *, whole: bool = False) -> list[bool]:
    """Which series a choice means: those that it names most exactly.

    Args:
        headers: of the series.
        choice: UID, number, modality or part of the description, and one of its volumes, see :func:`matches`.
        where: the folder or server, named in the message.
        whole: see :func:`matches`.

    Returns:
        One truth value per header.

    Raises:
        InputError: if it names no series; the message lists the numbers and modalities of the series.
    """
    ranks = [matches(header, str(choice), whole=whole) for header in headers]
    best = max(ranks, default=0)
    if best == 0:
        there = sorted({f"{_shown(header)} ({header.modality or '?'})" for header in headers})
        finding = f"holds no series {str(choice)!r} (by UID, number, modality or description)"
        remedy = f"choose one of the series that it holds: {', '.join(there[:10]) or 'none'}"
        raise refusal(where, "no-such-series", finding, remedy)
    return [rank == best for rank in ranks]


def _shown(header: Header) -> str:
    number = "?" if header.number is None else str(header.number)
    return f"{number}:{header.part}" if header.part else number


def _joined(series: Sequence[Series]) -> list[Series]:
    """Series of one slice each as one series, if they are one by all else; other series unchanged."""
    alike: defaultdict[tuple[str, ...], list[Series]] = defaultdict(list)
    for one in series:
        identity = one.header.identity
        labels = (one.header.uid,) if identity is None else (why_not_a_scan(one.header), *identity.labels)
        alike[labels].append(one)
    result = []
    for group in alike.values():
        members = [member for one in group for member in one.members]
        slices = [header.identity for _, header in members if header is not None]
        if len(group) == 1 or not is_split_series(slices):
            result += group
            continue
        _logger.info("%d series of one slice each in %s are one series", len(group), group[0].folder)
        first = min(group, key=lambda one: one.header.uid)
        result.append(replace(first, members=members))
    return result


def _split(series: Series) -> list[Series]:
    """Volumes under one series, or 2D images, as entries of their own; other series unchanged."""
    headers = [(file, header) for file, header in series.members if header is not None]
    if len(headers) > 1 and all(is_flat(h.modality, bool(h.position)) and not h.enhanced for _, h in headers):
        members = sorted(headers, key=lambda member: str(member[0]))
        return [Series(replace(h, part=part), [(file, h)]) for part, (file, h) in enumerate(members, start=1)]
    if len(headers) > 1 and all(h.enhanced and h.frames > 1 and not h.concatenated for _, h in headers):
        each = [[member] for member in sorted(headers, key=lambda member: str(member[0]))]
        return _parts(series, each, "each of which is a multi-frame file")
    if any(h.enhanced or len(h.position) != 3 or len(h.orientation) != 6 for _, h in headers):
        return [series]
    orientations = np.array([header.orientation for _, header in headers])
    if np.abs(orientations - orientations[0]).max() > _SAME_ORIENTATION:
        return [series]
    places = np.array([header.position for _, header in headers]) @ normal_to(orientations[0])
    found = find_volumes(places.tolist(), [header.values for _, header in headers])
    if len(found.parts) == 1:
        return [series]
    several = [[headers[index] for index in part] for part in found.parts]
    return _parts(series, several, f"which differ in {', '.join(found.keys)}")


def _parts(series: Series, several: Sequence[Sequence[tuple[Path, Header]]], how: str) -> list[Series]:
    """The volumes of a series as entries of their own, each with a warning."""
    count, largest = len(several), max(map(len, several))
    _logger.info(
        "%s: series %s holds %d volumes, %s: one case each; --series %s:1 chooses the first",
        series.folder, _shown(series.header), count, how, _shown(series.header),
    )  # fmt: skip
    parts = []
    for number, members in enumerate(several, start=1):
        sentence = f"volume {number} of the {count} volumes of its series, {how}"
        if len(members) < largest:
            sentence += f"; it has {len(members)} slices, the largest {largest}"
        header = replace(members[0][1], uid=series.header.uid, part=number)
        repairs = [*series.repairs, Repair("several-volumes-split", sentence)]
        parts.append(Series(header, list(members), repairs))
    return parts


def _note_fewer(scans: Sequence[Series], skipped: Sequence[Series]) -> None:
    """Warn of a series with fewer images than all its headers state. A missing end leaves no gap between slices.

    An acquisition may have several series and then states more images than one of them has. So this is a warning only.
    """
    for one in scans:
        headers = [header for _, header in one.members if header is not None]
        stated = {header.stated for header in headers}
        count = len(one.members) + sum(len(other.members) for other in skipped if other.header.uid == one.header.uid)
        if len(stated) == 1 and count < max(stated) and all(header.frames == 1 for header in headers):
            sentence = f"it has {count} of the {max(stated)} images that its headers state; slices may be missing"
            one.repairs = [*one.repairs, Repair("fewer-images", sentence)]


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
