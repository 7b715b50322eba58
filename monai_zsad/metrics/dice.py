"""Dice-max: the best mean Dice with one threshold for all volumes."""

from __future__ import annotations

import warnings

import numpy as np

from monai_zsad.metrics.curves import BestThreshold
from monai_zsad.metrics.gathered import GatheredMetric, items_of
from monai_zsad.metrics.histograms import bin_edges, histogram_rows
from monai_zsad.metrics.values import Images, image_pairs, scored, why_undefined

__all__ = ["DiceMaxMetric", "dice_max"]


def dice_max(maps: Images, masks: Images) -> BestThreshold:
    """Largest mean Dice over the images or volumes, with one threshold for all of them. The value is exact.

    MONAI's ``DiceMetric`` takes masks, so it evaluates one threshold. Images without anomalous pixels are left out,
    because their Dice is 0 or undefined. For the best Dice of all voxels together, see :func:`f1_max`. In that value,
    large lesions count more.

    Args:
        maps: images (H, W) or volumes (X, Y, Z), along the first axis or in a sequence; any scale.
        masks: the same shapes, above 0 where anomalous.

    Returns:
        Value and threshold. They are NaN, with a warning, if no pixel is anomalous or a score is not finite.

    Raises:
        ConfigurationError: shapes do not fit.

    Example:
        >>> dice_max([np.array([[0.9, 0.5, 0.2]]), np.array([[0.6, 0.4]])], [np.array([[1, 0, 0]]), np.array([[1, 0]])])
        BestThreshold(value=1.0, threshold=0.6)
    """
    levels, changes = [], []
    broken: dict[str, int] = {}
    for values, anomalous, bad in image_pairs(maps, masks):
        broken |= bad
        if broken or not anomalous.any():
            continue
        order = np.argsort(values, axis=None)[::-1]
        ranked = values.ravel()[order]
        last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
        dice = 2 * np.cumsum(anomalous.ravel()[order])[last] / (last + 1 + np.count_nonzero(anomalous))
        levels.append(ranked[last])
        changes.append(np.diff(dice, prepend=0))
    if broken or not levels:
        return _undefined(why_undefined(broken))
    # The Dice of an image changes only at its own scores. The sum of the changes of all images gives the mean.
    thresholds = np.concatenate(levels)
    order = np.argsort(thresholds)[::-1]
    ranked = thresholds[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    mean = np.cumsum(np.concatenate(changes)[order])[last] / len(levels)
    best = int(mean.argmax())
    return BestThreshold(float(mean[best]), float(ranked[last[best]]))


class DiceMaxMetric(GatheredMetric):
    """Dice-max from histograms. Its memory does not grow with the data, and the values of all processes are summed.

    MONAI's ``DiceMetric`` takes masks, so it evaluates one threshold. Here the thresholds are the lower edges of the
    bins, and one of them gives the value. :meth:`bounds` says how much more another threshold could give.

    The inputs are maps (B, 1, H, W) or (B, 1, X, Y, Z) and masks of the same shape, or lists of maps and masks without
    the first axis.

    Args:
        bins: number of bins over ``score_range``.
        score_range: lower and upper end of the bins. Scores outside count in the outermost bins.

    Raises:
        ConfigurationError: bins or range are empty. When the metric is called: shapes of maps and masks do not fit.

    Example:
        >>> import torch
        >>> metric = DiceMaxMetric()
        >>> _ = metric(torch.tensor([[[[0.75, 0.5, 0.25]]]]), torch.tensor([[[[1, 1, 0]]]]))
        >>> metric.aggregate(), metric.best()
        (1.0, BestThreshold(value=1.0, threshold=0.5))
    """

    def __init__(self, bins: int = 8192, score_range: tuple[float, float] = (0.0, 1.0)) -> None:
        self.edges = bin_edges(bins, score_range)[::-1]
        super().__init__(2 * bins + 2, summed=True)
        self.score_range = score_range

    def rows_of(self, scores: np.ndarray, truth: np.ndarray, **_: np.ndarray) -> np.ndarray:
        """Dice at each edge, its upper bound within that bin, 1 if a pixel is anomalous (else 0), and 1."""
        values, anomalous = scored(*items_of(scores, truth, (2, 3)))
        bins = self.edges.size
        if not anomalous.any():
            return np.concatenate([np.zeros(2 * bins + 1), [1.0]])[None]
        normal, found, _ = histogram_rows(values, anomalous, bins, self.score_range, regions=False)[:, ::-1]
        hits, passed = np.cumsum(found), np.cumsum(normal)
        dice, most = (2 * hits / (hits + others + hits[-1]) for others in (passed, passed - normal))
        return np.concatenate([dice, most, [1.0, 1.0]])[None]

    def best(self) -> BestThreshold:
        """Largest mean Dice and its threshold. NaN, with a warning, if no pixel is anomalous or a score is not finite.

        Raises:
            ConfigurationError: no image was given.
        """
        dice, _, (count, _) = np.split(self.gathered(), [self.edges.size, 2 * self.edges.size])
        if self.undefined() or not count:
            return _undefined(self.undefined())
        best = int(dice.argmax())
        return BestThreshold(float(dice[best] / count), float(self.edges[best]))

    def aggregate(self) -> float:
        """Largest mean Dice; NaN, with a warning, in the same cases as :meth:`best`."""
        return self.best().value

    def bounds(self) -> tuple[float, float]:
        """Bounds of the exact :func:`dice_max`; NaN, with a warning, in the same cases as :meth:`best`."""
        _, most, (count, _) = np.split(self.gathered(), [self.edges.size, 2 * self.edges.size])
        low = self.aggregate()
        return low, float("nan") if np.isnan(low) else float(most.max() / count)


def _undefined(why: str) -> BestThreshold:
    warnings.warn(
        f"Dice-max is NaN: {why}" if why else "Dice-max needs something anomalous; it is NaN here", stacklevel=3
    )
    return BestThreshold(float("nan"), float("nan"))
