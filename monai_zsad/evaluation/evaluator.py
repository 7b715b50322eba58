"""Additions to MONAI's evaluator for benchmark sets: failed cases, prompts of each class, the map that is scored."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.data import list_data_collate
from monai.engines import SupervisedEvaluator
from torch import nn

from monai_zsad.errors import ConfigurationError
from monai_zsad.evaluation.predictions import prediction_file
from monai_zsad.evaluation.protocols import Protocol
from monai_zsad.evaluation.running import EvaluationRun
from monai_zsad.networks import ZeroShotNetwork
from monai_zsad.networks.maps import map_and_score
from monai_zsad.prompts import PromptEnsemble
from monai_zsad.workflow.evaluator import guarded
from monai_zsad.writers.base import CaseWriter

__all__ = [
    "BenchmarkEvaluator",
    "ClassPrompts",
    "IsolatedCases",
    "before_writing",
    "collate_cases",
    "scored_network",
]

_logger = logging.getLogger(__name__)


class BenchmarkEvaluator(SupervisedEvaluator):
    """``SupervisedEvaluator`` that records the failed cases of a batch and predicts the others.

    MONAI's evaluator ends the run at the first exception.
    :class:`~monai_zsad.workflow.evaluator.ScreeningEvaluator` records a failed case, but its batches hold one case.
    Here a batch can hold several cases. If a batch fails, its cases run one by one, except those that already have a
    prediction. A failed case is logged once. Its older prediction is removed, because it may be of other files.

    Args:
        evaluation: the run that writes the predictions.
        **options: options of ``SupervisedEvaluator``. Its DataLoader uses :func:`collate_cases`.
    """

    def __init__(self, *, evaluation: EvaluationRun, **options: Any) -> None:
        super().__init__(**options)
        self.evaluation = evaluation

    def _iteration(self, engine: Any, batchdata: Any) -> Any:
        return _run_batch(self.evaluation, engine, batchdata, super()._iteration)


class IsolatedCases:
    """Deprecated: ``iteration_update`` of a plain ``SupervisedEvaluator``, for copied bundles.

    Use :class:`BenchmarkEvaluator` as the evaluator instead.

    Args:
        run: the run that writes the predictions.
    """

    def __init__(self, run: EvaluationRun) -> None:
        self.run = run

    def __call__(self, engine: Any, batchdata: Mapping[str, Any]) -> list[Any]:
        """Run a batch of :func:`collate_cases`; see :class:`BenchmarkEvaluator`."""
        return _run_batch(self.run, engine, batchdata, engine._iteration)


Iteration = Callable[[Any, Any], Any]


def _run_batch(run: EvaluationRun, engine: Any, batch: Mapping[str, Any], iteration: Iteration) -> list[Any]:
    """Outputs of the cases of a batch, and records of those that failed."""
    read = {key: values for key, values in batch.items() if key != "error"}
    outputs = [output for item in batch.get("error", []) for output in guarded(engine, item, iteration)]
    if read:
        outputs += _predict(run, engine, read, iteration)
    for output in outputs:
        if output.get("status") == "failed":
            prediction_file(run.output_dir, output["case"]).unlink(missing_ok=True)
    return outputs


def _predict(run: EvaluationRun, engine: Any, batch: Mapping[str, Any], iteration: Iteration) -> list[Any]:
    cases = list(batch["case"])
    # MONAI decollates the batch that it finds in the engine's state.
    engine.state.batch = batch
    if len(cases) == 1:
        return list(guarded(engine, batch, iteration))
    try:
        return list(iteration(engine, batch))
    except Exception as error:
        # The text of the error is left out: the failed case is logged below.
        why = type(error).__name__
        _logger.debug("traceback of a batch's failure", exc_info=True)
    _logger.info("a batch of %d cases failed (%s); its cases run one by one", len(cases), why)
    if torch.cuda.is_available():
        # The failed batch left its memory in pieces. A single case needs it in one block.
        torch.cuda.empty_cache()
    outputs: list[Any] = []
    for index, case in enumerate(cases):
        if case not in run.kept:
            alone = {key: values[index : index + 1] for key, values in batch.items()}
            outputs += _predict(run, engine, alone, iteration)
    return outputs


def collate_cases(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Collate a batch as MONAI's ``list_data_collate`` does, and list unreadable items separately.

    ``list_data_collate`` fails for a batch with an item that :class:`~monai_zsad.data.ScreeningDataset` could not read.

    Args:
        items: items of one batch.

    Returns:
        The batch. If items could not be read, ``error`` is the list of these items.

    Example:
        >>> collate_cases([{"case": "anna", "label": 0}, {"case": "bert", "error": "is empty"}])
        {'case': ['anna'], 'label': tensor([0]), 'error': [{'case': 'bert', 'error': 'is empty'}]}
    """
    read = [item for item in items if "error" not in item]
    batch = dict(list_data_collate(read)) if read else {}
    unread = [dict(item) for item in items if "error" in item]
    return {**batch, "error": unread} if unread else batch


class ClassPrompts:
    """Handler that sets the network's prompts to those of the batch's class.

    MONAI has no handler for prompts. All items of a batch have the same class, see
    :class:`~monai_zsad.evaluation.ClassBatches`. If ``prompts`` is empty, the network keeps its own prompts.

    Args:
        network: network of the bundle. Its weights must be loaded before the run starts.
        prompts: prompts by class.
    """

    def __init__(self, network: Any, prompts: Mapping[str, PromptEnsemble]) -> None:
        self.network = network
        self.prompts = prompts

    def attach(self, engine: Engine) -> None:
        """Register the handler with an evaluator."""
        engine.add_event_handler(Events.ITERATION_STARTED, self._start)

    def _start(self, engine: Engine) -> None:
        # A batch without readable items has no class.
        names = set(engine.state.batch.get("class_name", ()))
        if not self.prompts or not names:
            return
        (name,) = names
        if self.network.prompts != self.prompts[name]:
            self.network.prompts = self.prompts[name]
            self.network.update_text_anchors()


class _RawMap(nn.Module):
    """A network whose map is one of its intermediate results."""

    def __init__(self, network: ZeroShotNetwork, name: str) -> None:
        super().__init__()
        self.network = network
        self.name = name

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        found = self.network.predict(self.network.normalize(self.network.resize(slices)))
        return map_and_score(found.details[self.name], found.score, slices.shape[-2:])


def scored_network(network: nn.Module, definition: ZeroShotNetwork, protocol: Protocol) -> nn.Module:
    """The network whose maps a protocol scores: the network itself, or one with an intermediate result as its map.

    Args:
        network: the network that runs.
        definition: the network as it was built. With an exported runtime, ``network`` is another object.
        protocol: protocol of the evaluation; ``raw_map`` names the intermediate result.

    Raises:
        ConfigurationError: the protocol needs an intermediate result, but the runtime does not give it.
    """
    if protocol.raw_map is None:
        return network
    if network is not definition:
        raise ConfigurationError(
            f"protocol {protocol.name} scores an intermediate result of the network, which an exported network does "
            "not have: leave --runtime at torch"
        )
    return _RawMap(definition, protocol.raw_map)


def before_writing(postprocessing: Any) -> list[Any]:
    """Transforms of a bundle's postprocessing up to ``Invertd``, without those that write files."""
    from monai.transforms import Invertd

    found = []
    for transform in postprocessing.transforms:
        if not isinstance(transform, CaseWriter):
            found.append(transform)
        if isinstance(transform, Invertd):
            break
    return found
