"""Finding scans: one record per volume file, picture and DICOM series below a path, in an archive or in a list."""

from __future__ import annotations

import logging
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_zsad.data.archives import extract_archive, is_archive
from monai_zsad.data.case_ids import safe_id, unique_ids
from monai_zsad.data.picture_scans import PICTURE_SCAN_SUFFIXES
from monai_zsad.data.scan_lists import LIST_SUFFIXES, ListedScan, read_scan_list
from monai_zsad.data.series import Series, group_series, matches, why_not_a_scan
from monai_zsad.data.verdicts import Repair
from monai_zsad.errors import InputError

__all__ = ["IMAGE_SUFFIXES", "find_scans", "list_files"]

IMAGE_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
"""Endings (lower case) of the volume files that are taken as scans; DICOM is recognised by its content instead."""

_logger = logging.getLogger(__name__)
_ACCEPTED = (
    f"a {', '.join((*IMAGE_SUFFIXES, *PICTURE_SCAN_SUFFIXES))} file, a folder with one DICOM series, a folder or zip "
    f"archive of such, or a list of them ({', '.join(LIST_SUFFIXES)})"
)


@dataclass
class _Scan:
    """A scan before it has a case id; ``parts`` are the path below the searched folder, the base name last."""

    image: str | list[str]
    parts: tuple[str, ...]
    modality: str = ""
    repairs: Sequence[Repair] = ()

    def record(self, case: str) -> dict[str, Any]:
        record: dict[str, Any] = {"image": self.image, "case": case, "modality": self.modality}
        if self.repairs:
            record["warnings"] = "\n".join(repair.sentence for repair in self.repairs)
            record["warning_codes"] = "\n".join(repair.code for repair in self.repairs)
        return record


def find_scans(
    path: str | os.PathLike[str],
    exclude: str | os.PathLike[str] | None = None,
    series: str | int | None = None,
) -> list[dict[str, Any]]:
    """List the scans at a path: a volume file, a picture, a DICOM series, or a folder, archive or list of such.

    DICOM files are recognised by content and grouped by SeriesInstanceUID; several volumes under one series (echoes,
    time points) and several X-rays are one case each. Localizers, secondary captures and what is no image (SEG, SR,
    parametric maps, DICOMDIR) are left out and logged; other files are ignored. Hidden files and folders are not
    looked at. Pictures in a folder are scans only where it holds nothing else: beside volumes they are previews.

    Args:
        path: file or folder; a zip archive, which is unpacked into a temporary folder until Python ends; or a CSV or
            JSON list with ``image`` and, if wanted, ``case`` and ``modality``, whose images may be files or folders
            with one series.
        exclude: folder that is not looked into, for results that lie beside the scans.
        series: choice of DICOM series, by SeriesInstanceUID, number, modality, or part of the description, in this
            order; everything else is left out.

    Returns:
        Records in the order of their paths (of a list: in its order), ready for :class:`monai.data.Dataset`:

        - ``image``: the file's path, or the sorted list of a DICOM series' files (for :class:`ScanReader`)
        - ``case``: id that is unique in the list and safe as a file name: the file's stem or the folder's name,
          preceded by parent folders where two would be equal, followed by the series number where a folder holds
          several series
        - ``modality``: DICOM's code (``"CT"``, ``"MR"``), and ``""`` where it is unknown (every other format; not None
          because a DataLoader cannot collate None)
        - ``warnings`` and ``warning_codes``, joined by line breaks, only where something was left out beside the scan

    Raises:
        InputError: if the path does not exist, holds no scan or not the chosen series, or is an archive or list that
            cannot be used.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("anna", "ben"):
        ...     (folder / name).mkdir()
        ...     (folder / name / "flair.nii.gz").touch()
        >>> [record["case"] for record in find_scans(folder)]
        ['anna_flair', 'ben_flair']
    """
    root = Path(path).expanduser()
    if not root.exists():
        raise InputError(f"{root} does not exist: give {_ACCEPTED}", code="missing-file")
    if root.is_file() and root.name.lower().endswith(LIST_SUFFIXES):
        return _listed(root, series)
    if root.is_file() and is_archive(root):
        root = extract_archive(root)
    scans = _scans(root, list_files(root, exclude), series)
    cases = unique_ids([scan.parts for scan in scans])
    return [scan.record(case) for scan, case in zip(scans, cases, strict=True)]


def list_files(root: Path, exclude: str | os.PathLike[str] | None = None) -> list[Path]:
    """Every file at or below a path that is not hidden, in order.

    Args:
        root: file or folder.
        exclude: folder that is not looked into.

    Returns:
        Paths.
    """
    if root.is_file():
        return [root]
    found: list[Path] = []
    left_out = None if exclude is None else Path(exclude).expanduser().resolve()
    for folder, subfolders, names in os.walk(root):
        if Path(folder).resolve() == left_out:
            subfolders.clear()
            continue
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        found += [Path(folder) / name for name in sorted(names) if not name.startswith(".")]
    return found


def _scans(root: Path, files: list[Path], series: str | int | None) -> list[_Scan]:
    if not files:
        raise InputError(f"{root} is an empty folder: give {_ACCEPTED}", code="no-scan")
    base = root.parent if root.is_file() else root
    volumes = [file for file in files if file.name.lower().endswith(IMAGE_SUFFIXES)]
    pictures = [file for file in files if file.name.lower().endswith(PICTURE_SCAN_SUFFIXES)]
    found, skipped = group_series(sorted(set(files) - set(volumes) - set(pictures)))
    if series is None:
        if pictures and (volumes or found):
            _logger.info("left out %d pictures beside the scans in %s", len(pictures), root)
            pictures = []
        scans = [_file_scan(file, base) for file in [*volumes, *pictures]]
    else:
        scans, found = [], _chosen(found, str(series), root)
    scans += _series_scans(found, base)
    if not scans:
        reasons = Counter[str]()
        for one in skipped:
            reasons[why_not_a_scan(one.header)] += len(one.members)
        what = "".join(f"; left out {count} x {reason}" for reason, count in sorted(reasons.items()))
        raise InputError(f"{root} holds no scan ({len(files)} other files{what}): give {_ACCEPTED}", code="no-scan")
    return sorted(scans, key=lambda scan: scan.image if isinstance(scan.image, str) else scan.image[0])


def _file_scan(file: Path, base: Path) -> _Scan:
    endings = (*IMAGE_SUFFIXES, *PICTURE_SCAN_SUFFIXES)
    suffix = max((end for end in endings if file.name.lower().endswith(end)), key=len)
    return _Scan(str(file), (*file.relative_to(base).parts[:-1], file.name[: -len(suffix)]))


def _series_scans(series: Sequence[Series], base: Path) -> list[_Scan]:
    together: defaultdict[Path, list[Series]] = defaultdict(list)
    for one in series:
        together[one.folder].append(one)
    scans = []
    for folder, members in together.items():
        below = () if folder == base else folder.relative_to(base).parts
        # The searched folder's own name stands for a series that lies directly in it.
        name = below or (base.resolve().name or "series",)
        several = len({one.header.uid for one in members}) > 1
        for rank, one in enumerate(members, start=1):
            number = one.header.number
            last = name[-1] + (f"_s{rank if number is None else number}" if several else "")
            last += f"_v{one.part}" if one.part else ""
            files = [str(file) for file in one.files]
            scans.append(_Scan(files, (*name[:-1], last), one.header.modality, one.repairs))
    return scans


def _chosen(series: Sequence[Series], choice: str, root: Path) -> list[Series]:
    ranks = [matches(one.header, choice) for one in series]
    best = max(ranks, default=0)
    if best == 0:
        there = sorted({f"{one.header.number or '?'} ({one.header.modality or '?'})" for one in series})
        raise InputError(
            f"{root} holds no series {choice!r}, by UID, number, modality or description; there are "
            f"{', '.join(there[:10]) or 'none'}",
            code="no-such-series",
        )
    return [one for one, rank in zip(series, ranks, strict=True) if rank == best]


def _listed(path: Path, series: str | int | None) -> list[dict[str, Any]]:
    entries = read_scan_list(path)
    scans = [_listed_scan(entry, path, series) for entry in entries]
    given = [safe_id(entry.case).casefold() for entry in entries if entry.case]
    if len(set(given)) < len(given):
        twice = next(case for case, count in Counter(given).items() if count > 1)
        raise InputError(f"{path}: the case {twice!r} is listed twice; give every case its own id", code="bad-datalist")
    cases = unique_ids([scan.parts for scan in scans])
    return [scan.record(case) for scan, case in zip(scans, cases, strict=True)]


def _listed_scan(entry: ListedScan, path: Path, series: str | int | None) -> _Scan:
    """What an entry names; a file that cannot be read, or is missing, fails later and alone."""
    image = entry.images[0]
    if len(entry.images) > 1:
        scan = _Scan([str(file) for file in entry.images], image.parent.parts[-2:])
    elif image.is_dir():
        scans = _scans(image, list_files(image), series)
        if len(scans) > 1:
            raise InputError(
                f"{path}: {image} holds {len(scans)} scans; list each of them, or choose one with series=",
                code="bad-datalist",
            )
        scan = scans[0]
    elif image.name.lower().endswith((*IMAGE_SUFFIXES, *PICTURE_SCAN_SUFFIXES)):
        scan = _file_scan(image, image.parent.parent)
    else:
        scan = _Scan(str(image), (image.parent.name, image.stem))
    parts = (entry.case,) if entry.case else scan.parts
    return _Scan(scan.image, parts, entry.modality or scan.modality, scan.repairs)
