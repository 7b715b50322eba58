"""MONAI's evaluator over many scans, in which a scan that fails does not end the run."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from monai.engines import SupervisedEvaluator

from monai_zsad.data import explain, failure_code
from monai_zsad.errors import show_tracebacks
from monai_zsad.flags import parse_flag
from monai_zsad.workflow.cases.redaction import hides_tracebacks, redact
from monai_zsad.workflow.determinism import check_workspace, determinism

__all__ = ["ScreeningEvaluator", "guarded"]

_logger = logging.getLogger(__name__)


class ScreeningEvaluator(SupervisedEvaluator):
    """``SupervisedEvaluator`` that records a failed case and goes on with the next one.

    MONAI's evaluator ends the run at the first exception. Decollation, postprocessing and writers run inside its
    ``_iteration`` (by the ``MODEL_COMPLETED`` event), so this method catches everything that a case can raise: an item
    of :class:`~monai_zsad.data.ScreeningDataset` that could not be read, the network, memory, a writer.
    ``KeyboardInterrupt`` and ``SystemExit`` pass.

    The output of a failed case is ``[{"case", "status": "failed", "reason", "code"}]``; of a case that another process
    runs, ``[{"case", "status": "elsewhere"}]``. Metrics attached to the evaluator would miss their keys in such an
    output.

    Args:
        deterministic: begin each case with the same seed and use deterministic algorithms only; bool or text.
        **options: of ``SupervisedEvaluator``. Its DataLoader has ``batch_size=1``.

    Raises:
        ConfigurationError: if ``deterministic`` is set and cuBLAS may choose its workspace.
    """

    def __init__(self, *, deterministic: bool | str = False, **options: Any) -> None:
        self.deterministic = parse_flag("deterministic", deterministic)
        if self.deterministic:
            check_workspace(options["device"])
        super().__init__(**options)

    def _iteration(self, engine: Any, batchdata: Any) -> Any:
        with determinism() if self.deterministic else contextlib.nullcontext():
            return guarded(engine, batchdata, super()._iteration)


def guarded(engine: Any, batchdata: Mapping[str, Any], iteration: Callable[[Any, Any], Any]) -> Any:
    """One iteration over one case, with an output that says so if the case fails.

    One sentence is logged, and the traceback at debug level (as an error with ``MONAI_ZSAD_TRACEBACK=1``).

    Args:
        engine: the evaluator.
        batchdata: one collated item with ``case``, and ``error`` if it could not be read.
        iteration: the engine's own iteration.

    Returns:
        The output of ``iteration``, or a record, see :class:`ScreeningEvaluator`.
    """
    case = str(_first(batchdata.get("case"), f"item {engine.state.iteration}"))
    if "elsewhere" in batchdata:
        engine.state.batch = [{"case": case}]
        return [{"case": case, "status": "elsewhere"}]
    if "error" in batchdata:
        reason, code = str(_first(batchdata["error"], "unknown")), str(_first(batchdata.get("code"), ""))
        return _failed(engine, case, reason, code)
    try:
        return iteration(engine, batchdata)
    except Exception as error:
        if not hides_tracebacks():
            level = logging.ERROR if show_tracebacks() else logging.DEBUG
            _logger.log(level, "%s: traceback of the failure", case, exc_info=True)
        reason, code = explain(error), failure_code(error)
    if torch.cuda.is_available():
        # The memory of the failed case is free now. The next case needs it in one block.
        torch.cuda.empty_cache()
    return _failed(engine, case, reason, code)


def _failed(engine: Any, case: str, reason: str, code: str) -> list[dict[str, str]]:
    # The log line and the tables begin with the case's name already.
    reason = redact(reason).removeprefix(f"{case}: ").removeprefix(f"{case}, ")
    engine.state.batch = [{"case": case}]
    _logger.error("%s failed: %s", case, reason)
    return [{"case": case, "status": "failed", "reason": reason, "code": code}]


def _first(value: Any, default: Any) -> Any:
    if isinstance(value, list | tuple):
        return value[0] if value else default
    return default if value is None else value
