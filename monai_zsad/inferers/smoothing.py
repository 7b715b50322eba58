"""Smoothing through the slices of a map."""

from __future__ import annotations

import torch
from monai.networks.layers import GaussianFilter

__all__ = ["smooth_through_slices"]


def smooth_through_slices(slices: torch.Tensor, seen: torch.Tensor, sigma: float) -> None:
    """Gaussian smoothing along the first axis, among the seen slices alone; writes into ``slices``.

    MONAI's :class:`~monai.networks.layers.GaussianFilter` was not enough by itself: it mixes in zeros beyond the
    volume and from slices that were never run, which darkens the map beside them. Here the weights of one slice's
    seen neighbours are scaled to a sum of 1; slices that are not seen neither give nor take, and keep their values.
    A constant map stays constant. Row by row, so that no second volume is needed.

    Args:
        slices: (N, rows, columns), float32: a map, possibly a view into a volume. Changed in place.
        seen: (N,), bool: which slices a network has seen.
        sigma: standard deviation in slices, > 0.

    Example:
        >>> maps = torch.tensor([0.0, 1.0, 0.0, 0.0]).view(4, 1, 1)
        >>> smooth_through_slices(maps, torch.tensor([True, True, True, False]), sigma=1.0)
        >>> [round(v, 2) for v in maps.flatten().tolist()]
        [0.35, 0.44, 0.35, 0.0]
    """
    smooth = GaussianFilter(1, sigma).to(slices.device)
    seen = seen.to(slices.device)
    # Evaluators may run inferers under autocast, which would turn this convolution to half precision.
    with torch.autocast(slices.device.type, enabled=False):
        weight = seen.to(slices.dtype)
        total = smooth(weight[None, None])[..., seen]
        for row in range(slices.shape[1]):
            values = (slices[:, row] * weight[:, None]).T[:, None]
            slices[seen, row] = (smooth(values)[..., seen] / total)[:, 0].T
