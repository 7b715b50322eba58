"""Inputs that are not screened: left out on purpose, or refused because people take them for a scan."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from monai_zsad.data.codes import CODES
from monai_zsad.data.dicom import Series, why_not_a_scan
from monai_zsad.data.dicom.files import BARE_SUFFIXES
from monai_zsad.data.discovery.archives import is_other_archive
from monai_zsad.data.discovery.case_ids import safe_id

__all__ = ["INPUT_MARK", "FoundScans", "LeftOut", "broken_file", "no_scan_series", "unread_file", "with_ids"]

INPUT_MARK = "input~"
"""Begins the id of an input that is no case. No case id has this character."""

SERIES_CODES = {"localizer": "localizer", "secondary capture": "capture", "": "other-object"}
"""Codes of DICOM series that are no scans, by the reason; empty: every other reason."""

_LONGEST_LABEL = 40
_DIRECTORY = "Media Storage Directory"
_PICTURES = (".bmp", ".gif", ".tif", ".tiff", ".webp", ".jp2")
_CONVERT = "convert it to NIfTI"
_UNPACK = "unpack it"
_WHOLE = "give its header and its data together, or convert it to NIfTI"
_UNREAD = {
    **dict.fromkeys((".mgz", ".mgh", ".mnc", ".mif", ".mif.gz", ".mih", ".par", ".rec", ".brik", ".brik.gz"), _CONVERT),
    **dict.fromkeys((".gipl", ".gipl.gz", ".vtk", ".vti", ".fdf", ".nii.gz.gz"), _CONVERT),
    **dict.fromkeys((".nii.bz2", ".nii.xz", ".nii.zst", ".nii.z", ".nrrd.gz", ".mha.gz"), _UNPACK),
    **dict.fromkeys((".dcm.gz", ".dcm.bz2", ".dcm.xz", ".ima.gz", ".dicom.gz"), _UNPACK),
    **dict.fromkeys((".img", ".img.gz", ".hdr", ".hdr.gz"), _WHOLE),
    **dict.fromkeys(_PICTURES, "convert it to PNG"),
}
# The data of a header beside them, which is listed itself.
_DATA_OF = {".img": (".hdr",), ".img.gz": (".hdr", ".hdr.gz"), ".rec": (".par",)}


@dataclass(frozen=True)
class LeftOut:
    """An input beside the scans that is not screened: a file, a DICOM series, a folder or an archive.

    Attributes:
        path: as the user knows it; in an archive, the path of the archive and the path inside it.
        code: key of :data:`monai_zsad.data.CODES`.
        reason: what was found, without the names of files.
        remedy: what the user can do; the code's own remedy if empty.
        source: the file, or the DICOM series, where it can be opened; None for everything else.
        case: its id in the tables of a run, see :func:`with_ids`.

    Example:
        >>> one = LeftOut(Path("scans/anna.tar"), "unread-archive", "is not a zip archive")
        >>> one.is_refused, one.sentence
        (True, 'is not a zip archive; unpack it and give the folder')
    """

    path: Path
    code: str
    reason: str
    remedy: str = ""
    source: Path | Series | None = None
    case: str = ""

    @property
    def is_refused(self) -> bool:
        """Whether people take it for a scan; otherwise it is left out on purpose."""
        return CODES[self.code].kind != "left-out"

    @property
    def sentence(self) -> str:
        """The reason and the remedy."""
        return f"{self.reason}; {self.remedy or CODES[self.code].remedy}"

    @property
    def search_mark(self) -> str:
        """The beginning that the ids of equal searches have."""
        return self.case[: len(INPUT_MARK) + 7]

    @property
    def files(self) -> int:
        """How many files it has."""
        return len(self.source.files) if isinstance(self.source, Series) else 1


class FoundScans(list[dict[str, Any]]):
    """The records of the scans at a path, and what was left out beside them.

    A list was not enough: what is left out would be known to the log alone. A slice keeps what was left out.

    Args:
        records: see :func:`~monai_zsad.data.find_scans`.
        left_out: inputs beside the scans that are not screened.

    Example:
        >>> found = FoundScans([{"case": "anna"}, {"case": "ben"}], [LeftOut(Path("a_seg.nii"), "mask", "is a mask")])
        >>> len(found), len(found[:1]), len(found[:1].left_out)
        (2, 1, 1)
    """

    def __init__(self, records: Iterable[dict[str, Any]] = (), left_out: Iterable[LeftOut] = ()) -> None:
        super().__init__(records)
        self.left_out = tuple(left_out)

    def __getitem__(self, index: Any) -> Any:
        """A record, or the records of a slice with all that was left out."""
        found = super().__getitem__(index)
        return FoundScans(found, self.left_out) if isinstance(index, slice) else found


def with_ids(left_out: Iterable[LeftOut], search: str, salt: str = "", *, named: bool = True) -> list[LeftOut]:
    """Give each input an id: unique, the same in each run, safe as the name of a file, and never that of a case.

    Args:
        left_out: what a search has left out.
        search: what was searched. Equal searches have ids with an equal beginning (:attr:`LeftOut.search_mark`).
        salt: secret of the run; without it, ids can be compared with known paths.
        named: whether an id ends with the name of the file.

    Example:
        >>> (one,) = with_ids([LeftOut(Path("scans/anna_seg.nii"), "mask", "is a mask")], "scans")
        >>> one.case, one.case.startswith(one.search_mark)
        ('input~05fa45-6f0e9ab37c-anna_seg.nii', True)
    """
    found = []
    taken: set[str] = set()
    for one in left_out:
        uid = one.source.header.uid if isinstance(one.source, Series) else ""
        own, number = _digest(f"{one.path}\n{one.code}\n{uid}", salt)[:10], 2
        case = f"{INPUT_MARK}{_digest(search, salt)[:6]}-{own}"
        while case in taken:
            case, number = f"{INPUT_MARK}{_digest(search, salt)[:6]}-{own}-{number}", number + 1
        taken.add(case)
        # Names of files have at most 255 bytes, a letter has up to four.
        label = f"-{safe_id(one.path.name)[:_LONGEST_LABEL]}" if named else ""
        found.append(replace(one, case=case + label))
    return found


def _digest(text: str, salt: str) -> str:
    return hmac.new(salt.encode(), text.encode(errors="surrogateescape"), "sha256").hexdigest()


def no_scan_series(series: Series, path: Path) -> LeftOut | None:
    """A DICOM series that is not a scan; None for a DICOMDIR, which is no input of its own."""
    reason = why_not_a_scan(series.header)
    if _DIRECTORY in reason:
        return None
    return LeftOut(path, SERIES_CODES.get(reason, SERIES_CODES[""]), reason, source=series)


def broken_file(file: Path, path: Path) -> LeftOut:
    """A file that was a DICOM file by its name or by its mark, but that cannot be read as DICOM."""
    if file.stat().st_size == 0:
        return LeftOut(path, "empty-file", "is empty")
    return LeftOut(path, "damaged", "has the name or the mark of a DICOM file, but cannot be read as DICOM")


def unread_file(file: Path, path: Path, has_scans: bool) -> LeftOut | None:
    """A file, not of a format that is read, that people take for a scan; None for every other file.

    Args:
        file: any file.
        path: as the user knows it.
        has_scans: whether scans lie beside it; then a 2D image is a picture of them.
    """
    name = file.name.lower()
    suffix = max((end for end in _UNREAD if name.endswith(end)), key=len, default="")
    if not file.exists():
        # Slices are often named without an ending, or end in a number.
        is_scan = suffix or file.suffix.lower() in ("", *BARE_SUFFIXES) or file.suffix[1:].isdigit()
        reason, remedy = "is a link to a place that does not exist", "restore what it links to"
        return LeftOut(path, "missing-file", reason, remedy) if is_scan else None
    if is_other_archive(file):
        return LeftOut(path, "unread-archive", "is not a zip archive")
    if not suffix or _is_data_of_a_header(file, suffix):
        return None
    if suffix in _PICTURES and has_scans:
        return LeftOut(path, "picture", "2D image beside scans")
    return LeftOut(path, "unread-format", "has a format that is not read", _UNREAD[suffix])


def _is_data_of_a_header(file: Path, suffix: str) -> bool:
    stem = file.name[: -len(suffix)]
    names = [stem + end for header in _DATA_OF.get(suffix, ()) for end in (header, header.upper())]
    return any(file.with_name(name).is_file() for name in names)
