"""Handler of an evaluator that tells of each case and makes its status row."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.data import MetaTensor

from monai_zsad.data import OUT_OF_MEMORY
from monai_zsad.inferers import VolumeSliceInferer
from monai_zsad.workflow.console.events import emit, emit_scan
from monai_zsad.writers.facts import UNFAMILIAR_WARNING
from monai_zsad.writers.status import UNFAMILIAR, StatusRow

__all__ = ["CaseLog", "warning_codes"]

_logger = logging.getLogger(__name__)


class CaseLog:
    """Handler that makes a status row of each case that the evaluator has finished, and tells of it.

    MONAI's ``StatsHandler`` prints losses and metrics of iterations. It does not know cases, nor failed ones.

    Args:
        finished: called with the row of each case that this process has run.
        folder: of the run; None: the current folder.
        progress: tell of the slices of each case, for a progress bar.
        run: gives the name of the run, for the rows.

    Attributes:
        rows: of the run so far.
        complete: how many cases were complete before.
        shared: other processes run a part of the cases, so that their number here is not known.

    Example:
        >>> engine = Engine(lambda engine, batch: [{"case": batch, "volume_score": 0.5}])
        >>> log = CaseLog(lambda row: None)
        >>> log.attach(engine)
        >>> _ = engine.run(["anna"])
        >>> log.rows[0].case, log.rows[0].volume_score
        ('anna', 0.5)
    """

    def __init__(
        self,
        finished: Callable[[StatusRow], None],
        folder: Path | None = None,
        progress: bool = False,
        run: Callable[[], str] = str,
    ) -> None:
        self.finished = finished
        self.folder = folder or Path()
        self.progress = progress
        self.run = run
        self.rows: list[StatusRow] = []
        self.complete = 0
        self.shared = False
        self.started = False
        self._scans = 0
        self._case = ""
        self._slices_done = 0
        self._since = 0.0
        self._codes: tuple[str, ...] = ()

    def attach(self, engine: Engine) -> None:
        """Register the handler with an evaluator."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._complete)

    def close(self) -> None:
        """End the run. The next pass of the evaluator begins a new one."""
        self.started = False

    def _start(self, engine: Engine) -> None:
        # A run may need several passes of the evaluator.
        if not self.started:
            self.rows, self._scans = [], engine.state.epoch_length or 0
            emit("run-started", results=str(self.folder), scans=self._scans, complete=self.complete)
        self.started = True
        self._since = time.perf_counter()
        inferer = getattr(engine, "inferer", None)
        if isinstance(inferer, VolumeSliceInferer):
            # One bar for the run, in place of one for each plane.
            inferer.watch, inferer.progress = (self._slices if self.progress else None), False

    def _begin(self, engine: Engine) -> None:
        batch = engine.state.batch
        self._codes = warning_codes(batch)
        self._slices_done = 0
        if isinstance(batch, Mapping) and "elsewhere" not in batch and "case" in batch:
            case = batch["case"]
            self._case = str(case[0] if isinstance(case, list | tuple) else case)
            emit("scan-started", case=self._case)

    def _slices(self, more: int, total: int) -> None:
        self._slices_done += more
        emit("progress", case=self._case, done=self._slices_done, total=total)

    def _complete(self, engine: Engine) -> None:
        # Seconds count from the end of the case before, so that loading is included.
        now = time.perf_counter()
        seconds, self._since = round(now - self._since, 3), now
        outputs = engine.state.output if isinstance(engine.state.output, list) else [engine.state.output]
        batch = engine.state.batch if isinstance(engine.state.batch, list) else [engine.state.batch]
        for index, output in enumerate(outputs):
            item = batch[index] if index < len(batch) and isinstance(batch[index], Mapping) else {}
            known = {**item, **(output if isinstance(output, Mapping) else {})}
            if known.get("status") == "elsewhere":
                self._scans -= 1
                continue
            row = self._row(known, f"item {engine.state.iteration}", seconds, getattr(engine.state, "parts", {}))
            self.rows.append(row)
            self.finished(row)
            # A case that another process has left is run here after all.
            self._scans = max(self._scans, len(self.rows))
            _logger.info("[%d/%d] %s: %s, %.1f s", len(self.rows), self._scans, row.case, _result(row), seconds)
            if UNFAMILIAR in row.codes:
                _logger.warning("%s: %s", row.case, UNFAMILIAR_WARNING)
            emit_scan(self.folder, row, len(self.rows), None if self.shared else self._scans)

    def _row(self, known: Mapping[Any, Any], name: str, seconds: float, parts: Mapping[str, float]) -> StatusRow:
        case = str(known.get("case", name))
        if known.get("status") == "failed":
            code = str(known.get("code") or "")
            status = "refused" if code not in ("", OUT_OF_MEMORY) else "failed"
            codes = (code,) if code else ()
            return StatusRow(case, status, codes, str(known["reason"]), seconds=seconds, parts=parts, run=self.run())
        score = known.get("volume_score")
        # The writers add codes of their own, for example why there are no DICOM results.
        warned = tuple(dict.fromkeys((*self._codes, *warning_codes(known))))
        status = "repaired" if warned else "done"
        warned += (UNFAMILIAR,) if known.get("unfamiliar") else ()
        score = None if score is None else float(score)
        return StatusRow(case, status, warned, volume_score=score, seconds=seconds, parts=parts, run=self.run())


def _result(row: StatusRow) -> str:
    record = row.summary()
    return f"volume score {record['volume_score']:.3f}" if "volume_score" in record else str(record["status"])


def warning_codes(batch: Any) -> tuple[str, ...]:
    r"""Codes of what was repaired when the scan was found and read, each once.

    Args:
        batch: a collated item, ``warning_codes`` beside the image and in its meta data.

    Example:
        >>> warning_codes({"warning_codes": ["set-aside\njitter"]})
        ('set-aside', 'jitter')
    """
    if not isinstance(batch, Mapping):
        return ()
    image = batch.get("image")
    sources = [batch.get("warning_codes"), image.meta.get("warning_codes") if isinstance(image, MetaTensor) else None]
    texts = [str(source[0]) if isinstance(source, list | tuple) and source else source for source in sources]
    return tuple(dict.fromkeys(code for text in texts if isinstance(text, str) for code in text.split("\n") if code))
