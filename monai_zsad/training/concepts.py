"""Training of a small CLIP with AA-CLIP's heads from random weights, with windows of slices and lesion prompts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from monai_zsad.errors import ConfigurationError
from monai_zsad.networks.aaclip import SIMILARITY_SCALE
from monai_zsad.networks.maps import l2_normalize
from monai_zsad.networks.screening_clip import ScreeningCLIP
from monai_zsad.prompts import concepts
from monai_zsad.training.initialisation import initialize_small_clip

__all__ = ["ConceptTraining", "parameter_groups", "prepare_windows"]


class ConceptTraining(nn.Module):
    """Training network that gives logits of each concept in windows of patches. Inference uses ``network`` only.

    AA-CLIP adapts a CLIP that was trained with images and captions. Here both towers are trained with segmentation
    only. Each pixel of the map is compared with prompts that describe a concept ("a FLAIR image of a brain with a small
    hyperintense lesion") and with prompts that deny it. Wording, anatomy and modality are drawn again at every step.

    Only windows of a slice pass through the vision tower. A step is then cheaper, and lesions fill a larger part of the
    input. Windows keep the position embeddings of their position in the slice, so the network can later run on complete
    slices. A window can also be the complete slice, as in inference. With a linear head (``auxiliary``), the vision
    tower learns before the text tower is useful. This head is not part of the network.

    At first, batch normalisation uses the statistics of the windows in the batch. Inference uses the running
    statistics, which differ: after 660 steps they gave only a quarter to a half of the average precision on validation
    slices, and the value changed tenfold between epochs. After ``settle`` steps, training therefore uses the running
    statistics and no longer changes them. Training and inference then agree.

    Args:
        network: network to train; it is changed in place.
        seed: random seed of the initial values and of the prompts.
        names: concepts; default: all of :func:`monai_zsad.prompts.concepts`.
        sentences: number of prompts per concept and kind. Their mean feature is the anchor.
        autocast: compute the blocks in bfloat16.
        settle: number of steps after which the statistics of batch normalisation are fixed. Use 0 if ``start`` is a
            model with useful statistics.
        start: file of a trained model from which training starts, see :meth:`ScreeningCLIP.load_weights`. By default
            training starts from random values, and the weights of ``network`` are overwritten.

    Raises:
        ConfigurationError: a concept is unknown.
        WeightsError: ``start`` is missing, damaged or does not fit.
    """

    part = "network"
    files: tuple[str, ...] = ()
    optimizer_key = None

    def __init__(
        self,
        network: ScreeningCLIP,
        seed: int = 0,
        *,
        names: Sequence[str] | None = None,
        sentences: int = 2,
        autocast: bool = False,
        settle: int = 600,
        start: str | Path | None = None,
    ) -> None:
        super().__init__()
        known = concepts()
        if unknown := [name for name in names or () if name not in known]:
            raise ConfigurationError(f"names={unknown}: unknown concepts; choose from {', '.join(known)}")
        self.network = network
        self.concepts = [known[name] for name in (names or known)]
        self.sentences = sentences
        self.seed = seed
        self.autocast = autocast
        self.settle = settle
        self.auxiliary = nn.Linear(network.clip.embed_dim, len(self.concepts))
        nn.init.zeros_(self.auxiliary.weight)
        nn.init.constant_(self.auxiliary.bias, -3.0)
        # It is a buffer, so that a resumed training draws the same prompts as without interruption.
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.steps: torch.Tensor
        self._stale = True
        initialize_small_clip(network, seed)
        if start is not None:
            network.load_weights(model=start)

    def forward(self, slices: torch.Tensor, tokens: torch.Tensor | None = None) -> Any:
        """Logits of the prompts and of the auxiliary head in training mode; the network's output in evaluation mode.

        Args:
            slices: (B, 3, S, S) in [0, 1]. In training mode, S is the network's own size.
            tokens: (B, w, T), indices of the patches of each window, row by row from 0. Only for training mode.

        Returns:
            In training mode, ``words`` (logits of the prompts) and ``auxiliary``, each (B, w, T, k k, concepts),
            float32. In evaluation mode, map and score (B, 2, S, S).
        """
        if not self.training or tokens is None:
            if self._stale:
                self.network.update_text_anchors()
                self._stale = False
            return self.network(slices)
        self._stale = True
        features = self._windows(slices, tokens)
        auxiliary = self.auxiliary(features)
        normal, abnormal = self.anchors().unbind(1)
        matched = l2_normalize(features) @ (SIMILARITY_SCALE * (abnormal - normal)).T
        windows = tokens.shape[:2]
        return {"words": matched.unflatten(0, windows), "auxiliary": auxiliary.unflatten(0, windows)}

    def train(self, mode: bool = True) -> ConceptTraining:
        """Set the mode. After ``settle`` steps, batch normalisation stays in evaluation mode."""
        super().train(mode)
        if mode and int(self.steps) >= self.settle:
            for module in self.network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    caches = False

    @property
    def learned(self) -> nn.Module:
        """Everything is trained."""
        return self

    def _windows(self, slices: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Features (B w, T, k k, D) of windows, without normalisation."""
        network, clip = self.network, self.network.clip
        window, patch = math.isqrt(tokens.shape[-1]), clip.patch_size
        first = tokens[..., 0]
        tops, lefts = (first // clip.grid_size * patch).tolist(), (first % clip.grid_size * patch).tolist()
        images = network.normalize(slices.float())
        extent = window * patch
        crops = torch.stack(
            [
                image[:, top : top + extent, left : left + extent]
                for image, rows, columns in zip(images, tops, lefts, strict=True)
                for top, left in zip(rows, columns, strict=True)
            ]
        )
        positions = clip.visual.positional_embedding[1:][tokens.flatten(0, 1)]
        half = torch.autocast(slices.device.type, torch.bfloat16, enabled=self.autocast)
        with half, sdpa_kernel(SDPBackend.MATH):  # a few hundred tokens: quicker than what saves memory
            grid, _ = network.dense_features(crops, positions)
        parts = grid.float().unflatten(2, (window, -1)).unflatten(4, (window, -1))
        return parts.permute(0, 2, 4, 3, 5, 1).flatten(1, 2).flatten(2, 3)

    def anchors(self) -> torch.Tensor:
        """Anchors (concepts, 2, D) of newly drawn prompts: normal first, l2-normalised, with gradients."""
        rng = np.random.default_rng([self.seed, int(self.steps)])
        self.steps += 1
        drawn = [s for concept in self.concepts for kind in concept.sentences(self.sentences, rng) for s in kind]
        clip, adapter = self.network.clip, self.network.text_adapter[-1]
        ids = clip.tokenize(drawn)
        end = ids.argmax(-1)
        # The text tower is causal, so tokens after the longest prompt do not change any feature.
        length = int(end.max()) + 1
        features = adapter(clip.text_tokens(clip.embed_tokens(ids[:, :length]), end)).float()
        grouped = l2_normalize(features).unflatten(0, (len(self.concepts), 2, self.sentences))
        return l2_normalize(grouped.mean(2))


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters for an optimizer: matrices with weight decay, vectors (gains and biases) without it."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim < 2], "weight_decay": 0.0},
    ]


def prepare_windows(
    batch: Mapping[str, torch.Tensor],
    device: str | torch.device | None = None,
    non_blocking: bool = False,
    **kwargs: Any,
) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor], dict[str, Any]]:
    """MONAI's ``prepare_batch`` for items of :class:`monai_zsad.synthesis.LesionSlices`: inputs, targets, arguments."""
    del kwargs
    image, tokens, label, weight = (
        batch[key].to(device, non_blocking=non_blocking) for key in ("image", "tokens", "label", "weight")
    )
    return image, (label, weight), (tokens,), {}
