"""AnoCLIP (first published as AnoVL): training-free V-V attention against contrastive state prompts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from monai_zsad.backbones import Activation, VisionFeatures, VisionRequest
from monai_zsad.backbones.weights import WeightsRecord
from monai_zsad.errors import ConfigurationError
from monai_zsad.networks.adaptation import TestTimeAdaptation, TokenAdapter
from monai_zsad.networks.anchor_cache import cached_text_features
from monai_zsad.networks.base import Prediction, without_autocast
from monai_zsad.networks.maps import anomaly_probability, grid_to_map, l2_normalize, smooth, smoothing_matrix
from monai_zsad.networks.shared import FeatureNetwork
from monai_zsad.networks.views import score_views
from monai_zsad.prompts import PromptEnsemble

__all__ = ["AnoCLIP"]


class AnoCLIP(FeatureNetwork):
    """AnoCLIP in the numerics of its release, with a contrast that can be looked at.

    The release takes the softmax of cosine similarities without a temperature, so all its values lie within a few
    thousandths of 0.5. Here the released map and score go through the monotone ``sigmoid(logit(p) / temperature)``: the
    ranking is exactly the release's, and with CLIP's own training temperature, 0.01, the values fill [0, 1]. The
    released values are ``details["amap"]`` and ``details["released_score"]``; ``temperature=1`` returns them unchanged.

    Args:
        architecture: CLIP of the release is ``"ViT-B-16-plus-240"``.
        image_size: side S of the input in pixels.
        prompts: sentences for normal and anomalous; ``None`` for the medical set with the scheme of the release.
        temperature: contrast of map and score, see above.
        views: 1, or 22 to average the score over rotated, shifted and flipped views of the slice as the release does;
            22 cost 22 times the encoder and change no map, so 1 is the default for volumes.
        adaptation: test-time adaptation of the map; ``None`` for none.
        activation: of CLIP's MLPs.

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
            activation: what CLIP weights from a file were trained with, where the file does not tell.
            download: whether a registered name that is not cached may be fetched.

        Raises:
            WeightsError: if weights are unknown, missing, damaged or do not fit.
        """
        self._restored = {}
        self.clip.load_weights(clip, activation=activation, download=download)
        self.update_text_anchors()
        return self.records

    def update_text_anchors(self) -> None:
        """Compute the anchors, normalised means of the prompts' features as they are, and the adapter's prompts."""
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
        """The V-V path, beside all blocks, after the last."""
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
        """The adapter of these prompts, made when first needed and again when they have changed."""
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
