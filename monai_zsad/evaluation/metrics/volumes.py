"""Metrics of voxels, slices and lesions: for each volume, their mean, and for all volumes together."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from monai_zsad.evaluation.metrics.estimates import (
    POOLED,
    CaseSummary,
    Curve,
    Findings,
    Resampled,
    Scoring,
    estimate,
    mean_estimates,
    mean_value,
    of_histograms,
    thinned,
)
from monai_zsad.evaluation.metrics.registry import METRICS, SLICE_QUANTILE, Metric
from monai_zsad.evaluation.predictions import Prediction, load_prediction
from monai_zsad.metrics import (
    BestThreshold,
    LesionFroc,
    RankingCurve,
    histogram_curve,
    lesion_froc,
    pooled_froc,
    region_shares,
    score_histograms,
    slice_scores,
)
from monai_zsad.metrics.ranking import curve_of

__all__ = ["volume_findings"]

_BINS = 4096
_FRACTIONS = np.geomspace(1e-5, 0.2, 48)


def volume_findings(paths: Sequence[Path], scoring: Scoring) -> Findings:
    """Compute all metrics of a set of volumes. Only voxels inside the region of each prediction count.

    Args:
        paths: files of the predictions.
        scoring: options of the metrics.
    """
    found = Findings()
    rows = [_Volume(load_prediction(path), scoring) for path in paths]
    pool = _Pool(paths, rows, scoring)
    for row in rows:
        found.estimates += row.estimates
        found.add_ranking("voxel", row.case, row.curve)
        _add_froc(found, row.case, row.froc)
        found.cases.append(row.summary)
    counts = (sum(not row.label for row in rows), sum(row.label for row in rows))
    if len(rows) > 1:
        found.estimates += mean_estimates(found.estimates, len(rows), counts, scoring, _resampled_volumes)
        found.add_ranking("voxel", POOLED, pool.curve)
        _add_froc(found, POOLED, pool.froc)
    for metric in METRICS.values():
        stated = pool.values(metric)
        if stated is not None:
            value, drawn, note = stated
            drawn = drawn if metric.bootstrapped else None
            found.estimates.append(estimate(metric.name, POOLED, value, counts, scoring, drawn, note))
    slices = [np.concatenate([row.slices[key] for row in rows]) for key in ("maximum", "anomalous")]
    found.scores["slices"] = (slices[0], slices[1])
    found.scores["volumes"] = (np.array([row.score for row in rows]), np.array([row.label for row in rows]))
    found.facts = {"lesions": {row.case: row.froc.lesions for row in rows}}
    return found


def _resampled_volumes(metric: Metric, values: np.ndarray) -> Resampled | None:
    return (mean_value, (values,), None) if metric.bootstrapped else None


class _Volume:
    """Metrics of one volume. Its arrays are not kept."""

    def __init__(self, one: Prediction, scoring: Scoring) -> None:
        self.case = one.case
        self.label = int(one.label)
        self.score = one.score
        self.curve = curve_of(*_scores(one))
        self.froc = _froc(one, scoring, None)
        self.slices = _slices(one, scoring.slice_fraction)
        counts = (1 - self.label, self.label)
        self.estimates = [
            estimate(metric.name, one.case, value, counts, scoring)
            for metric in METRICS.values()
            if (value := self._value(metric, scoring.limit)) is not None
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quality = self.curve.average_precision()
        self.summary = CaseSummary(one.case, one.class_name, one.label, one.score, quality)

    def _value(self, metric: Metric, limit: float) -> Callable[[], float | BestThreshold] | None:
        """Function that computes a metric of this volume; ``None`` if it needs all volumes or missing scores."""
        match metric.level, metric.samples:
            case "voxel", "curve":
                return functools.partial(metric.function, self.curve, limit)
            case "slice", "scores" if metric.slice_score in self.slices:
                return functools.partial(_of_slices, metric, [self])
            case "lesion", "froc":
                return functools.partial(metric.function, self.froc)
        return None


class _Pool:
    """Metrics of all volumes together."""

    def __init__(self, paths: Sequence[Path], rows: Sequence[_Volume], scoring: Scoring) -> None:
        self.paths = paths
        self.rows = rows
        self.limit = scoring.limit
        thresholds = _common_thresholds(paths, scoring)
        values, heights = _even(thresholds)
        self.frocs: list[LesionFroc] = []
        histograms = []
        for one in map(load_prediction, paths):
            inside = _region(one)
            self.frocs.append(_froc(one, scoring, thresholds))
            scaled = np.interp(np.where(inside, one.anomaly, values[0]), values, heights)
            own = score_histograms([scaled], [_truth(one)], bins=_BINS)[0]
            # Voxels outside the region do not count. They are in the first bin, so they are subtracted there.
            own[0, 0] -= inside.size - np.count_nonzero(inside)
            histograms.append(own)
        self.histograms = np.stack(histograms)
        self.exact = not self.histograms[:, :2].sum() > scoring.exact_pixels
        self.curve = self._curve()
        self.froc = pooled_froc(self.frocs)

    def _curve(self) -> RankingCurve:
        if not self.exact:
            return histogram_curve(self.histograms.sum(0))
        normal, anomalous, shares = zip(*(_scores(load_prediction(path)) for path in self.paths), strict=True)
        return curve_of(np.concatenate(normal), np.concatenate(anomalous), np.concatenate(shares))

    def values(self, metric: Metric) -> tuple[Callable[[], float | BestThreshold], Resampled | None, str] | None:
        """Function of a metric of all volumes, samples for its interval, and a note; ``None`` if not available."""
        take = functools.partial
        match metric.level, metric.samples:
            case "voxel", "curve":
                note = "" if self.exact else f"from histograms of {self.histograms.shape[-1]} bins"
                drawn = (of_histograms(metric, self.limit), (self.histograms,), None)
                return take(metric.function, self.curve, self.limit), drawn, note
            case "voxel", "maps" if self.exact:
                return take(_of_maps, metric, self.paths), None, ""
            case "slice", "scores" if all(metric.slice_score in row.slices for row in self.rows):
                return take(_of_slices, metric, self.rows), (take(_of_slices, metric), (self.rows,), None), ""
            case "lesion", "froc":
                return take(metric.function, self.froc), (take(_of_frocs, metric), (self.frocs,), None), ""
            case "volume", "scores":
                scores = np.array([row.score for row in self.rows])
                labels = np.array([row.label for row in self.rows])
                return take(metric.function, scores, labels), (metric.value, (scores, labels), labels), ""
        return None


def _region(one: Prediction) -> np.ndarray:
    return np.ones(one.anomaly.shape, dtype=bool) if one.region is None else one.region


def _truth(one: Prediction) -> np.ndarray:
    return np.zeros(one.anomaly.shape, dtype=bool) if one.truth is None else one.truth & _region(one)


def _scores(one: Prediction) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of normal and of anomalous voxels inside the region, and the anomalous voxels' shares of their lesions."""
    inside, truth = _region(one), _truth(one)
    return one.anomaly[inside & ~truth], one.anomaly[truth], region_shares(truth)


def _froc(one: Prediction, scoring: Scoring, thresholds: np.ndarray | None) -> LesionFroc:
    with warnings.catch_warnings():
        # The metrics of the curve give the same warnings.
        warnings.simplefilter("ignore")
        return lesion_froc(
            one.anomaly,
            _truth(one),
            _region(one),
            thresholds=thresholds,
            min_lesion=scoring.min_lesion,
            min_voxels=scoring.min_voxels,
            min_overlap=scoring.min_overlap,
        )


def _slices(one: Prediction, fraction: float) -> dict[str, np.ndarray]:
    """Three kinds of scores for the slices that hold enough of the region, and whether each slice is anomalous."""
    inside = _region(one)
    kept, peaks = slice_scores(one.anomaly, inside, 1.0, fraction)
    found = {"maximum": peaks, "quantile": slice_scores(one.anomaly, inside, SLICE_QUANTILE, fraction)[1]}
    found["anomalous"] = np.asarray(_truth(one).any((0, 1)))[kept]
    if one.slice_scores is not None:
        # Map and score of a slice that the network did not run are 0.
        found["own"] = np.nan_to_num(one.slice_scores[kept], nan=0.0)
    return found


def _common_thresholds(paths: Sequence[Path], scoring: Scoring) -> np.ndarray:
    """Thresholds for one FROC curve: quantiles of all volumes together. They suit any scale of the maps."""
    share = max(1, sum(load_prediction(path).anomaly.size for path in paths) // scoring.exact_pixels)
    values = np.concatenate([one.anomaly[_region(one)][::share] for one in map(load_prediction, paths)])
    return np.unique(np.quantile(values, 1 - _FRACTIONS, method="higher"))


def _even(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values and heights of a monotone function that spreads the upper end of the map's scale over [0, 1]."""
    low = np.linspace(min(0.0, float(edges[0])), float(edges[0]), 50)
    high = np.linspace(float(edges[-1]), max(1.0, float(edges[-1])), 50)
    values = np.unique(np.concatenate([low, edges, high]))
    return values, np.linspace(0, 1, len(values))


def _of_slices(metric: Metric, rows: Sequence[_Volume]) -> float:
    scores, anomalous = (np.concatenate([row.slices[key] for row in rows]) for key in (metric.slice_score, "anomalous"))
    return metric.value(scores, anomalous)


def _of_frocs(metric: Metric, curves: Sequence[LesionFroc]) -> float:
    return metric.value(pooled_froc(curves))


def _of_maps(metric: Metric, paths: Sequence[Path]) -> float | BestThreshold:
    """A metric of maps. Voxels outside the region get the lowest score, so that no useful threshold finds them."""
    maps, masks = [], []
    for one in map(load_prediction, paths):
        inside = _region(one)
        maps.append(np.where(inside, one.anomaly, one.anomaly[inside].min()))
        masks.append(_truth(one))
    return metric.function(maps, masks)


def _add_froc(found: Findings, scope: str, froc: LesionFroc) -> None:
    if froc.lesions:
        order = np.argsort(froc.false_positives, kind="stable")
        # The best sensitivity of all thresholds with at most this number of false positives.
        best = np.maximum.accumulate(froc.sensitivity[order])
        curve: Curve = thinned(froc.false_positives[order], best)
        found.curves.setdefault("FROC", {})[scope] = curve
