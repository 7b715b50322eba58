"""Figures of pictures, class by class as the papers take them, and their mean over the classes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monai_zsad.evaluation.estimates import MEAN, CaseSummary, Figure, Findings, Scoring, figure_of
from monai_zsad.evaluation.predictions import Prediction, load_prediction
from monai_zsad.metrics import (
    RankingCurve,
    aupro_released,
    auroc,
    average_precision,
    dice_max,
    expected_calibration_error,
    f1_max,
    histogram_curve,
    ranking_curve,
    score_histograms,
)

__all__ = ["ClassScores", "picture_findings"]

# Of the histograms that intervals are drawn from, and of those that stand in for too many pixels.
_BINS, _FINE_BINS = 512, 16384
_SAMPLED = 2_000_000

_IMAGE: dict[str, Callable[..., Any]] = {
    "image_auroc": auroc,
    "image_average_precision": average_precision,
    "image_f1_max": f1_max,
    "image_calibration_error": expected_calibration_error,
}
# Figures that need all maps at once, and have no intervals.
_WHOLE: dict[str, Callable[..., Any]] = {"pixel_aupro_released": aupro_released, "pixel_dice_max": dice_max}


@dataclass
class ClassScores:
    """Predictions of a class, scaled as a protocol scales them.

    Attributes:
        name: of the class.
        paths: of the predictions.
        cases: their ids.
        labels: (n,) 0 or 1.
        scores: (n,), scaled.
        low: what becomes 0 in maps.
        high: what becomes 1.
        pixels: of all maps.
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
        """Go through the predictions of a class once.

        Args:
            name: of the class.
            paths: of its predictions.
            scaling: see :class:`Protocol`.
            image_score: see :class:`Protocol`.
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
        """Each prediction with its map, scaled."""
        for path in self.paths:
            one = load_prediction(path)
            same = (self.low, self.high) == (0.0, 1.0)
            yield one, one.anomaly if same else (one.anomaly - self.low) / np.float32(self.high - self.low)

    @property
    def counts(self) -> tuple[int, int]:
        """Normal and anomalous images."""
        anomalous = int(self.labels.sum())
        return len(self.labels) - anomalous, anomalous


def _extremes(low: float, high: float) -> tuple[float, float]:
    """Ends of what is scaled to [0, 1]; the release leaves alone what has 1 as its largest value."""
    return (0.0, 1.0) if high == 1 or high <= low else (float(low), float(high))


def picture_findings(
    files: Mapping[str, Sequence[Path]], protocol: Mapping[str, Any], scoring: Scoring, has_masks: bool
) -> Findings:
    """All figures of a set of pictures.

    Args:
        files: class to its predictions.
        protocol: fields of :class:`Protocol`.
        scoring: what else is to be chosen.
        has_masks: whether pixels can be scored.
    """
    found = Findings()
    classes = [
        ClassScores.read(name, paths, protocol["scaling"], protocol["image_score"]) for name, paths in files.items()
    ]
    histograms: list[np.ndarray] = []
    for one in classes:
        found.figures += _image_figures(one.name, one.scores, one.labels, one.counts, scoring)
        found.add_ranking("image", one.name, ranking_curve(one.scores, one.labels))
        qualities = np.full(len(one.paths), np.nan)
        if has_masks:
            histograms.append(_pixel_figures(one, found, scoring, qualities))
        found.cases += [
            CaseSummary(case, one.name, int(label), float(score), float(quality))
            for case, label, score, quality in zip(one.cases, one.labels, one.scores, qualities, strict=True)
        ]
    found.scores["images"] = (np.array([case.score for case in found.cases]), np.array([c.label for c in found.cases]))
    if len(classes) > 1:
        found.figures += _means(classes, histograms, found.figures, scoring)
    return found


def _image_figures(
    scope: str, scores: np.ndarray, labels: np.ndarray, counts: tuple[int, int], scoring: Scoring
) -> list[Figure]:
    figures = []
    for name, metric in _IMAGE.items():
        if name == "image_calibration_error" and not (scores.min() >= 0 and scores.max() <= 1):
            continue
        plain = functools.partial(_plain, metric)
        figures.append(
            figure_of(
                name,
                scope,
                functools.partial(_value, metric, scores, labels),
                counts,
                scoring,
                (plain, (scores, labels), labels),
            )
        )
    return figures


def _value(metric: Callable[..., Any], *samples: Any) -> float | tuple[float, float]:
    found = metric(*samples)
    return (float(found[0]), float(found[1])) if isinstance(found, tuple) else float(found)


def _plain(metric: Callable[..., Any], *samples: Any) -> float:
    found = metric(*samples)
    return float(found[0] if isinstance(found, tuple) else found)


def _pixel_figures(one: ClassScores, found: Findings, scoring: Scoring, qualities: np.ndarray) -> np.ndarray:
    """Add a class's pixel figures; histograms (n, 3, bins) of its images, for intervals."""
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
    for name in ("pixel_auroc", "pixel_average_precision", "pixel_f1_max", "pixel_aupro"):
        metric = functools.partial(_of_histograms, name, scoring.limit)
        note = "" if exact else _bounds(curve, name, scoring.limit)
        found.figures.append(
            figure_of(
                name,
                one.name,
                functools.partial(_of_curve, curve, name, scoring.limit, exact),
                one.counts,
                scoring,
                (metric, (histograms,), one.labels),
                note,
            )
        )
    if exact:
        found.figures += [
            figure_of(name, one.name, functools.partial(_value, whole, maps, masks), one.counts, scoring)
            for name, whole in _WHOLE.items()
        ]
    return histograms


def _truth(prediction: Prediction) -> np.ndarray:
    return np.zeros(prediction.anomaly.shape, dtype=bool) if prediction.truth is None else prediction.truth


def _even_scale(one: ClassScores) -> Callable[[np.ndarray], np.ndarray]:
    """A monotone function to [0, 1] that spreads a class's pixels, so that bins tell apart what lies close together.

    Half of the scale goes by all pixels, half by anomalous ones, which are few.
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
    places = np.unique(np.concatenate(knots).astype(np.float64))
    heights = np.linspace(0, 1, len(places))
    return lambda anomaly: np.interp(anomaly, places, heights)


def _of_curve(curve: RankingCurve, name: str, limit: float, exact: bool) -> float | tuple[float, float]:
    kind = name.removeprefix("pixel_")
    if kind == "f1_max" and exact:
        return tuple(curve.f1_max())  # type: ignore[return-value]  # a pair
    return curve.value(kind, limit)  # type: ignore[arg-type]  # one of its names


def _of_histograms(name: str, limit: float, histograms: np.ndarray) -> float:
    return histogram_curve(histograms.sum(0)).value(name.removeprefix("pixel_"), limit)  # type: ignore[arg-type]


def _bounds(curve: RankingCurve, name: str, limit: float) -> str:
    low, high = curve.bounds(name.removeprefix("pixel_"), limit)  # type: ignore[arg-type]
    return f"from histograms; the exact figure lies within {100 * low:.3f} and {100 * high:.3f}"


def _means(
    classes: Sequence[ClassScores], histograms: Sequence[np.ndarray], figures: Sequence[Figure], scoring: Scoring
) -> list[Figure]:
    """Mean over the classes of every figure that each has."""
    numbers = np.concatenate([np.full(len(one.labels), index) for index, one in enumerate(classes)])
    scores, labels = np.concatenate([one.scores for one in classes]), np.concatenate([one.labels for one in classes])
    strata = 2 * numbers + labels
    counts = (int((labels == 0).sum()), int(labels.sum()))
    pixels = np.concatenate(histograms) if histograms else None
    found = []
    for name in dict.fromkeys(one.name for one in figures):
        values = [one.value for one in figures if one.name == name]
        if len(values) < len(classes):
            continue
        lacking = [one.scope for one in figures if one.name == name and np.isnan(one.value)]
        note = f"not defined for {', '.join(lacking)}" if lacking else ""
        resampled: Any = None
        if name in _IMAGE:
            resampled = (_class_mean(functools.partial(_plain, _IMAGE[name])), (numbers, scores, labels), strata)
        elif pixels is not None and name not in _WHOLE:
            metric = functools.partial(_of_histograms, name, scoring.limit)
            resampled = (_class_mean(metric), (numbers, pixels), strata)
        found.append(figure_of(name, MEAN, functools.partial(_mean, values), counts, scoring, resampled, note))
    return found


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _class_mean(metric: Callable[..., float]) -> Callable[..., float]:
    def mean(numbers: np.ndarray, *samples: np.ndarray) -> float:
        drawn = [numbers == number for number in np.unique(numbers)]
        return float(np.mean([metric(*(sample[own] for sample in samples)) for own in drawn]))

    return mean
