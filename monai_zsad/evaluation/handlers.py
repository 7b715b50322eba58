"""What an evaluation puts into a bundle's evaluator: words of each class, the map that is scored, the way back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn

from monai_zsad.errors import ConfigurationError
from monai_zsad.evaluation.protocols import Protocol
from monai_zsad.networks import ZeroShotNetwork
from monai_zsad.networks.maps import map_and_score
from monai_zsad.prompts import PromptEnsemble

__all__ = ["ClassPrompts", "before_writing", "scored_network"]


class ClassPrompts:
    """Handler that gives the network the sentences of each batch's class.

    MONAI's handlers know nothing of words. Batches hold one class each (:class:`ClassBatches`). Does nothing where the
    words are the same for all classes.

    Args:
        network: the bundle's network, its weights loaded before the run starts.
        prompts: of each class.
    """

    def __init__(self, network: Any, prompts: Mapping[str, PromptEnsemble]) -> None:
        self.network = network
        self.prompts = prompts

    def attach(self, engine: Engine) -> None:
        """Register the handler with an evaluator."""
        engine.add_event_handler(Events.ITERATION_STARTED, self._start)

    def _start(self, engine: Engine) -> None:
        # A batch of which nothing could be read has no class.
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
    """The network whose maps a protocol scores: as it is, or with an intermediate result as its map.

    Args:
        network: that runs.
        definition: the network as it was built; another object where a runtime runs it.
        protocol: with ``raw_map``.

    Raises:
        ConfigurationError: an intermediate result is wanted of a runtime that has none.
    """
    if protocol.raw_map is None:
        return network
    if network is not definition:
        raise ConfigurationError(
            f"protocol {protocol.name} scores what the network computes on its way: leave --runtime at torch"
        )
    return _RawMap(definition, protocol.raw_map)


def before_writing(postprocessing: Any) -> list[Any]:
    """Transforms of a bundle's postprocessing up to ``Invertd``, without those that write."""
    from monai.transforms import Invertd

    found = []
    for transform in postprocessing.transforms:
        if not type(transform).__module__.startswith("monai_zsad.writers"):
            found.append(transform)
        if isinstance(transform, Invertd):
            break
    return found
