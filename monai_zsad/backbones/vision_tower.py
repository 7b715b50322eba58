"""CLIP's vision tower: dense features, and the projection into the joint space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from monai_zsad.backbones.attention import AttentionKind
from monai_zsad.backbones.text import AfterBlock
from monai_zsad.backbones.vision import VisionFeatures, VisionRequest, run_blocks
from monai_zsad.errors import ConfigurationError

__all__ = ["VisionTower"]


class VisionTower(nn.Module):
    """The vision half of :class:`~monai_zsad.backbones.CLIPBackbone`, which builds the parameters."""

    image_size: int
    visual: Any

    @property
    def width(self) -> int:
        """Width W of the vision tower."""
        return int(self.visual.class_embedding.shape[0])

    @property
    def depth(self) -> int:
        """Number of vision blocks."""
        return len(self.visual.transformer.resblocks)

    @property
    def vision_dtype(self) -> torch.dtype:
        """Type in which the vision tower computes."""
        return next(self.visual.parameters()).dtype

    def path_start(self, blocks: int) -> int:
        """First block (from 1) of a second path over the last ``blocks`` blocks, or over all if there are fewer.

        Args:
            blocks: number of blocks of the second path, at least 1.

        Returns:
            The block's number, from 1.
        """
        return max(1, self.depth + 1 - blocks)

    def check_layers(self, layers: Sequence[int] | None, first: int = 1) -> tuple[int, ...]:
        """Check block numbers, or choose the quarters of the depth (6, 12, 18, 24 of ViT-L).

        Args:
            layers: block numbers, or ``None`` for the quarters.
            first: smallest number that is allowed; 0 stands for the input of the first block.

        Returns:
            The block numbers.

        Raises:
            ConfigurationError: if a number is out of range, or the sequence is empty.
        """
        if layers is None:
            quarters = (self.depth * part // 4 for part in (1, 2, 3, 4))
            return tuple(layer for layer in quarters if layer >= first)
        found = tuple(int(layer) for layer in layers)
        if not found or any(not first <= layer <= self.depth for layer in found):
            raise ConfigurationError(f"layers {layers!r}: give block numbers from {first} to {self.depth}")
        return found

    def vision(
        self,
        images: torch.Tensor,
        *,
        attention: AttentionKind | None = None,
        first_block: int = 1,
        path_layers: Sequence[int] = (),
        layers: Sequence[int] = (),
        patches: bool = True,
        after_block: AfterBlock | None = None,
    ) -> VisionFeatures:
        """Run the vision tower, with a second path if ``attention`` is given.

        The second stream y starts as a copy of x at block ``first_block``. Each block adds the output projection of its
        self-correlation attention to y, without the MLP. All weights are CLIP's (the dual path of CLIP Surgery).

        Args:
            images: (B, 3, S, S), normalised with CLIP's mean and standard deviation.
            attention: see :class:`VisionRequest`, also for the next four arguments.
            first_block: block (from 1) at which the second path starts.
            path_layers: blocks after which y is returned.
            layers: blocks after which x is returned.
            patches: whether the final x is needed for the patches too.
            after_block: called as ``after_block(block, x)`` after every block; its result replaces x (residual
                adapters).

        Returns:
            Features before ``ln_post``.
        """
        request = VisionRequest(attention, first_block, tuple(path_layers), tuple(layers), patches)
        return self.vision_features(images, [request], after_block)[0]

    def vision_features(
        self, images: torch.Tensor, requests: Sequence[VisionRequest], after_block: AfterBlock | None = None
    ) -> list[VisionFeatures]:
        """Answer several requests in one pass. x and common second paths are computed once.

        Args:
            images: (B, 3, S, S), normalised with CLIP's mean and standard deviation.
            requests: at least one.
            after_block: see :meth:`vision`.

        Returns:
            The features of each request. They may share tensors, so do not change them in place.
        """
        return run_blocks(self.visual.transformer.resblocks, self.embed(images), requests, after_block)

    def project(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens (..., W) into the joint space (..., D): ``ln_post``, then ``visual.proj``.

        Args:
            tokens: (..., W), from the last block.

        Returns:
            (..., D), not normalised.
        """
        return self.visual.ln_post(tokens) @ self.visual.proj

    def last_block_values(self, tokens: torch.Tensor) -> torch.Tensor:
        """Value projection (B, N, W) of the last block's ``ln_1`` of ``tokens`` (B, N, W).

        Args:
            tokens: (B, N, W), the input of the last block.

        Returns:
            (B, N, W).
        """
        block = self.visual.transformer.resblocks[-1]
        _, _, weight = block.attn.in_proj_weight.chunk(3)
        _, _, bias = block.attn.in_proj_bias.chunk(3)
        return F.linear(block.ln_1(tokens), weight, bias)

    def last_block_output(self, attended: torch.Tensor) -> torch.Tensor:
        """Output projection (B, N, W) of the last block's attention.

        Args:
            attended: (B, N, W), values weighted by attention.

        Returns:
            (B, N, W).
        """
        return self.visual.transformer.resblocks[-1].attn.out_proj(attended)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Input tokens (B, 1 + N, W) of the first block for normalised images (B, 3, S, S).

        Args:
            images: (B, 3, S, S), normalised.

        Returns:
            (B, 1 + N, W), the class token first.

        Raises:
            ConfigurationError: if the images have another size.
        """
        if images.ndim != 4 or images.shape[1:] != (3, self.image_size, self.image_size):
            raise ConfigurationError(
                f"images have shape {tuple(images.shape)}; needed (B, 3, {self.image_size}, {self.image_size})"
            )
        patches = self.visual.conv1(images.to(self.vision_dtype)).flatten(2).transpose(1, 2)
        cls = self.visual.class_embedding.to(patches.dtype).expand(patches.shape[0], 1, -1)
        positions = self.visual.positional_embedding.to(patches.dtype)
        return self.visual.ln_pre(torch.cat([cls, patches], dim=1) + positions)
