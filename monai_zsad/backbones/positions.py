"""Resizing of a ViT's position embedding to another grid."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F

from monai_zsad.errors import WeightsError

__all__ = ["PositionResize", "resize_positions"]

PositionResize = Literal["bilinear", "bicubic"]


def resize_positions(positions: torch.Tensor, grid: int, mode: PositionResize) -> torch.Tensor:
    """Resize a position embedding (1 + g * g, W) to a ``grid`` x ``grid`` grid. The class position is kept.

    ``bilinear`` works without antialiasing (Crane, AnomalyCLIP), ``bicubic`` with it (open_clip, AA-CLIP); both with
    ``align_corners=False``.

    Args:
        positions: (1 + g * g, W), the class position first.
        grid: side of the new grid.
        mode: interpolation.

    Returns:
        (1 + grid * grid, W).

    Raises:
        WeightsError: if the positions are not on a square grid.

    >>> resize_positions(torch.ones(1 + 4, 8), 3, "bilinear").shape
    torch.Size([10, 8])
    """
    count = positions.shape[0] - 1
    side = math.isqrt(count)
    if side * side != count:
        raise WeightsError(
            f"the position embedding has {count} patch positions, not a square grid: use weights of a plain ViT"
        )
    if side == grid:
        return positions
    patches = positions[1:].float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
    patches = F.interpolate(patches, (grid, grid), mode=mode, align_corners=False, antialias=mode == "bicubic")
    patches = patches.permute(0, 2, 3, 1).reshape(grid * grid, -1)
    return torch.cat([positions[:1], patches.to(positions.dtype)])
