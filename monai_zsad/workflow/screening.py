"""A bundle's run over many scans: one that fails does not end it, and the user reads sentences, not tracebacks."""

from __future__ import annotations

import atexit
import gc
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from ignite.engine import Engine, Events

from monai_zsad.data import OUT_OF_MEMORY, explain, failure_code, find_user_error
from monai_zsad.distributed.ranks import place, use_own_device
from monai_zsad.distributed.sharing import Share
from monai_zsad.errors import OutputError
from monai_zsad.flags import parse_flag
from monai_zsad.workflow.profiling import part_table
from monai_zsad.workflow.progress import StudyBar
from monai_zsad.workflow.redaction import hide, hides_tracebacks
from monai_zsad.workflow.warned import warning_codes
from monai_zsad.writers import CaseLayout
from monai_zsad.writers.run_tables import earlier_records, make_folder, publish, result_table, write_summary
from monai_zsad.writers.status import StatusRow

__all__ = ["TRACEBACK_VARIABLE", "ScreeningSummary", "check_output", "finish", "friendly_errors", "isolate_failures"]

TRACEBACK_VARIABLE = "MONAI_ZSAD_TRACEBACK"
"""Environment variable; ``1`` keeps the tracebacks of user errors."""

_logger = logging.getLogger(__name__)


def isolate_failures(engine: Any, batchdata: Mapping[str, Any]) -> Any:
    """One iteration of a MONAI evaluator in which a case that fails is recorded and the run goes on.

    For use as ``SupervisedEvaluator(iteration_update=isolate_failures)`` over a DataLoader with ``batch_size=1``. MONAI
    ends the run at the first exception. Decollation, postprocessing and writers run inside the engine's own
    ``_iteration`` (by the ``MODEL_COMPLETED`` event), so everything that a case can raise is caught here: an ``error``
    item of :class:`~monai_zsad.data.ScreeningDataset`, the network, memory, a writer. One sentence is logged, and the
    traceback at debug level (as an error with ``MONAI_ZSAD_TRACEBACK=1``). ``KeyboardInterrupt`` and ``SystemExit``
    pass.

    Metrics attached to the evaluator read keys of the output that a failed case lacks: evaluate without this function.

    Args:
        engine: the evaluator.
        batchdata: one collated item, with ``case`` and perhaps ``error``.

    Returns:
        the engine's own output; ``[{"case", "status": "failed", "reason", "code"}]``, and such records, without the
        code, are also gathered in ``engine.state.failures``; or ``[{"case", "status": "elsewhere"}]`` where another
        process has the case.
    """
    if engine.state.iteration <= 1:
        engine.state.failures = []
    case = str(_first(batchdata.get("case"), f"item {engine.state.iteration}"))
    if "elsewhere" in batchdata:
        engine.state.batch = [{"case": case}]
        return [{"case": case, "status": "elsewhere"}]
    if "error" in batchdata:
        code = str(_first(batchdata.get("code"), ""))
        return _record_failure(engine, case, str(_first(batchdata["error"], "unknown")), code)
    try:
        return engine._iteration(engine, batchdata)
    except Exception as error:
        wanted = os.environ.get(TRACEBACK_VARIABLE) == "1"
        if not hides_tracebacks():
            level = logging.ERROR if wanted else logging.DEBUG
            _logger.log(level, "%s: traceback of the failure", case, exc_info=True)
        reason, code = explain(error), failure_code(error)
    if torch.cuda.is_available():
        # What the failed case held is free now; give it back, so that the next one finds a whole block.
        torch.cuda.empty_cache()
    return _record_failure(engine, case, reason, code)


def _record_failure(engine: Any, case: str, reason: str, code: str) -> list[dict[str, str]]:
    # Every line that is printed begins with the case.
    reason = hide(reason).removeprefix(f"{case}: ").removeprefix(f"{case}, ")
    record = {"case": case, "status": "failed", "reason": reason}
    engine.state.failures.append(record)
    engine.state.batch = [{"case": case}]
    _logger.error("%s failed: %s", case, reason)
    return [{**record, "code": code}]


def _first(value: Any, default: Any) -> Any:
    if isinstance(value, list | tuple):
        return value[0] if value else default
    return default if value is None else value


class ScreeningSummary:
    """Handler that follows a run: progress of each case, its row, ``summary.json`` and tables at the end.

    MONAI's ``StatsHandler`` prints losses and metrics per iteration; it knows no cases, and none that failed. Attach by
    ``val_handlers``. ``summary.json`` holds ``schema_version``, ``done``, ``failed``, ``cases`` (``case``, ``status``
    ``"done"`` or ``"failed"``, ``volume_score`` or ``reason``, ``seconds``) and ``software``; an older one is replaced.

    Where the run is shared with other processes (:func:`monai_zsad.workflow.resuming.evaluate` sees to that), a
    :class:`~monai_zsad.writers.status.StatusRow` is written for each case at once, and the tables are made of all
    rows when :meth:`conclude` is called.

    Args:
        output_dir: folder for ``summary.json`` and the page ``index.html``; None writes none.
        resume: keep what an earlier ``summary.json`` says of cases that were left out of this run.
        progress: show a bar with studies per hour and the time left, where there are several studies.

    Example:
        >>> engine = Engine(lambda engine, batch: [{"case": batch, "volume_score": 0.5}])
        >>> ScreeningSummary().attach(engine)
        >>> _ = engine.run(["anna"])  # doctest: +ELLIPSIS
        case  result  seconds
        anna  0.500   0.0
        1 done, 0 failed
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str] | None = None,
        resume: bool | str = False,
        progress: bool | str = False,
    ) -> None:
        self.resume = parse_flag("resume", resume)
        self.output_dir = None if output_dir is None else Path(output_dir).expanduser()
        self.progress = StudyBar(parse_flag("progress", progress))
        self.share: Share | None = None
        self.cases: list[dict[str, Any]] = []
        self.parts: list[tuple[str, Mapping[str, float]]] = []
        self._since = 0.0
        self._codes: tuple[str, ...] = ()

    def attach(self, engine: Engine) -> None:
        """Register the handler with an evaluator."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._note)
        engine.add_event_handler(Events.COMPLETED, self._complete)

    def _start(self, engine: Engine) -> None:
        # Of a run that is shared, other passes over what is left may follow.
        shared = getattr(engine.state, "share", None)
        if shared is None or shared is not self.share:
            self.cases, self.parts = [], []
            self.progress.start(engine.state.epoch_length)
        self.share = shared
        engine.state.summary = self
        self._since = time.perf_counter()

    def _begin(self, engine: Engine) -> None:
        self._codes = warning_codes(engine.state.batch)

    def _note(self, engine: Engine) -> None:
        # From the end of the case before, so that loading counts.
        now = time.perf_counter()
        seconds, self._since = round(now - self._since, 3), now
        total = engine.state.epoch_length or "?"
        outputs = engine.state.output if isinstance(engine.state.output, list) else [engine.state.output]
        batch = engine.state.batch if isinstance(engine.state.batch, list) else [engine.state.batch]
        for index, output in enumerate(outputs):
            item = batch[index] if index < len(batch) and isinstance(batch[index], Mapping) else {}
            known = {**item, **(output if isinstance(output, Mapping) else {})}
            if known.get("status") == "elsewhere":
                self.progress.less()
                continue
            row = self._row(known, f"item {engine.state.iteration}", seconds, getattr(engine.state, "parts", {}))
            record = row.summary()
            self.cases.append(record)
            self.parts.append((row.case, row.parts))
            if self.share is not None:
                self.share.settle(row)
            _logger.info("[%d/%s] %s: %s, %.1f s", len(self.cases), total, record["case"], _result(record), seconds)
            self.progress.advance()

    def _row(self, known: Mapping[Any, Any], name: str, seconds: float, parts: Mapping[str, float]) -> StatusRow:
        run = "" if self.share is None else self.share.run
        case = str(known.get("case", name))
        if known.get("status") == "failed":
            code = str(known.get("code") or "")
            status = "refused" if code not in ("", OUT_OF_MEMORY) else "failed"
            codes = (code,) if code else ()
            return StatusRow(case, status, codes, str(known["reason"]), seconds=seconds, parts=parts, run=run)
        score = known.get("volume_score")
        status = "repaired" if self._codes else "done"
        score = None if score is None else float(score)
        return StatusRow(case, status, self._codes, volume_score=score, seconds=seconds, parts=parts, run=run)

    def _complete(self, engine: Engine) -> None:  # noqa: ARG002
        if self.share is None:
            self.progress.close()
            if self.output_dir is not None:
                earlier = earlier_records(self.output_dir, {record["case"] for record in self.cases})
                write_summary(self.output_dir, [*(earlier if self.resume else []), *self.cases])
            self._print(self.cases)

    def conclude(self) -> None:
        """Write the tables of a shared run and print this process' part of it, or all of it if it leads others."""
        self.progress.close()
        share = self.share
        if share is None or not share.place.leads:
            return
        with share.tables():
            rows = share.rows()
            if self.output_dir is not None:
                publish(self.output_dir, rows, keep_earlier=share.resume)
        self._print(self.cases if share.place.world == 1 else [row.summary() for row in rows])

    def _print(self, cases: Sequence[Mapping[str, Any]]) -> None:
        print(result_table(cases, self.output_dir))
        if times := part_table(self.parts):
            print(times)

    def table(self) -> str:
        """The cases so far, one line each, the failed ones last with their reasons."""
        return result_table(self.cases, self.output_dir)


def _result(record: Mapping[str, Any]) -> str:
    return f"volume score {record['volume_score']:.3f}" if "volume_score" in record else str(record["status"])


def finish(evaluator: Any) -> None:
    """End the program with exit code 1 if a case of the run failed; last in a bundle's ``run`` or ``finalize`` list.

    All other cases are done and written by then, so that a script can go by the exit code and look up the failed cases
    in ``summary.json``.

    Raises:
        SystemExit: code 1, if :func:`isolate_failures` recorded a failure.

    Example:
        >>> from types import SimpleNamespace
        >>> finish(SimpleNamespace(state=SimpleNamespace(failures=[])))
    """
    # At its end Python looks for cycles among all objects that MONAI's import has made, for more than a second.
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
    if getattr(evaluator.state, "failures", []):
        raise SystemExit(1)


def friendly_errors() -> None:
    """Print user errors as ``error: ...`` on stderr, without traceback; the exit code stays 1.

    First in a bundle's ``initialize`` list. MONAI wraps what a config item or transform raises in a ``RuntimeError``,
    so the chain of causes is searched for a :class:`~monai_zsad.errors.ZsadError`. Other errors are defects and keep
    Python's own report; with ``MONAI_ZSAD_TRACEBACK=1`` all do.

    Example:
        >>> before = sys.excepthook
        >>> friendly_errors()
        >>> sys.excepthook is before
        False
        >>> sys.excepthook = before
    """
    if not isinstance(sys.excepthook, _FriendlyHook):
        sys.excepthook = _FriendlyHook(sys.excepthook)


class _FriendlyHook:
    def __init__(self, previous: Any) -> None:
        self.previous = previous

    def __call__(self, kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        known = None if os.environ.get(TRACEBACK_VARIABLE) == "1" else find_user_error(error)
        if known is None:
            self.previous(kind, error, traceback)
        else:
            print(f"error: {known}", file=sys.stderr)


def check_output(
    output_dir: str | os.PathLike[str],
    cases: Sequence[str | Mapping[str, Any]],
    overwrite: bool | str = False,
    resume: bool | str = False,
    retry_failed: bool | str = False,
) -> None:
    """Make the output folder, and refuse before the first slice is computed what would fail or overwrite at the end.

    Args:
        output_dir: folder of the run.
        cases: ids, or the records of :func:`~monai_zsad.data.find_scans`.
        overwrite: let results of the same cases be replaced; the words "true" and "false" are understood.
        resume: results of the same cases are looked at later, by :func:`~monai_zsad.workflow.resuming.skip_complete`.
        retry_failed: likewise.

    Raises:
        OutputError: if the folder cannot be made or written to, or holds results of a case, and both are false.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> check_output(folder, ["anna"])
        >>> (Path(folder) / "anna").mkdir()
        >>> (Path(folder) / "anna" / "anna_scores.json").touch()
        >>> check_output(folder, ["anna"])  # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        monai_zsad.errors.OutputError: ... already holds results of anna ...
    """
    folder = Path(output_dir).expanduser()
    use_own_device()
    make_folder(folder)
    try:
        probe = folder / f".write-test-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written to ({error.strerror}); give another --output_dir") from error
    resumed = parse_flag("resume", resume) or parse_flag("retry_failed", retry_failed) or place().started_again
    if parse_flag("overwrite", overwrite) or resumed:
        return
    ids = [case if isinstance(case, str) else str(case["case"]) for case in cases]
    there = [case for case in ids if _has_results(folder, case)]
    if there:
        some = ", ".join(there[:3]) + (f" and {len(there) - 3} more" if len(there) > 3 else "")
        raise OutputError(
            f"{folder} already holds results of {some}: add --overwrite true to replace them, --resume true to do what "
            "is missing (with `screen`: --overwrite, --resume), or give another folder"
        )


def _has_results(folder: Path, case: str) -> bool:
    own = CaseLayout(folder, "", "").filename(subject=case)
    return own.parent.is_dir() and any(name.startswith(own.name) for name in os.listdir(own.parent))
