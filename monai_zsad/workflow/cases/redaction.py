"""Sentences about scans whose files and folders must not be named: failures and logs of a run."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_zsad.writers import without_paths

__all__ = ["conceal", "concealed", "hide", "hides_tracebacks", "quiet_search"]

# What logs the path of a scan while it is read.
_READING = ("monai_zsad.data.reader", "monai_zsad.data.dataset")
_DATA = "monai_zsad.data."


class _Concealer(logging.Filter):
    """Cases whose files are not named, by folder, and the files that may be."""

    def __init__(self) -> None:
        super().__init__()
        self.cases: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
        self.open: frozenset[str] = frozenset()

    def set(self, records: Iterable[Mapping[str, Any]], private: Sequence[bool]) -> None:
        found: defaultdict[str, list[tuple[str, tuple[str, ...]]]] = defaultdict(list)
        named: list[str] = []
        for record, is_private in zip(records, private, strict=True):
            files = (record["image"],) if isinstance(record["image"], str) else tuple(record["image"])
            if is_private:
                for folder in {os.path.dirname(file) for file in files}:
                    found[folder].append((str(record["case"]), files))
            else:
                named += files
        # The innermost folder first, as its path begins with those of the others.
        self.cases = dict(sorted(found.items(), key=lambda item: -len(item[0])))
        self.open = frozenset(named)

    def hide(self, text: str) -> str:
        if not self.cases or any(file in text for file in self.open):
            return text
        for folder, cases in self.cases.items():
            if folder in text:
                # Of several series in a folder, the one whose file is named.
                best = next((case for case in cases if any(file in text for file in case[1])), cases[0])
                text = without_paths(text, best[1], best[0])
        return text

    def filter(self, record: logging.LogRecord) -> bool:
        if self.cases:
            record.msg, record.args = self.hide(record.getMessage()), None
            if hides_tracebacks():
                record.exc_info = record.exc_text = None
        return True


class _SearchFilter(logging.Filter):
    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(self._quiet(arg) for arg in record.args)
        return True

    def _quiet(self, arg: object) -> object:
        if isinstance(arg, Path):
            return arg if arg == self.root else "(name not shown)"
        # What an archive's refusal quotes.
        return re.sub(r"member '[^']*'", "member", arg) if isinstance(arg, str) else arg


_concealer = _Concealer()


def conceal(records: Sequence[Mapping[str, Any]], private: Sequence[bool]) -> None:
    """From now on, name the files of private cases by their case and their place in it, in logs and failures.

    Logs of reading are changed where they arise. A later call replaces an earlier one.

    Args:
        records: of :func:`~monai_zsad.data.find_scans`, with their final case ids.
        private: for each, whether its files must not be named.

    Example:
        >>> conceal([{"case": "case-1f", "image": ["/pacs/DOE_J/1.dcm", "/pacs/DOE_J/2.dcm"]}], [True])
        >>> hide("/pacs/DOE_J: slices are missing"), hide("/pacs/DOE_J/2.dcm: has no pixel data")
        ('case-1f: slices are missing', 'case-1f, file 2 of 2: has no pixel data')
        >>> conceal([], [])
    """
    _concealer.set(records, private)
    for name in _READING:
        logging.getLogger(name).addFilter(_concealer)


def concealed() -> bool:
    """Whether any case is private."""
    return bool(_concealer.cases)


def hide(text: str) -> str:
    """A sentence without paths of private cases."""
    return _concealer.hide(text)


def hides_tracebacks() -> bool:
    """Whether tracebacks, which quote paths, stay out of the log."""
    return concealed() and os.environ.get("MONAI_ZSAD_TRACEBACK") != "1"


@contextlib.contextmanager
def quiet_search(root: Path) -> Iterator[None]:
    """Within the block, the search for scans logs no path but the one that the user gave."""
    own = _SearchFilter(root)
    loggers = [logging.getLogger(name) for name in list(logging.root.manager.loggerDict) if name.startswith(_DATA)]
    for logger in loggers:
        logger.addFilter(own)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(own)
