"""Dense tokens and an embedding of each slice, for every backbone of the package."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F

from monai_zsad.backbones import CLIPBackbone, DINOv2Prior
from monai_zsad.backbones.pyramid_tower import PyramidTower
from monai_zsad.errors import ConfigurationError
from monai_zsad.networks import ScreeningCLIP, ZeroShotNetwork

__all__ = ["SOURCES", "DenseFeatures"]

SOURCES = ("auto", "clip", "dinov2", "fine", "encoder")
"""Where the tokens come from, see :class:`DenseFeatures`."""


@dataclass(frozen=True)
class DenseFeatures:
    """Tokens and embeddings of slices from a network, for methods that compare slices with one another.

    MONAI's networks return features in as many forms as there are networks; this is one form for all. Sources are:

    - ``"clip"``, for all methods with a plain CLIP: its stream after several blocks. The embedding is CLIP's image
      feature.
    - ``"dinov2"``, for :class:`~monai_zsad.backbones.DINOv2Prior` and Crane+: its stream after several blocks and the
      last norm. The embedding is the class token.
    - ``"fine"``, for :class:`ScreeningCLIP`: the features that are compared with the prompts. The embedding is the mean
      of the encoder's deepest level.
    - ``"encoder"``, for :class:`ScreeningCLIP`: levels of its convolutional encoder, each with the same weight, joined
      on the grid of the finest one as in PatchCore. The embedding is the same.

    Attributes:
        source: see above. ``"auto"``: ``"fine"`` for :class:`ScreeningCLIP`, ``"dinov2"`` for DINOv2 alone, else
            ``"clip"``.
        layers: numbers of blocks, from 1, for ``"clip"`` and ``"dinov2"``; None for the quarters of the depth (6, 12,
            18 and 24 of ViT-L). For ``"encoder"`` numbers of levels, where level n has 1/2^n of the resolution; None
            for 3 and 4.
        side: tokens along each side at most; finer grids are averaged. The time of a comparison grows with the fourth
            power of it. None for the grid of the features.

    Raises:
        ConfigurationError: if a setting cannot be used.

    Example:
        >>> vision = {"image_size": 64, "patch_size": 8, "timm_model_name": "tf_efficientnet_lite0"}
        >>> config = {"embed_dim": 32, "vision_cfg": vision, "text_cfg": {"width": 32, "heads": 1, "layers": 2}}
        >>> tokens, embeddings = DenseFeatures(side=8)(ScreeningCLIP(config), torch.rand(2, 3, 64, 64))
        >>> tokens.shape, embeddings.shape
        (torch.Size([1, 2, 64, 32]), torch.Size([2, 320]))

    References:
        Roth et al., PatchCore, CVPR 2022, arXiv 2106.08265.
    """

    source: Literal["auto", "clip", "dinov2", "fine", "encoder"] = "auto"
    layers: Sequence[int] | None = None
    side: int | None = None

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise ConfigurationError(f"source={self.source!r} is unknown: choose {', '.join(SOURCES)}")
        if self.side is not None and self.side < 1:
            raise ConfigurationError(f"side={self.side}: give at least 1 token")

    @torch.no_grad()
    def __call__(self, network: torch.nn.Module, slices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens and embeddings of a batch of slices.

        Args:
            network: with loaded weights.
            slices: (B, C, H, W) in [0, 1], as the network's ``forward`` gets them.

        Returns:
            Tokens (layers, B, g g, C), without a class token and not normalised, and embeddings (B, E). Both have the
            type that the network computes in.

        Raises:
            ConfigurationError: if the network has no such tokens or blocks.
        """
        source = self.source_for(network)
        known: Any = network
        if source == "dinov2":
            return self._dinov2(getattr(known, "prior", known), slices)
        images = known.normalize(known.resize(slices))
        if source == "clip":
            return self._clip(known.clip, images)
        if source == "encoder":
            return self._encoder(known.clip.visual, images)
        pixels, context = known.dense_features(images)
        return _tokens([pixels], self.side), context

    def source_for(self, network: torch.nn.Module) -> str:
        """The source of tokens that is used for a network: never ``"auto"``.

        Args:
            network: see :meth:`__call__`.

        Returns:
            One of :data:`SOURCES`.

        Raises:
            ConfigurationError: if the network has no such tokens.
        """
        if isinstance(network, ScreeningCLIP):
            known = ["fine", "encoder"]
        elif isinstance(network, DINOv2Prior):
            known = ["dinov2"]
        elif isinstance(network, ZeroShotNetwork):
            known = ["clip", "dinov2"] if isinstance(getattr(network, "prior", None), DINOv2Prior) else ["clip"]
        else:
            raise ConfigurationError(
                f"{type(network).__name__} gives no tokens: use runtime=torch and a network of this package"
            )
        if self.source not in ("auto", *known):
            raise ConfigurationError(
                f"source={self.source!r}: {type(network).__name__} has no such tokens; choose {' or '.join(known)}"
            )
        return known[0] if self.source == "auto" else self.source

    def _clip(self, clip: CLIPBackbone, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        layers = clip.check_layers(self.layers)
        found = clip.vision(images, layers=layers)
        return _tokens([_grid(found.layers[n][:, 1:]) for n in layers], self.side), clip.project(found.tokens[:, 0])

    def _dinov2(self, prior: DINOv2Prior, slices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        depth, side = len(prior.model.blocks), prior.grid_size * prior.model.patch_embed.patch_size[0]
        layers = self._numbers([depth * part // 4 for part in (1, 2, 3, 4)], depth, "blocks")
        images = slices.float()
        if images.shape[-2:] != (side, side):
            images = F.interpolate(images, (side, side), mode="bicubic", align_corners=False, antialias=True).clamp(
                0, 1
            )
        normal = ((images.expand(-1, 3, -1, -1) - prior.mean) / prior.std).to(prior.model.patch_embed.proj.weight.dtype)
        last, grids = prior.model.forward_intermediates(normal, indices=[layer - 1 for layer in layers], norm=True)
        return _tokens(grids, self.side), last[:, 0]

    def _encoder(self, tower: PyramidTower, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = tower.encoder(images[:, :3].to(tower.head.weight.dtype))
        chosen = [found[level - 1] for level in self._numbers([3, 4], len(found), "levels")]
        # Each level has variance 1 over all its values, so that its share does not depend on its number of channels.
        grids = [F.layer_norm(grid, grid.shape[1:]) / grid.shape[1] ** 0.5 for grid in chosen]
        size = grids[0].shape[-2:]
        joined = [F.interpolate(grid, size, mode="bilinear", align_corners=False) for grid in grids]
        return _tokens([torch.cat(joined, dim=1)], self.side), found[-1].mean((2, 3))

    def _numbers(self, default: list[int], most: int, what: str) -> list[int]:
        numbers = default if self.layers is None else sorted(self.layers)
        if not numbers or not 1 <= numbers[0] <= numbers[-1] <= most:
            raise ConfigurationError(f"layers {self.layers!r}: give numbers of {what} from 1 to {most}")
        return numbers


def _grid(tokens: torch.Tensor) -> torch.Tensor:
    """Tokens (B, g g, C) as a grid (B, C, g, g)."""
    return tokens.transpose(1, 2).unflatten(2, (math.isqrt(tokens.shape[1]), -1))


def _tokens(grids: Sequence[torch.Tensor], side: int | None) -> torch.Tensor:
    """Grids (B, C, g, g) of the layers as tokens (layers, B, g g, C), averaged to ``side`` tokens at most."""
    found = torch.stack(list(grids))
    if side is not None and side < found.shape[-1]:
        found = F.adaptive_avg_pool2d(found.flatten(0, 1), side).unflatten(0, found.shape[:2])
    return found.flatten(3).transpose(2, 3)
