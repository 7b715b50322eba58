"""AA-CLIP's residual adapters and projections; module names are those of the released checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

__all__ = ["ImageAdapter", "TextAdapter", "residual"]


class Adapter(nn.Module):
    """A bias-free linear layer, with LeakyReLU(0.01) if ``activated``."""

    def __init__(self, width: int, out: int, *, activated: bool = True) -> None:
        super().__init__()
        linear = nn.Linear(width, out, bias=False)
        self.fc = nn.Sequential(linear, nn.LeakyReLU(0.01)) if activated else linear

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., width) to (..., out)."""
        return self.fc(x)


def residual(adapter: nn.Module, x: torch.Tensor, weight: float) -> torch.Tensor:
    """Weighted mean of ``x`` and the adapted ``x``, which is first scaled to the length of ``x``.

    >>> residual(nn.Identity(), torch.ones(1, 2), 0.1)
    tensor([[1., 1.]])
    """
    adapted = adapter(x)
    tiny = torch.finfo(adapted.dtype).tiny
    adapted = adapted * x.norm(dim=-1, keepdim=True) / adapted.norm(dim=-1, keepdim=True).clamp_min(tiny)
    return weight * adapted + (1 - weight) * x


class ImageAdapter(nn.Module):
    """Adapters after the first vision blocks, a segmentation projection for each level and a detection projection.

    Args:
        width: width W of the vision tower.
        embed_dim: width D of the joint space.
        blocks: number of first blocks that are adapted.
        levels: number of levels.
        activated: whether the projections end in LeakyReLU (released: no).
    """

    def __init__(self, width: int, embed_dim: int, *, blocks: int, levels: int, activated: bool = False) -> None:
        super().__init__()
        self.layer_adapters = nn.ModuleList(Adapter(width, width) for _ in range(blocks))
        self.seg_proj = nn.ModuleList(Adapter(width, embed_dim, activated=activated) for _ in range(levels))
        self.det_proj = Adapter(width, embed_dim, activated=activated)


class TextAdapter(nn.ModuleList):
    """Adapters after the first text blocks, and last the projection T -> D of the end-of-text token.

    Args:
        text_width: width T of the text tower.
        embed_dim: width D of the joint space.
        blocks: number of first blocks that are adapted.
    """

    def __init__(self, text_width: int, embed_dim: int, *, blocks: int) -> None:
        widths: Sequence[int] = [text_width] * blocks
        super().__init__([*(Adapter(text_width, width) for width in widths), Adapter(text_width, embed_dim)])
