"""Crane and Crane+: context-guided prompts with E-Attn, D-Attn and score-based pooling."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F

from monai_zsad.backbones import (
    Activation,
    AttentionKind,
    DensePrior,
    DINOv2Prior,
    VisionFeatures,
    VisionRequest,
)
from monai_zsad.backbones.attention import check_attention_kind
from monai_zsad.backbones.weights import WeightsRecord
from monai_zsad.errors import ConfigurationError
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

__all__ = ["Crane", "CranePlus", "dense_prior_attention"]

_SHARPNESS = 3.0
_ROWS = 512
Average = Literal["probabilities", "logits"]


class Crane(FeatureNetwork, LearnedPromptNetwork):
    """Crane: compares patch features of self-correlation attention (E-Attn) with learned object-agnostic prompts.

    The defaults are those of the authors' release, which gave the published metrics. The dense features come from a
    second path beside CLIP's last blocks. The image score comes from CLIP's image feature and the patch features,
    weighted by their anomaly probability.

    Args:
        architecture: CLIP of the release is ``"ViT-L-14-336"``.
        image_size: side S of the input in pixels.
        attention: kind of the second path.
        path_blocks: number of last blocks that the second path spans (19 of 24 blocks in the release; all blocks if
            CLIP has fewer).
        dense_layers: ``"released"`` for the second path after the last block, as in the release (its four layers are
            views of one tensor), or block numbers such as ``(6, 12, 18, 24)``, as in the paper.
        average: average over the layers: ``"probabilities"`` after the softmax, or ``"logits"`` before it.
        image_conditioned: whether the prompts depend on the image (in training; not in the released evaluation).
        temperature: divisor of the cosine similarities.
        pooling_weight: share of the pooled patch feature in the image feature (score-based pooling).
        sigma: standard deviation of the Gaussian smoothing of the map, in pixels of S x S.
        activation: activation of CLIP's MLPs.

    Raises:
        ConfigurationError: for an unknown option or layers outside the second path.

    References:
        Salehi et al., "Crane: Context-Guided Prompt Learning and Attention Refinement for Zero-Shot Anomaly
        Detection", arXiv 2504.11055.

    >>> config = {"embed_dim": 32, "vision_cfg": {"image_size": 28, "layers": 2, "width": 64, "patch_size": 14},
    ...           "text_cfg": {"width": 32, "heads": 1, "layers": 2}}
    >>> network = Crane(config, image_size=56)
    >>> _ = network.load_weights(clip="seed:0", prompts="seed:0")
    >>> network(torch.rand(2, 1, 48, 48)).shape
    torch.Size([2, 2, 48, 48])
    """

    def __init__(
        self,
        architecture: str | Mapping[str, Any] = "ViT-L-14-336",
        image_size: int | None = 518,
        *,
        attention: AttentionKind = "qq+kk+vv",
        path_blocks: int = 19,
        dense_layers: Literal["released"] | Sequence[int] = "released",
        average: Average = "probabilities",
        image_conditioned: bool = False,
        temperature: float = 0.07,
        pooling_weight: float = 0.5,
        sigma: float = 4.0,
        activation: Activation = "quick_gelu",
    ) -> None:
        super().__init__(architecture, image_size, activation=activation)
        if average not in ("probabilities", "logits"):
            raise ConfigurationError(f"average={average!r} is unknown: choose 'probabilities' or 'logits'")
        self.attention = check_attention_kind(attention)
        self.first_block = self.clip.path_start(path_blocks)
        released = isinstance(dense_layers, str)
        if released and dense_layers != "released":
            raise ConfigurationError(f"dense_layers={dense_layers!r}: give 'released' or a list of block numbers")
        self.dense_layers = (
            (self.clip.depth,) if released else self.clip.check_layers(dense_layers, self.first_block)  # type: ignore[arg-type]  # no string here
        )
        if image_conditioned and self.clip.embed_dim != self.clip.text_width:
            raise ConfigurationError(
                f"image_conditioned=True needs a CLIP whose joint space is as wide as its text tower; this one has "
                f"{self.clip.embed_dim} and {self.clip.text_width}"
            )
        self.average: Average = average
        self.image_conditioned = image_conditioned
        self.temperature = temperature
        self.pooling_weight = pooling_weight
        self.register_buffer(
            "smoothing", smoothing_matrix(self.image_size, gaussian_weights(sigma), "symmetric"), persistent=False
        )
        self.smoothing: torch.Tensor
        self.eval()

    # Whether the patches of CLIP's own stream are needed after its last block.
    _needs_own_patches = False

    def _options(self) -> dict[str, Any]:
        return {"average": self.average}

    def vision_request(self) -> VisionRequest:
        """The second path after every dense layer."""
        return VisionRequest(self.attention, self.first_block, self.dense_layers, patches=self._needs_own_patches)

    def predict_from(self, features: VisionFeatures, images: torch.Tensor) -> Prediction:
        """Map and score of (B, 3, S, S) normalised images.

        ``details``: ``cls`` (B, D), ``patch`` (L, B, N, D), ``text`` (1 or B, 2, D), ``logits`` (L, B, N, 2) and
        ``amap`` (B, S, S), the map before smoothing.
        """
        projected = [self.clip.project(tokens) for tokens in self._dense_tokens(features, images)]
        image_feature = self.clip.project(features.tokens[:, 0])
        with without_autocast(images.device):
            return self._compare(torch.stack([l2_normalize(f) for f in projected]), l2_normalize(image_feature))

    def _dense_tokens(self, features: VisionFeatures, images: torch.Tensor) -> list[torch.Tensor]:
        """Patch tokens (B, N, W) of every layer, before ``ln_post``."""
        del images
        return [features.path[layer][:, 1:] for layer in self.dense_layers]

    def _compare(self, patch: torch.Tensor, cls: torch.Tensor) -> Prediction:
        text = self.prompt_learner(self.clip, cls) if self.image_conditioned else self.text_anchors.float()
        logits = similarity_logits(patch, text, self.temperature)
        if self.average == "probabilities":
            amap = grid_to_map(anomaly_probability(logits).mean(0), self.image_size)
        else:
            # Upsampling is linear, so the layers can be averaged before it, which is faster.
            normal, anomalous = logits.mean(0).unbind(-1)
            upsampled = [grid_to_map(channel, self.image_size) for channel in (normal, anomalous)]
            amap = anomaly_probability(torch.stack(upsampled, dim=-1))
        weights = anomaly_probability(logits.mean(0)).unsqueeze(-1)
        pooled = l2_normalize((weights * patch.mean(0)).sum(1))
        image_feature = l2_normalize(self.pooling_weight * pooled + (1 - self.pooling_weight) * cls)
        image_logits = similarity_logits(image_feature.unsqueeze(1), text, self.temperature)
        score = anomaly_probability(image_logits).squeeze(1)
        details = {"cls": cls, "patch": patch, "text": text, "logits": logits, "amap": amap}
        return Prediction(smooth(amap, self.smoothing.float()), score, details)


class CranePlus(Crane):
    """Crane+: Crane with further features from D-Attn, attention by the patch similarities of a dense prior.

    Args:
        architecture: CLIP of the release is ``"ViT-L-14-336"``.
        image_size: side S of the input in pixels, a multiple of both patches.
        prior: the dense prior; ``None`` for DINOv2 ``vitb14_reg``, the release's default.
        **options: see :class:`Crane`.

    References:
        See :class:`Crane`. The released evaluation uses ``average="logits"`` with checkpoint epoch 5 for industrial and
        ``average="probabilities"`` with epoch 1 for medical images.
    """

    def __init__(
        self,
        architecture: str | Mapping[str, Any] = "ViT-L-14-336",
        image_size: int | None = 518,
        *,
        prior: DensePrior | None = None,
        **options: Any,
    ) -> None:
        super().__init__(architecture, image_size, **options)
        self.prior: Any = DINOv2Prior(self.image_size) if prior is None else prior
        self.eval()

    def _loaded_records(self) -> dict[str, WeightsRecord]:
        record = getattr(self.prior, "record", None)
        return super()._loaded_records() | ({} if record is None else {"prior": record})

    def load_weights(  # type: ignore[override]  # it has one more part than the base
        self,
        *,
        clip: str | Path,
        prompts: str | Path,
        prior: str | Path,
        activation: Activation | None = None,
        download: bool = True,
    ) -> dict[str, WeightsRecord]:
        """As :meth:`Crane.load_weights`, and the dense prior: name (``"dinov2_vitb14_reg"``), file or ``"seed:N"``."""
        self.prior.load_weights(prior, download=download)
        return super().load_weights(clip=clip, prompts=prompts, activation=activation, download=download)

    _needs_own_patches = True

    def _towers(self) -> list[torch.nn.Module]:
        return [*super()._towers(), self.prior]

    def _dense_tokens(self, features: VisionFeatures, images: torch.Tensor) -> list[torch.Tensor]:
        prior = self.prior(self.denormalize(images))
        values = self.clip.last_block_values(features.last_attended[:, 1:])
        attended = self.clip.last_block_output(dense_prior_attention(prior, values, self.prior.similarity_offset))
        return [attended, *super()._dense_tokens(features, images)]


def dense_prior_attention(prior: torch.Tensor, values: torch.Tensor, offset: float) -> torch.Tensor:
    """Average ``values`` over the patches that are similar according to a dense prior (D-Attn).

    For each image: ``s = 3 (cos(d_i, d_j) - offset * mean(cos))``, negative entries are dropped, then softmax over j.
    The mean is taken over one image, so that a slice does not depend on its batch (Crane's release takes it over the
    batch). In a nearly uniform image, a patch may be similar to no patch, not even to itself. Then it keeps its own
    value; the release gives NaN. Rows are processed in portions, so that no N x N matrix is held.

    Args:
        prior: patch features d (B, C, h, w).
        values: (B, N, W) on a square grid. If the grid is not h x w, they are resized bilinearly, and the result back.
        offset: the mean similarity times this number is subtracted (1.2 for DINO).

    Returns:
        (B, N, W) in the type of ``values``.

    References:
        Salehi et al., Crane, arXiv 2504.11055, section 3 (D-Attn); Lan et al., ProxyCLIP, ECCV 2024.

    >>> out = dense_prior_attention(torch.eye(4).view(1, 4, 2, 2), torch.arange(4.0).view(1, 4, 1), 1.2)
    >>> out.flatten()
    tensor([0., 1., 2., 3.])
    """
    side = math.isqrt(values.shape[1])
    same_grid = prior.shape[-2:] == (side, side)
    v = values if same_grid else _to_grid(values, (side, side), prior.shape[-2:])
    d = l2_normalize(prior.flatten(2).transpose(1, 2))
    # The mean of all pairwise products is the squared length of the mean vector.
    mean = d.mean(1).square().sum(-1).view(-1, 1, 1)
    attended = []
    for start in range(0, d.shape[1], _ROWS):
        rows = d[:, start : start + _ROWS]
        similarity = _SHARPNESS * (rows @ d.transpose(1, 2) - offset * mean)
        itself = torch.arange(start, start + rows.shape[1], device=d.device).view(1, -1, 1)
        columns = torch.arange(d.shape[1], device=d.device).view(1, 1, -1)
        lonely = (similarity < 0).all(-1, keepdim=True)
        keep = (similarity >= 0) | (lonely & (itself == columns))
        weights = torch.softmax(similarity.masked_fill(~keep, -torch.inf), dim=-1)
        attended.append(weights.to(v.dtype) @ v)
    out = torch.cat(attended, dim=1)
    return out if same_grid else _to_grid(out, prior.shape[-2:], (side, side))


def _to_grid(tokens: torch.Tensor, old: tuple[int, ...], new: tuple[int, ...]) -> torch.Tensor:
    grid = tokens.transpose(1, 2).unflatten(2, old)
    resized = F.interpolate(grid.float(), new, mode="bilinear", align_corners=False)
    return resized.to(tokens.dtype).flatten(2).transpose(1, 2)
