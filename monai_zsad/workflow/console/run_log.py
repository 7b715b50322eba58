"""``run.log``: everything that a run and the libraries under it say, in the folder of results."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shlex
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from monai_zsad._version import __version__
from monai_zsad.data.discovery.dicomweb_query import is_query
from monai_zsad.errors import show_tracebacks
from monai_zsad.result_files import RUN_LOG
from monai_zsad.workflow.cases.redaction import is_redacting, redact

__all__ = ["LogStream", "RunLog", "captured_log"]

# The loggers whose INFO lines belong to a run.
_TOLD = ("monai_zsad", "monai", "ignite")
_FORMAT = "%(asctime)s %(levelname)s %(name)s [%(process)d]: %(message)s"
_PASSWORD = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_HIDDEN = "SCANS"

_logger = logging.getLogger(__name__)


class RunLog(logging.Handler):
    """Handler that appends to ``run.log``. Lines wait in memory until the folder of the run is known.

    Python's ``FileHandler`` was not enough: several processes write into one file here, so each line must be one write
    in append mode. And lines come before it is known whether the run may use its folder.

    Names of private files and folders do not get into the file: the paths of private cases become the names of the
    cases, the path that the user gave becomes ``SCANS``, and values that pydicom quotes are left out.

    Args:
        scans: the scans of the run, as the user gave them.
        command: is logged first; None: nothing.
    """

    def __init__(self, scans: str | None = None, command: str | None = None) -> None:
        super().__init__(logging.NOTSET)
        self.setFormatter(logging.Formatter(_FORMAT))
        self.scans = scans
        self.warnings = 0
        self._waiting: list[logging.LogRecord] = []
        self._file: int | None = None
        self._is_closed = False
        if command is not None:
            text = f"monai-zsad {__version__}: {command}"
            self.handle(_logger.makeRecord(_logger.name, logging.INFO, __file__, 0, text, (), None))

    def open(self, folder: Path) -> None:
        """Write what has waited, and from now on every line at once.

        Args:
            folder: of the run; it exists.
        """
        if self._file is not None or self._is_closed:
            return
        try:
            self._file = os.open(folder / RUN_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            self._give_up(error)
        waiting, self._waiting = self._waiting, []
        for record in waiting:
            self.handle(record)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or keep it until the file is open."""
        if record.levelno >= logging.WARNING and record.name.startswith("monai_zsad"):
            self.warnings += record.levelno < logging.ERROR
        if self._is_closed:
            return
        if self._file is None:
            self._waiting.append(record)
            return
        lines = self.redacted(self.format(record), record.name).splitlines() or [""]
        text = "\n    ".join(line for line in lines if line.strip()) + "\n"
        try:
            os.write(self._file, text.encode("utf-8", "replace"))
        except OSError as error:
            self._give_up(error)

    def redacted(self, text: str, logger: str = "") -> str:
        """The text without names of private files and patients."""
        private = is_redacting()
        if private and (logger == "pydicom" or "pydicom" in text):
            head, *rest = re.split("['\"]", text, maxsplit=1)
            text = f"{head}(not shown)" if rest else text
        text = redact(text)
        if self.scans is not None and (private or is_query(self.scans)):
            for form in {self.scans, str(Path(self.scans).expanduser().absolute())}:
                text = text.replace(shlex.quote(form), _HIDDEN).replace(form, _HIDDEN)
        return _PASSWORD.sub("...", text)

    def close(self) -> None:
        """Close the file. Lines that still wait are forgotten: the run did not use its folder."""
        self._is_closed = True
        self._waiting.clear()
        if self._file is not None:
            os.close(self._file)
            self._file = None
        super().close()

    def _give_up(self, error: OSError) -> None:
        self._is_closed = True
        print(f"warning: {RUN_LOG} cannot be written ({error.strerror}); the run goes on without it", file=sys.stderr)


class LogStream(logging.Handler):
    """Handler that shows log lines on stderr, above a progress bar.

    Args:
        log: leaves names of private files out.
        every: show every line; otherwise lines that ask for it by ``extra={"shown": True}``, and, if the user wants
            tracebacks, errors with one.
    """

    def __init__(self, log: RunLog, every: bool = True) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter(_FORMAT))
        self.log = log
        self.every = every

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record."""
        with_traceback = show_tracebacks() and record.exc_info and record.levelno >= logging.ERROR
        if self.every or with_traceback:
            text = self.format(record).rstrip()
        elif getattr(record, "shown", False):
            text = f"{record.levelname.lower()}: {record.getMessage()}"
        else:
            return
        tqdm.write(self.log.redacted(text, record.name), file=sys.stderr)


@contextlib.contextmanager
def captured_log(log: RunLog, shown: bool = False, silent: bool = False) -> Iterator[None]:
    """Within the block, the lines of this package, MONAI and ignite, and Python's warnings, go to ``log``.

    MONAI's loggers print on stdout by themselves; within the block they do not. Handlers that a program has set get
    the lines that they would get without the block. A warning about a deprecated name is still shown on stderr.

    Args:
        log: gets the lines.
        shown: show them on stderr, too.
        silent: show none of them, not even those that ask for it.
    """
    root = logging.getLogger()
    before, before_root = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in _TOLD}
    muted = _muted_handlers()
    before_levels = {name: logging.getLogger(name).getEffectiveLevel() for name in _TOLD}
    as_before = _AsBefore(before_levels, {logger.name for logger, *_ in muted})
    own: list[logging.Handler] = [log]
    if shown or not silent or show_tracebacks():
        own.append(LogStream(log, every=shown))
    shown_warning = warnings.showwarning
    for handler in before:
        handler.addFilter(as_before)
    for name in _TOLD:
        logger = logging.getLogger(name)
        logger.setLevel(min(logging.INFO, logger.getEffectiveLevel()))
    for handler in own:
        root.addHandler(handler)
    warnings.showwarning = _logged_warning(shown_warning)
    try:
        yield
    finally:
        warnings.showwarning = shown_warning
        for handler in own:
            root.removeHandler(handler)
            handler.close()
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        for handler in before:
            handler.removeFilter(as_before)
        root.setLevel(before_root)
        for logger, handlers, propagates in muted:
            logger.handlers[:], logger.propagate = handlers, propagates


class _AsBefore(logging.Filter):
    """Passes what has passed before: by the levels, and not from loggers that kept their lines to themselves."""

    def __init__(self, levels: dict[str, int], apart: set[str]) -> None:
        super().__init__()
        self.levels = levels
        self.apart = apart

    def filter(self, record: logging.LogRecord) -> bool:
        return record.name not in self.apart and record.levelno >= self.levels.get(record.name.partition(".")[0], 0)


def _muted_handlers() -> list[tuple[logging.Logger, list[logging.Handler], bool]]:
    """Take the handlers from MONAI's loggers, and let their lines reach the root."""
    # Their modules make the handlers when they are imported.
    import monai.bundle  # noqa: F401

    muted = list[tuple[logging.Logger, list[logging.Handler], bool]]()
    for name in [name for name in list(logging.root.manager.loggerDict) if name.startswith("monai.")]:
        logger = logging.getLogger(name)
        if not logger.propagate:
            muted.append((logger, list(logger.handlers), logger.propagate))
            logger.handlers[:], logger.propagate = [], True
    return muted


def _logged_warning(previous: Any) -> Any:
    logger, told = logging.getLogger("py.warnings"), set[str]()

    def show(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
    ) -> None:
        if file is not None:
            previous(message, category, filename, lineno, file, line)
            return
        logger.warning("%s: %s (%s:%d)", category.__name__, message, filename, lineno)
        # A name that will be gone in a later version: who runs the program has to change it.
        if issubclass(category, FutureWarning) and "monai_zsad" in str(message) and str(message) not in told:
            told.add(str(message))
            tqdm.write(f"warning: {message}", file=sys.stderr)

    return show
