"""Several networks on the same slices. Networks with the same CLIP share its pass."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Mapping

import torch
from torch import nn

from monai_zsad.backbones import CLIPBackbone, VisionFeatures, VisionRequest
from monai_zsad.errors import ConfigurationError
from monai_zsad.networks.base import Prediction, ZeroShotNetwork

__all__ = ["FeatureNetwork", "SharedNetworks", "same_vision"]


class FeatureNetwork(ZeroShotNetwork):
    """A network that reads CLIP's features but does not change CLIP's own stream.

    So several networks can use the same pass through CLIP. AA-CLIP cannot do so, because its adapters change the
    stream.
    """

    @abstractmethod
    def vision_request(self) -> VisionRequest:
        """The features that :meth:`predict_from` needs."""

    @abstractmethod
    def predict_from(self, features: VisionFeatures, images: torch.Tensor) -> Prediction:
        """Map and score from the features that :meth:`vision_request` asked for.

        Args:
            features: the requested features.
            images: (B, 3, S, S), normalised.

        Returns:
            Map and score.
        """

    def predict(self, images: torch.Tensor) -> Prediction:
        """Map and score of (B, 3, S, S) normalised images; ``details`` are those of :meth:`predict_from`."""
        (features,) = self.clip.vision_features(images, [self.vision_request()])
        return self.predict_from(features, images)


def same_vision(one: CLIPBackbone, other: CLIPBackbone) -> bool:
    """Whether two backbones give the same features.

    Architecture, input size, activation, precision and weights are compared. The records are not enough: they do not
    state how a position embedding was resized.
    """
    if one.visual is other.visual:
        return True
    alike = one.architecture_config["vision_cfg"] == other.architecture_config["vision_cfg"] and (
        one.image_size,
        one.activation,
    ) == (other.image_size, other.activation)
    own, theirs = one.visual.state_dict(), other.visual.state_dict()
    return (
        alike
        and own.keys() == theirs.keys()
        and all(
            (tensor.dtype, tensor.device) == (theirs[name].dtype, theirs[name].device)
            and torch.equal(tensor, theirs[name])
            for name, tensor in own.items()
        )
    )


class SharedNetworks:
    """Several networks as one: (B, C, H, W) slices in [0, 1] to a result of each.

    MONAI's ensembles (``EnsembleEvaluator``) were not enough: there, each network computes everything for itself. Here
    CLIP's own stream, which takes most of the time, is computed once for all networks with the same backbone. Each
    network then reads its own second path. The results equal those of the single networks up to float32 rounding.

    Args:
        networks: networks by name, with loaded weights.

    Raises:
        ConfigurationError: if there is no network.

    >>> from monai_zsad.networks import AnomalyCLIP, Crane
    >>> config = {"embed_dim": 32, "vision_cfg": {"image_size": 28, "layers": 2, "width": 64, "patch_size": 14},
    ...           "text_cfg": {"width": 32, "heads": 1, "layers": 10}}
    >>> networks = {"crane": Crane(config, 56), "anomalyclip": AnomalyCLIP(config, 56)}
    >>> _ = [network.load_weights(clip="seed:0", prompts="seed:0") for network in networks.values()]
    >>> together = SharedNetworks(networks)
    >>> together.groups
    (('crane', 'anomalyclip'),)
    >>> {name: tuple(pred.shape) for name, pred in together(torch.rand(2, 1, 40, 40)).items()}
    {'crane': (2, 2, 40, 40), 'anomalyclip': (2, 2, 40, 40)}
    """

    def __init__(self, networks: Mapping[str, ZeroShotNetwork]) -> None:
        if not networks:
            raise ConfigurationError("networks is empty: give at least one, by name")
        self.networks = dict(networks)
        groups: list[list[str]] = []
        for name, network in self.networks.items():
            for group in groups:
                first = self.networks[group[0]]
                shareable = isinstance(network, FeatureNetwork) and isinstance(first, FeatureNetwork)
                if shareable and same_vision(network.clip, first.clip):
                    group.append(name)
                    break
            else:
                groups.append([name])
        self.groups: tuple[tuple[str, ...], ...] = tuple(map(tuple, groups))
        """Names of the networks that share a pass, in the order in which they run."""

    def predict(self, slices: torch.Tensor) -> dict[str, Prediction]:
        """Result of each network for (B, C, H, W) slices in [0, 1], at its own input size.

        Args:
            slices: (B, C, H, W) in [0, 1].

        Returns:
            Map and score by the network's name.
        """
        found: dict[str, Prediction] = {}
        for group in self.groups:
            found |= self._predict_group(group, slices)
        return {name: found[name] for name in self.networks}

    def __call__(self, slices: torch.Tensor) -> dict[str, torch.Tensor]:
        """(B, C, H, W) in [0, 1] to (B, 2, H, W) of each network: anomaly map and image score, float32."""
        return {name: found.as_slices(slices.shape[-2:]) for name, found in self.predict(slices).items()}

    def infer(self, inferer: Callable[[str, nn.Module], torch.Tensor]) -> dict[str, torch.Tensor]:
        """Run volumes through all networks with an inferer that takes one network at a time.

        The inferer runs once for each network and must take the same slices in the same order. In the first run of a
        group, all networks of the group process the slices. The results of the other networks are kept on the CPU and
        returned in their own runs.

        Args:
            inferer: runs one network, such as ``lambda name, network: SliceInferer(...)(volume, network)``.

        Returns:
            The results of the inferer by the network's name.

        Raises:
            ConfigurationError: if the inferer takes other slices in a later run.
        """
        found: dict[str, torch.Tensor] = {}
        for group in self.groups:
            pending: dict[str, deque[torch.Tensor]] = {name: deque() for name in group[1:]}
            for name in group:
                found[name] = inferer(name, _Member(self, group, name, pending))
        return {name: found[name] for name in self.networks}

    def _predict_group(self, group: tuple[str, ...], slices: torch.Tensor) -> dict[str, Prediction]:
        first = self.networks[group[0]]
        images = first.normalize(first.resize(slices))
        if len(group) == 1:
            return {group[0]: first.predict(images)}
        members = {name: network for name in group if isinstance(network := self.networks[name], FeatureNetwork)}
        features = first.clip.vision_features(images, [network.vision_request() for network in members.values()])
        return {
            name: network.predict_from(found, images)
            for (name, network), found in zip(members.items(), features, strict=True)
        }


class _Member(nn.Module):
    """A network of a group as the inferer sees it. The first one computes for all, the others return stored results."""

    def __init__(
        self, together: SharedNetworks, group: tuple[str, ...], name: str, pending: dict[str, deque[torch.Tensor]]
    ) -> None:
        super().__init__()
        self.network = together.networks[name]
        self.together, self.group, self.name, self.pending = together, group, name, pending
        # Inferers need these for the size of windows.
        self.image_size, self.patch_size = self.network.image_size, self.network.patch_size

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        if self.name in self.pending:
            waiting = self.pending[self.name]
            size = slices.shape[-2:]
            if len(waiting) < len(slices) or any(waiting[i].shape[-2:] != size for i in range(len(slices))):
                raise ConfigurationError(
                    "the inferer takes other slices than in its first run: use an inferer that runs all slices in the "
                    "same order every time, or run each network separately"
                )
            return torch.stack([waiting.popleft() for _ in range(len(slices))]).to(slices.device)
        predictions = self.together._predict_group(self.group, slices)
        for other, waiting in self.pending.items():
            waiting.extend(predictions[other].as_slices(slices.shape[-2:]).cpu())
        return predictions[self.name].as_slices(slices.shape[-2:])
