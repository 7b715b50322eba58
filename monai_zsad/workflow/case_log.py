"""Progress of a run: a bar, a log line and a status row for each case."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.utils import optional_import

from monai_zsad.data import OUT_OF_MEMORY
from monai_zsad.writers.status import StatusRow

__all__ = ["CaseLog", "StudyBar", "warning_codes"]

tqdm, _has_tqdm = optional_import("tqdm", name="tqdm")
_FORMAT = "{desc}: {n_fmt}/{total_fmt} |{bar}| {elapsed}, {remaining} left{postfix}"
_logger = logging.getLogger(__name__)


class CaseLog:
    """Handler that makes a status row of each case that the evaluator has finished.

    MONAI's ``StatsHandler`` prints losses and metrics of iterations. It does not know cases, nor failed ones.

    Args:
        finished: called with the row of each case that this process has run.
        progress: show a bar with studies per hour and the remaining time if there are several studies.
        run: gives the name of the run, for the rows.

    Attributes:
        rows: of the run so far.

    Example:
        >>> engine = Engine(lambda engine, batch: [{"case": batch, "volume_score": 0.5}])
        >>> log = CaseLog(lambda row: None)
        >>> log.attach(engine)
        >>> _ = engine.run(["anna"])
        >>> log.rows[0].case, log.rows[0].volume_score
        ('anna', 0.5)
    """

    def __init__(
        self, finished: Callable[[StatusRow], None], progress: bool = False, run: Callable[[], str] = str
    ) -> None:
        self.finished = finished
        self.run = run
        self.rows: list[StatusRow] = []
        self.bar = StudyBar(progress)
        self.started = False
        self._since = 0.0
        self._codes: tuple[str, ...] = ()

    def attach(self, engine: Engine) -> None:
        """Register the handler with an evaluator."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._complete)

    def close(self) -> None:
        """Leave the bar as it is. The next pass of the evaluator begins a new log."""
        self.bar.close()
        self.started = False

    def _start(self, engine: Engine) -> None:
        # A run may need several passes of the evaluator.
        if not self.started:
            self.rows = []
            self.bar.start(engine.state.epoch_length)
        self.started = True
        self._since = time.perf_counter()

    def _begin(self, engine: Engine) -> None:
        self._codes = warning_codes(engine.state.batch)

    def _complete(self, engine: Engine) -> None:
        # Seconds count from the end of the case before, so that loading is included.
        now = time.perf_counter()
        seconds, self._since = round(now - self._since, 3), now
        total = engine.state.epoch_length or "?"
        outputs = engine.state.output if isinstance(engine.state.output, list) else [engine.state.output]
        batch = engine.state.batch if isinstance(engine.state.batch, list) else [engine.state.batch]
        for index, output in enumerate(outputs):
            item = batch[index] if index < len(batch) and isinstance(batch[index], Mapping) else {}
            known = {**item, **(output if isinstance(output, Mapping) else {})}
            if known.get("status") == "elsewhere":
                self.bar.less()
                continue
            row = self._row(known, f"item {engine.state.iteration}", seconds, getattr(engine.state, "parts", {}))
            self.rows.append(row)
            self.finished(row)
            _logger.info("[%d/%s] %s: %s, %.1f s", len(self.rows), total, row.case, _result(row), seconds)
            self.bar.advance()

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
        score = None if score is None else float(score)
        return StatusRow(case, status, warned, volume_score=score, seconds=seconds, parts=parts, run=self.run())


def _result(row: StatusRow) -> str:
    record = row.summary()
    return f"volume score {record['volume_score']:.3f}" if "volume_score" in record else str(record["status"])


class StudyBar:
    """Bar over the studies of a run, on stderr if that is a terminal; nothing for a single study.

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
        """Begin with this number of studies."""
        self.close()
        if self.wanted and _has_tqdm and (total or 0) > 1 and sys.stderr.isatty():
            self._bar = tqdm(total=total, desc="studies", unit="study", bar_format=_FORMAT, dynamic_ncols=True)

    def advance(self) -> None:
        """One more study is finished."""
        if self._bar is not None:
            self._bar.update()
            elapsed = self._bar.format_dict["elapsed"]
            self._bar.set_postfix_str(f"{3600 * self._bar.n / elapsed:.0f} studies/h" if elapsed else "")

    def less(self) -> None:
        """One study less is left, because another process runs it."""
        if self._bar is not None:
            self._bar.total -= 1

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


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
