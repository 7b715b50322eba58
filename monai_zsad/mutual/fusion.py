"""One map of two that have different scales: a distance to other scans, and a probability of prompts."""

from __future__ import annotations

import torch

__all__ = ["FUSIONS", "fused"]

FUSIONS = ("none", "mean", "rank")
"""How two maps are combined: ``"none"`` keeps the first one; for the others see :func:`fused`."""


def fused(own: torch.Tensor, other: torch.Tensor, body: torch.Tensor, how: str) -> torch.Tensor:
    """Combine two maps of a scan.

    In the plain mean of a distance and a probability, the one with the larger scale decides.

    Args:
        own: (1, X, Y, Z).
        other: (1, X, Y, Z), on any scale.
        body: (1, X, Y, Z), bool: the pixels whose values are compared.
        how: ``"mean"``: the mean, after ``other`` has been brought to the median and the 99th percentile of ``own``;
            ``"rank"``: the mean of the shares of pixels that are smaller.

    Returns:
        (1, X, Y, Z), in [0, 1].

    Example:
        >>> own, other = torch.rand(1, 4, 4, 9), torch.rand(1, 4, 4, 9)
        >>> found = fused(own, other, own > 0, "mean")
        >>> torch.allclose(found, fused(own, 5 + 0.1 * other, own > 0, "mean"), atol=1e-4)
        True
    """
    # Plain tensors: indexing a MetaTensor of a batch splits the batch, which takes minutes with millions of values.
    own, other, body = (one.as_subclass(torch.Tensor) for one in (own, other, body))
    if how == "rank":
        return (_ranks(own, body) + _ranks(other, body)) / 2
    (low, high), (wanted, top) = _middle_and_high(other[body]), _middle_and_high(own[body])
    matched = wanted + (other - low) * ((top - wanted) / (high - low) if high > low else 0.0)
    return ((own + matched) / 2).clamp(0, 1)


def _ranks(volume: torch.Tensor, body: torch.Tensor) -> torch.Tensor:
    values = volume[body].sort().values
    smaller = torch.searchsorted(values, volume.contiguous())
    return (smaller.to(volume.dtype) / max(1, len(values) - 1)).clamp(max=1)


def _middle_and_high(values: torch.Tensor) -> tuple[float, float]:
    ordered, last = values.sort().values, max(0, len(values) - 1)
    return (float(ordered[last // 2]), float(ordered[int(0.99 * last)])) if len(values) else (0.0, 0.0)
