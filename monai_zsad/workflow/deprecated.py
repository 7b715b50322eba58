"""What bundles of the first release call, for users' copies of them; goes with the next release.

Their ``inference.yaml`` checks, resumes and evaluates by functions that pass a data set from one to the other. Here
they are made of :class:`~monai_zsad.workflow.run.ScreeningRun`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from monai_zsad.distributed.ranks import use_own_device
from monai_zsad.flags import parse_flag
from monai_zsad.workflow.cases.output_folder import check_output as _check_output
from monai_zsad.workflow.evaluator import guarded
from monai_zsad.workflow.run import ScreeningRun, end_quickly
from monai_zsad.writers.base import RunSettings

__all__ = [
    "ScreeningSummary",
    "check_output",
    "evaluate",
    "finish",
    "first_cases",
    "isolate_failures",
    "skip_complete",
]


def check_output(
    output_dir: str | os.PathLike[str],
    cases: Sequence[str | Mapping[str, Any]],
    overwrite: bool | str = False,
    resume: bool | str = False,
    retry_failed: bool | str = False,
) -> None:
    """See :func:`monai_zsad.workflow.cases.output_folder.check_output`."""
    resumed = parse_flag("resume", resume) or parse_flag("retry_failed", retry_failed)
    use_own_device()
    _check_output(output_dir, cases, parse_flag("overwrite", overwrite), resumed)


def skip_complete(
    dataset: Any,
    output_dir: str | os.PathLike[str],
    resume: bool | str,
    overwrite: bool | str,
    describe: Callable[[str], Mapping[str, Any]],
    settings: Mapping[str, Any],
    retry_failed: bool | str = False,
    limit: int | None = None,
) -> list[str]:
    """See :meth:`~monai_zsad.workflow.run.ScreeningRun.skip_complete`; the data set keeps the run."""
    given: Any = SimpleNamespace(
        resume=parse_flag("resume", resume),
        overwrite=parse_flag("overwrite", overwrite),
        retry_failed=parse_flag("retry_failed", retry_failed),
        limit=limit,
        progress=False,
        findings=settings.get("findings", settings),
        record=RunSettings(settings.get("findings", settings), settings),
    )
    run = ScreeningRun(output_dir, dataset.data, given, describe)
    done = run.skip_complete()
    dataset.select(run.cases)
    dataset.run = run
    return done


def evaluate(evaluator: Any) -> None:
    """See :meth:`~monai_zsad.workflow.run.ScreeningRun.evaluate`."""
    run: ScreeningRun = evaluator.data_loader.dataset.run
    run.attach(evaluator)
    run.evaluate(evaluator)
    evaluator.state.failures = run.failures


class ScreeningSummary:
    """Stands in the handlers of the first release's bundles. :func:`evaluate` does what it did."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        del arguments, options

    def attach(self, engine: Any) -> None:
        """Do nothing."""


def isolate_failures(engine: Any, batchdata: Mapping[str, Any]) -> Any:
    """See :func:`~monai_zsad.workflow.evaluator.guarded`; for ``iteration_update`` of MONAI's evaluator."""
    # An evaluator with an `iteration_update` has no other way to its own iteration.
    return guarded(engine, batchdata, engine._iteration)


def finish(evaluator: Any) -> None:
    """See :meth:`~monai_zsad.workflow.run.ScreeningRun.finish`."""
    end_quickly()
    if getattr(evaluator.state, "failures", []):
        raise SystemExit(1)


def first_cases(records: Sequence[Any], limit: int | None) -> list[Any]:
    """The first cases up to a limit; the option ``limit`` does it now."""
    # A slice keeps what was left out.
    return records[:limit]  # type: ignore[return-value]
