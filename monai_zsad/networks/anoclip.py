"""AnoCLIP (first published as AnoVL): V-V attention without training, and contrastive state prompts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from monai_zsad.backbones import Activation, VisionFeatures, VisionRequest
from monai_zsad.backbones.weights import WeightsRecord
from monai_zsad.errors import ConfigurationError
from monai_zsad.networks.adaptation import TestTimeAdaptation, TokenAdapter
from monai_zsad.networks.anchor_cache import cached_text_features
from monai_zsad.networks.base import Prediction, without_autocast
from monai_zsad.networks.maps import anomaly_probability, grid_to_map, l2_normalize, smooth, smoothing_matrix
from monai_zsad.networks.shared import FeatureNetwork
from monai_zsad.prompts import PromptEnsemble

__all__ = ["AnoCLIP", "score_views"]

# Rotations in radians, translations in half-widths.
_ANGLES = tuple(sign * math.pi * part for part in (1 / 4, 3 / 16, 1 / 8, 1 / 16) for sign in (1, -1))
_SHIFTS = tuple((sx * d, sy * d) for d in (0.2, 0.1) for sx in (1, -1) for sy in (1, -1))
_GREY = (0.299, 0.587, 0.114)


class AnoCLIP(FeatureNetwork):
    """AnoCLIP, numerically equal to its release, with a higher contrast.

    The release takes the softmax of cosine similarities without a temperature, so all its values are within a few
    thousandths of 0.5. Here map and score of the release are transformed by ``sigmoid(logit(p) / temperature)``. This
    keeps the ranking exactly, and with CLIP's training temperature, 0.01, the values fill [0, 1]. The values of the
    release are ``details["amap"]`` and ``details["released_score"]``; ``temperature=1`` returns them unchanged.

    Args:
        architecture: CLIP of the release is ``"ViT-B-16-plus-240"``.
        image_size: side S of the input in pixels.
        prompts: sentences for normal and anomalous; ``None`` for the medical prompt set in the form of the release.
        temperature: contrast of map and score, see above.
        views: 1, or 22 to average the score over rotated, shifted and flipped views of the slice as the release does.
            22 views need 22 passes of the encoder and do not change the map, so the default for volumes is 1.
        adaptation: test-time adaptation of the map; ``None`` for none.
        activation: activation of CLIP's MLPs.

    Raises:
        ConfigurationError: if an option cannot be used.

    References:
        Deng et al., "AnoVL: Adapting Vision-Language Models for Unified Zero-shot Anomaly Localization", arXiv
        2308.15939.
    """

    def __init__(
        self,
        architecture: str | Mapping[str, Any] = "ViT-B-16-plus-240",
        image_size: int | None = None,
        *,
        prompts: PromptEnsemble | None = None,
        temperature: float = 0.01,
        views: int = 1,
        adaptation: TestTimeAdaptation | Mapping[str, Any] | None = None,
        activation: Activation = "gelu",
    ) -> None:
        super().__init__(architecture, image_size, activation=activation, position_resize="bicubic")
        if views not in (1, 22):
            raise ConfigurationError(f"views={views!r}: choose 1, or 22 for the views of the release")
        if temperature <= 0:
            raise ConfigurationError(f"temperature={temperature!r}: give a number above 0")
        self.prompts = PromptEnsemble.named("anoclip_medical") if prompts is None else prompts
        self.temperature = temperature
        self.views = views
        self.adaptation = TestTimeAdaptation(**adaptation) if isinstance(adaptation, Mapping) else adaptation
        self._adapter: TokenAdapter | None = None
        count = len(self.prompts.normal) + len(self.prompts.abnormal)
        self.register_buffer("prompt_features", torch.full((count, self.clip.embed_dim), torch.nan))
        self.prompt_features: torch.Tensor
        self.register_buffer(
            "smoothing", smoothing_matrix(self.clip.grid_size, np.full(3, 1 / 3), "edge"), persistent=False
        )
        self.smoothing: torch.Tensor
        self.eval()

    def load_weights(
        self, *, clip: str | Path, activation: Activation | None = None, download: bool = True
    ) -> dict[str, WeightsRecord]:
        """Load CLIP and compute the text anchors.

        Args:
            clip: name (``"ViT-B-16-plus-240:laion400m_e32"``), file or ``"seed:N"``.
            activation: activation that CLIP weights from a file were trained with, if the file does not state it.
            download: whether registered weights that are not on this machine may be downloaded.

        Raises:
            WeightsError: if weights are unknown, missing, damaged or do not fit.
        """
        self._restored = {}
        self.clip.load_weights(clip, activation=activation, download=download)
        self.update_text_anchors()
        return self.records

    def update_text_anchors(self) -> None:
        """Compute the anchors (normalised means of the prompts' features) and the prompts of the adapter."""
        with torch.no_grad():
            sentences = [*self.prompts.normal, *self.prompts.abnormal]
            encoded = cached_text_features(self.clip, sentences, lambda: self.clip.encode_text(sentences).float())
            features = encoded.split([len(self.prompts.normal), len(self.prompts.abnormal)])
            anchors = torch.stack([l2_normalize(f.mean(0)) for f in features])
            self.text_anchors = anchors.unsqueeze(0).to(self.text_anchors)
            self.prompt_features = l2_normalize(encoded).to(self.prompt_features)

    def _options(self) -> dict[str, Any]:
        adaptation = None if self.adaptation is None else str(self.adaptation)
        return {"temperature": self.temperature, "views": self.views, "adaptation": adaptation}

    def vision_request(self) -> VisionRequest:
        """The V-V path over all blocks, after the last one."""
        return VisionRequest("vv", 1, (self.clip.depth,), patches=False)

    def predict_from(self, features: VisionFeatures, images: torch.Tensor) -> Prediction:
        """Map and score of (B, 3, S, S) normalised images.

        ``details``: ``cls`` (B, D), ``patch`` (B, N, D) as projected, ``text`` (D, 2), the released map ``amap``
        (B, S, S) and ``released_score`` (B,).
        """
        patch = self.clip.project(features.path[self.clip.depth][:, 1:])
        cls = self.clip.project(features.tokens[:, 0])
        with without_autocast(images.device):
            text = self.text_anchors.float()[0]
            tokens = patch.float()
            if self.adaptation is not None:
                tokens = self._token_adapter(self.adaptation, tokens.shape[1])(tokens).tokens
            amap = self.released_map(tokens)
            cls = l2_normalize(cls)
            probability = anomaly_probability(cls @ text.T)
        if self.views > 1:
            probability = torch.stack([probability, *self._view_scores(images)]).mean(0)
        details = {"cls": cls, "patch": patch, "text": text.T, "amap": amap, "released_score": probability}
        return Prediction(self._contrast(amap), self._contrast(probability), details)

    def _token_adapter(self, settings: TestTimeAdaptation, count: int) -> TokenAdapter:
        """The adapter of these prompts. It is made on first use, and again after they have changed."""
        arguments = (self.prompt_features, self.text_anchors[0], settings, count)
        if self._adapter is None or not self._adapter.fits(*arguments):
            self._adapter = TokenAdapter(*arguments)
        return self._adapter

    def released_map(self, tokens: torch.Tensor) -> torch.Tensor:
        """The release's map (B, S, S) of patch tokens (B, N, D), near 0.5 everywhere.

        Args:
            tokens: patch tokens (B, N, D), of length 1.

        Returns:
            (B, S, S) in [0, 1].
        """
        side = self.clip.grid_size
        probability = anomaly_probability(l2_normalize(tokens) @ self.text_anchors.float()[0].T)
        smoothed = smooth(probability.unflatten(-1, (side, side)), self.smoothing.float())
        return grid_to_map(smoothed.flatten(1), self.image_size, align_corners=True)

    def _contrast(self, probability: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(torch.logit(probability) / self.temperature)

    def _view_scores(self, images: torch.Tensor) -> list[torch.Tensor]:
        text = self.text_anchors.float()[0]
        scores = []
        for view in score_views(images):
            cls = self.clip.project(self.clip.vision(view, patches=False).tokens[:, 0])
            with without_autocast(images.device):
                scores.append(anomaly_probability(l2_normalize(cls) @ text.T))
        return scores


def score_views(images: torch.Tensor) -> Iterator[torch.Tensor]:
    """The 21 further views of an image: eight rotations, eight translations, a flip, grey, and three quarter turns.

    Args:
        images: (B, 3, S, S).

    >>> len(list(score_views(torch.rand(1, 3, 8, 8))))
    21
    """
    for angle in _ANGLES:
        cosine, sine = math.cos(angle), math.sin(angle)
        yield _affine(images, [[cosine, -sine, 0.0], [sine, cosine, 0.0]])
    for right, down in _SHIFTS:
        yield _affine(images, [[1.0, 0.0, right], [0.0, 1.0, down]])
    yield images.flip(-1)
    weights = torch.tensor(_GREY, dtype=images.dtype, device=images.device).view(1, 3, 1, 1)
    yield (images * weights).sum(1, keepdim=True).expand_as(images)
    for turns in (1, 2, 3):
        yield images.rot90(turns, dims=(-2, -1))


def _affine(images: torch.Tensor, matrix: list[list[float]]) -> torch.Tensor:
    theta = torch.tensor(matrix, dtype=torch.float32, device=images.device).expand(images.shape[0], -1, -1)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    moved = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return moved.to(images.dtype)
