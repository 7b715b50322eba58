"""Redaction of paths: log lines, errors and tables of a run do not name private files and folders."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from monai_zsad.data import CODES, IMAGE_SUFFIXES, FoundScans, LeftOut
from monai_zsad.data.dicom import Series
from monai_zsad.data.discovery import search_mark, with_ids
from monai_zsad.data.formats import SLICE_SUFFIXES
from monai_zsad.errors import show_tracebacks
from monai_zsad.writers import without_paths

__all__ = ["hides_tracebacks", "is_redacting", "redact", "redact_cases", "redact_left_out", "redacted_search"]

# A user chose the names of these files, as those of a NIfTI file.
_CHOSEN = ("unread-format", "image-beside")

# These loggers write the path of a scan while it is read.
_READING = ("monai_zsad.data.reader", "monai_zsad.data.dataset", "pydicom")
_DATA = "monai_zsad.data."
# The end of a line of pydicom, which it writes to the log and as a warning.
_NAMED_FILE = r" (?:found )?in file [\s\S]*"


class _Redaction(logging.Filter):
    """The private cases by folder, and the files of all other cases."""

    def __init__(self) -> None:
        super().__init__()
        self.cases: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
        self.public: frozenset[str] = frozenset()

    def set(self, records: Iterable[Mapping[str, Any]], private: Sequence[bool]) -> None:
        found: defaultdict[str, list[tuple[str, tuple[str, ...]]]] = defaultdict(list)
        public: list[str] = []
        for record, is_private in zip(records, private, strict=True):
            files = (record["image"],) if isinstance(record["image"], str) else tuple(record["image"])
            if is_private:
                for folder in {os.path.dirname(file) for file in files}:
                    found[folder].append((str(record["case"]), files))
            else:
                public += files
        # The path of an inner folder begins with the paths of the outer folders. So inner folders come first.
        self.cases = dict(sorted(found.items(), key=lambda item: -len(item[0])))
        self.public = frozenset(public)

    def redact(self, text: str) -> str:
        if not self.cases or any(file in text for file in self.public):
            return text
        for folder, cases in self.cases.items():
            if folder in text:
                # A folder can hold several series. The text may name a file of one of them.
                best = next((case for case in cases if any(file in text for file in case[1])), cases[0])
                text = without_paths(text, best[1], best[0])
        return text

    def filter(self, record: logging.LogRecord) -> bool:
        if self.cases:
            record.msg, record.args = self.redact(record.getMessage()), None
            if hides_tracebacks():
                record.exc_info = record.exc_text = None
        return True


class _SearchFilter(logging.Filter):
    """Removes all paths from log lines, except the path that the user gave."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name == "pydicom":
            record.msg, record.args = re.sub(_NAMED_FILE, " in a file", record.getMessage()), None
        elif isinstance(record.args, tuple):
            record.args = tuple(self._redacted(arg) for arg in record.args)
        return True

    def _redacted(self, arg: object) -> object:
        if isinstance(arg, Path):
            return arg if arg == self.root else "(name not shown)"
        # An error about an archive quotes the name of a file in it.
        return re.sub(r"member '[^']*'", "member", arg) if isinstance(arg, str) else arg


_redaction = _Redaction()


def redact_cases(records: Sequence[Mapping[str, Any]], private: Sequence[bool]) -> None:
    """Start the redaction of private cases. It replaces the redaction of an earlier call.

    From now on, :func:`redact` and the log lines about reading a scan show the name of the case instead of its path.
    They show the number of a file in the case instead of its name.

    Args:
        records: records of :func:`~monai_zsad.data.find_scans` with their final case names.
        private: for each record, whether its files must not be named. To end the redaction, give two empty lists.

    Example:
        >>> redact_cases([{"case": "case-1f", "image": ["/pacs/DOE_J/1.dcm", "/pacs/DOE_J/2.dcm"]}], [True])
        >>> redact("/pacs/DOE_J: slices are missing"), redact("/pacs/DOE_J/2.dcm: has no pixel data")
        ('case-1f: slices are missing', 'case-1f, file 2 of 2: has no pixel data')
        >>> redact_cases([], [])
    """
    _redaction.set(records, private)
    for name in _READING:
        logging.getLogger(name).addFilter(_redaction)


def is_redacting() -> bool:
    """Whether any case of the run is private."""
    return bool(_redaction.cases)


def redact(text: str) -> str:
    """Return the text without paths of private cases."""
    return _redaction.redact(text)


def hides_tracebacks() -> bool:
    """Whether the log must not show tracebacks, because they quote paths of private cases.

    The user can still ask for tracebacks, see :func:`monai_zsad.errors.show_tracebacks`.
    """
    return is_redacting() and not show_tracebacks()


@contextlib.contextmanager
def redacted_search(root: Path) -> Iterator[None]:
    """Within the block, the search for scans logs no path except ``root``, which the user gave."""
    own = _SearchFilter(root)
    names = [name for name in list(logging.root.manager.loggerDict) if name.startswith(_DATA)]
    loggers = [logging.getLogger(name) for name in [*names, "pydicom"]]
    warnings.filterwarnings("ignore", message=rf"[\s\S]*{_NAMED_FILE}", category=UserWarning)
    for logger in loggers:
        logger.addFilter(own)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(own)


def redact_left_out(found: FoundScans, names: str, salt: str) -> tuple[list[LeftOut], str]:
    """Replace the names of private files and folders that are not screened.

    The names of DICOM files, archives and folders may contain the name of a patient. Such an input is shown by its id
    and by the meaning of its code. A volume or 2D image is shown by the name of its file, without its folders.

    Args:
        found: with what was left out.
        names: the way to name cases, not ``"files"``.
        salt: secret of the run; empty if nothing was left out.

    Returns:
        The same inputs, and the beginning of their ids.

    Example:
        >>> found = FoundScans(left_out=[LeftOut(Path("DOE_JANE.tar"), "unread-archive", "is not a zip archive")])
        >>> redact_left_out(found, "auto", "pepper")[0][0].sentence
        'an archive that is not unpacked; unpack it and give the folder'
    """
    mark = search_mark(found.mark, salt)
    return [_hidden(one, names) for one in with_ids(found.left_out, mark, salt)], mark


def _hidden(one: LeftOut, names: str) -> LeftOut:
    chosen = one.path.name.lower().endswith((*IMAGE_SUFFIXES, *SLICE_SUFFIXES)) or one.code in _CHOSEN
    if names != "hash" and chosen and not isinstance(one.source, Series):
        return replace(one, path=Path(one.path.name))
    shown = one.source.header.uid if names == "uid" and isinstance(one.source, Series) else one.case
    # A reason may quote names in an archive.
    return replace(one, path=Path(shown), reason=CODES[one.code].meaning, source=None)
