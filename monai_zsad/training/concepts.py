"""Training of a small CLIP with AA-CLIP's heads from random weights: windows of slices against prompts of lesions."""

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
    """Logits of each concept in windows of patches, for training; the network inside is what is kept.

    AA-CLIP adapts a CLIP that was trained on images and captions. Here both towers are trained, on segmentation
    alone: each pixel of the map is compared with sentences that ask for one concept ("a FLAIR image of a brain with a
    small hyperintense lesion") and sentences that deny it. Wording, anatomy and modality are drawn again at every step.

    Only windows of a slice pass through the tower. They keep the position embeddings of their place, so the network
    later runs on whole slices; a step costs a fraction, and lesions fill more of it. A window may be the whole slice,
    which is what inference sees. A linear head beside the prompts (``auxiliary``) lets the vision tower learn before
    the text tower has learned anything; it is not part of the network.

    Batch normalisation takes the windows' own statistics at first. They are not those of whole slices: with the
    running ones, which a network is used with, average precision on validation slices was a half to a quarter of that
    with the batch's after 660 steps, and changed tenfold from epoch to epoch. So after ``settle`` steps training uses
    the running statistics as they are then: what is trained is what will run.

    Args:
        network: is trained in place.
        seed: of the starting values and of the sentences.
        names: concepts; default: all of :func:`monai_zsad.prompts.concepts`.
        sentences: per concept and kind; their mean feature is the anchor.
        autocast: compute the blocks in bfloat16.
        settle: steps after which the statistics of batch normalisation stay; 0 where ``start`` brings settled ones.
        start: file of a trained model to go on from, as of :meth:`ScreeningCLIP.load_weights`; by default training
            starts from nothing, whatever weights ``network`` has.

    Raises:
        ConfigurationError: for an unknown concept.
        WeightsError: if ``start`` is missing, damaged or does not fit.
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
        # A buffer, so that a training that goes on draws the sentences that it would have drawn.
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.steps: torch.Tensor
        self._stale = True
        initialize_small_clip(network, seed)
        if start is not None:
            network.load_weights(model=start)

    def forward(self, slices: torch.Tensor, tokens: torch.Tensor | None = None) -> Any:
        """In training mode logits by prompts and by the auxiliary head; in evaluation mode what the network gives.

        Args:
            slices: (B, 3, S, S) in [0, 1]; for training at the network's own size.
            tokens: (B, w, T), the patches of each window, row by row from 0; for training.

        Returns:
            ``words`` and ``auxiliary``, each (B, w, T, k k, concepts), float32; or map and score (B, 2, S, S).
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
        """As of any module; batch normalisation stays as in evaluation once it has settled."""
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
        """Features (B w, T, k k, D) of windows, not normalised."""
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
        """Anchors (concepts, 2, D) of newly drawn sentences, normal first, l2-normalised, with gradients."""
        rng = np.random.default_rng([self.seed, int(self.steps)])
        self.steps += 1
        drawn = [s for concept in self.concepts for kind in concept.sentences(self.sentences, rng) for s in kind]
        clip, adapter = self.network.clip, self.network.text_adapter[-1]
        ids = clip.tokenize(drawn)
        end = ids.argmax(-1)
        # What comes after the longest sentence cannot be seen from its end.
        length = int(end.max()) + 1
        features = adapter(clip.text_tokens(clip.embed_tokens(ids[:, :length]), end)).float()
        grouped = l2_normalize(features).unflatten(0, (len(self.concepts), 2, self.sentences))
        return l2_normalize(grouped.mean(2))


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters for an optimizer: matrices with weight decay, vectors (gains and biases) without."""
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
