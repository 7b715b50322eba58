"""Training of AA-CLIP: text adapters in stage 1, image adapters in stage 2."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from monai_zsad.backbones import Activation
from monai_zsad.errors import ConfigurationError, WeightsError
from monai_zsad.networks.aaclip import AACLIP, SIMILARITY_SCALE, _load_adapter
from monai_zsad.networks.base import without_autocast
from monai_zsad.networks.maps import anomaly_probability, grid_to_map, l2_normalize, map_and_score, similarity_logits
from monai_zsad.prompts import PromptEnsemble
from monai_zsad.training.crane import Outputs, TrainingNetwork, to_grid

__all__ = ["AACLIPImageTraining", "AACLIPTextTraining", "aaclip_training"]

# The visual targets of stage 1 come from V-V attention in this number of last blocks.
_TARGET_BLOCKS = 19


class _AACLIPStage(TrainingNetwork):
    """Base class of both stages. It computes text anchors for the names of the images."""

    def __init__(self, network: AACLIP, cache_dir: str | os.PathLike[str] | None = None) -> None:
        super().__init__(network, cache_dir)
        self._kept_anchors: dict[str, torch.Tensor] = {}

    def anchors(self, names: Sequence[str] | None) -> torch.Tensor:
        """Anchors (1, 2, D), or (B, 2, D) for images with names. Gradients reach the text adapter."""
        if names is None or self.network.prompts.name is None:
            return self._pair(self.network.prompts).unsqueeze(0)
        found = {name: self._pair(_renamed(self.network.prompts, name)) for name in dict.fromkeys(names)}
        return torch.stack([found[name] for name in names])

    def _pair(self, prompts: PromptEnsemble) -> torch.Tensor:
        return torch.stack([self.network.encode_prompts(texts) for texts in (prompts.normal, prompts.abnormal)])

    def fixed_anchors(self, names: Sequence[str] | None) -> torch.Tensor:
        """As :meth:`anchors`, but without gradients. Each name is computed once until :meth:`update_anchors`."""
        if names is None or self.network.prompts.name is None:
            names = [""]
        with torch.no_grad():
            for name in set(names) - self._kept_anchors.keys():
                self._kept_anchors[name] = self.anchors([name] if name else None)[0]
        # The anchors were computed before the network was moved to its device.
        return torch.stack([self._kept_anchors[name] for name in names]).to(self.network.text_anchors.device)

    def update_anchors(self) -> None:
        """Compute the anchors of the network's own prompts. Anchors of names are computed when they are needed."""
        self._kept_anchors = {}
        self.network.text_anchors = self.fixed_anchors(None).to(self.network.text_anchors)

    def _start(self, module: nn.Module, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in module.parameters():
                fresh = torch.empty(parameter.shape)
                parameter.copy_(nn.init.xavier_uniform_(fresh, generator=generator))

    def _load_clip(self, clip: str | Path, activation: Activation | None) -> None:
        self.network.clip.load_weights(clip, activation=activation, accept_activation_mismatch=True)


class AACLIPTextTraining(_AACLIPStage):
    """AA-CLIP, stage 1: train the text adapters towards visual targets of the frozen CLIP.

    A target is the sum of a patch feature of V-V attention and CLIP's class feature, each l2-normalised. In the
    release, this attention runs along the batch. Here it runs over the patches, as in the paper.

    Args:
        network: AA-CLIP. Its image adapter is not used.
        cache_dir: see :class:`TrainingNetwork`.
    """

    part = "text_adapter"
    files = ("text_adapter.pth",)
    optimizer_key = "text_optimizer"

    def load_weights(
        self,
        *,
        clip: str | Path,
        text_adapter: str | Path | None = None,
        seed: int = 0,
        activation: Activation | None = None,
    ) -> None:
        """Load CLIP. Initialise the text adapter with random values from ``seed``, or load it from a file."""
        self._load_clip(clip, activation)
        self._start(self.learned, seed)
        if text_adapter is not None:
            _load_adapter(self.learned, text_adapter, self.part)

    def loss_inputs(self, images: torch.Tensor, names: Sequence[str] | None) -> Outputs:
        """``logits`` (L, B, 2, g, g), normal first, on the patch grid, and ``anchors`` (1 or B, 2, D)."""
        frozen = self._frozen(images, self._encode)
        anchors = self.anchors(names).float()
        with without_autocast(images.device):
            logits = similarity_logits(frozen["targets"].transpose(0, 1), anchors, 1 / SIMILARITY_SCALE)
        return {"logits": to_grid(logits), "anchors": anchors}

    def screen(self, images: torch.Tensor, names: Sequence[str] | None) -> torch.Tensor:
        """Anomaly probability of the visual targets, mean over the levels. Stage 1 has no image adapter yet."""
        frozen, anchors = self._frozen(images, self._encode), self.fixed_anchors(names).float()
        with without_autocast(images.device):
            logits = similarity_logits(frozen["targets"].transpose(0, 1), anchors, 1 / SIMILARITY_SCALE)
            levels = [grid_to_map(level, self.image_size, align_corners=True) for level in anomaly_probability(logits)]
            image = similarity_logits(frozen["cls"].unsqueeze(1), anchors, 1 / SIMILARITY_SCALE)
            score = anomaly_probability(image).squeeze(1)
        return map_and_score(torch.stack(levels).mean(0), score, images.shape[-2:])

    def _encode(self, images: torch.Tensor) -> Outputs:
        clip, levels = self.network.clip, self.network.levels
        first = clip.path_start(_TARGET_BLOCKS)
        clip.check_layers(levels, first)
        found = clip.vision(
            self._normalized(images), attention="vv", first_block=first, path_layers=levels, patches=False
        )
        cls = l2_normalize(clip.project(found.tokens[:, 0]))
        patch = [l2_normalize(clip.project(found.path[level][:, 1:])) for level in levels]
        return {"targets": torch.stack(patch, dim=1) + cls[:, None, None], "cls": cls}

    def _facts(self) -> Mapping[str, Any]:
        return {**super()._facts(), "levels": list(self.network.levels)}


class AACLIPImageTraining(_AACLIPStage):
    """AA-CLIP, stage 2: train the image adapters and projections. The text anchors of stage 1 stay fixed.

    Args:
        network: AA-CLIP.
    """

    part = "image_adapter"
    files = ("image_adapter.pth", "image_adapter_{epoch}.pth")
    optimizer_key = "image_optimizer"

    def load_weights(
        self,
        *,
        clip: str | Path,
        text_adapter: str | Path | None = None,
        image_adapter: str | Path | None = None,
        seed: int = 0,
        activation: Activation | None = None,
    ) -> None:
        """Load CLIP and the text adapter of stage 1. Initialise the image adapter from ``seed``, or load a file.

        Raises:
            WeightsError: no text adapter is given.
        """
        if text_adapter is None:
            raise WeightsError(
                "stage 2 starts from the text adapter of stage 1: train that first (--stage 1, same --output_dir), or "
                "give --weights#text_adapter FILE"
            )
        self._load_clip(clip, activation)
        _load_adapter(self.network.text_adapter, text_adapter, "text_adapter")
        self._start(self.learned, seed)
        if image_adapter is not None:
            _load_adapter(self.learned, image_adapter, self.part)
        self.update_anchors()

    def loss_inputs(self, images: torch.Tensor, names: Sequence[str] | None) -> Outputs:
        """``logits`` (L, B, 2, g, g), normal first, on the patch grid, and ``image_logits`` (B, 2)."""
        seg, det = self.network.features(self._normalized(images))
        anchors = self.fixed_anchors(names).float()
        with without_autocast(images.device):
            logits = similarity_logits(seg.float(), anchors, 1 / SIMILARITY_SCALE)
            image_logits = (det.float().unsqueeze(1) @ anchors.transpose(-1, -2)).squeeze(1)
        return {"logits": to_grid(logits), "image_logits": image_logits}

    def screen(self, images: torch.Tensor, names: Sequence[str] | None) -> torch.Tensor:
        """As AA-CLIP's inference. If names are given, the prompts of an image contain its name."""
        if names is None:
            return self.network(images)
        own = self.network.text_anchors
        results = torch.empty(len(images), 2, *images.shape[-2:], device=images.device)
        for name in dict.fromkeys(names):
            rows = [row for row, other in enumerate(names) if other == name]
            self.network.text_anchors = self.fixed_anchors([name]).to(own)
            results[rows] = self.network(images[rows])
        self.network.text_anchors = own
        return results


def aaclip_training(
    network: AACLIP, stage: Literal[1, 2] = 1, cache_dir: str | os.PathLike[str] | None = None
) -> AACLIPTextTraining | AACLIPImageTraining:
    """Training of AA-CLIP's first or second stage.

    Args:
        network: AA-CLIP.
        stage: 1 for the text adapters, 2 for the image adapters.
        cache_dir: see :class:`TrainingNetwork`. Only for stage 1, because stage 2 changes the features.

    Raises:
        ConfigurationError: the stage is unknown, or stage 2 has a cache.
    """
    if stage == 1:
        return AACLIPTextTraining(network, cache_dir)
    if stage != 2:
        raise ConfigurationError(f"stage={stage!r}: choose 1 (text adapters) or 2 (image adapters)")
    if cache_dir is not None:
        raise ConfigurationError(
            "feature_cache has no use in stage 2, whose adapters change the features: leave it out"
        )
    return AACLIPImageTraining(network)


def _renamed(prompts: PromptEnsemble, name: str) -> PromptEnsemble:
    return PromptEnsemble(
        prompts.normal_states,
        prompts.abnormal_states,
        prompts.templates,
        name,
        images=prompts.images or None,
        adapt_articles=prompts.adapt_articles,
        source=prompts.source,
    )
