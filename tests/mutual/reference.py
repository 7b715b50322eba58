"""MuSc in the plain form of the paper: float64 where wanted, `cdist`, one pair of images at a time."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F


def plain_aggregate(tokens: torch.Tensor, degree: int) -> torch.Tensor:
    """(N, 1 + g g, C) to (N, g g, C): the neighbourhoods are unfolded and pooled adaptively."""
    tokens = tokens[:, 1:]
    count, size, width = tokens.shape
    grid = tokens.transpose(1, 2).unflatten(2, (math.isqrt(size), -1))
    grid = F.layer_norm(grid, grid.shape[1:])
    unfolded = F.unfold(grid, degree, padding=(degree - 1) // 2).transpose(1, 2)
    pooled = F.adaptive_avg_pool1d(unfolded.flatten(0, 1).unsqueeze(1), width)
    return F.normalize(pooled.view(count, size, width), dim=-1)


def plain_scores(tokens: torch.Tensor, interval: tuple[float, float] = (0.0, 0.3)) -> torch.Tensor:
    """Scores (N, g g) of normalised tokens (N, g g, C)."""
    scores = []
    for index, query in enumerate(tokens):
        others = [other for place, other in enumerate(tokens) if place != index]
        nearest = torch.stack([torch.cdist(query, other).amin(1) for other in others])
        first, last = (int(len(others) * part) for part in interval)
        scores.append(nearest.sort(dim=0).values[first:last].mean(0))
    return torch.stack(scores)


def plain_musc(
    tokens: torch.Tensor, degrees: tuple[int, ...] = (1, 3, 5), interval: tuple[float, float] = (0.0, 0.3)
) -> torch.Tensor:
    """(degrees, layers, N, g g) of tokens (layers, N, 1 + g g, C)."""
    return torch.stack(
        [
            torch.stack([plain_scores(plain_aggregate(layer, degree), interval) for layer in tokens])
            for degree in degrees
        ]
    )
