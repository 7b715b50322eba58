"""AnomalyCLIP: object-agnostic learned prompts against four layers of V-V attention features; the baseline."""

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
    """AnomalyCLIP in the numerics of its release.

    The release sums the layers' maps; here the anomaly map is their mean, which lies in [0, 1] and ranks pixels alike
    (the sum is ``details["amap_smooth"]``).

    Args:
        architecture: CLIP of the release is ``"ViT-L-14-336"``.
        image_size: side S of the input in pixels.
        path_blocks: how many of the last blocks the V-V path spans (all blocks of a CLIP that has fewer).
        dense_layers: blocks of the path whose features are compared; ``None`` for the quarters of the depth, the
            release's 6, 12, 18 and 24.
        temperature: divisor of the cosine similarities.
        sigma: Gaussian smoothing of the map, in pixels of S x S.
        activation: of CLIP's MLPs.

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
        ``layer_maps`` (L, B, S, S), their sum
        ``amap`` (B, S, S) and the smoothed sum ``amap_smooth``.
        """
        projected = [self.clip.project(features.path[layer][:, 1:]) for layer in self.dense_layers]
        # The release takes the class token as it leaves the last block, without ``ln_post``.
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
