"""AnomalyCLIP: learned object-agnostic prompts and V-V attention features of four layers. It is the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from monai_zsad.backbones import Activation, VisionFeatures, VisionRequest
from monai_zsad.networks.base import Prediction, without_autocast
from monai_zsad.networks.learned import LearnedPromptNetwork
from monai_zsad.networks.maps import (
    anomaly_probability,
    gaussian_weights,
    grid_to_map,
    l2_normalize,
    similarity_logits,
    smooth,
    smoothing_matrix,
)
from monai_zsad.networks.shared import FeatureNetwork

__all__ = ["AnomalyCLIP"]


class AnomalyCLIP(FeatureNetwork, LearnedPromptNetwork):
    """AnomalyCLIP, numerically equal to its release.

    The release sums the maps of the layers. Here the anomaly map is their mean, which lies in [0, 1] and ranks pixels
    in the same order. The sum is ``details["amap_smooth"]``.

    Args:
        architecture: CLIP of the release is ``"ViT-L-14-336"``.
        image_size: side S of the input in pixels.
        path_blocks: number of last blocks that the V-V path spans (all blocks if CLIP has fewer).
        dense_layers: blocks of the path whose features are compared with the prompts; ``None`` for the quarters of the
            depth (6, 12, 18 and 24 in the release).
        temperature: divisor of the cosine similarities.
        sigma: standard deviation of the Gaussian smoothing of the map, in pixels of S x S.
        activation: activation of CLIP's MLPs.

    References:
        Zhou et al., "AnomalyCLIP: Object-agnostic Prompt Learning for Zero-shot Anomaly Detection", ICLR 2024.
    """

    def __init__(
        self,
        architecture: str | Mapping[str, Any] = "ViT-L-14-336",
        image_size: int | None = 518,
        *,
        path_blocks: int = 19,
        dense_layers: Sequence[int] | None = None,
        temperature: float = 0.07,
        sigma: float = 4.0,
        activation: Activation = "quick_gelu",
    ) -> None:
        super().__init__(architecture, image_size, activation=activation)
        self.first_block = self.clip.path_start(path_blocks)
        self.dense_layers = self.clip.check_layers(dense_layers, self.first_block)
        self.temperature = temperature
        self.register_buffer(
            "smoothing", smoothing_matrix(self.image_size, gaussian_weights(sigma), "symmetric"), persistent=False
        )
        self.smoothing: torch.Tensor
        self.eval()

    def vision_request(self) -> VisionRequest:
        """The V-V path after every dense layer."""
        return VisionRequest("vv", self.first_block, self.dense_layers, patches=False)

    def predict_from(self, features: VisionFeatures, images: torch.Tensor) -> Prediction:
        """Map and score of (B, 3, S, S) normalised images.

        ``details``: ``cls`` (B, D), ``patch`` (L, B, N, D) as projected, not normalised, ``text`` (1, 2, D),
        ``layer_maps`` (L, B, S, S), their sum ``amap`` (B, S, S) and the smoothed sum ``amap_smooth``.
        """
        projected = [self.clip.project(features.path[layer][:, 1:]) for layer in self.dense_layers]
        # The release uses the class token after the last block, without ``ln_post``.
        image_feature = features.tokens[:, 0] @ self.clip.visual.proj
        with without_autocast(images.device):
            patch = torch.stack(projected).float()
            cls, text = l2_normalize(image_feature), self.text_anchors.float()
            probability = anomaly_probability(similarity_logits(l2_normalize(patch), text, self.temperature))
            layer_maps = torch.stack([grid_to_map(layer, self.image_size) for layer in probability])
            amap = layer_maps.sum(0)
            amap_smooth = smooth(amap, self.smoothing.float())
            score = anomaly_probability(similarity_logits(cls.unsqueeze(1), text, self.temperature)).squeeze(1)
        details = {"cls": cls, "patch": patch, "text": text, "layer_maps": layer_maps, "amap": amap}
        details["amap_smooth"] = amap_smooth
        return Prediction(amap_smooth / len(self.dense_layers), score, details)
