"""Base class of training networks, and the training of Crane. One part of a network is trained, the rest is frozen."""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from monai_zsad.backbones import Activation
from monai_zsad.backbones.weights import prompts_state_dict
from monai_zsad.errors import ConfigurationError
from monai_zsad.networks.base import ZeroShotNetwork, without_autocast
from monai_zsad.networks.crane import Crane
from monai_zsad.networks.maps import anomaly_probability, l2_normalize, map_and_score, similarity_logits
from monai_zsad.training.feature_cache import FeatureCache

__all__ = ["CraneTraining", "TrainingNetwork", "to_grid"]

Outputs = dict[str, torch.Tensor]


class TrainingNetwork(nn.Module, ABC):
    """A zero-shot network in which one part is trained. The rest is frozen and stays in evaluation mode.

    MONAI's trainers call one module for training and validation. In training mode, the output is the input of the
    method's loss. In evaluation mode, the output is map and score (B, 2, H, W), as in the bundle's inference. After
    training steps, the next evaluation first computes the text anchors again.

    Args:
        network: network to train. It is changed in place: all parameters are frozen, except those of the trained part.
        cache_dir: folder for the frozen features, stored by image and weights. It only helps without random
            augmentation. ``None`` for no cache.
    """

    part: ClassVar[str]
    """Name of the trained part, and its key in the release's checkpoints."""
    files: ClassVar[tuple[str, ...]]
    """Names of the release's checkpoint files, written after each epoch; ``{epoch}`` counts from 1."""
    optimizer_key: ClassVar[str | None] = None
    """Key of the optimizer in the release's checkpoints; ``None`` if they do not hold it."""

    def __init__(self, network: ZeroShotNetwork, cache_dir: str | os.PathLike[str] | None = None) -> None:
        super().__init__()
        self.network: Any = network.requires_grad_(False)
        self.learned.requires_grad_(True)
        self._cache_dir = cache_dir
        self._cache: FeatureCache | None = None
        self._stale = True
        self.train()

    @property
    def learned(self) -> Any:
        """The module that is trained."""
        return getattr(self.network, self.part)

    @property
    def image_size(self) -> int:
        """Side S of the network's input in pixels."""
        return self.network.image_size

    @property
    def caches(self) -> bool:
        """Whether frozen features are kept on disk."""
        return self._cache_dir is not None

    def train(self, mode: bool = True) -> TrainingNetwork:
        """Set the mode of the trained part. Everything else stays in evaluation mode."""
        super().train(mode)
        self.network.eval()
        self.learned.train(mode)
        self._stale = self._stale or mode
        return self

    def trainable_parameters(self) -> list[nn.Parameter]:
        """Parameters for the optimizer.

        Raises:
            ConfigurationError: they are not in float32. A lower precision would lose small steps.
        """
        parameters = list(self.learned.parameters())
        if wrong := {str(p.dtype) for p in parameters} - {"torch.float32"}:
            raise ConfigurationError(
                f"{self.part} is in {', '.join(wrong)}: train it with precision float32, or with amp"
            )
        return parameters

    @abstractmethod
    def load_weights(self, *, clip: str | Path, seed: int = 0, activation: Activation | None = None) -> None:
        """Load the frozen weights. Initialise the trained part from ``seed``, or from a source if one is given."""

    @abstractmethod
    def loss_inputs(self, images: torch.Tensor, names: Sequence[str] | None) -> Outputs:
        """Input of the method's loss, with gradients for the trained part."""

    @abstractmethod
    def update_anchors(self) -> None:
        """Compute the network's text anchors from its current weights."""

    @abstractmethod
    def screen(self, images: torch.Tensor, names: Sequence[str] | None) -> torch.Tensor:
        """Map and score (B, 2, H, W)."""

    def forward(self, images: torch.Tensor, names: Sequence[str] | None = None) -> Any:
        """Input of the loss in training mode; map and score (B, 2, H, W) in evaluation mode.

        Args:
            images: (B, C, H, W) in [0, 1], C of 1 or 3.
            names: name of the object in each image, for methods whose prompts contain a name.
        """
        images = images.as_subclass(torch.Tensor)
        if self.training:
            return self.loss_inputs(images, names)
        with torch.no_grad():
            if self._stale:
                self.update_anchors()
                self._stale = False
            return self.screen(images, names)

    def _frozen(self, images: torch.Tensor, encode: Callable[[torch.Tensor], Outputs]) -> Outputs:
        """Frozen features of images in [0, 1], batch first: computed by ``encode``, or read from the cache."""
        with torch.no_grad():
            if self._cache_dir is None:
                return encode(images)
            if self._cache is None:
                self._cache = FeatureCache(self._cache_dir, self._facts())
            return self._cache(images, encode)

    def _facts(self) -> Mapping[str, Any]:
        clip = self.network.clip
        if clip.record is None:
            raise ConfigurationError("features are kept by the hash of the weights: load them with load_weights first")
        facts = [clip.record.sha256 or clip.record.name, clip.architecture_config, clip.activation, clip.image_size]
        return {"clip": [*facts, clip.position_resize, str(clip.vision_dtype)], "part": self.part}

    def _normalized(self, images: torch.Tensor) -> torch.Tensor:
        return self.network.normalize(self.network.resize(images))


class CraneTraining(TrainingNetwork):
    """Training of Crane's prompt learner. CLIP is frozen.

    The loss uses the same maps as inference. With ``dense_layers="released"`` this is one map, of the last layer. The
    release adds the losses of four layers, but its four layers are one tensor, so it adds the same loss four times. Its
    segmentation term therefore weighs four times as much (``CraneLoss(layer_weight=4)``).

    Args:
        network: Crane or Crane+.
        image_conditioned: whether each image has its own prompts in training, as in the release. Evaluation uses the
            same prompts for all images. This needs a CLIP whose joint space is as wide as its text tower.
        image_temperature: divisor of the cosine similarities of the pooled image feature.
        cache_dir: see :class:`TrainingNetwork`.

    Raises:
        ConfigurationError: ``image_conditioned`` is set, but the CLIP does not allow it.

    Example:
        >>> config = {"embed_dim": 32, "vision_cfg": {"image_size": 28, "layers": 2, "width": 64, "patch_size": 14},
        ...           "text_cfg": {"width": 32, "heads": 1, "layers": 2}}
        >>> training = CraneTraining(Crane(config, image_size=28))
        >>> training.load_weights(clip="seed:0")
        >>> {name: tuple(value.shape) for name, value in training(torch.rand(3, 1, 28, 28)).items()}
        {'probabilities': (1, 3, 2, 2, 2), 'image_logits': (3, 2)}
    """

    part = "prompt_learner"
    files = ("epoch_{epoch}.pth",)

    def __init__(
        self,
        network: Crane,
        *,
        image_conditioned: bool = True,
        image_temperature: float = 0.01,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(network, cache_dir)
        clip = network.clip
        if image_conditioned and clip.embed_dim != clip.text_width:
            raise ConfigurationError(
                f"image_conditioned=True needs a CLIP whose joint space is as wide as its text tower; this one has "
                f"{clip.embed_dim} and {clip.text_width}: train with --image_conditioned false"
            )
        self.image_conditioned = image_conditioned
        self.image_temperature = image_temperature

    def load_weights(
        self,
        *,
        clip: str | Path,
        prompts: str | Path | None = None,
        seed: int = 0,
        activation: Activation | None = None,
    ) -> None:
        """Load CLIP. Draw the initial prompts from N(0, 0.02^2), or load the checkpoint ``prompts``."""
        self.network.clip.load_weights(clip, activation=activation)
        self.learned.reset_parameters(seed)
        if prompts is not None:
            state, record = prompts_state_dict(prompts)
            self.learned.load_released(state, record.name, self.network.clip)
        self.learned.embed_fixed_tokens(self.network.clip)

    def loss_inputs(self, images: torch.Tensor, names: Sequence[str] | None) -> Outputs:
        """``probabilities`` (L, B, 2, g, g), normal first, on the patch grid, and ``image_logits`` (B, 2)."""
        del names
        frozen = self._frozen(images, self._encode)
        patch, cls = frozen["patch"].transpose(0, 1), frozen["cls"]
        text = self.learned(self.network.clip, cls if self.image_conditioned else None)
        with without_autocast(images.device):
            logits = similarity_logits(patch, text.float(), self.network.temperature)
            pooled = l2_normalize((anomaly_probability(logits.mean(0)).unsqueeze(-1) * patch.mean(0)).sum(1))
            share = self.network.pooling_weight
            image = l2_normalize(share * pooled + (1 - share) * cls).unsqueeze(1)
            image_logits = similarity_logits(image, text.float(), self.image_temperature).squeeze(1)
            return {"probabilities": to_grid(logits.softmax(-1)), "image_logits": image_logits}

    def update_anchors(self) -> None:
        """Compute the anchors of the prompts without image condition. The released evaluation uses these."""
        self.network.update_text_anchors()

    def screen(self, images: torch.Tensor, names: Sequence[str] | None) -> torch.Tensor:
        """As Crane's inference, with features from the cache if there is one."""
        del names
        frozen = self._frozen(images, self._encode)
        with without_autocast(images.device):
            prediction = self.network._compare(frozen["patch"].transpose(0, 1), frozen["cls"])
        return map_and_score(prediction.anomaly_map, prediction.score, images.shape[-2:])

    def _encode(self, images: torch.Tensor) -> Outputs:
        details = self.network.predict(self._normalized(images)).details
        return {"patch": details["patch"].transpose(0, 1), "cls": details["cls"]}

    def _facts(self) -> Mapping[str, Any]:
        network = self.network
        return {**super()._facts(), "path": [network.attention, network.first_block, list(network.dense_layers)]}


def to_grid(values: torch.Tensor) -> torch.Tensor:
    """Arrange patch values (L, B, N, 2) on their square grid, (L, B, 2, g, g)."""
    side = math.isqrt(values.shape[-2])
    return values.transpose(-1, -2).unflatten(-1, (side, side))
