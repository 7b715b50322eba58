"""Finding scans: one record per volume file, 2D image and DICOM series below a path, in an archive or in a list."""

from __future__ import annotations

import logging
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from monai_zsad.data.codes import Repair, refusal
from monai_zsad.data.dicom import Series, closest, names_part
from monai_zsad.data.discovery.archives import extract_archive, is_archive
from monai_zsad.data.discovery.case_ids import safe_id, unique_ids
from monai_zsad.data.discovery.contents import Contents, look_into
from monai_zsad.data.discovery.dicomweb import Retrieved, retrieve
from monai_zsad.data.discovery.dicomweb_query import DicomwebLogin, is_query
from monai_zsad.data.discovery.left_out import FoundScans, LeftOut, search_mark, with_ids
from monai_zsad.data.discovery.scan_lists import LIST_SUFFIXES, ListedScan, read_scan_list
from monai_zsad.data.formats import FILE_FORMATS, IMAGE_SUFFIXES, SLICE_SUFFIXES
from monai_zsad.errors import InputError

__all__ = ["find_scans", "require_path"]

_logger = logging.getLogger(__name__)
_ACCEPTED = (
    f"a {FILE_FORMATS} file, a folder with one DICOM series, a folder or zip "
    f"archive of these, a list of them ({', '.join(LIST_SUFFIXES)}), or a DICOMweb query"
)


@dataclass
class _Scan:
    """A scan before it has a case id; ``parts`` is its path below the searched folder."""

    image: str | list[str]
    parts: tuple[str, ...]
    modality: str = ""
    repairs: Sequence[Repair] = ()
    part: int = 0

    def record(self, case: str) -> dict[str, Any]:
        record: dict[str, Any] = {"image": self.image, "case": case, "modality": self.modality}
        if self.part:
            record["part"] = self.part
        if self.repairs:
            record["warnings"] = "\n".join(repair.sentence for repair in self.repairs)
            record["warning_codes"] = "\n".join(repair.code for repair in self.repairs)
        return record


def find_scans(
    path: str | os.PathLike[str],
    exclude: str | os.PathLike[str] | None = None,
    series: str | int | None = None,
    download: str | os.PathLike[str] | None = None,
    login: DicomwebLogin | None = None,
) -> FoundScans:
    """List the scans at a path: a volume file, a 2D image, a DICOM series, or a folder, archive or list of these.

    DICOM files are recognised by content and grouped by SeriesInstanceUID. Several volumes under one series (echoes,
    time points, b values) are one case each, with a warning that names what they differ in. Several X-rays are one case
    each. Slices with a SeriesInstanceUID each, but equal in all else, are one case. Localizers, secondary captures and
    objects that are not images (SEG, SR, parametric maps) are left out. 2D images are scans only in a folder without
    volumes: beside volumes they are previews. Files that people take for scans, but that are not read, are refused:
    other archives, volumes of other formats, damaged DICOM files. All of these are listed, each with its code and
    reason. Other files (texts, tables, DICOMDIR), and hidden files and folders, are ignored.

    Results of an earlier run below ``path``, segmentations of 3D Slicer (``.seg.nrrd``) and masks are left out. A file
    counts as a mask if it has a name such as ``anna_mask.nii.gz``, or lies in a folder such as ``labels``, and holds
    few different integers. A mask whose own path is given is read as a scan, with a warning.

    Args:
        path: file or folder; a zip archive, which is unpacked into a temporary folder until Python ends; or a CSV or
            JSON list with ``image`` and optionally ``case`` and ``modality``, whose images may be files or folders
            with one series; or a DICOMweb query such as ``https://host/dicom-web/series?Modality=MR&PatientID=7`` or
            ``https://host/dicom-web/studies/UID`` (``dicomweb://`` means ``https://``), whose series are retrieved.
            Archives inside a folder are searched like folders.
        exclude: folder that is left out, for example one with results beside the scans.
        series: choice of DICOM series, by SeriesInstanceUID, number, modality, or part of the description, in this
            order, and of one of its volumes, the second by ``4:2``. Everything else is left out and not listed, except
            for DICOM files and archives that cannot be read: they may belong to the chosen series.
        download: folder for the retrieved series of a query, one folder per study and series; another run does not
            retrieve them again. None makes a temporary folder, which is removed when Python ends.
        login: for the server of a query; None takes it from the environment, see
            :class:`~monai_zsad.data.DicomwebLogin`.

    Returns:
        Records in the order of their paths (for a list: in its order), ready for :class:`monai.data.Dataset`. Their
        attribute ``left_out`` holds what is not screened, as
        :class:`~monai_zsad.data.discovery.LeftOut`. A record has


        - ``image``: the file's path, or the sorted list of a DICOM series' files (for :class:`ScanReader`)
        - ``case``: id that is unique in the list and safe as a file name: the file's stem or the folder's name,
          preceded by parent folders if two would be equal, followed by the series number if a folder holds several
          series
        - ``modality``: DICOM's code (``"CT"``, ``"MR"``), or ``""`` if it is unknown (every other format; not None,
          because a DataLoader cannot collate None)
        - ``part``: number of the volume or X-ray, from 1, only if a series holds several
        - ``warnings`` and ``warning_codes``, joined by line breaks, only if something was left out beside the scan

    Raises:
        InputError: if the path does not exist, holds no scan or not the chosen series, is an archive, list or query
            that cannot be used, or its server cannot be reached.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("anna", "ben"):
        ...     (folder / name).mkdir()
        ...     (folder / name / "flair.nii.gz").touch()
        >>> [record["case"] for record in find_scans(folder)]
        ['anna_flair', 'ben_flair']
    """
    if is_query(path):
        return _retrieved(retrieve(str(path), download, series, login), str(path), series)
    root = require_path(path)
    if root.is_file() and root.name.lower().endswith(LIST_SUFFIXES):
        return _listed(root, series)
    return _numbered(*_found(root, series, exclude), str(root.absolute()))


def require_path(path: str | os.PathLike[str]) -> Path:
    """The path of scans, which is not a query.

    Raises:
        InputError: if it does not exist.
    """
    root = Path(path).expanduser()
    # Unlike `Path.exists`, this takes a name that is too long.
    if not os.path.exists(root):
        raise refusal(root, "missing-file", "does not exist", f"give {_ACCEPTED}")
    return root


def _numbered(scans: Sequence[_Scan], left_out: Sequence[LeftOut], search: str) -> FoundScans:
    cases = unique_ids([scan.parts for scan in scans])
    records = (scan.record(case) for scan, case in zip(scans, cases, strict=True))
    mark = search_mark(search)
    return FoundScans(records, with_ids(left_out, mark), mark)


def _found(
    root: Path, series: str | int | None, exclude: str | os.PathLike[str] | None = None
) -> tuple[list[_Scan], list[LeftOut]]:
    """Scans at a path, and what is left out there."""
    archive = root if root.is_file() and is_archive(root) else None
    contents = look_into(root if archive is None else extract_archive(root), exclude=exclude, archive=archive)
    if not contents.files and not contents.left_out:
        finding = "is an empty folder" if archive is None else "is empty"
        raise refusal(root, "no-scan", finding, f"give {_ACCEPTED}")
    return _scans(contents, root, series)


def _retrieved(result: Retrieved, query: str, series: str | int | None) -> FoundScans:
    """Scans of a server, and its series that are not scans or could not be retrieved."""
    left_out = [LeftOut(path, "other-object", reason) for path, reason in result.skipped.items()]
    left_out += [LeftOut(path, "server-failed", reason, "try again") for path, reason in result.failed.items()]
    scans: list[_Scan] = []
    if result.files:
        # The server does not know the volumes of a series, so one of them is chosen among the files.
        chosen = series if names_part(series) else None
        scans, others = _scans(look_into(result.folder, result.files), "what was retrieved", chosen)
        left_out += [replace(one, path=Path("studies", *one.path.relative_to(result.folder).parts)) for one in others]
    return _numbered(scans, left_out, query)


def _scans(contents: Contents, where: Path | str, series: str | int | None) -> tuple[list[_Scan], list[LeftOut]]:
    found, files, left_out = contents.series, [*contents.volumes, *contents.images], contents.left_out
    if series is not None:
        chosen = closest([one.header for one in found], series, where)
        _logger.info("%s: %d scans were not chosen", where, len(files) + chosen.count(False))
        files = []
        found = [one for one, wanted in zip(found, chosen, strict=True) if wanted]
        left_out = [one for one in left_out if one.is_refused and one.code != "unread-format"]
    scans = [_file_scan(file, contents.parts(file)) for file in files] + _series_scans(found, contents)
    for one in left_out if not scans else ():
        if one.is_refused and one.path == where:
            raise refusal(one.path, one.code, one.reason, one.remedy)
    if not scans:
        what = f"{contents.files} other files{contents.summary()}"
        raise refusal(where, "no-scan", f"holds no scan ({what})", f"give {_ACCEPTED}")
    return sorted(scans, key=lambda scan: _first(scan, contents)), left_out


def _first(scan: _Scan, contents: Contents) -> str:
    """Path of the first file below the searched folder, independent of where an archive was unpacked."""
    image = scan.image if isinstance(scan.image, str) else scan.image[0]
    return "/".join(contents.parts(Path(image)))


def _file_scan(file: Path, parts: tuple[str, ...]) -> _Scan:
    endings = (*IMAGE_SUFFIXES, *SLICE_SUFFIXES)
    suffix = max((end for end in endings if file.name.lower().endswith(end)), key=len)
    return _Scan(str(file), (*parts[:-1], file.name[: -len(suffix)]))


def _series_scans(series: Sequence[Series], contents: Contents) -> list[_Scan]:
    together: defaultdict[Path, list[Series]] = defaultdict(list)
    for one in series:
        together[one.folder].append(one)
    scans = []
    for folder, members in together.items():
        # A series directly in the searched folder is named after this folder.
        name = contents.parts(folder) or (contents.base.resolve().name or "series",)
        several = len({one.header.uid for one in members}) > 1
        for rank, one in enumerate(members, start=1):
            number = one.header.number
            last = name[-1] + (f"_s{rank if number is None else number}" if several else "")
            last += f"_v{one.part}" if one.part else ""
            files = [str(file) for file in one.files]
            scans.append(_Scan(files, (*name[:-1], last), one.header.modality, one.repairs, one.part))
    return scans


def _listed(path: Path, series: str | int | None) -> FoundScans:
    entries = read_scan_list(path)
    left_out: list[LeftOut] = []
    listed = [_listed_scan(entry, path, series, left_out) for entry in entries]
    scans = [scan for scan in listed if scan is not None]
    if not scans:
        some = "; ".join(one.sentence for one in left_out[:3])
        raise refusal(path, "no-scan", f"lists no folder that holds a scan ({some})", "list scans, or folders with one")
    given = [safe_id(entry.case).casefold() for entry in entries if entry.case]
    if len(set(given)) < len(given):
        twice = next(case for case, count in Counter(given).items() if count > 1)
        raise refusal(path, "bad-datalist", f"lists the case {twice!r} twice", "give every case its own id")
    return _numbered(scans, left_out, str(path.absolute()))


def _listed_scan(entry: ListedScan, path: Path, series: str | int | None, left_out: list[LeftOut]) -> _Scan | None:
    """The scan of an entry, or None for a folder without any, which is refused.

    An unreadable or missing file does not stop the others either: it fails when it is read.
    """
    image = entry.images[0]
    if len(entry.images) > 1:
        scan = _Scan([str(file) for file in entry.images], image.parent.parts[-2:])
    elif image.is_dir():
        try:
            scans, others = _found(image, series)
        except InputError as error:
            if error.code != "no-scan":
                raise
            reason = str(error).removeprefix(f"{image}: ").partition("; ")[0]
            left_out.append(LeftOut(image, "no-scan", reason))
            return None
        left_out += [one for one in others if one not in left_out]
        if len(scans) > 1:
            finding = f"{image} holds {len(scans)} scans"
            raise refusal(path, "bad-datalist", finding, "list each of them, or choose one with series=")
        scan = scans[0]
    elif image.name.lower().endswith((*IMAGE_SUFFIXES, *SLICE_SUFFIXES)):
        scan = _file_scan(image, (image.parent.name, image.name))
    else:
        scan = _Scan(str(image), (image.parent.name, image.stem))
    parts = (entry.case,) if entry.case else scan.parts
    return _Scan(scan.image, parts, entry.modality or scan.modality, scan.repairs, scan.part)
