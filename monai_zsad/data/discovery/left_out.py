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
from monai_zsad.data.formats import why_unread
from monai_zsad.result_files import INPUT_MARK

__all__ = ["FoundScans", "LeftOut", "broken_file", "no_scan_series", "search_mark", "unread_file", "with_ids"]

SERIES_CODES = {"localizer": "localizer", "secondary capture": "capture", "": "other-object"}
"""Codes of DICOM series that are not scans, by the reason; empty: every other reason."""

_LONGEST_LABEL = 80
_DIRECTORY = "Media Storage Directory"
_PICTURES = (".bmp", ".gif", ".tif", ".tiff", ".webp", ".jp2")


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
    def files(self) -> int:
        """How many files it has."""
        return len(self.source.files) if isinstance(self.source, Series) else 1


class FoundScans(list[dict[str, Any]]):
    """The records of the scans at a path, and what was left out beside them.

    A list was not enough: what is left out would be known to the log alone. A slice keeps what was left out.

    Args:
        records: see :func:`~monai_zsad.data.find_scans`.
        left_out: inputs beside the scans that are not screened.
        mark: the beginning of the ids of all inputs that this search leaves out, see :func:`search_mark`.

    Example:
        >>> found = FoundScans([{"case": "anna"}, {"case": "ben"}], [LeftOut(Path("a_seg.nii"), "mask", "is a mask")])
        >>> len(found), len(found[:1]), len(found[:1].left_out)
        (2, 1, 1)
    """

    def __init__(
        self, records: Iterable[dict[str, Any]] = (), left_out: Iterable[LeftOut] = (), mark: str = ""
    ) -> None:
        super().__init__(records)
        self.left_out = tuple(left_out)
        self.mark = mark

    def __getitem__(self, index: Any) -> Any:
        """A record, or the records of a slice with all that was left out."""
        found = super().__getitem__(index)
        return FoundScans(found, self.left_out, self.mark) if isinstance(index, slice) else found


def search_mark(search: str, salt: str = "") -> str:
    """The beginning of the ids of the inputs that a search leaves out: the same for each search at this path.

    Args:
        search: what was searched.
        salt: secret of the run; without it, the mark can be compared with known paths.

    Example:
        >>> search_mark("scans")
        'input~e791f9-'
    """
    return f"{INPUT_MARK}{_digest(search, salt)[:6]}-"


def with_ids(left_out: Iterable[LeftOut], mark: str, salt: str = "") -> list[LeftOut]:
    """Give each input an id: unique, the same in each run, safe as the name of a file, and never that of a case.

    Args:
        left_out: what a search has left out.
        mark: of the search.
        salt: secret of the run. With it, the ids contain no names.

    Example:
        >>> with_ids([LeftOut(Path("scans/anna_seg.nii"), "mask", "is a mask")], search_mark("scans"))[0].case
        'input~e791f9-e527304136-anna_seg.nii'
    """
    found, taken = [], set[str]()
    for one in left_out:
        uid = one.source.header.uid if isinstance(one.source, Series) else ""
        digest = _digest(f"{one.path}\n{one.code}\n{uid}", salt)[:10]
        own, number = digest, 2
        while own in taken:
            own, number = f"{digest}.{number}", number + 1
        taken.add(own)
        # A file name has at most 255 bytes.
        label = "" if salt else safe_id(one.path.name).encode()[:_LONGEST_LABEL].decode(errors="ignore")
        found.append(replace(one, case=f"{mark}{own}-{label}" if label else f"{mark}{own}"))
    return found


def _digest(text: str, salt: str) -> str:
    return hmac.new(salt.encode(), text.encode(errors="surrogateescape"), "sha256").hexdigest()


def no_scan_series(series: Series, path: Path) -> LeftOut | None:
    """A DICOM series that is not a scan; None for a DICOMDIR, which is not an input of its own."""
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
    remedy = why_unread(file)
    if not file.exists():
        # Slices are often named without an ending, or end in a number.
        is_scan = remedy or file.suffix.lower() in ("", *BARE_SUFFIXES) or file.suffix[1:].isdigit()
        reason = "is a link to a place that does not exist"
        return LeftOut(path, "missing-file", reason, "restore what it links to") if is_scan else None
    if is_other_archive(file):
        return LeftOut(path, "unread-archive", "is not a zip archive")
    if not remedy:
        return None
    if file.suffix.lower() in _PICTURES and has_scans:
        return LeftOut(path, "image-beside", "image beside scans", remedy)
    return LeftOut(path, "unread-format", "has a format that is not read", remedy)
