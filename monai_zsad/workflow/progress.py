"""A progress bar of studies, with studies per hour and the time left."""

from __future__ import annotations

import sys
from typing import Any

from monai.utils import optional_import

__all__ = ["StudyBar"]

tqdm, _has_tqdm = optional_import("tqdm", name="tqdm")

_FORMAT = "{desc}: {n_fmt}/{total_fmt} |{bar}| {elapsed}, {remaining} left{postfix}"


class StudyBar:
    """Bar over the studies of a run, on stderr where that is a terminal; nothing for a single study.

    Args:
        wanted: False shows none.

    Example:
        >>> bar = StudyBar(False)
        >>> bar.start(10)
        >>> bar.advance()
        >>> bar.close()
    """

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted
        self._bar: Any = None

    def start(self, total: int | None) -> None:
        """Begin with so many studies."""
        self.close()
        if self.wanted and _has_tqdm and (total or 0) > 1 and sys.stderr.isatty():
            self._bar = tqdm(total=total, desc="studies", unit="study", bar_format=_FORMAT, dynamic_ncols=True)

    def advance(self) -> None:
        """One study more is finished."""
        if self._bar is not None:
            self._bar.update()
            elapsed = self._bar.format_dict["elapsed"]
            self._bar.set_postfix_str(f"{3600 * self._bar.n / elapsed:.0f} studies/h" if elapsed else "")

    def less(self) -> None:
        """One study less is to be done: another process has it."""
        if self._bar is not None:
            self._bar.total -= 1

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
