"""Finding scans: one record per NIfTI, NRRD or MetaImage file and per DICOM series below a path."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_zsad.errors import InputError

__all__ = ["IMAGE_SUFFIXES", "find_scans"]

IMAGE_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
"""Endings (lower case) of the volume files that are taken as scans; DICOM is recognised by its content instead."""

_logger = logging.getLogger(__name__)
_LONGEST_ID = 100
_ACCEPTED = f"a {', '.join(IMAGE_SUFFIXES)} file, a folder with one DICOM series, or a folder of such"


@dataclass(frozen=True)
class _Header:
    """What the header of one DICOM file tells without its pixels."""

    kind: str
    image_type: tuple[str, ...]
    uid: str
    number: int | None
    modality: str


@dataclass
class _Series:
    """Files of one DICOM image series."""

    uid: str
    modality: str
    number: int | None
    files: list[Path] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return Path(os.path.commonpath([file.parent for file in self.files]))


@dataclass
class _Scan:
    """A scan before it has a case id; ``parts`` are the path below the searched folder, the base name last."""

    image: str | list[str]
    parts: tuple[str, ...]
    modality: str


def find_scans(path: str | os.PathLike[str], exclude: str | os.PathLike[str] | None = None) -> list[dict[str, Any]]:
    """List the scans at a path: a volume file, a folder with a DICOM series, or a folder of any nesting of such.

    DICOM files are recognised by content and grouped by SeriesInstanceUID. Localizers, secondary captures and what is
    no image (SEG, SR, parametric maps, DICOMDIR) are left out and logged; other files are ignored. Hidden files and
    folders are not looked at.

    Args:
        path: file or folder.
        exclude: folder that is not looked into, for results that lie beside the scans.

    Returns:
        Records in the order of their paths, ready for :class:`monai.data.Dataset`:

        - ``image``: the file's path, or the sorted list of a DICOM series' files (for :class:`ScanReader`)
        - ``case``: id that is unique in the list and safe as a file name: the file's stem or the folder's name,
          preceded by parent folders where two would be equal, followed by the series number where a folder holds
          several series
        - ``modality``: DICOM's code (``"CT"``, ``"MR"``), and ``""`` where it is unknown (every other format; not None
          because a DataLoader cannot collate None)

    Raises:
        InputError: if the path does not exist, or holds no scan.

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
        raise InputError(f"{root} does not exist: give {_ACCEPTED}")
    files = [root] if root.is_file() else _walk(root, exclude)
    if not files:
        raise InputError(f"{root} is an empty folder: give {_ACCEPTED}")

    base = root.parent if root.is_file() else root
    volumes = [file for file in files if _has_image_suffix(file)]
    scans = [_Scan(str(file), (*file.relative_to(base).parts[:-1], _stem(file)), "") for file in volumes]
    series, skipped = _group_dicom([file for file in files if not _has_image_suffix(file)])
    scans += _series_scans(series, base)
    if not scans:
        what = "".join(f"; left out {count} x {reason}" for reason, count in sorted(skipped.items()))
        raise InputError(f"{root} holds no scan ({len(files)} other files{what}): give {_ACCEPTED}")
    scans.sort(key=lambda scan: scan.image if isinstance(scan.image, str) else scan.image[0])
    cases = _unique_ids([scan.parts for scan in scans])
    return [
        {"image": scan.image, "case": case, "modality": scan.modality} for scan, case in zip(scans, cases, strict=True)
    ]


def _walk(root: Path, exclude: str | os.PathLike[str] | None) -> list[Path]:
    found: list[Path] = []
    left_out = None if exclude is None else Path(exclude).expanduser().resolve()
    for folder, subfolders, names in os.walk(root):
        if Path(folder).resolve() == left_out:
            subfolders.clear()
            continue
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        found += [Path(folder) / name for name in sorted(names) if not name.startswith(".")]
    return found


def _has_image_suffix(file: Path) -> bool:
    return file.name.lower().endswith(IMAGE_SUFFIXES)


def _stem(file: Path) -> str:
    suffix = max((end for end in IMAGE_SUFFIXES if file.name.lower().endswith(end)), key=len)
    return file.name[: -len(suffix)]


def _group_dicom(files: list[Path]) -> tuple[list[_Series], Counter[str]]:
    """Image series among the files, and how many DICOM files were left out for which reason."""
    groups: dict[str, _Series] = {}
    skipped: Counter[str] = Counter()
    broken: list[Path] = []
    for file in files:
        header = _read_header(file)
        if header is None:
            if file.suffix.lower() == ".dcm":
                broken.append(file)
            else:
                _logger.debug("%s: no scan, ignored", file)
            continue
        reason = _why_not_a_scan(header)
        if reason:
            _logger.debug("%s: %s, left out", file, reason)
            skipped[reason] += 1
            continue
        series = groups.setdefault(header.uid, _Series(header.uid, header.modality, header.number))
        series.files.append(file)
    for reason, count in sorted(skipped.items()):
        _logger.info("left out %d DICOM file%s: %s", count, "s" if count > 1 else "", reason)
    found = sorted(groups.values(), key=lambda one: str(one.files[0]))
    _assign_broken(broken, found)
    return found, skipped


def _read_header(file: Path) -> _Header | None:
    """The DICOM header without pixels, or None where the file is no DICOM."""
    import pydicom
    from pydicom.errors import InvalidDicomError
    from pydicom.misc import is_dicom

    tags = ["SOPClassUID", "SeriesInstanceUID", "SeriesNumber", "Modality", "ImageType"]
    try:
        # A file without the preamble is still read where its name says that it is DICOM: some scanners omit it.
        force = not is_dicom(file)
        if force and file.suffix.lower() not in (".dcm", ".ima"):
            return None
        header = pydicom.dcmread(file, stop_before_pixels=True, force=force, specific_tags=tags)
        if "SOPClassUID" not in header and "SeriesInstanceUID" not in header:
            return None
        number = header.get("SeriesNumber")
        return _Header(
            kind=header.SOPClassUID.name if "SOPClassUID" in header else "no SOPClassUID",
            image_type=tuple(str(value).upper() for value in header.get("ImageType") or ()),
            uid=str(header.get("SeriesInstanceUID") or ""),
            number=None if number is None else int(number),
            modality=str(header.get("Modality") or ""),
        )
    except (InvalidDicomError, EOFError, OSError, ValueError, KeyError, AttributeError, NotImplementedError) as error:
        _logger.debug("%s: not readable as DICOM (%s)", file, error)
        return None


def _why_not_a_scan(header: _Header) -> str:
    """Reason to leave a DICOM file out, or an empty string."""
    if "Image Storage" not in header.kind:
        return f"no image ({header.kind})"
    if "Secondary Capture" in header.kind:
        return "secondary capture"
    if "LOCALIZER" in header.image_type:
        return "localizer"
    return "" if header.uid else "no SeriesInstanceUID"


def _assign_broken(broken: list[Path], series: list[_Series]) -> None:
    """Keep an unreadable .dcm with the series beside it: left out, the series would lose a slice without a word."""
    for file in broken:
        beside = [one for one in series if one.folder == file.parent]
        if len(beside) == 1:
            beside[0].files = sorted([*beside[0].files, file])
        else:
            _logger.warning("%s has a DICOM name but is not readable as DICOM: ignored", file)


def _series_scans(series: list[_Series], base: Path) -> list[_Scan]:
    together: defaultdict[Path, list[_Series]] = defaultdict(list)
    for one in series:
        together[one.folder].append(one)
    scans = []
    for folder, members in together.items():
        below = () if folder == base else folder.relative_to(base).parts
        # The searched folder's own name stands for a series that lies directly in it.
        name = below or (base.resolve().name or "series",)
        for rank, one in enumerate(members, start=1):
            last = name[-1]
            if len(members) > 1:
                last += f"_s{rank if one.number is None else one.number}"
            scans.append(_Scan([str(file) for file in sorted(one.files)], (*name[:-1], last), one.modality))
    return scans


def _sanitised(text: str) -> str:
    cleaned = re.sub(r"[^\w.-]+", "-", text).strip(".-_ ")
    return cleaned[-_LONGEST_ID:].lstrip(".-_ ") or "scan"


def _unique_ids(paths: list[tuple[str, ...]]) -> list[str]:
    """Shortest distinct tail of every path, joined by ``_``; a running number where the paths do not differ."""
    depth = [1] * len(paths)
    while True:
        ids = [_sanitised("_".join(parts[-count:])) for parts, count in zip(paths, depth, strict=True)]
        # Compared without case, for file systems that do not tell "A" from "a".
        counts = Counter(name.casefold() for name in ids)
        clashing = [i for i, name in enumerate(ids) if counts[name.casefold()] > 1 and depth[i] < len(paths[i])]
        if not clashing:
            break
        for i in clashing:
            depth[i] += 1
    taken: set[str] = set()
    unique = []
    for name in ids:
        candidate, number = name, 2
        while candidate.casefold() in taken or (candidate != name and candidate.casefold() in counts):
            candidate, number = f"{name}_{number}", number + 1
        taken.add(candidate.casefold())
        unique.append(candidate)
    return unique
