"""Arithmetic from features and text anchors to anomaly maps and image scores, shared by all methods."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

__all__ = [
    "anomaly_probability",
    "gaussian_weights",
    "grid_to_map",
    "l2_normalize",
    "map_and_score",
    "similarity_logits",
    "smooth",
    "smoothing_matrix",
]

Border = Literal["symmetric", "reflect", "edge"]


def l2_normalize(x: torch.Tensor) -> torch.Tensor:
    """``x`` divided by its length along the last axis, in float32 (a zero vector stays zero)."""
    return F.normalize(x.float(), dim=-1)


def similarity_logits(features: torch.Tensor, anchors: torch.Tensor, temperature: float) -> torch.Tensor:
    """Cosine similarities to the normal and the anomalous anchor, over the temperature.

    Args:
        features: l2-normalised (L, B, N, D).
        anchors: l2-normalised (1, 2, D) or, one pair for each image, (B, 2, D); normal first.
        temperature: divisor, 0.07 in Crane and AnomalyCLIP.

    Returns:
        (L, B, N, 2).
    """
    return features @ anchors.transpose(-1, -2) / temperature


def anomaly_probability(logits: torch.Tensor) -> torch.Tensor:
    """Softmax over the last axis (normal, anomalous), anomalous part: (..., 2) to (...).

    >>> anomaly_probability(torch.tensor([[0.0, 0.0]]))
    tensor([0.5000])
    """
    return torch.softmax(logits, dim=-1)[..., 1]


def grid_to_map(values: torch.Tensor, size: int, *, align_corners: bool = False) -> torch.Tensor:
    """Patch values (B, N) on a square grid, bilinearly to (B, size, size).

    >>> grid_to_map(torch.arange(4.0).view(1, 4), 2)
    tensor([[[0., 1.],
             [2., 3.]]])
    """
    side = math.isqrt(values.shape[-1])
    grid = values.unflatten(-1, (side, side)).unsqueeze(1)
    return F.interpolate(grid, (size, size), mode="bilinear", align_corners=align_corners).squeeze(1)


def map_and_score(anomaly_map: torch.Tensor, score: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Map and score as one tensor, the form that MONAI's inferers process.

    Args:
        anomaly_map: (B, S, S).
        score: (B,), or (B, K) for K values of each image.
        size: (H, W) to which the map is resized bilinearly.

    Returns:
        A new tensor (B, 1 + K, H, W): the map, and each value at every pixel.

    >>> map_and_score(torch.zeros(1, 2, 2), torch.ones(1), (1, 3))
    tensor([[[[0., 0., 0.]],
             [[1., 1., 1.]]]])
    """
    height, width = size
    maps = anomaly_map.unsqueeze(1)
    if maps.shape[-2:] != (height, width):
        maps = F.interpolate(maps, (height, width), mode="bilinear", align_corners=False)
    values = score.reshape(maps.shape[0], -1, 1, 1)
    return torch.cat([maps, values.expand(-1, -1, height, width)], dim=1)


def gaussian_weights(sigma: float, radius: int | None = None) -> np.ndarray:
    """Sampled and normalised Gaussian, (2 * radius + 1,). The default radius is that of scipy with ``truncate=4``."""
    radius = int(4 * sigma + 0.5) if radius is None else radius
    x = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (x / sigma) ** 2)
    return weights / weights.sum()


def smoothing_matrix(size: int, weights: np.ndarray, border: Border) -> torch.Tensor:
    """Matrix (size, size) that applies a symmetric kernel to a vector, borders included.

    The borders have numpy's names: ``symmetric`` repeats the edge sample (scipy's "reflect"), ``reflect`` does not,
    ``edge`` replicates it. A matrix product on either side of a map equals a separable filter with that border. Unlike
    a filter, it can be exported to every runtime.

    >>> smoothing_matrix(3, np.array([0.25, 0.5, 0.25]), "symmetric")
    tensor([[0.7500, 0.2500, 0.0000],
            [0.2500, 0.5000, 0.2500],
            [0.0000, 0.2500, 0.7500]])
    """
    radius = len(weights) // 2
    padded = np.pad(np.eye(size), ((radius, radius), (0, 0)), mode=border)
    matrix = sum(weight * padded[shift : shift + size] for shift, weight in enumerate(weights))
    return torch.from_numpy(np.asarray(matrix, dtype=np.float32))


def smooth(maps: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Smooth (..., S, S) along both axes with :func:`smoothing_matrix`."""
    return matrix @ maps @ matrix.transpose(-1, -2)
