"""Metrics of a set of images: the metrics of each class, and their mean over the classes, as in papers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monai_zsad.evaluation.metrics.estimates import (
    CaseSummary,
    Estimate,
    Findings,
    Resampled,
    Scoring,
    estimate,
    mean_estimates,
    of_histograms,
)
from monai_zsad.evaluation.metrics.registry import Metric, metrics_of
from monai_zsad.evaluation.predictions import Prediction, load_prediction
from monai_zsad.metrics import (
    RankingCurve,
    average_precision,
    histogram_curve,
    ranking_curve,
    score_histograms,
)

__all__ = ["ClassScores", "image_findings"]

# Number of bins of the histograms for intervals, and of those that replace a large number of pixels.
_BINS, _FINE_BINS = 512, 16384
_SAMPLED = 2_000_000


@dataclass
class ClassScores:
    """Predictions of a class, scaled as the protocol says.

    Attributes:
        name: name of the class.
        paths: files of the predictions.
        cases: ids of the cases.
        labels: (n,), 0 normal or 1 anomalous.
        scores: (n,), scaled scores.
        low: value of a map that is scaled to 0.
        high: value of a map that is scaled to 1.
        pixels: number of pixels of all maps.
    """

    name: str
    paths: Sequence[Path]
    cases: Sequence[str]
    labels: np.ndarray
    scores: np.ndarray
    low: float
    high: float
    pixels: int

    @classmethod
    def read(cls, name: str, paths: Sequence[Path], scaling: str = "none", image_score: str = "network") -> ClassScores:
        """Read the predictions of a class once.

        Args:
            name: name of the class.
            paths: files of its predictions.
            scaling: see :class:`~monai_zsad.evaluation.Protocol`.
            image_score: see :class:`~monai_zsad.evaluation.Protocol`.
        """
        cases, labels, scores, lowest, highest, pixels = [], [], [], [], [], 0
        for path in paths:
            one = load_prediction(path)
            cases.append(one.case)
            labels.append(one.label)
            scores.append(one.score)
            lowest.append(float(one.anomaly.min()))
            highest.append(float(one.anomaly.max()))
            pixels += one.anomaly.size
        found, peaks = np.array(scores), np.array(highest)
        low, high = 0.0, 1.0
        if scaling == "class":
            low, high = _extremes(min(lowest), peaks.max())
            own = _extremes(found.min(), found.max())
            found = (found - own[0]) / (own[1] - own[0])
        peaks = (peaks - low) / (high - low)
        if image_score != "network":
            found = peaks if image_score == "map" else (peaks + found) / 2
        return cls(name, paths, cases, np.array(labels), found, low, high, pixels)

    def predictions(self) -> Iterator[tuple[Prediction, np.ndarray]]:
        """Each prediction with its scaled map."""
        for path in self.paths:
            one = load_prediction(path)
            same = (self.low, self.high) == (0.0, 1.0)
            yield one, one.anomaly if same else (one.anomaly - self.low) / np.float32(self.high - self.low)

    @property
    def counts(self) -> tuple[int, int]:
        """Number of normal and of anomalous images."""
        anomalous = int(self.labels.sum())
        return len(self.labels) - anomalous, anomalous


def _extremes(low: float, high: float) -> tuple[float, float]:
    """Values that are scaled to 0 and 1. As in the release, nothing is scaled if the largest value is 1."""
    return (0.0, 1.0) if high == 1 or high <= low else (float(low), float(high))


def image_findings(
    files: Mapping[str, Sequence[Path]], protocol: Mapping[str, Any], scoring: Scoring, has_masks: bool
) -> Findings:
    """Compute all metrics of a set of images.

    Args:
        files: files of the predictions, by class.
        protocol: fields of :class:`~monai_zsad.evaluation.Protocol`.
        scoring: options of the metrics.
        has_masks: whether the set has masks. Without masks, there are no pixel metrics.
    """
    found = Findings()
    classes = [
        ClassScores.read(name, paths, protocol["scaling"], protocol["image_score"]) for name, paths in files.items()
    ]
    histograms: list[np.ndarray] = []
    for one in classes:
        found.estimates += _image_estimates(one, scoring)
        found.add_ranking("image", one.name, ranking_curve(one.scores, one.labels))
        qualities = np.full(len(one.paths), np.nan)
        if has_masks:
            histograms.append(_add_pixels(one, found, scoring, qualities))
        found.cases += [
            CaseSummary(case, one.name, int(label), float(score), float(quality))
            for case, label, score, quality in zip(one.cases, one.labels, one.scores, qualities, strict=True)
        ]
    found.scores["images"] = (np.array([case.score for case in found.cases]), np.array([c.label for c in found.cases]))
    if len(classes) > 1:
        found.estimates += _means(classes, histograms, found.estimates, scoring)
    return found


def _image_estimates(one: ClassScores, scoring: Scoring) -> list[Estimate]:
    within = one.scores.min() >= 0 and one.scores.max() <= 1
    return [
        estimate(
            metric.name,
            one.name,
            functools.partial(metric.function, one.scores, one.labels),
            one.counts,
            scoring,
            (metric.value, (one.scores, one.labels), one.labels) if metric.bootstrapped else None,
        )
        for metric in metrics_of("image", "scores")
        if within or not metric.probabilities
    ]


def _add_pixels(one: ClassScores, found: Findings, scoring: Scoring, qualities: np.ndarray) -> np.ndarray:
    """Add the pixel metrics of a class. Returns histograms (n, 3, bins) of its images, for intervals."""
    exact = one.pixels <= scoring.exact_pixels
    even = _even_scale(one)
    maps: list[np.ndarray] = []
    masks: list[np.ndarray] = []
    rows: list[np.ndarray] = []
    fine = np.zeros((3, _FINE_BINS))
    for index, (prediction, anomaly) in enumerate(one.predictions()):
        truth = _truth(prediction)
        if truth.any() and not truth.all():
            qualities[index] = average_precision(anomaly, truth)
        scaled = even(anomaly)
        rows.append(score_histograms([scaled], [truth], bins=_BINS)[0])
        if exact:
            maps.append(anomaly)
            masks.append(truth)
        else:
            fine += score_histograms([scaled], [truth], bins=_FINE_BINS)[0]
    histograms = np.stack(rows)
    curve = ranking_curve(maps, masks, regions=True) if exact else histogram_curve(fine)
    found.add_ranking("pixel", one.name, curve)
    for metric in metrics_of("pixel", "curve"):
        # Thresholds of a curve from histograms are not on the scale of the map.
        take = functools.partial(metric.function if exact else metric.value, curve, scoring.limit)
        drawn: Resampled = (of_histograms(metric, scoring.limit), (histograms,), one.labels)
        note = "" if exact else _bounds(metric, curve, scoring.limit)
        found.estimates.append(
            estimate(metric.name, one.name, take, one.counts, scoring, drawn if metric.bootstrapped else None, note)
        )
    if exact:
        found.estimates += [
            estimate(metric.name, one.name, functools.partial(metric.function, maps, masks), one.counts, scoring)
            for metric in metrics_of("pixel", "maps")
        ]
    return histograms


def _truth(prediction: Prediction) -> np.ndarray:
    return np.zeros(prediction.anomaly.shape, dtype=bool) if prediction.truth is None else prediction.truth


def _even_scale(one: ClassScores) -> Callable[[np.ndarray], np.ndarray]:
    """A monotone function from map values to [0, 1] that spreads the pixels of a class evenly over the bins.

    Its steps are quantiles of all pixels and, in equal number, quantiles of the few anomalous pixels.
    """
    share = max(1, one.pixels // _SAMPLED)
    everything, anomalous = [], []
    for prediction, anomaly in one.predictions():
        everything.append(anomaly.ravel()[::share])
        anomalous.append(anomaly[_truth(prediction)][:: max(1, share // 8)])
    steps = np.linspace(0, 1, 4097)
    knots = [np.quantile(np.concatenate(everything), steps)]
    if sum(map(len, anomalous)):
        knots.append(np.quantile(np.concatenate(anomalous), steps))
    values = np.unique(np.concatenate(knots).astype(np.float64))
    heights = np.linspace(0, 1, len(values))
    return lambda anomaly: np.interp(anomaly, values, heights)


def _bounds(metric: Metric, curve: RankingCurve, limit: float) -> str:
    if metric.bounds is None:
        return "from histograms"
    low, high = metric.bounds(curve, limit)
    return f"from histograms; the exact value lies within {100 * low:.3f} and {100 * high:.3f}"


def _means(
    classes: Sequence[ClassScores], histograms: Sequence[np.ndarray], estimates: Sequence[Estimate], scoring: Scoring
) -> list[Estimate]:
    numbers = np.concatenate([np.full(len(one.labels), index) for index, one in enumerate(classes)])
    scores, labels = np.concatenate([one.scores for one in classes]), np.concatenate([one.labels for one in classes])
    strata = 2 * numbers + labels
    counts = (int((labels == 0).sum()), int(labels.sum()))
    pixels = np.concatenate(histograms) if histograms else None

    def resampled(metric: Metric, values: np.ndarray) -> Resampled | None:
        del values
        if not metric.bootstrapped:
            return None
        if metric.level == "image":
            return _class_mean(metric.value), (numbers, scores, labels), strata
        return _class_mean(of_histograms(metric, scoring.limit)), (numbers, pixels), strata

    return mean_estimates(estimates, len(classes), counts, scoring, resampled)


def _class_mean(metric: Callable[..., float]) -> Callable[..., float]:
    def mean(numbers: np.ndarray, *samples: np.ndarray) -> float:
        drawn = [numbers == number for number in np.unique(numbers)]
        return float(np.mean([metric(*(sample[own] for sample in samples)) for own in drawn]))

    return mean
