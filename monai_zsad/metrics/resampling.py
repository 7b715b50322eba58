"""Figures by class, and how far they would vary with other images."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from monai_zsad.errors import ConfigurationError

__all__ = ["Interval", "bootstrap_interval", "per_class"]


class Interval(NamedTuple):
    """A figure with its confidence interval.

    Attributes:
        value: the figure of all samples.
        low: lower end; NaN where it is not defined.
        high: upper end.
        undefined: fraction of the resamples on which the figure was NaN; the ends are those of the others.
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
    """Percentile bootstrap of any figure, resampling images or volumes.

    What is drawn are whole images or volumes, never pixels, which depend on each other; for slices, give the volumes
    and let ``metric`` take them apart. ``scipy.stats.bootstrap`` has no strata, takes no sequences of arrays of
    different shapes, and gives NaN as soon as a resample holds no anomalous image.

    Pixel figures from histograms cost microseconds in place of a sort for each resample: give
    :func:`score_histograms` as the sample, see the example.

    Args:
        metric: takes the drawn part of each of ``samples``, in the same form, and returns a number.
        samples: arrays whose first axis counts the samples, or sequences of that length. All are drawn alike.
        level: of confidence, within (0, 1).
        resamples: how many are drawn.
        seed: of the drawing; the same one gives the same interval.
        strata: (n,) labels; samples are drawn within each, such as within the classes whose mean ``metric`` takes.

    Returns:
        Value and interval. The ends are NaN, with a warning, if the value is, or more than half of the resamples are
        undefined. One that holds an image with scores that are not finite is.

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
    groups = [np.arange(count)]
    if strata is not None:
        labels = _numbered(strata, count)
        groups = [np.flatnonzero(labels == label) for label in range(labels.max() + 1)]
    rng = np.random.default_rng(seed)
    value = float(metric(*samples))
    found = np.empty(resamples)
    with warnings.catch_warnings():
        # What is undefined is counted.
        warnings.simplefilter("ignore")
        for n in range(resamples):
            drawn = np.concatenate([rng.choice(group, group.size) for group in groups])
            found[n] = metric(*(_taken(sample, drawn) for sample in samples))
    missing = float(np.isnan(found).mean())
    if np.isnan(value) or missing > 0.5:
        warnings.warn(f"{missing:.0%} of the resamples have no figure: the interval is NaN", stacklevel=2)
        return Interval(value, float("nan"), float("nan"), missing)
    low, high = np.nanquantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), missing)


def per_class(
    metric: Callable[..., float],
    classes: Sequence[Hashable] | np.ndarray | torch.Tensor,
    *samples: Sequence[Any] | np.ndarray | torch.Tensor,
) -> dict[Hashable, float]:
    """The figure of each class by itself.

    Published tables of data sets with several classes give the mean over the classes, each weighing the same, which is
    ``np.mean(list(per_class(...).values()))``: it is NaN if that of a class is, where releases count a 0. Figures of
    all images together are another thing; they also compare scores between classes.

    Args:
        metric: takes the samples of a class, in the form given, and returns a number.
        classes: (n,) labels.
        samples: as of :func:`bootstrap_interval`.

    Returns:
        The classes in the order in which they first come, with their figures.

    Raises:
        ConfigurationError: there are no samples, or lengths differ.

    Example:
        >>> from monai_zsad.metrics import auroc
        >>> per_class(auroc, ["a", "a", "b", "b"], [0.2, 0.1, 0.8, 0.9], [1, 0, 1, 0])
        {'a': 1.0, 'b': 0.0}
    """
    labels = _numbered(classes, _length(samples))
    names = list(dict.fromkeys(_hashable(name) for name in classes))
    return {
        name: float(metric(*(_taken(sample, np.flatnonzero(labels == number)) for sample in samples)))
        for number, name in enumerate(names)
    }


def _numbered(labels: Sequence[Hashable] | np.ndarray | torch.Tensor, count: int) -> np.ndarray:
    """Labels as numbers from 0, in the order in which they first come."""
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
