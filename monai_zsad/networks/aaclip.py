"""AA-CLIP: residual adapters in both towers, anomaly-aware text anchors, maps of four levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from monai_zsad.backbones import Activation
from monai_zsad.backbones.seeds import parse_seed, seeded_state_dict
from monai_zsad.backbones.weights import WeightsRecord, adapter_state_dict
from monai_zsad.errors import ConfigurationError, WeightsError
from monai_zsad.networks.adapters import ImageAdapter, TextAdapter, residual
from monai_zsad.networks.anchor_cache import cached_text_features
from monai_zsad.networks.base import Prediction, ZeroShotNetwork, without_autocast
from monai_zsad.networks.maps import gaussian_weights, grid_to_map, l2_normalize, smooth, smoothing_matrix
from monai_zsad.prompts import PromptEnsemble

__all__ = ["AACLIP"]

# The release multiplies cosine similarities by CLIP's largest logit scale.
SIMILARITY_SCALE = 100.0
_BLUR = {"medical": (1.5, 4), "industrial": (1.0, 3), "none": (1.0, 0)}


class AACLIP(ZeroShotNetwork):
    """AA-CLIP, numerically equal to its release.

    The map of the release is an unbounded sum over levels; its evaluation scales the map by the extremes of the test
    set. For a single patient there is no test set. Here the anomaly map is a monotone function of that sum: the softmax
    of the mean logits over the levels. It lies in [0, 1] and ranks pixels exactly as the sum does. The sum itself is
    ``details["amap"]``; the levels are ``details["layer_maps"]`` and :meth:`level_maps`.

    Args:
        architecture: CLIP of the release is ``"ViT-L-14-336"``.
        image_size: side S of the input in pixels.
        prompts: sentences whose mean features are the text anchors; ``None`` for those of the release with the object
            "scan".
        domain: blur of the level maps on the patch grid: ``"medical"`` (9 x 9, sigma 1.5) or ``"industrial"`` (7 x 7,
            sigma 1); ``"none"`` for no blur, which the release does not have.
        levels: blocks whose patch features are compared with the prompts; ``None`` for the quarters of the
            depth (6, 12, 18, 24).
        image_blocks: number of first vision blocks with an adapter.
        text_blocks: number of first text blocks with an adapter.
        image_weight: weight of the adapted tokens in the vision tower.
        text_weight: weight of the adapted tokens in the text tower.
        projection_relu: whether the projections end in LeakyReLU.
        score: ``"detection"`` for the similarity of the detection feature, as in the release; ``"map"`` for the maximum
            of the map, which the released evaluation uses for medical images.
        activation: activation of CLIP's MLPs. The release computes exact GELU, although OpenAI's weights were trained
            with QuickGELU. ``"quick_gelu"`` computes CLIP as it was trained.

    Raises:
        ConfigurationError: if an option cannot be used.

    References:
        Ma et al., "AA-CLIP: Enhancing Zero-shot Anomaly Detection via Anomaly-Aware CLIP", CVPR 2025.
    """

    def __init__(
        self,
        architecture: str | Mapping[str, Any] = "ViT-L-14-336",
        image_size: int | None = 518,
        *,
        prompts: PromptEnsemble | None = None,
        domain: Literal["medical", "industrial", "none"] = "medical",
        levels: Sequence[int] | None = None,
        image_blocks: int = 6,
        text_blocks: int = 3,
        image_weight: float = 0.1,
        text_weight: float = 0.1,
        projection_relu: bool = False,
        score: Literal["detection", "map"] = "detection",
        activation: Activation = "gelu",
    ) -> None:
        super().__init__(architecture, image_size, activation=activation, position_resize="bicubic")
        if domain not in _BLUR:
            raise ConfigurationError(f"domain={domain!r} is unknown: choose {', '.join(_BLUR)}")
        if score not in ("detection", "map"):
            raise ConfigurationError(f"score={score!r} is unknown: choose 'detection' or 'map'")
        self.levels = self.clip.check_layers(levels)
        self.prompts = PromptEnsemble.named("aaclip") if prompts is None else prompts
        self.domain = domain
        self.image_weight = image_weight
        self.text_weight = text_weight
        image_blocks, text_blocks = min(image_blocks, self.clip.depth), min(text_blocks, self.clip.text_depth)
        self.image_adapter = ImageAdapter(
            self.clip.width,
            self.clip.embed_dim,
            blocks=image_blocks,
            levels=len(self.levels),
            activated=projection_relu,
        )
        self.score: Literal["detection", "map"] = score
        self.text_adapter = TextAdapter(self.clip.text_width, self.clip.embed_dim, blocks=text_blocks)
        self.image_adapter.requires_grad_(False)
        self.text_adapter.requires_grad_(False)
        self.adapter_records: dict[str, WeightsRecord] = {}
        sigma, radius = _BLUR[domain]
        self.register_buffer(
            "smoothing",
            smoothing_matrix(self.clip.grid_size, gaussian_weights(sigma, radius), "reflect"),
            persistent=False,
        )
        self.smoothing: torch.Tensor
        self.eval()

    def _loaded_records(self) -> dict[str, WeightsRecord]:
        return super()._loaded_records() | self.adapter_records

    def _options(self) -> dict[str, Any]:
        weights = {"image_weight": self.image_weight, "text_weight": self.text_weight}
        return {"domain": self.domain, "levels": list(self.levels), "score": self.score, **weights}

    def _towers(self) -> list[nn.Module]:
        return [*super()._towers(), self.image_adapter]

    def load_weights(
        self,
        *,
        clip: str | Path,
        image_adapter: str | Path,
        text_adapter: str | Path,
        activation: Activation | None = None,
        download: bool = True,
    ) -> dict[str, WeightsRecord]:
        """Load CLIP and both adapters, then compute the text anchors.

        Args:
            clip: name, file or ``"seed:N"``. Weights trained with the other activation are accepted, since the release
                uses them on purpose; the records and :meth:`describe` state both activations.
            image_adapter: checkpoint file ``{"image_adapter": ...}``, or ``"seed:N"``.
            text_adapter: checkpoint file ``{"text_adapter": ...}``, or ``"seed:N"``.
            activation: activation that CLIP weights from a file were trained with, if the file does not state it.
            download: whether registered weights that are not on this machine may be downloaded.

        Raises:
            WeightsError: if weights are unknown, missing, damaged or do not fit.
        """
        self._restored = {}
        self.clip.load_weights(clip, activation=activation, accept_activation_mismatch=True, download=download)
        self.adapter_records = {
            "image_adapter": _load_adapter(self.image_adapter, image_adapter, "image_adapter"),
            "text_adapter": _load_adapter(self.text_adapter, text_adapter, "text_adapter"),
        }
        self.update_text_anchors()
        return self.records

    def update_text_anchors(self) -> None:
        """Compute the anchors of the prompts: the normalised mean of the sentences' normalised features."""
        with torch.no_grad():
            anchors = [
                cached_text_features(
                    self.clip,
                    [str(self.text_weight), *sentences],
                    partial(self.encode_prompts, sentences),
                    self.text_adapter.state_dict(),
                )
                for sentences in (self.prompts.normal, self.prompts.abnormal)
            ]
            self.text_anchors = torch.stack(anchors).unsqueeze(0).to(self.text_anchors)

    def encode_prompts(self, sentences: Sequence[str]) -> torch.Tensor:
        """Normalised mean (D,) of the sentences' normalised features from the adapted text tower.

        Args:
            sentences: sentences of one state.

        Returns:
            (D,), of length 1.
        """
        tokens = self.clip.tokenize(sentences)
        end = self.clip.text_tokens(self.clip.embed_tokens(tokens), tokens.argmax(-1), after_block=self._adapt_text)
        return l2_normalize(l2_normalize(self.text_adapter[-1](end)).mean(0))

    def _adapt_text(self, block: int, x: torch.Tensor) -> torch.Tensor:
        return residual(self.text_adapter[block - 1], x, self.text_weight) if block < len(self.text_adapter) else x

    def _adapt_image(self, block: int, x: torch.Tensor) -> torch.Tensor:
        adapters = self.image_adapter.layer_adapters
        return residual(adapters[block - 1], x, self.image_weight) if block <= len(adapters) else x

    def features(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Adapted features of (B, 3, S, S) normalised images.

        Args:
            images: (B, 3, S, S), normalised.

        Returns:
            Patch features of each level (L, B, N, D), l2-normalised, and the detection feature (B, D).
        """
        found = self.clip.vision(images, layers=(*self.levels, self.clip.depth), after_block=self._adapt_image)
        normed = {layer: self.clip.visual.ln_post(tokens[:, 1:]) for layer, tokens in found.layers.items()}
        seg = [
            l2_normalize(projection(normed[level]))
            for level, projection in zip(self.levels, self.image_adapter.seg_proj, strict=True)
        ]
        det = l2_normalize(self.image_adapter.det_proj(normed[self.clip.depth])).mean(1)
        return torch.stack(seg), det

    def predict(self, images: torch.Tensor) -> Prediction:
        """Map and score of (B, 3, S, S) normalised images.

        ``details``: ``seg`` (L, B, N, D), ``det`` (B, D), ``text`` (D, 2), ``layer_maps`` (B, L, S, S) and their
        sum ``amap`` (B, S, S), both as in the release before it scales over a test set.
        """
        seg, det = self.features(images)
        with without_autocast(images.device):
            text = self.text_anchors.float()[0]
            # The difference of the anchors comes first: similarities near 40 would leave rounding errors in it.
            # It is the left factor: otherwise D is not the innermost axis in memory, which is 20 times slower.
            logits = SIMILARITY_SCALE * ((text[1] - text[0]) @ seg.transpose(-1, -2))
            side = self.clip.grid_size
            grids = ((logits + 1) / 2).unflatten(-1, (side, side))
            blurred = smooth(grids, self.smoothing.float()).flatten(2)
            maps = torch.stack([grid_to_map(level, self.image_size, align_corners=True) for level in blurred], dim=1)
            amap = maps.sum(1)
            # Each level is (logit + 1) / 2, so this is the mean logit of anomalous against normal.
            anomaly_map = torch.sigmoid(2 * amap / len(self.levels) - 1)
            score = anomaly_map.flatten(1).amax(1) if self.score == "map" else (det @ text[1] + 1) / 2
        details = {"seg": seg, "det": det, "text": text.T, "layer_maps": maps, "amap": amap}
        return Prediction(anomaly_map, score, details)

    def level_maps(self, slices: torch.Tensor) -> torch.Tensor:
        """Maps of the levels, as in the release, of slices (B, C, H, W) in [0, 1]: (B, L, H, W).

        Args:
            slices: (B, C, H, W) in [0, 1].

        Returns:
            (B, L, H, W) in [0, 1].
        """
        maps = self.predict(self.normalize(self.resize(slices))).details["layer_maps"]
        if maps.shape[-2:] == slices.shape[-2:]:
            return maps
        return F.interpolate(maps, slices.shape[-2:], mode="bilinear", align_corners=False)


def _load_adapter(module: nn.Module, source: str | Path, key: str) -> WeightsRecord:
    seed = parse_seed(source)
    if seed is not None:
        module.load_state_dict(seeded_state_dict(module.state_dict(), seed))
        return WeightsRecord(name=f"seed:{seed}", sha256="", licence="", activation=None, seed=seed)
    state, record = adapter_state_dict(source, key)
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise WeightsError(
            f"the {key} checkpoint {record.name} does not fit ({str(error).splitlines()[-1].strip()}): check the "
            "architecture, the numbers of adapted blocks and levels, and projection_relu"
        ) from error
    return record
