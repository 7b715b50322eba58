"""Batches of an evaluation in which a case that fails costs no other: loading, the network, what is kept."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.data import list_data_collate

from monai_zsad.evaluation.predictions import prediction_file
from monai_zsad.evaluation.running import EvaluationRun
from monai_zsad.workflow.screening import isolate_failures

__all__ = ["IsolatedCases", "collate_cases"]

_logger = logging.getLogger(__name__)


def collate_cases(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Collate what was read, as MONAI's ``list_data_collate`` does; items that say why they were not are kept apart.

    ``list_data_collate`` refuses a batch in which :class:`~monai_zsad.data.ScreeningDataset` could not read an item.

    Args:
        items: of one batch.

    Returns:
        the batch; with ``error``, the list of the items that were not read, if there are any.

    Example:
        >>> collate_cases([{"case": "anna", "label": 0}, {"case": "bert", "error": "is empty"}])
        {'case': ['anna'], 'label': tensor([0]), 'error': [{'case': 'bert', 'error': 'is empty'}]}
    """
    read = [item for item in items if "error" not in item]
    batch = dict(list_data_collate(read)) if read else {}
    unread = [dict(item) for item in items if "error" in item]
    return {**batch, "error": unread} if unread else batch


class IsolatedCases:
    """One iteration of an evaluation in which only what fails is lost, for ``iteration_update`` of MONAI's evaluator.

    :func:`~monai_zsad.workflow.screening.isolate_failures` does this for batches of one case. A batch of several that
    fails is tried again case by case, without those that were kept before it failed. A failed case is logged once, and
    has no prediction afterwards, not even one of other files that was to be overwritten: that would be scored.

    Args:
        run: that keeps the predictions.
    """

    def __init__(self, run: EvaluationRun) -> None:
        self.run = run

    def __call__(self, engine: Any, batchdata: Mapping[str, Any]) -> list[Any]:
        """Run a batch of :func:`collate_cases`.

        Returns:
            the evaluator's output of the cases that were run, and :func:`isolate_failures`' records of the failed.
        """
        # isolate_failures makes the list in the first iteration, where it may not be asked for here.
        engine.state.failures = getattr(engine.state, "failures", [])
        read = {key: values for key, values in batchdata.items() if key != "error"}
        outputs = [output for item in batchdata.get("error", []) for output in isolate_failures(engine, item)]
        if read:
            outputs += self._predict(engine, read)
        for output in outputs:
            if output.get("status") == "failed":
                prediction_file(self.run.output_dir, output["case"]).unlink(missing_ok=True)
        return outputs

    def _predict(self, engine: Any, batch: Mapping[str, Any]) -> list[Any]:
        cases = list(batch["case"])
        # MONAI decollates what the engine's state holds.
        engine.state.batch = batch
        if len(cases) == 1:
            return list(isolate_failures(engine, batch))
        try:
            return list(engine._iteration(engine, batch))
        except Exception as error:
            # Not its sentence, which would name a case that is logged again below.
            why = type(error).__name__
            _logger.debug("traceback of a batch's failure", exc_info=True)
        _logger.info("a batch of %d cases failed (%s), now each by itself", len(cases), why)
        if torch.cuda.is_available():
            # What the batch held is free now; give it back, so that a single case finds a whole block.
            torch.cuda.empty_cache()
        outputs: list[Any] = []
        for index, case in enumerate(cases):
            if case not in self.run.kept:
                alone = {key: values[index : index + 1] for key, values in batch.items()}
                outputs += self._predict(engine, alone)
        return outputs
