"""Events of a run: what the run tells, and who listens.

A run does not print. It emits events, and a listener shows them: the terminal's lines and bar, lines of JSON, or a
program's own progress bar.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from monai_zsad.result_files import CASE_FILES, INDEX_FILE, INPUT_MARK, RUN_LOG, case_folder
from monai_zsad.writers.status import StatusRow

__all__ = ["EVENTS", "Listener", "emit", "emit_end", "emit_input", "emit_scan", "listener", "listening"]

Listener = Callable[[str, Mapping[str, Any]], None]
"""Is called with the name of an event and its fields."""

EVENTS: Mapping[str, str] = {
    "run-started": "results (folder), scans (how many this run has to do), complete (how many were complete before)",
    "features": "case, number (1 for the first one of this process), scans (whose features are to be computed): of a "
    "method that compares scans, before the first scan is started",
    "kind": "kind, scans: scans of one kind that are compared with one another, where there are several kinds",
    "scan-started": "case",
    "progress": "case, done and total: slices of this scan that the network has run, and has to run",
    "scan-finished": "case, number (1 for the first finished one), scans (of the run), status (done, repaired, refused "
    "or failed), codes, reason, volume_score, candidates (how many), warnings (sentences), report (path), seconds, "
    "parts (with --profile)",
    "input": "path or id of an input that is no scan: case, status (refused or left-out), codes, reason",
    "run-finished": "done, refused, failed, left_out, complete (before this run), seconds, results, index, log (paths)",
    "error": "message: why the run ended early",
}
"""The events by name, each with its fields. ``screen --log-json`` prints one JSON object for each."""

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


def listener() -> Listener | None:
    """Who listens now; None if nobody does."""
    return _listener.get()


@contextlib.contextmanager
def listening(to: Listener) -> Iterator[None]:
    """Within the block, ``to`` is called with each event of a run in this thread.

    Args:
        to: is called with the event's name, see :data:`EVENTS`, and its fields.

    Example:
        >>> heard = []
        >>> with listening(lambda name, fields: heard.append((name, dict(fields)))):
        ...     emit("scan-started", case="anna")
        >>> heard
        [('scan-started', {'case': 'anna'})]
    """
    token = _listener.set(to)
    try:
        yield
    finally:
        _listener.reset(token)


def emit(name: str, **fields: Any) -> None:
    """Tell an event to who listens; nothing happens if nobody does.

    Args:
        name: see :data:`EVENTS`.
        **fields: of the event.
    """
    if (to := _listener.get()) is not None:
        to(name, fields)


def emit_scan(folder: Path, row: StatusRow, number: int, scans: int | None) -> None:
    """Tell that a scan is finished.

    Args:
        folder: of the run.
        row: of the scan.
        number: how many scans are finished, with this one.
        scans: of the run; None if it is not known, as other processes take some of them.
    """
    candidates, warnings, report = _results(folder, row.case) if row.is_done else (None, [], None)
    emit(
        "scan-finished",
        case=row.case,
        number=number,
        scans=scans,
        status=row.status,
        codes=list(row.codes),
        reason=row.reason,
        volume_score=row.volume_score,
        candidates=candidates,
        warnings=warnings,
        report=report,
        seconds=row.seconds,
        parts=dict(row.parts),
    )


def emit_input(row: StatusRow) -> None:
    """Tell about an input that is no scan."""
    emit("input", case=row.case, status=row.status, codes=list(row.codes), reason=row.reason)


def emit_end(folder: Path, rows: Sequence[StatusRow], complete: int, seconds: float) -> None:
    """Tell that the run is finished.

    Args:
        folder: of the run.
        rows: of this run: scans and other inputs.
        complete: number of scans that were complete before this run.
        seconds: since the run started.
    """
    counts = Counter(row.status for row in rows)
    index, log = folder / INDEX_FILE, folder / RUN_LOG
    emit(
        "run-finished",
        done=counts["done"] + counts["repaired"],
        refused=counts["refused"],
        failed=counts["failed"],
        left_out=counts["left-out"],
        complete=complete,
        seconds=round(seconds, 1),
        results=str(folder),
        index=str(index) if index.is_file() else None,
        log=str(log) if log.is_file() else None,
    )


def is_input(case: str) -> bool:
    """Whether this is the id of an input that is no scan."""
    return case.startswith(INPUT_MARK)


def _results(folder: Path, case: str) -> tuple[int | None, list[str], str | None]:
    """Number of candidates, warnings, and path of the report or else of the folder of the case."""
    own = case_folder(folder, case)
    try:
        content = json.loads((own / CASE_FILES["findings"].name).read_text(encoding="utf-8"))
        count, warnings = len(content["candidates"]), [str(text) for text in content["warnings"]]
    except (OSError, ValueError, LookupError, TypeError):
        count, warnings = None, []
    report = own / CASE_FILES["report"].name
    return count, warnings, str(report if report.is_file() else own)
