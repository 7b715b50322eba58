"""Bootstrap intervals of metrics: how much they would vary with other images."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from monai_zsad.errors import ConfigurationError

__all__ = ["Interval", "bootstrap_interval"]


class Interval(NamedTuple):
    """A metric with its confidence interval.

    Attributes:
        value: value of all samples.
        low: lower end of the interval; NaN if it is undefined.
        high: upper end of the interval; NaN if it is undefined.
        undefined: fraction of the resamples for which the metric was NaN. The ends come from the other resamples.
    """

    value: float
    low: float
    high: float
    undefined: float


def bootstrap_interval(
    metric: Callable[..., float],
    *samples: Sequence[Any] | np.ndarray | torch.Tensor,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    strata: Sequence[Hashable] | np.ndarray | torch.Tensor | None = None,
) -> Interval:
    """Percentile bootstrap of any metric over images or volumes.

    It draws images or volumes. It never draws single pixels, because the pixels of one image depend on each other. For
    slices, give the volumes and let ``metric`` split them. ``scipy.stats.bootstrap`` has no strata and does not take
    sequences of arrays of different shapes. It also gives NaN as soon as one resample holds no anomalous image.

    An exact pixel metric needs a sort for each resample. A pixel metric from histograms takes microseconds. For the
    latter, give :func:`score_histograms` as the sample, see the example.

    Args:
        metric: function that takes the drawn part of each of ``samples``, in the same form, and returns a number.
        samples: arrays whose first axis counts the samples, or sequences of that length. The same indices are drawn
            from all of them.
        level: level of confidence, within (0, 1).
        resamples: number of resamples.
        seed: random seed. The same seed gives the same interval.
        strata: labels (n,). Samples are drawn within each label, for example within each class.

    Returns:
        Value and interval. The ends are NaN, with a warning, if the value is NaN or more than half of the resamples are
        undefined. A resample is undefined if it holds an image with scores that are not finite.

    Raises:
        ConfigurationError: there are no samples, their lengths differ, or level or resamples are out of range.

    Example:
        >>> from monai_zsad.metrics import auroc, histogram_curve, score_histograms
        >>> bootstrap_interval(auroc, [0.9, 0.8, 0.2, 0.1], [1, 1, 0, 0], strata=[1, 1, 0, 0])
        Interval(value=1.0, low=1.0, high=1.0, undefined=0.0)
        >>> maps = np.random.default_rng(0).random((6, 8, 8))
        >>> histograms = score_histograms(maps, maps > 0.9)
        >>> bootstrap_interval(lambda drawn: histogram_curve(drawn.sum(0)).auroc(), histograms, resamples=20).value
        1.0
    """
    count = _length(samples)
    if not 0 < level < 1 or resamples < 1:
        raise ConfigurationError(
            f"level={level!r}, resamples={resamples!r}: give a level within (0, 1), and at least 1"
        )
    groups: list[np.ndarray] = [np.arange(count)]
    if strata is not None:
        labels = _numbered(strata, count)
        groups = [np.flatnonzero(labels == label) for label in range(labels.max() + 1)]
    rng = np.random.default_rng(seed)
    value = float(metric(*samples))
    found = np.empty(resamples)
    with warnings.catch_warnings():
        # No warnings here: undefined resamples are counted below.
        warnings.simplefilter("ignore")
        for n in range(resamples):
            drawn = np.concatenate([rng.choice(group, group.size) for group in groups])
            found[n] = metric(*(_taken(sample, drawn) for sample in samples))
    missing = float(np.isnan(found).mean())
    if np.isnan(value) or missing > 0.5:
        warnings.warn(f"{missing:.0%} of the resamples have no value: the interval is NaN", stacklevel=2)
        return Interval(value, float("nan"), float("nan"), missing)
    low, high = np.nanquantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), missing)


def _numbered(labels: Sequence[Hashable] | np.ndarray | torch.Tensor, count: int) -> np.ndarray:
    """Labels as numbers from 0, in the order in which they first occur."""
    if len(labels) != count:
        raise ConfigurationError(f"{len(labels)} labels for {count} samples: give one for each")
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(_hashable(label), len(numbers)) for label in labels])


def _hashable(label: Any) -> Hashable:
    return label.item() if isinstance(label, np.generic | torch.Tensor) else label


def _length(samples: tuple[Any, ...]) -> int:
    lengths = {len(sample) for sample in samples}
    if len(lengths) != 1 or lengths == {0}:
        raise ConfigurationError(f"samples of lengths {sorted(lengths)}: give as many of each, and at least one")
    return lengths.pop()


def _taken(sample: Any, indices: np.ndarray) -> Any:
    if isinstance(sample, np.ndarray):
        return sample[indices]
    return sample[torch.from_numpy(indices)] if isinstance(sample, torch.Tensor) else [sample[n] for n in indices]
