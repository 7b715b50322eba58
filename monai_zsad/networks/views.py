"""The views over which AnoCLIP averages an image's score."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F

__all__ = ["score_views"]

# Rotations in radians, translations in half-widths; the borders are reflected.
_ANGLES = tuple(sign * math.pi * part for part in (1 / 4, 3 / 16, 1 / 8, 1 / 16) for sign in (1, -1))
_SHIFTS = tuple((sx * d, sy * d) for d in (0.2, 0.1) for sx in (1, -1) for sy in (1, -1))
_GREY = (0.299, 0.587, 0.114)


def score_views(images: torch.Tensor) -> Iterator[torch.Tensor]:
    """The 21 views besides the picture itself: eight rotations and translations, a flip, grey, and quarter turns.

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
