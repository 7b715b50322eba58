"""Scores with their truth, as arrays: what every figure checks first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from monai_zsad.errors import ConfigurationError

__all__ = ["TOUCHING", "Images", "as_array", "image_pairs", "region_shares", "scored", "whole_pairs"]

Images = Sequence[Any] | np.ndarray | torch.Tensor
"""An array whose first axis counts images or volumes, or a sequence of arrays, which may differ in shape."""

TOUCHING = {dimensions: np.ones((3,) * dimensions, dtype=bool) for dimensions in range(1, 5)}
"""Neighbours by corners too, for a number of axes."""


def as_array(values: Any) -> np.ndarray:
    """As a NumPy array in main memory, of at least 32 bits if of floating point."""
    if isinstance(values, torch.Tensor):
        tensor = values.detach().as_subclass(torch.Tensor).cpu()
        values = (tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor).numpy()
    array = np.asarray(values)
    return array.astype(np.float32) if array.dtype == np.float16 else array


def scored(scores: Any, truth: Any) -> tuple[np.ndarray, np.ndarray]:
    """One array of finite scores, and where it is anomalous: above 0 in ``truth``, of the same shape.

    Raises:
        ConfigurationError: shapes differ, scores are not finite, or truth is NaN.
    """
    values, wanted = as_array(scores), as_array(truth)
    if values.shape != wanted.shape:
        raise ConfigurationError(
            f"scores of shape {values.shape} and truth of shape {wanted.shape}: give two of the same shape"
        )
    if bad := int(values.size - np.count_nonzero(np.isfinite(values))):
        raise ConfigurationError(f"scores hold {bad} values that are not finite: check the network's weights and input")
    if bad := int(np.count_nonzero(np.isnan(wanted))):
        raise ConfigurationError(f"truth holds {bad} values that are NaN: give 0 where normal, above 0 where anomalous")
    return values, wanted > 0


def image_pairs(maps: Images, masks: Images) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each image or volume of a set with its mask, see :func:`scored`.

    Raises:
        ConfigurationError: as there; there are not as many masks as maps; or an item has fewer than two axes.
    """
    if len(maps) != len(masks):
        raise ConfigurationError(f"{len(maps)} maps and {len(masks)} masks: give a mask for each map")
    for one, mask in zip(maps, masks, strict=True):
        values, anomalous = scored(one, mask)
        if values.ndim < 2:
            raise ConfigurationError(
                f"an image has the shape {values.shape}: give a sequence of images (H, W) or volumes (X, Y, Z)"
            )
        yield values, anomalous


def whole_pairs(scores: Images, truth: Images) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """One array with its truth, or those of a sequence of arrays one by one; see :func:`scored`.

    Raises:
        ConfigurationError: as there, or there are not as many truths as scores.
    """
    if isinstance(scores, list | tuple) and any(np.ndim(one) for one in scores):
        if len(scores) != len(truth):
            raise ConfigurationError(f"{len(scores)} arrays of scores and {len(truth)} of truth: give as many")
        yield from (scored(one, mask) for one, mask in zip(scores, truth, strict=True))
    else:
        yield scored(scores, truth)


def region_shares(anomalous: np.ndarray) -> np.ndarray:
    """1 over the size of its region for each anomalous pixel, in the order of ``anomalous.nonzero()``.

    Regions are connected by corners too: 8 neighbours of a pixel, 26 of a voxel.

    Args:
        anomalous: (H, W) or (X, Y, Z) of bool.

    Returns:
        (n,) float64; they add to the number of regions.

    Example:
        >>> region_shares(np.array([[True, True, False, True]])).tolist()
        [0.5, 0.5, 1.0]
    """
    box = next(iter(ndimage.find_objects(anomalous.astype(np.uint8))), None)
    if box is None:
        return np.zeros(0)
    inside = anomalous[box]
    labels, count = ndimage.label(inside, TOUCHING[anomalous.ndim])
    own = labels[inside]
    return 1 / np.bincount(own, minlength=count + 1)[own]
