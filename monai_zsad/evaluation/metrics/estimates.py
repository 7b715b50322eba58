"""Results of the metrics: value, confidence interval, and the number of images behind them."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from monai_zsad.errors import ConfigurationError
from monai_zsad.evaluation.metrics.registry import METRICS, Metric
from monai_zsad.metrics import BestThreshold, RankingCurve, bootstrap_interval, histogram_curve

__all__ = [
    "MEAN",
    "POOLED",
    "CaseSummary",
    "Curve",
    "Estimate",
    "Findings",
    "Resampled",
    "Scoring",
    "estimate",
    "mean_estimates",
    "mean_value",
    "of_histograms",
    "thinned",
]

MEAN, POOLED = "mean", "all together"
"""Scopes of several classes or volumes: the mean of their values, and one value of all their samples together."""

Resampled = tuple[Callable[..., float], Sequence[Any], Any]
"""The arguments function, samples and strata of :func:`~monai_zsad.metrics.bootstrap_interval`."""


@dataclass(frozen=True)
class Scoring:
    """Options of the metrics. The predictions do not depend on them.

    Attributes:
        bootstrap: number of resamples for a confidence interval; 0 for no intervals.
        seed: random seed of the resampling.
        limit: false positive rate up to which AUPRO is integrated.
        min_lesion: smallest lesion of a volume, in voxels.
        min_voxels: smallest candidate in voxels, see :func:`~monai_zsad.metrics.lesion_froc`.
        min_overlap: fraction of a candidate that must lie in lesions, see :func:`~monai_zsad.metrics.lesion_froc`.
        slice_fraction: a slice counts if at least this fraction of its area lies in the region.
        exact_pixels: a class with more pixels than this gets its pixel metrics from histograms, with their bounds.

    Raises:
        ConfigurationError: a value is out of range.
    """

    bootstrap: int = 200
    seed: int = 0
    limit: float = 0.3
    min_lesion: int = 3
    min_voxels: int = 10
    min_overlap: float = 0.1
    slice_fraction: float = 0.02
    exact_pixels: int = 100_000_000

    def __post_init__(self) -> None:
        if self.bootstrap < 0 or self.min_lesion < 1 or self.min_voxels < 1 or self.exact_pixels < 1:
            raise ConfigurationError(f"{self}: give numbers of at least 1, and for bootstrap of at least 0")
        if not (0 <= self.min_overlap <= 1 and 0 <= self.slice_fraction <= 1 and 0 < self.limit <= 1):
            raise ConfigurationError(f"{self}: min_overlap, slice_fraction and limit lie within 0 and 1")


@dataclass(frozen=True)
class Estimate:
    """The value of a metric for one class, one volume, or several of them.

    Attributes:
        name: key of :data:`~monai_zsad.evaluation.metrics.METRICS`.
        scope: class, case, :data:`MEAN` or :data:`POOLED`.
        value: within [0, 1]; NaN if it is undefined.
        low: lower end of the 95 % interval; NaN without an interval.
        high: upper end of the 95 % interval; NaN without an interval.
        normal: number of normal images, or of volumes without a lesion.
        anomalous: number of anomalous images or volumes.
        threshold: the best threshold, if the metric is the best value over all thresholds; NaN otherwise.
        note: reason why the value is undefined, or how exact it is.
    """

    name: str
    scope: str
    value: float
    low: float = float("nan")
    high: float = float("nan")
    normal: int = 0
    anomalous: int = 0
    threshold: float = float("nan")
    note: str = ""


@dataclass(frozen=True)
class Curve:
    """A curve for a plot: ``x`` and ``y`` of the same length, ``x`` rising."""

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class CaseSummary:
    """Values of a case that the page shows.

    Attributes:
        case: id of the case.
        class_name: class of the case in the set.
        label: 0 normal, 1 anomalous.
        score: the score that was ranked. It is scaled if the protocol says so.
        quality: average precision of the pixels; NaN without a mask.
    """

    case: str
    class_name: str
    label: int
    score: float
    quality: float = float("nan")


@dataclass
class Findings:
    """Everything that was computed for a set.

    Attributes:
        estimates: values of the metrics, scope by scope.
        curves: curves by kind (``"image ROC"``, ``"pixel precision-recall"``, ``"FROC"``, ...), then by scope.
        cases: one entry for each case.
        scores: scores and labels by level (``"images"``, ``"slices"``, ``"volumes"``), for histograms.
        facts: other numbers for the table, for example the number of lesions.
    """

    estimates: list[Estimate] = field(default_factory=list)
    curves: dict[str, dict[str, Curve]] = field(default_factory=dict)
    cases: list[CaseSummary] = field(default_factory=list)
    scores: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def add_ranking(self, level: str, scope: str, curve: RankingCurve) -> None:
        """Keep the ROC and the precision-recall curve, thinned for a plot."""
        if curve.positives and curve.negatives:
            self.curves.setdefault(f"{level} ROC", {})[scope] = thinned(*curve.roc())
            precision, recall = curve.precision_recall()
            self.curves.setdefault(f"{level} precision-recall", {})[scope] = thinned(recall, precision)


def estimate(
    name: str,
    scope: str,
    value: Callable[[], float | BestThreshold],
    counts: tuple[int, int],
    scoring: Scoring,
    resampled: Resampled | None = None,
    note: str = "",
) -> Estimate:
    """Compute a value and its interval. If the value is undefined, the warnings become its note.

    Args:
        name: name of the metric.
        scope: see :class:`Estimate`.
        value: returns the value, or the best value and its threshold.
        counts: number of normal and of anomalous images.
        scoring: options, among them the number of resamples.
        resampled: samples that are drawn for the interval; ``None`` for no interval.
        note: note if there are no warnings.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = value()
    number, threshold = found if isinstance(found, tuple) else (found, float("nan"))
    low = high = float("nan")
    if resampled is not None and scoring.bootstrap and not np.isnan(number):
        metric, samples, strata = resampled
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            interval = bootstrap_interval(
                metric, *samples, resamples=scoring.bootstrap, seed=scoring.seed, strata=strata
            )
        low, high = interval.low, interval.high
    said = "; ".join(dict.fromkeys(str(warning.message) for warning in caught)) if np.isnan(number) else ""
    return Estimate(name, scope, float(number), low, high, *counts, float(threshold), said or note)


def mean_estimates(
    estimates: Sequence[Estimate],
    count: int,
    counts: tuple[int, int],
    scoring: Scoring,
    resampled: Callable[[Metric, np.ndarray], Resampled | None],
) -> list[Estimate]:
    """Mean over the classes or volumes, for each metric that all of them have.

    Args:
        estimates: values of the classes or volumes.
        count: number of classes or volumes.
        counts: number of normal and of anomalous images.
        scoring: options, among them the number of resamples.
        resampled: returns the samples that are drawn for a metric with these values.
    """
    found = []
    for name in dict.fromkeys(one.name for one in estimates):
        own = [one for one in estimates if one.name == name]
        if len(own) < count:
            continue
        lacking = [one.scope for one in own if np.isnan(one.value)]
        note = f"not defined for {', '.join(lacking)}" if lacking else ""
        values = np.array([one.value for one in own])
        drawn = resampled(METRICS[name], values)
        found.append(estimate(name, MEAN, functools.partial(mean_value, values), counts, scoring, drawn, note))
    return found


def mean_value(values: np.ndarray) -> float:
    """Mean of values (n,) as a plain number."""
    return float(values.mean())


def of_histograms(metric: Metric, limit: float) -> Callable[[np.ndarray], float]:
    """A metric of ``"curve"`` as a function of histograms (n, 3, bins). Histograms can be resampled quickly."""

    def value(histograms: np.ndarray) -> float:
        return metric.value(histogram_curve(histograms.sum(0)), limit)

    return value


def thinned(x: np.ndarray, y: np.ndarray, points: int = 400) -> Curve:
    """Reduce a curve to at most ``points`` points, evenly spaced along its length."""
    if len(x) <= points:
        return Curve(np.asarray(x), np.asarray(y))
    steps = np.abs(np.diff(x)) + np.abs(np.diff(y))
    length = np.concatenate([[0.0], np.cumsum(steps)])
    kept = np.unique(np.searchsorted(length, np.linspace(0, length[-1], points)).clip(0, len(x) - 1))
    return Curve(np.asarray(x)[kept], np.asarray(y)[kept])
