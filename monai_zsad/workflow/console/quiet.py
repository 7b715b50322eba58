"""A quiet console around a run: what is shown, and ``run.log`` for everything else."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, Literal

from monai_zsad.errors import ZsadError
from monai_zsad.workflow.cases.redaction import hides_tracebacks
from monai_zsad.workflow.console.displays import JsonLines, Lines, both, fractions
from monai_zsad.workflow.console.events import emit, listener, listening
from monai_zsad.workflow.console.run_log import RunLog, captured_log

__all__ = ["Level", "open_log", "process_console", "quiet_console"]

Level = Literal["normal", "quiet", "verbose", "json", "silent"]
_logger = logging.getLogger(__name__)
_LOGS: list[RunLog] = []


@contextlib.contextmanager
def quiet_console(
    level: Level = "normal",
    *,
    progress: bool = True,
    on_progress: Callable[[float, str], None] | None = None,
    scans: str | os.PathLike[str] | None = None,
    command: str | None = None,
) -> Iterator[None]:
    """Within the block, a run shows little; everything else goes to ``RESULTS/run.log``.

    The log is opened when the run has checked its folder. A run that refuses its folder writes no log.

    Args:
        level: ``"normal"``: one line per scan and a summary on stdout; ``"quiet"``: only failures and the summary;
            ``"verbose"``: the log on stderr, too; ``"json"``: one JSON object per event on stdout; ``"silent"``: no
            lines, for programs.
        progress: show a progress bar on stderr if it is a terminal or in Jupyter; not with ``"quiet"`` or ``"json"``.
        on_progress: is called with the fraction of the run that is done, in [0, 1], and a short text.
        scans: the scans as the user gave them. The log does not show this path if the scans are private.
        command: stands at the head of the log; None: nothing.

    Example:
        >>> shares = []
        >>> with quiet_console("silent", progress=False, on_progress=lambda share, text: shares.append(share)):
        ...     emit("run-started", scans=2)
        ...     emit("progress", case="anna", done=10, total=20)
        >>> shares
        [0.0, 0.25]
    """
    log = RunLog(None if scans is None else os.fspath(scans), command)
    lines = Lines(progress and level != "json", quiet=level == "quiet", silent=level in ("silent", "json"))
    lines.warnings = lambda: log.warnings
    displays: list[Any] = [lines, *([JsonLines()] if level == "json" else [])]
    displays += [fractions(on_progress)] if on_progress is not None else []
    lines.prepare()
    _LOGS.append(log)
    told, runtimes = _Told(lines.prepare), logging.getLogger("monai_zsad.networks.runtimes")
    runtimes.addHandler(told)
    try:
        with captured_log(log, level == "verbose", silent=level == "silent"), listening(both(*displays)):
            try:
                yield
            except (ZsadError, KeyboardInterrupt) as error:
                message = str(error) or "interrupted"
                _logger.error("%s", message)
                emit("error", message=message)
                raise
            except Exception as error:
                _logger.error("the run ended by a defect", exc_info=None if hides_tracebacks() else error)
                emit("error", message=f"{type(error).__name__}: {' '.join(str(error).split())}")
                raise
    finally:
        runtimes.removeHandler(told)
        _LOGS.remove(log)
        lines.close()


class _Told(logging.Handler):
    """Shows log lines where the program says that it works: the export of a network takes a minute."""

    def __init__(self, show: Callable[[str], None]) -> None:
        super().__init__()
        self.show = show

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record."""
        self.show(record.getMessage())


def open_log(folder: Any) -> None:
    """Open the log of the present console, when a run has checked its folder."""
    for log in _LOGS[-1:]:
        log.open(folder)


@contextlib.contextmanager
def process_console(folder: Any, progress: bool, silent: bool) -> Iterator[None]:
    """The console of a run that began without one, as by ``python -m monai.bundle run``.

    The logging stays as the bundle's ``logging.conf`` sets it; the log is written, too.

    Args:
        folder: of the run.
        progress: show a bar.
        silent: show no lines: another process does.
    """
    if listener() is not None:
        yield
        return
    root, log = logging.getLogger(), RunLog()
    lines = Lines(progress, silent=silent)
    # Without a handler, Python prints warnings by itself, and a handler here would end that.
    if root.handlers:
        log.open(folder)
        root.addHandler(log)
    lines.warnings = lambda: log.warnings
    try:
        with listening(lines):
            yield
    finally:
        lines.close()
        root.removeHandler(log)
        log.close()
        sys.stdout.flush()
