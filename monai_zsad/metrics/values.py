"""Conversion and checks of scores and truth that all metrics share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from monai_zsad.errors import ConfigurationError

__all__ = [
    "TOUCHING",
    "Images",
    "as_array",
    "image_pairs",
    "not_finite",
    "not_finite_by_index",
    "region_shares",
    "scored",
    "whole_pairs",
    "why_undefined",
]

Images = Sequence[Any] | np.ndarray | torch.Tensor
"""An array whose first axis counts images or volumes, or a sequence of arrays. Their shapes may differ."""

TOUCHING = {dimensions: np.ones((3,) * dimensions, dtype=bool) for dimensions in range(1, 5)}
"""By number of axes: a structuring element in which neighbours may touch at an edge or a corner."""

# A warning names at most this number of indices.
_NAMED = 5


def as_array(values: Any) -> np.ndarray:
    """Convert values to a NumPy array in main memory. Floating-point values get at least 32 bits."""
    if isinstance(values, torch.Tensor):
        tensor = values.detach().as_subclass(torch.Tensor).cpu()
        values = (tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor).numpy()
    array = np.asarray(values)
    return array.astype(np.float32) if array.dtype == np.float16 else array


def scored(scores: Any, truth: Any) -> tuple[np.ndarray, np.ndarray]:
    """Scores as an array, and a mask of the anomalous ones: ``truth`` is above 0. Scores need not be finite.

    Raises:
        ConfigurationError: shapes differ, or truth holds NaN.
    """
    values, wanted = as_array(scores), as_array(truth)
    if values.shape != wanted.shape:
        raise ConfigurationError(
            f"scores of shape {values.shape} and truth of shape {wanted.shape}: give two of the same shape"
        )
    if bad := int(np.count_nonzero(np.isnan(wanted))):
        raise ConfigurationError(f"truth holds {bad} values that are NaN: give 0 where normal, above 0 where anomalous")
    return values, wanted > 0


def not_finite(scores: np.ndarray) -> int:
    """Number of scores that are NaN or infinite."""
    return int(scores.size - np.count_nonzero(np.isfinite(scores)))


def not_finite_by_index(scores: np.ndarray) -> dict[str, int]:
    """Number of scores that are not finite, by index of the first axis, for :func:`why_undefined`.

    The first few indices are named. The rest is counted under an empty name.

    >>> not_finite_by_index(np.array([[0.1, 0.2], [np.nan, np.inf]]))
    {'index 1': 2}
    """
    rows = np.atleast_1d(~np.isfinite(scores))
    counts = rows.sum(axis=tuple(range(1, rows.ndim)))
    places = np.flatnonzero(counts)
    found = {f"index {n}": int(counts[n]) for n in places[:_NAMED]}
    return found | ({"": int(counts[places[_NAMED:]].sum())} if len(places) > _NAMED else {})


def why_undefined(found: Mapping[str, int]) -> str:
    """Say why metrics are NaN: how many scores are not finite, and where. Empty if all scores are finite.

    Args:
        found: number of scores that are not finite, by index, for example ``"index 3"``. An empty text stands for
            unknown indices.

    >>> why_undefined({"index 3": 5, "index 8": 2})
    "scores hold 7 values that are not finite (5 at index 3, 2 at index 8): check the network's weights and input"
    """
    total = sum(found.values())
    if not total:
        return ""
    named = {place: count for place, count in found.items() if place and count}
    shown = [f"{count} at {place}" for place, count in list(named.items())[:_NAMED]]
    rest = total - sum(list(named.values())[:_NAMED])
    places = ", ".join([*shown, *([f"{rest} elsewhere"] if rest else [])])
    where = f" ({places})" if shown else ""
    return f"scores hold {total} values that are not finite{where}: check the network's weights and input"


def image_pairs(maps: Images, masks: Images) -> Iterator[tuple[np.ndarray, np.ndarray, dict[str, int]]]:
    """Each image or volume of a set with its mask, see :func:`scored`, and its number of scores that are not finite.

    Raises:
        ConfigurationError: see :func:`scored`; the numbers of maps and masks differ; or an item has fewer than two
            axes.
    """
    if len(maps) != len(masks):
        raise ConfigurationError(f"{len(maps)} maps and {len(masks)} masks: give a mask for each map")
    for index, (one, mask) in enumerate(zip(maps, masks, strict=True)):
        values, anomalous = scored(one, mask)
        if values.ndim < 2:
            raise ConfigurationError(
                f"an image has the shape {values.shape}: give a sequence of images (H, W) or volumes (X, Y, Z)"
            )
        yield values, anomalous, {f"index {index}": bad} if (bad := not_finite(values)) else {}


def whole_pairs(scores: Images, truth: Images) -> Iterator[tuple[np.ndarray, np.ndarray, dict[str, int]]]:
    """One array with its truth, or the arrays of a sequence one by one with theirs; see :func:`scored`.

    The third value is the number of scores that are not finite, by index in the sequence or along the first axis.

    Raises:
        ConfigurationError: see :func:`scored`; or the numbers of scores and truths differ.
    """
    if isinstance(scores, list | tuple) and any(np.ndim(one) for one in scores):
        if len(scores) != len(truth):
            raise ConfigurationError(f"{len(scores)} arrays of scores and {len(truth)} of truth: give as many")
        for index, (one, mask) in enumerate(zip(scores, truth, strict=True)):
            values, anomalous = scored(one, mask)
            yield values, anomalous, {f"index {index}": bad} if (bad := not_finite(values)) else {}
    else:
        values, anomalous = scored(scores, truth)
        yield values, anomalous, not_finite_by_index(values)


def region_shares(anomalous: np.ndarray) -> np.ndarray:
    """For each anomalous pixel, 1 over the size of its region, in the order of ``anomalous.nonzero()``.

    Pixels that touch at a corner are connected: a pixel has 8 neighbours, a voxel 26.

    Args:
        anomalous: (H, W) or (X, Y, Z) of bool.

    Returns:
        (n,) float64. The values add up to the number of regions.

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
